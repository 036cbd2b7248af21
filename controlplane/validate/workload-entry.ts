/** WorkloadEntry, and the endpoints of a ServiceEntry. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { checkLabels, dnsLabel, hostname, isIp, portNumber, unixPath, unixPrefix } from './names.ts'

export function validateWorkloadEntry(object: Fields, findings: Findings): void {
  checkEndpoint(object.at('spec'), findings, { hostnames: true })
}

export interface EndpointRules {
  /** Whether the address may be a hostname. */
  readonly hostnames: boolean
  /** Names of the ServiceEntry's ports; left out, any will do. */
  readonly portNames?: ReadonlySet<string>
}

export function checkEndpoint(spec: Fields, findings: Findings, rules: EndpointRules): void {
  const address = spec.text('address')
  const field = spec.pathOf('address')
  if (address === '') {
    if (spec.text('network') === '') {
      findings.error(field, 'is missing', 'give an IP address')
      return
    }
    findings.warn(
      field,
      'is missing',
      'without it the workload is reached by the gateway of its network only'
    )
  }
  if (address.startsWith(unixPrefix)) checkSocket(spec, address, findings, rules)
  else if (address !== '' && !isIp(address)) {
    const problem = rules.hostnames ? hostname(address) : noAddress(address)
    findings.check(field, problem)
  }
  checkEndpointPorts(spec, findings, rules.portNames)
  checkLabels(spec, 'labels', findings)
}

function noAddress(address: string): { message: string; remedy: string } {
  return {
    message: `${JSON.stringify(address)} is no IP address`,
    remedy: 'give an address, or set resolution to DNS'
  }
}

function checkSocket(spec: Fields, address: string, findings: Findings, { portNames }: EndpointRules): void {
  findings.check(spec.pathOf('address'), unixPath(address.slice(unixPrefix.length)))
  if (spec.at('ports').names().length > 0) {
    findings.error(spec.pathOf('ports'), 'a socket has no ports', 'leave them out')
  }
  if (portNames !== undefined && portNames.size !== 1) {
    findings.error(spec.pathOf('address'), 'a socket takes exactly one port of the service', 'name one port')
  }
}

export function checkEndpointPorts(
  spec: Fields,
  findings: Findings,
  portNames: ReadonlySet<string> | undefined
): void {
  const ports = spec.at('ports')
  for (const name of ports.names()) {
    const field = ports.pathOf(name)
    if (portNames?.has(name) === false) {
      findings.error(field, 'is no port of the ServiceEntry', 'use the name of one of spec.ports')
    }
    findings.check(field, dnsLabel(name, 'port name'))
    findings.check(field, portNumber(ports.whole(name)))
  }
}
