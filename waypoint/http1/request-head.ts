/** The head of a request: RFC 9112 sections 3 to 6 as strictly as they are written, so that no next reader reads another. */
import { isHost, isTarget, isToken } from './characters.ts'
import { readFieldLines } from './field-lines.ts'
import type { RequestHead } from '../http/exchange.ts'
import type { HttpVersion } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'
import { requestFraming } from './framing.ts'
import { keepsConnection, upgradeOf } from './hop-by-hop.ts'
import { refused, type Refusal } from './refusal.ts'

/** Its headers are all that came, those of the connection too. */
export interface Http1RequestHead extends RequestHead {
  readonly kind: 'request'
  /** Whether the client will send another request on this connection. */
  readonly keepAlive: boolean
  /** It waits for `100 Continue` before it sends its body. */
  readonly expectsContinue: boolean
}

/** `text`: the head in latin1, from the request line to before the empty line, each line with its CRLF. */
export function readRequestHead(text: string): Http1RequestHead | Refusal {
  const lineEnd = text.indexOf('\r\n')
  const line = requestLine(text.slice(0, lineEnd < 0 ? text.length : lineEnd))
  if (line.kind === 'refused') return line
  const headers = readFieldLines(text, lineEnd + 2)
  if ('kind' in headers) return headers
  const framing = requestFraming(headers, line.version)
  if (framing.kind === 'refused') return framing
  const place = placeOf(line, headers)
  if (place.kind === 'refused') return place
  const expectation = headers.get('expect')?.toLowerCase()
  if (expectation !== undefined && expectation !== '100-continue') {
    return refused('an expectation other than 100-continue', 417)
  }
  const { method, version } = line
  const upgrade = version === 'HTTP/1.1' ? upgradeOf(headers) : undefined
  const keepAlive = keepsConnection(headers, version)
  return {
    kind: 'request',
    method,
    version,
    headers,
    framing,
    target: place.target,
    authority: place.authority,
    ...(place.scheme === undefined ? {} : { scheme: place.scheme }),
    ...(upgrade === undefined ? {} : { upgrade }),
    keepAlive,
    // RFC 9110 section 10.1.1: of an HTTP/1.0 client it means nothing.
    expectsContinue: expectation !== undefined && version === 'HTTP/1.1' && framing.kind !== 'none'
  }
}

interface RequestLine {
  readonly kind: 'line'
  readonly method: string
  readonly target: string
  readonly version: HttpVersion
}

function requestLine(line: string): RequestLine | Refusal {
  const words = line.split(' ')
  const [method = '', target = '', version = ''] = words
  if (words.length !== 3) return refused('the request line is not a method, a target and a version')
  if (!isToken(method)) return refused('the method is not a token')
  if (!isTarget(target)) return refused('the target has characters that must be percent-encoded')
  if (version !== 'HTTP/1.1' && version !== 'HTTP/1.0') {
    return /^HTTP\/\d\.\d$/.test(version)
      ? refused('an HTTP version other than 1.0 and 1.1', 505)
      : refused('the request line does not end with an HTTP version')
  }
  return { kind: 'line', method, target, version }
}

type Place = { readonly kind: 'place' } & Pick<RequestHead, 'target' | 'authority' | 'scheme'>

/** Target and authority by the form of the target: RFC 9112 section 3.2. */
function placeOf({ method, target, version }: RequestLine, headers: HeaderList): Place | Refusal {
  const hosts = headers.all('host')
  if (hosts.length > 1) return refused('several host fields')
  if (hosts.length === 0 && version === 'HTTP/1.1') return refused('no host field')
  const [host = ''] = hosts
  if (!isHost(host)) return refused('the host is not a name or address with an optional port')
  if (method === 'CONNECT') {
    return isHost(target) && /:\d+$/.test(target)
      ? { kind: 'place', target, authority: target }
      : refused('the target of CONNECT is not a host and a port')
  }
  if (target.startsWith('/')) return { kind: 'place', target, authority: host }
  if (target === '*') {
    return method === 'OPTIONS'
      ? { kind: 'place', target, authority: host }
      : refused('the target * of a method other than OPTIONS')
  }
  const absolute = /^(https?):\/\/([^/?]+)(.*)$/i.exec(target)
  if (absolute === null) return refused('the target is neither a path nor an http URL')
  const [, scheme = '', authority = '', rest = ''] = absolute
  if (!isHost(authority)) return refused('the authority of the target is not a host with an optional port')
  // The authority of the target counts (section 3.2.2), but a reader that looks at Host must not see another one.
  if (hosts.length > 0 && host.toLowerCase() !== authority.toLowerCase()) {
    return refused('host and the authority of the target differ')
  }
  const path = rest.startsWith('/') ? rest : `/${rest}`
  return { kind: 'place', target: path, authority, scheme: scheme.toLowerCase() }
}
