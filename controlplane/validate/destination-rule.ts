/** DestinationRule. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import { checkExportTo } from './export-to.ts'
import type { Findings } from './finding.ts'
import { checkLabels, dnsLabel, wildcardHostname } from './names.ts'
import { checkTrafficPolicy } from './traffic-policy.ts'
import { checkMatchedLabels } from './selection.ts'

export function validateDestinationRule(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  const namespace = object.at('metadata').text('namespace')
  findings.check(spec.pathOf('host'), wildcardHostname(spec.text('host')))
  checkTrafficPolicy(spec, findings, namespace)
  const names = new Set<string>()
  for (const subset of spec.list('subsets')) {
    const name = subset.text('name')
    if (names.has(name))
      findings.error(subset.pathOf('name'), `${JSON.stringify(name)} is used twice`, 'use another')
    names.add(name)
    findings.check(subset.pathOf('name'), dnsLabel(name, 'name of a subset'))
    checkLabels(subset, 'labels', findings)
    checkTrafficPolicy(subset, findings, namespace)
  }
  const ownOnly = spec.has('workloadSelector')
  checkExportTo(spec, findings, { namespace, ownOnly })
  if (ownOnly) checkMatchedLabels(spec.at('workloadSelector'), findings)
}
