/** VirtualService. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import { checkRoute } from './destination.ts'
import { checkExportTo } from './export-to.ts'
import type { Findings, Problem } from './finding.ts'
import { checkGatewayNames, meshGateway } from './gateway-name.ts'
import { isClaim } from './header.ts'
import { checkHttpRoute } from './http-route.ts'
import { checkLabels, ipBlock, isIp, portNumber, wildcardHostname } from './names.ts'
import { checkRouteOrder } from './route-order.ts'

export function validateVirtualService(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  const hosts = spec.texts('hosts')
  const gateways = spec.texts('gateways')
  const forGateways = gateways.length > 0 && !gateways.includes(meshGateway)
  if (hosts.length === 0) checkDelegate(spec, findings)
  checkGatewayNames(spec, findings)
  const [http, tls, tcp] = [spec.list('http'), spec.list('tls'), spec.list('tcp')]
  if (!forGateways) for (const route of http) refuseClaims(route, findings)
  checkHosts(spec, findings, { forGateways, bySni: tls.some(matchesSni) })
  if (http.length + tls.length + tcp.length === 0) {
    findings.error(spec.path, 'routes nothing', 'add http, tls or tcp')
  }
  for (const route of http) checkHttpRoute(route, findings, hosts.length === 0)
  for (const route of tls)
    checkTlsRoute(route, findings, { hosts, forGateways: !gateways.includes(meshGateway) })
  for (const route of tcp) checkTcpRoute(route, findings)
  for (const routes of [http, tcp, tls]) checkRouteOrder(routes, findings)
  checkExportTo(spec, findings, { namespace: object.at('metadata').text('namespace') })
}

/** Without hosts it is used by another VirtualService, for HTTP only. */
function checkDelegate(spec: Fields, findings: Findings): void {
  const set = [
    ...(spec.texts('gateways').length > 0 ? ['gateways'] : []),
    ...['tls', 'tcp'].filter(name => spec.list(name).length > 0)
  ]
  for (const name of set) {
    findings.error(
      spec.pathOf(name),
      'is not for a VirtualService without hosts',
      'name hosts, or leave it out'
    )
  }
}

function refuseClaims(route: Fields, findings: Findings): void {
  for (const match of route.list('match')) {
    for (const name of ['headers', 'withoutHeaders']) {
      const claim = match.at(name).names().find(isClaim)
      if (claim === undefined) continue
      findings.error(
        match.at(name).pathOf(claim),
        'routing by claims of a token is for Gateways only',
        'name the Gateway, and not mesh, in spec.gateways'
      )
    }
  }
}

function matchesSni(route: Fields): boolean {
  return route.list('match').some(match => match.texts('sniHosts').length > 0)
}

function checkHosts(
  spec: Fields,
  findings: Findings,
  rules: { readonly forGateways: boolean; readonly bySni: boolean }
): void {
  const hosts = spec.texts('hosts')
  let right = true
  for (const [index, host] of hosts.entries()) {
    const field = `${spec.pathOf('hosts')}[${index}]`
    const problem = rules.forGateways && rules.bySni ? sniHost(host) : wildcardHostname(host)
    if (problem !== undefined && !isIp(host)) {
      findings.check(field, problem)
      right = false
    } else if (problem === undefined && host === '*' && !rules.forGateways) {
      findings.error(field, 'every host is too many for the mesh', 'name hosts, or bind it to a Gateway')
      right = false
    }
  }
  if (!right) return
  for (const [index, host] of hosts.entries()) {
    const other = hosts.slice(0, index).find(each => overlap(each, host))
    if (other === undefined) continue
    findings.error(
      `${spec.pathOf('hosts')}[${index}]`,
      `${host} and ${other} name the same hosts`,
      'keep the wider one'
    )
  }
}

/** Names that sidecars make up: `outbound_.80_._.host`. */
function sniHost(host: string): Problem | undefined {
  if (!host.startsWith('outbound_')) return wildcardHostname(host)
  const [, port = '', , name = ''] = host.split('_')
  if (/\d/.test(port) && /[a-zA-Z]/.test(name)) return undefined
  return {
    message: `${JSON.stringify(host)} is no name of a route`,
    remedy: 'write outbound_.PORT_.SUBSET_.HOST'
  }
}

function overlap(a: string, b: string): boolean {
  if (a.startsWith('*') && b.startsWith('*')) {
    const [short, long] = a.length < b.length ? [a, b] : [b, a]
    return long.slice(1).endsWith(short.slice(1))
  }
  return covers(a, b) || covers(b, a)
}

/** Whether every name of `host` is one of `pattern`. */
function covers(pattern: string, host: string): boolean {
  if (!pattern.startsWith('*')) return pattern === host
  if (!host.startsWith('*')) return host.endsWith(pattern.slice(1))
  return host.length >= pattern.length && host.slice(1).endsWith(pattern.slice(1))
}

function checkTlsRoute(
  route: Fields,
  findings: Findings,
  { hosts, forGateways }: { readonly hosts: readonly string[]; readonly forGateways: boolean }
): void {
  const matches = route.list('match')
  if (matches.length === 0) findings.error(route.pathOf('match'), 'is missing', 'match by sniHosts')
  for (const match of matches) {
    const names = match.texts('sniHosts')
    if (names.length === 0) findings.error(match.pathOf('sniHosts'), 'is missing', 'name a host')
    for (const [index, name] of names.entries()) {
      const field = `${match.pathOf('sniHosts')}[${index}]`
      const problem = forGateways ? sniHost(name) : wildcardHostname(name)
      if (problem !== undefined && isIp(name)) {
        findings.warn(field, 'clients do not send addresses as server names', 'name a host')
      } else if (problem !== undefined) findings.check(field, problem)
      else if (!hosts.some(host => covers(host, name))) {
        findings.error(field, `${name} is none of spec.hosts`, 'name it there too')
      }
    }
    checkConnectionMatch(match, findings)
  }
  checkDestinations(route, findings)
}

function checkTcpRoute(route: Fields, findings: Findings): void {
  for (const match of route.list('match')) checkConnectionMatch(match, findings)
  checkDestinations(route, findings)
}

function checkDestinations(route: Fields, findings: Findings): void {
  if (route.list('route').length === 0)
    findings.error(route.pathOf('route'), 'is missing', 'name a destination')
  checkRoute(route, findings)
}

function checkConnectionMatch(match: Fields, findings: Findings): void {
  for (const [index, block] of match.texts('destinationSubnets').entries()) {
    findings.check(`${match.pathOf('destinationSubnets')}[${index}]`, ipBlock(block))
  }
  const port = match.whole('port')
  if (port !== 0) findings.check(match.pathOf('port'), portNumber(port))
  checkLabels(match, 'sourceLabels', findings)
  checkGatewayNames(match, findings)
}
