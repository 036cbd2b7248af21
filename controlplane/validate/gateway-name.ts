/** Names of Gateways that routes are bound to: `namespace/name`, or `name` alone. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { dnsLabel, hostname } from './names.ts'

/** All sidecars of the mesh, rather than a Gateway. */
export const meshGateway = 'mesh'

export function checkGatewayNames(holder: Fields, findings: Findings): void {
  for (const [index, text] of holder.texts('gateways').entries()) {
    const field = `${holder.pathOf('gateways')}[${index}]`
    const cut = text.indexOf('/')
    if (cut < 0) {
      findings.check(field, hostname(text))
      const [name = '', namespace = ''] = text.split('.')
      if (namespace !== '') {
        findings.warn(field, `${JSON.stringify(text)} is an old form`, `write ${namespace}/${name}`)
      }
      continue
    }
    findings.check(field, dnsLabel(text.slice(0, cut), 'namespace'))
    findings.check(field, dnsLabel(text.slice(cut + 1), 'name of a Gateway'))
  }
}
