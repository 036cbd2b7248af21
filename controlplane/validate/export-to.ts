/** `exportTo`: the namespaces that see an object. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { isDnsLabel } from './names.ts'

export interface ExportRules {
  readonly namespace: string
  /** `~`, nobody, is for ServiceEntries. */
  readonly nobody?: boolean
  /** With a workload selector only the own namespace may be named. */
  readonly ownOnly?: boolean
}

export function checkExportTo(spec: Fields, findings: Findings, rules: ExportRules): void {
  const field = spec.pathOf('exportTo')
  const names = spec.texts('exportTo')
  const seen = new Set<string>()
  for (const [index, text] of names.entries()) {
    const name = text === '.' ? rules.namespace : text
    const at = `${field}[${index}]`
    if (seen.has(name))
      findings.error(at, `${JSON.stringify(text)} is said twice`, 'name each namespace once')
    else if (name === '~' && rules.nobody !== true) {
      findings.error(at, '~ (nobody) is for ServiceEntries only', 'use "." for the own namespace')
    } else if (name !== '*' && name !== '~' && !isDnsLabel(name)) {
      findings.error(at, `${JSON.stringify(text)} is no namespace`, 'use ".", "*" or the name of a namespace')
    } else seen.add(name)
  }
  for (const alone of ['*', '~']) {
    if (seen.has(alone) && names.length > 1) {
      findings.error(field, `"${alone}" stands beside other names`, `keep "${alone}" alone, or leave it out`)
    }
  }
  if (rules.ownOnly === true && seen.size > 0 && (seen.size > 1 || !seen.has(rules.namespace))) {
    findings.error(
      field,
      'an object with a workloadSelector is for its own namespace',
      'use "." alone or leave exportTo out'
    )
  }
}
