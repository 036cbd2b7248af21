/** The head of a request: RFC 9113 section 8.3.1 and RFC 8441 read strictly, and into the words of every version. */
import type { HeaderField } from '../../shared/hbone/header-field.ts'
import { pseudoField } from '../../shared/hbone/header-rules.ts'
import type { ClientRequest, RequestHead } from '../http/exchange.ts'
import type { Framing } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'
import { isHost, isTarget, isToken } from '../http1/characters.ts'
import { requestFraming } from '../http1/framing.ts'
import { refused, type Refusal } from '../http1/refusal.ts'
import { readFields, writeFields, type FieldSection } from './fields.ts'
import { addKey, withoutHandshake } from './websocket-handshake.ts'

export interface Http2RequestHead extends RequestHead {
  readonly kind: 'request'
  /** It waits for status 100 before it sends its body. */
  readonly expectsContinue: boolean
}

const pseudoFields = [':method', ':scheme', ':authority', ':path', ':protocol']

/** A refusal with status 400 is a malformed request (RFC 9113 section 8.1.1); others can be answered. */
export function readRequestHead(section: FieldSection, endStream: boolean): Http2RequestHead | Refusal {
  const headers = readFields(section, pseudoFields)
  if ('kind' in headers) return headers
  const place = placeOf(section, headers)
  if ('kind' in place) return place
  const { upgrade } = place
  const framing = framingOf(headers, endStream, upgrade !== undefined)
  if (framing.kind === 'refused') return framing
  const expectation = headers.get('expect')?.toLowerCase()
  if (expectation !== undefined && expectation !== '100-continue')
    return refused('an expectation other than 100-continue', 417)
  headers.remove('expect')
  if (upgrade === 'websocket') addKey(headers)
  return {
    kind: 'request',
    ...place,
    version: 'HTTP/2',
    headers,
    framing,
    expectsContinue: expectation !== undefined && framing.kind !== 'none'
  }
}

type Place = Pick<RequestHead, 'method' | 'target' | 'authority' | 'scheme' | 'upgrade'>

/** Takes Host out of the headers. */
function placeOf(section: FieldSection, headers: HeaderList): Place | Refusal {
  const method = pseudoField(section, ':method')
  const protocol = pseudoField(section, ':protocol')
  const scheme = pseudoField(section, ':scheme')?.toLowerCase()
  const target = pseudoField(section, ':path')
  if (method === undefined || !isToken(method)) return refused(':method is missing or not a token')
  if (protocol !== undefined && (method !== 'CONNECT' || !isToken(protocol)))
    return refused(':protocol without CONNECT, or not a token')
  const authority = authorityOf(section, headers)
  if (typeof authority !== 'string') return authority
  if (method === 'CONNECT' && protocol === undefined) {
    return scheme === undefined && target === undefined
      ? refused('CONNECT, which asks for a tunnel to anywhere', 501)
      : refused('CONNECT with :scheme or :path')
  }
  if (scheme !== 'http' && scheme !== 'https') return refused(':scheme is neither http nor https')
  if (target === undefined || !isTarget(target))
    return refused(':path is missing, or has characters that must be percent-encoded')
  if (!target.startsWith('/') && !(target === '*' && method === 'OPTIONS')) return refused(':path is no path')
  if (protocol === undefined) return { method, target, authority, scheme }
  // As HTTP/1.1 asks for it, so that rules about methods mean the same for both.
  return { method: 'GET', target, authority, scheme, upgrade: protocol.toLowerCase() }
}

/** Host and `:authority` must not name two: the next reader may look at the other one. */
function authorityOf(section: FieldSection, headers: HeaderList): string | Refusal {
  const hosts = headers.all('host')
  if (hosts.length > 1) return refused('several host fields')
  const authority = pseudoField(section, ':authority') ?? hosts[0]
  if (authority === undefined || authority === '' || !isHost(authority))
    return refused(':authority is missing, or not a name or address with an optional port')
  if (hosts[0] !== undefined && hosts[0].toLowerCase() !== authority.toLowerCase())
    return refused('host and :authority differ')
  headers.remove('host')
  return authority
}

function framingOf(headers: HeaderList, endStream: boolean, upgrade: boolean): Framing | Refusal {
  const declared = requestFraming(headers, 'HTTP/2')
  if (declared.kind === 'refused') return declared
  if (upgrade)
    return declared.kind === 'none' ? declared : refused('content-length where a protocol is switched')
  if (!endStream) return declared.kind === 'none' ? { kind: 'chunked' } : declared
  return declared.kind === 'length' && declared.bytes > 0
    ? refused(`a content-length of ${declared.bytes} without a body`)
    : { kind: 'none' }
}

export function requestFields(request: ClientRequest): FieldSection {
  const { method, target, authority, scheme, headers, framing, upgrade } = request
  const place: readonly HeaderField[] = [
    [':scheme', scheme],
    [':authority', authority],
    [':path', target]
  ]
  if (upgrade !== undefined)
    return writeFields([[':method', 'CONNECT'], [':protocol', upgrade], ...place], withoutHandshake(headers))
  return writeFields([[':method', method], ...place], headers, lengthOf(headers, framing))
}

/** A body that is not there may be said to have no bytes. */
function lengthOf(headers: HeaderList, framing: Framing): string | undefined {
  if (framing.kind === 'length') return String(framing.bytes)
  return framing.kind === 'none' && headers.get('content-length') === '0' ? '0' : undefined
}
