/** ServiceEntry. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import { optsOutOfAllocation } from '../translate/allocation.ts'
import { checkEndpoint, checkEndpointPorts } from './workload-entry.ts'
import { checkExportTo } from './export-to.ts'
import type { Findings } from './finding.ts'
import {
  checkLabels,
  dnsLabel,
  hostname,
  ipBlock,
  isIp,
  isPartialWildcard,
  portNumber,
  wildcardHostname
} from './names.ts'
import { isHttp, isTcp, isTls, portProtocol } from './protocol.ts'
import { checkWorkloadSelector } from './selection.ts'

const resolutions = ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'] as const
type Resolution = (typeof resolutions)[number]

export function validateServiceEntry(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  if (!checkWorkloadSelector(spec, findings)) return
  const resolution = spec.oneOf('resolution', resolutions, 'NONE')
  const hosts = spec.texts('hosts')
  if (spec.has('workloadSelector') && spec.list('endpoints').length > 0) {
    findings.error(spec.pathOf('endpoints'), 'stand beside a workloadSelector', 'keep one of the two')
  }
  checkHosts(spec, hosts, resolution, findings)
  const addresses = spec.texts('addresses')
  for (const [index, text] of addresses.entries()) {
    findings.check(`${spec.pathOf('addresses')}[${index}]`, ipBlock(text))
  }
  if (addresses.some(text => text.includes('/')) && resolution !== 'NONE' && resolution !== 'STATIC') {
    findings.error(
      spec.pathOf('addresses'),
      `address blocks do not go with resolution ${resolution}`,
      'use resolution NONE or STATIC, or single addresses'
    )
  }
  const portNames = checkPorts(spec, findings, needsAddress(object, resolution))
  checkResolution(object, resolution, portNames, findings)
  checkManyHosts(spec, hosts, resolution, findings)
  checkExportTo(spec, findings, { namespace: object.at('metadata').text('namespace'), nobody: true })
}

function checkHosts(
  spec: Fields,
  hosts: readonly string[],
  resolution: Resolution,
  findings: Findings
): void {
  const field = spec.pathOf('hosts')
  if (hosts.length === 0) findings.error(field, 'is missing', 'name a host')
  for (const [index, host] of hosts.entries()) {
    const at = `${field}[${index}]`
    if (host === '*')
      findings.error(at, 'every host cannot be one service', 'name hosts such as *.example.com')
    else findings.check(at, wildcardHostname(host))
    if (resolution !== 'DYNAMIC_DNS' && isPartialWildcard(host)) {
      findings.warn(
        at,
        `${JSON.stringify(host)} matches a part of a name`,
        'use a wildcard such as *.example.com'
      )
    }
  }
}

/** Whether nobody else gives the entry an address: then its TCP ports cannot be told from others. */
function needsAddress(object: Fields, resolution: Resolution): boolean {
  if (object.at('spec').texts('addresses').length > 0) return false
  return resolution === 'NONE' || optsOutOfAllocation(object.at('metadata').labels('labels'))
}

function checkPorts(spec: Fields, findings: Findings, needed: boolean): ReadonlySet<string> {
  const names = new Set<string>()
  const numbers = new Set<number>()
  for (const port of spec.list('ports')) {
    const [name, number, protocol] = [port.text('name'), port.whole('number'), port.text('protocol')]
    if (names.has(name))
      findings.error(port.pathOf('name'), `${JSON.stringify(name)} is used twice`, 'use another')
    if (numbers.has(number)) findings.error(port.pathOf('number'), `${number} is used twice`, 'use another')
    names.add(name)
    numbers.add(number)
    findings.check(port.pathOf('name'), dnsLabel(name, 'port name'))
    findings.check(port.pathOf('number'), portNumber(number))
    findings.check(port.pathOf('protocol'), portProtocol(protocol))
    const target = port.whole('targetPort')
    if (target !== 0) findings.check(port.pathOf('targetPort'), portNumber(target))
    if (needed && (protocol === '' || protocol === 'TCP')) {
      findings.warn(
        port.pathOf('protocol'),
        'a TCP port without an address cannot be told from others',
        'give addresses, or let them be allocated'
      )
    }
  }
  return names
}

function checkResolution(
  object: Fields,
  resolution: Resolution,
  portNames: ReadonlySet<string>,
  findings: Findings
): void {
  const spec = object.at('spec')
  const endpoints = spec.list('endpoints')
  switch (resolution) {
    case 'NONE':
      if (endpoints.length > 0) {
        findings.error(spec.pathOf('endpoints'), 'do not go with resolution NONE', 'use STATIC or DNS')
      }
      if (spec.has('workloadSelector')) {
        findings.warn(spec.pathOf('workloadSelector'), 'has no effect with resolution NONE', 'use STATIC')
      }
      return
    case 'STATIC':
      for (const endpoint of endpoints) checkEndpoint(endpoint, findings, { hostnames: false, portNames })
      return
    case 'DYNAMIC_DNS':
      checkDynamic(object, findings)
      return
    default:
      checkDns(spec, resolution, portNames, findings)
  }
}

function checkDns(
  spec: Fields,
  resolution: Resolution,
  portNames: ReadonlySet<string>,
  findings: Findings
): void {
  const endpoints = spec.list('endpoints')
  const hosts = spec.texts('hosts')
  if (endpoints.length === 0) {
    for (const [index, host] of hosts.entries()) {
      if (hostname(host) === undefined) continue
      findings.error(
        `${spec.pathOf('hosts')}[${index}]`,
        `${JSON.stringify(host)} cannot be resolved`,
        'name whole hosts, or give endpoints'
      )
      break
    }
  }
  if (resolution === 'DNS_ROUND_ROBIN' && endpoints.length > 1) {
    findings.error(spec.pathOf('endpoints'), 'there is more than one', 'use resolution DNS for several')
  }
  for (const endpoint of endpoints) {
    const address = endpoint.text('address')
    if (!isIp(address)) findings.check(endpoint.pathOf('address'), hostname(address))
    checkLabels(endpoint, 'labels', findings)
    checkEndpointPorts(endpoint, findings, portNames)
  }
  const tcp = spec.list('ports').some(port => isTcp(port.text('protocol')))
  if (spec.texts('addresses').length > 0 && tcp && hosts.length > 1) {
    findings.warn(
      spec.pathOf('hosts'),
      'several hosts share an address and a TCP port, and cannot be told apart',
      'write one ServiceEntry a host'
    )
  }
}

const dynamicProtocols = new Set(['http', 'tls', 'grpc', 'http2'])

function checkDynamic(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  for (const [index, host] of spec.texts('hosts').entries()) {
    if (!host.startsWith('*')) {
      findings.error(
        `${spec.pathOf('hosts')}[${index}]`,
        'is no wildcard',
        'use *.example.com, or resolution DNS'
      )
    }
  }
  for (const name of ['addresses', 'endpoints']) {
    const set = name === 'addresses' ? spec.texts(name).length > 0 : spec.list(name).length > 0
    if (set) findings.error(spec.pathOf(name), 'do not go with resolution DYNAMIC_DNS', 'leave them out')
  }
  for (const port of spec.list('ports')) {
    if (dynamicProtocols.has(port.text('protocol').toLowerCase())) continue
    findings.error(
      port.pathOf('protocol'),
      'resolution DYNAMIC_DNS takes the name from the request',
      'use HTTP, HTTP2, GRPC or TLS'
    )
  }
  const waypoint = object.at('metadata').labels('labels')['istio.io/use-waypoint'] ?? ''
  const inside =
    spec.oneOf('location', ['MESH_EXTERNAL', 'MESH_INTERNAL'], 'MESH_EXTERNAL') === 'MESH_INTERNAL'
  if (inside && waypoint !== '' && waypoint.toLowerCase() !== 'none') {
    findings.error(
      spec.pathOf('location'),
      'MESH_INTERNAL with resolution DYNAMIC_DNS does not go through a waypoint',
      'use MESH_EXTERNAL'
    )
  }
}

/** Only a protocol that carries the host's name tells several hosts apart. */
function checkManyHosts(
  spec: Fields,
  hosts: readonly string[],
  resolution: Resolution,
  findings: Findings
): void {
  if (resolution === 'NONE' || hosts.length < 2) return
  for (const port of spec.list('ports')) {
    const protocol = port.text('protocol')
    if (isHttp(protocol) || isTls(protocol)) continue
    findings.error(
      port.pathOf('protocol'),
      'several hosts cannot be told apart on a port that is neither HTTP nor TLS',
      'write one ServiceEntry a host'
    )
    return
  }
}
