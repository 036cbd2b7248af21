/** The head of a response: RFC 9112 section 4. */
import { isFieldValue } from './characters.ts'
import { keepsConnection } from './hop-by-hop.ts'
import { readFieldLines } from './field-lines.ts'
import type { ResponseHead } from '../http/exchange.ts'
import type { HttpVersion } from '../http/framing.ts'
import { responseFraming } from './framing.ts'
import { refused, type Refusal } from './refusal.ts'

export interface Http1ResponseHead extends ResponseHead {
  readonly kind: 'response'
  readonly version: HttpVersion
  /** Whether the connection can take another request once the body has ended. */
  readonly keepAlive: boolean
}

/** `text` as for a request; `method`: of the request that is answered. */
export function readResponseHead(text: string, method: string): Http1ResponseHead | Refusal {
  const lineEnd = text.indexOf('\r\n')
  // A reason may be missing with the blank before it: some servers leave both out.
  const line = /^(HTTP\/1\.[01]) ([1-9]\d{2})(?: (.*))?$/.exec(
    text.slice(0, lineEnd < 0 ? text.length : lineEnd)
  )
  if (line === null) return refused('the status line is not a version of HTTP/1 and a status')
  const [, version = 'HTTP/1.1', digits = '', reason = ''] = line
  if (!isFieldValue(reason)) return refused('the reason has a control character')
  const headers = readFieldLines(text, lineEnd + 2)
  if ('kind' in headers) return headers
  const status = Number(digits)
  const framing = responseFraming(headers, version as HttpVersion, { status, method })
  if (framing.kind === 'refused') return framing
  const keepAlive = framing.kind !== 'until close' && keepsConnection(headers, version as HttpVersion)
  return { kind: 'response', status, version: version as HttpVersion, headers, framing, keepAlive }
}
