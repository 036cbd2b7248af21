/** How long a body is, by its head: RFC 9112 section 6. Whatever two readers could understand differently is refused. */
import type { Framing, HttpVersion } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'
import { refused, type Refusal } from './refusal.ts'

const none: Framing = { kind: 'none' }
const chunked: Framing = { kind: 'chunked' }

export function requestFraming(headers: HeaderList, version: HttpVersion): Framing | Refusal {
  return declared(headers, version) ?? none
}

/** `method`: of the request that is answered. Switched protocols and tunnels are the caller's; what follows is no body. */
export function responseFraming(
  headers: HeaderList,
  version: HttpVersion,
  { status, method }: { readonly status: number; readonly method: string }
): Framing | Refusal {
  const framing = declared(headers, version)
  if (framing?.kind === 'refused') return framing
  const bodiless = method === 'HEAD' || status < 200 || status === 204 || status === 304
  if (bodiless || (method === 'CONNECT' && status < 300)) return none
  return framing ?? { kind: 'until close' }
}

/** What Content-Length and Transfer-Encoding say; undefined where there is neither. */
function declared(headers: HeaderList, version: HttpVersion): Framing | Refusal | undefined {
  if (!headers.has('transfer-encoding') && !headers.has('content-length')) return undefined
  const codings = headers.all('transfer-encoding')
  const lengths = headers.all('content-length')
  if (codings.length > 0) {
    if (lengths.length > 0) return refused('both content-length and transfer-encoding')
    if (version === 'HTTP/1.0') return refused('transfer-encoding in HTTP/1.0')
    if (codings.length > 1) return refused('several transfer-encoding fields')
    return codings[0]?.toLowerCase() === 'chunked'
      ? chunked
      : refused('a transfer-encoding other than chunked', 501)
  }
  // Equal ones could be taken for one (RFC 9110 section 8.6); nobody honest sends them.
  if (lengths.length > 1) return refused('several content-length fields')
  const [text = ''] = lengths
  if (!/^\d{1,15}$/.test(text)) return refused('a content-length that is not a number of bytes')
  return { kind: 'length', bytes: Number(text) }
}
