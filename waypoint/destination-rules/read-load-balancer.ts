/** `trafficPolicy.loadBalancer`. Source: Istio's published LoadBalancerSettings. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { Balancing, LocalityPolicy, Warmup } from '../traffic-policy.ts'
import { readConsistentHash } from './read-consistent-hash.ts'
import { readLocality } from './read-locality.ts'
import { readDuration, readInner, type Unsupported } from './read-part.ts'

export interface LoadBalancer {
  readonly balancing: Balancing
  readonly locality: LocalityPolicy | undefined
}

export function readLoadBalancer(fields: Fields, unsupported: Unsupported): LoadBalancer {
  const { path, problems } = fields
  const simple = fields.choice('simple', algorithms, 'UNSPECIFIED')
  const warmup = readWarmup(fields)
  const hash = readInner(fields, 'consistentHash', readConsistentHash)
  if (fields.inner('backendUtilization') !== undefined) {
    unsupported.add(
      `${path}.backendUtilization`,
      'is not carried out by waypoints; use simple: LEAST_REQUEST'
    )
  }
  if (simple === 'PASSTHROUGH') {
    unsupported.add(`${path}.simple`, 'PASSTHROUGH is not carried out by waypoints; use LEAST_REQUEST')
  }
  if (hash !== undefined && simple !== 'UNSPECIFIED') {
    problems.add(`${path}.consistentHash`, 'is given together with simple: choose one')
  }
  const locality = readInner(fields, 'localityLbSetting', readLocality)
  if (fields.inner('zoneAwareLbSetting') !== undefined) {
    const field = `${path}.zoneAwareLbSetting`
    if (locality !== undefined) problems.add(field, 'is given together with localityLbSetting: choose one')
    unsupported.add(field, 'is not carried out by waypoints; use localityLbSetting')
  }
  return { balancing: hash ?? simpleBalancing(simple, warmup), locality }
}

const algorithms = [
  'UNSPECIFIED',
  'LEAST_CONN',
  'LEAST_REQUEST',
  'ROUND_ROBIN',
  'RANDOM',
  'PASSTHROUGH'
] as const

function simpleBalancing(simple: (typeof algorithms)[number], warmup: Warmup | undefined): Balancing {
  switch (simple) {
    case 'RANDOM':
      return { kind: 'random' } // whoever is new is of no consequence to it
    case 'ROUND_ROBIN':
      return { kind: 'round-robin', warmup }
    default:
      return { kind: 'least-request', warmup }
  }
}

const usualMinimumPercent = 10
const mostAggression = 1_000_000

function readWarmup(fields: Fields): Warmup | undefined {
  const olderMs = readDuration(fields, 'warmupDurationSecs')
  const older = olderMs === undefined ? undefined : { durationMs: olderMs, ...usualWarmup }
  const warmup = readInner(fields, 'warmup', inner => {
    const aggression = inner.number('aggression', 1, mostAggression)
    if (aggression === 0) inner.problems.add(`${inner.path}.aggression`, 'has to be above 0')
    if (inner.text('duration', '') === '') inner.problems.add(`${inner.path}.duration`, 'is required')
    return {
      durationMs: readDuration(inner, 'duration') ?? 0,
      minimumPercent: inner.number('minimumPercent', usualMinimumPercent, 100),
      aggression
    }
  })
  return warmup ?? older
}

const usualWarmup = { minimumPercent: usualMinimumPercent, aggression: 1 }
