/** Which requests an HTTP route is for. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { checkGatewayNames } from './gateway-name.ts'
import { matchedHeader } from './header.ts'
import { checkLabels, dnsLabel, portNumber } from './names.ts'
import { regularExpression } from './regular-expression.ts'

export function checkHttpMatch(match: Fields, findings: Findings): void {
  for (const name of ['headers', 'withoutHeaders']) {
    const headers = match.at(name)
    for (const header of headers.names()) {
      findings.check(headers.pathOf(header), matchedHeader(header))
      const text = headers.at(header)
      // Without headers: '*' says that it may not be there at all.
      if (name === 'withoutHeaders' && text.text('regex') === '*') continue
      checkStringMatch(text, findings)
    }
  }
  checkStringMatch(match.at('uri'), findings, { emptyPrefix: true })
  for (const name of ['scheme', 'method', 'authority']) checkStringMatch(match.at(name), findings)
  const query = match.at('queryParams')
  for (const name of query.names()) checkStringMatch(query.at(name), findings)
  const port = match.whole('port')
  if (port !== 0) findings.check(match.pathOf('port'), portNumber(port))
  checkLabels(match, 'sourceLabels', findings)
  checkGatewayNames(match, findings)
  const namespace = match.text('sourceNamespace')
  if (namespace !== '') findings.check(match.pathOf('sourceNamespace'), dnsLabel(namespace, 'namespace'))
}

/** `exact`, `prefix` or `regex`. */
export function checkStringMatch(match: Fields, findings: Findings, { emptyPrefix = false } = {}): void {
  if (!emptyPrefix && match.has('prefix') && match.text('prefix') === '') {
    findings.error(match.pathOf('prefix'), 'is empty', 'write a prefix, or leave the match out')
  }
  if (!match.has('regex')) return
  const text = match.text('regex')
  if (text === '') findings.error(match.pathOf('regex'), 'is empty', 'write an expression, or leave it out')
  else findings.check(match.pathOf('regex'), regularExpression(text))
}
