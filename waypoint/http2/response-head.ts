/** The head of a response: RFC 9113 section 8.3.2. */
import { pseudoField } from '../../shared/hbone/header-rules.ts'
import type { ResponseHead } from '../http/exchange.ts'
import type { Framing } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'
import { requestFraming } from '../http1/framing.ts'
import { refused, type Refusal } from '../http1/refusal.ts'
import { readFields, writeFields, type FieldSection } from './fields.ts'

export interface Http2ResponseHead extends ResponseHead {
  readonly kind: 'response'
}

const none: Framing = { kind: 'none' }

/** `method`: of the request that is answered. */
export function readResponseHead(
  section: FieldSection,
  method: string,
  endStream: boolean
): Http2ResponseHead | Refusal {
  const headers = readFields(section, [':status'])
  if ('kind' in headers) return headers
  const digits = pseudoField(section, ':status') ?? ''
  if (!/^[1-9]\d\d$/.test(digits)) return refused(':status is missing, or not a number of three digits')
  const status = Number(digits)
  if (status === 101) return refused('status 101, which HTTP/2 does not have')
  if (status < 200 && endStream) return refused(`status ${status} at the end of a stream`)
  const declared = requestFraming(headers, 'HTTP/2')
  if (declared.kind === 'refused') return declared
  if (status < 200 || status === 204) headers.remove('content-length')
  if (hasNoBody(method, status)) return { kind: 'response', status, headers, framing: none }
  if (endStream && declared.kind === 'length' && declared.bytes > 0)
    return refused(`a content-length of ${declared.bytes} without a body`)
  const streamed: Framing = declared.kind === 'none' ? { kind: 'chunked' } : declared
  return { kind: 'response', status, headers, framing: endStream ? none : streamed }
}

/** What of a response's body is sent for this method. */
export function sentFraming(method: string, { status, framing }: ResponseHead): Framing {
  if (hasNoBody(method, status)) return none
  return framing.kind === 'until close' ? { kind: 'chunked' } : framing
}

export function responseFields(method: string, head: ResponseHead): FieldSection {
  return writeFields([[':status', String(head.status)]], head.headers, lengthOf(method, head))
}

/** Beside a body that is not there, only HEAD and 304 may tell a length other than 0 (RFC 9110 section 8.6). */
function lengthOf(method: string, { status, headers, framing }: ResponseHead): string | undefined {
  if (status < 200 || status === 204) return undefined
  if (framing.kind === 'length') return String(framing.bytes)
  if (framing.kind !== 'none') return undefined
  const told = headers.get('content-length')
  return told === '0' || method === 'HEAD' || status === 304 ? told : undefined
}

function hasNoBody(method: string, status: number): boolean {
  return method === 'HEAD' || status < 200 || status === 204 || status === 304
}

/** An interim response. */
export function informFields(status: number, headers: HeaderList): FieldSection {
  return writeFields([[':status', String(status)]], headers)
}
