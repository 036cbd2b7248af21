/** Hosts with the namespace that they are looked for in: `namespace/host`. */
import type { Findings } from './finding.ts'
import { isDnsLabel, isIp, isPartialWildcard, wildcardHostname } from './names.ts'

/** In a Gateway the namespace may be left out, and addresses are hosts too. */
export function checkNamespacedHost(
  field: string,
  text: string,
  findings: Findings,
  place: 'gateway' | 'sidecar'
): void {
  const cut = text.indexOf('/')
  if (cut >= 0) {
    const namespace = place === 'sidecar' ? text.slice(0, cut).replace(/^~/, '') : text.slice(0, cut)
    const none = namespace === '' && (place === 'gateway' || cut === 0)
    if (none || (namespace !== '' && !['*', '.'].includes(namespace) && !isDnsLabel(namespace))) {
      findings.error(
        field,
        `${JSON.stringify(text.slice(0, cut))} is no namespace`,
        'write ./host, */host or namespace/host'
      )
    }
  } else if (place === 'sidecar') {
    findings.error(
      field,
      `${JSON.stringify(text)} names no namespace`,
      'write ./host, */host or namespace/host'
    )
    return
  }
  const host = text.slice(cut + 1)
  if (host !== '*' && !host.includes('.')) {
    const isAddress = place === 'gateway' && isIp(host)
    findings.error(
      field,
      `${JSON.stringify(host)} is a short name`,
      isAddress ? 'name a host' : 'write the whole name'
    )
  }
  if (place === 'sidecar' || !isIp(host)) findings.check(field, wildcardHostname(host))
  if (isPartialWildcard(host)) {
    findings.error(
      field,
      `${JSON.stringify(host)} matches a part of a name`,
      'use a wildcard such as *.example.com'
    )
  }
}
