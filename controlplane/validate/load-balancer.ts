/** How endpoints are chosen. Source: Istio's published definition of LoadBalancerSettings. */
import type { Fields } from '../read/fields.ts'
import { checkDuration } from './duration.ts'
import type { Findings } from './finding.ts'

const topologyLabels = [
  'topology.kubernetes.io/region',
  'topology.kubernetes.io/zone',
  'topology.istio.io/subzone'
]

/** `outliers`: whether failing endpoints are found at all. */
export function checkLoadBalancer(settings: Fields, findings: Findings, outliers: boolean): void {
  if (settings.has('consistentHash')) checkHash(settings.at('consistentHash'), findings)
  if (settings.has('localityLbSetting') && settings.has('zoneAwareLbSetting')) {
    findings.error(
      settings.pathOf('zoneAwareLbSetting'),
      'stands beside localityLbSetting',
      'keep one of them'
    )
  }
  if (settings.has('localityLbSetting')) checkLocality(settings.at('localityLbSetting'), findings)
  if (settings.has('zoneAwareLbSetting')) checkZones(settings.at('zoneAwareLbSetting'), findings)
  for (const name of ['localityLbSetting', 'zoneAwareLbSetting']) {
    const locality = settings.at(name)
    checkFailover(locality, findings)
    const fails = locality.list('failover').length + locality.texts('failoverPriority').length > 0
    if (fails && !outliers) findings.warn(locality.path, 'fails over from nothing', 'set outlierDetection')
  }
  if (settings.has('warmup')) checkWarmup(settings.at('warmup'), findings)
}

function checkHash(hash: Fields, findings: Findings): void {
  if (hash.has('httpCookie')) {
    const cookie = hash.at('httpCookie')
    if (cookie.text('name') === '') findings.error(cookie.pathOf('name'), 'is missing', 'name the cookie')
    const names = new Set<string>()
    for (const attribute of cookie.list('attributes')) {
      const name = attribute.text('name')
      if (name === '') findings.error(attribute.pathOf('name'), 'is missing', 'name the attribute')
      else if (names.has(name)) findings.error(attribute.pathOf('name'), `${name} is used twice`, 'keep one')
      names.add(name)
    }
  }
  if (hash.number('minimumRingSize') !== 0) {
    findings.warn(hash.pathOf('minimumRingSize'), 'is deprecated', 'use ringHash')
    if (hash.has('ringHash') || hash.has('maglev')) {
      findings.error(hash.pathOf('minimumRingSize'), 'stands beside ringHash or maglev', 'keep one of them')
    }
  }
  if (!hash.has('maglev')) return
  const maglev = hash.at('maglev')
  const size = maglev.number('tableSize')
  if (size >= 1 && size < 5_000_011 && isPrime(size)) return
  findings.error(
    maglev.pathOf('tableSize'),
    `${size} is no prime number below 5000011`,
    'use one such as 65537'
  )
}

function isPrime(number: number): boolean {
  if (number < 4) return number > 0
  if (number % 2 === 0) return false
  for (let factor = 3; factor * factor <= number; factor += 2) if (number % factor === 0) return false
  return true
}

function checkWarmup(warmup: Fields, findings: Findings): void {
  if (!warmup.has('duration')) findings.error(warmup.pathOf('duration'), 'is missing', 'give one such as 30s')
  checkDuration(warmup, 'duration', findings)
  if (warmup.number('minimumPercent') > 100) {
    findings.error(warmup.pathOf('minimumPercent'), 'is more than 100', 'use 0 to 100')
  }
  if (warmup.has('aggression') && warmup.number('aggression') <= 0) {
    findings.error(warmup.pathOf('aggression'), 'is not above 0', 'use 1.0 for a steady rise')
  }
}

function checkLocality(locality: Fields, findings: Findings): void {
  const distribute = locality.list('distribute')
  const failover = locality.list('failover')
  if (distribute.length > 0 && failover.length > 0) {
    findings.error(locality.pathOf('failover'), 'stands beside distribute', 'keep one of them')
    return
  }
  for (const [index, label] of locality.texts('failoverPriority').entries()) {
    if (failover.length === 0 || !topologyLabels.includes(label)) continue
    const field = `${locality.pathOf('failoverPriority')}[${index}]`
    findings.error(field, `${label} stands beside failover`, 'keep one of them')
  }
  for (const entry of distribute) {
    const shares = entry.at('to')
    const weights = shares.names().map(name => shares.number(name))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    if (weights.some(weight => weight <= 0 || weight > 100)) {
      findings.error(shares.path, 'has a weight that is no share', 'use weights from 1 to 100')
    } else if (total !== 100) findings.error(shares.path, `the weights add up to ${total}`, 'make them 100')
    checkOverlap(shares.path, shares.names(), findings)
  }
  checkOverlap(
    locality.pathOf('distribute'),
    distribute.map(entry => entry.text('from')),
    findings
  )
}

/** Places as `region/zone/subzone`, each of which lies in one of them only. */
function checkOverlap(field: string, places: readonly string[], findings: Findings): void {
  const seen: string[] = []
  for (const place of places) {
    const stars = place.split('*').length - 1
    if (stars > 1 || (stars === 1 && !place.endsWith('*'))) {
      findings.error(field, `${JSON.stringify(place)} has a * before its end`, 'put one * last')
      return
    }
    if (place.split('/', 3).includes('')) {
      findings.error(field, `${JSON.stringify(place)} has an empty part`, 'write region/zone/subzone')
      return
    }
    const prefix = place.replace(/\/?\*$/, '')
    const within = (inner: string, outer: string): boolean =>
      outer === '' || inner === outer || inner.startsWith(`${outer}/`)
    if (seen.some(other => within(prefix, other) || within(other, prefix))) {
      findings.error(field, `${JSON.stringify(place)} lies in another one`, 'name each place once')
      return
    }
    seen.push(prefix)
  }
}

function checkFailover(locality: Fields, findings: Findings): void {
  for (const failover of locality.list('failover')) {
    const [from, to] = [failover.text('from'), failover.text('to')]
    if (from === to) findings.error(failover.pathOf('to'), 'is the region itself', 'name another region')
    if (/[/*]/.test(from + to)) {
      findings.error(failover.path, 'names more than regions', 'write regions without / and *')
    }
  }
}

function checkZones(zones: Fields, findings: Findings): void {
  for (const [index, label] of zones.texts('failoverPriority').entries()) {
    if (!topologyLabels.includes(label)) continue
    const field = `${zones.pathOf('failoverPriority')}[${index}]`
    findings.error(field, `${label} is considered anyway`, 'leave it out')
  }
}
