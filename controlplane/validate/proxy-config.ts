/** ProxyConfig. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { checkSelector } from './selection.ts'

export function validateProxyConfig(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelector(spec, findings)
  if (spec.number('concurrency') < 0)
    findings.error(spec.pathOf('concurrency'), 'is negative', 'use 0 or more')
}
