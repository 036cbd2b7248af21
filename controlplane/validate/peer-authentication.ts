/** PeerAuthentication. Source: Istio's published definition (security.istio.io). */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { portNumber } from './names.ts'
import { checkSelector } from './selection.ts'

export const tlsModes = ['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT'] as const

export function validatePeerAuthentication(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelector(spec, findings)
  spec.at('mtls').oneOf('mode', tlsModes, 'UNSET')
  if (!spec.has('portLevelMtls')) return
  const ports = spec.at('portLevelMtls')
  if (ports.names().length === 0) {
    findings.error(ports.path, 'is empty', 'name a port, or leave it out')
  } else if (Object.keys(spec.at('selector').labels('matchLabels')).length === 0) {
    findings.error(
      ports.path,
      'is only for objects with a selector',
      'select the workloads whose ports are meant'
    )
  }
  for (const port of ports.names()) {
    findings.check(ports.pathOf(port), portNumber(Number(port)))
    ports.at(port).oneOf('mode', tlsModes, 'UNSET')
  }
}
