/** Which header lists are well-formed messages. Pure. Source: RFC 9113 sections 8.1 to 8.3 and 8.5. */
import type { HeaderList } from './header-field.ts'

export type RequestHead =
  | { readonly kind: 'request'; readonly method: string; readonly authority: string | undefined }
  | { readonly kind: 'malformed'; readonly reason: string }

export type ResponseHead =
  | { readonly kind: 'response'; readonly status: number }
  | { readonly kind: 'malformed'; readonly reason: string }

const requestPseudo = [':method', ':scheme', ':authority', ':path']
const connectionSpecific = ['connection', 'proxy-connection', 'keep-alive', 'transfer-encoding', 'upgrade']

export function readRequestHead(fields: HeaderList): RequestHead {
  const reason = findMalformed(fields, requestPseudo)
  if (reason !== undefined) return { kind: 'malformed', reason }
  const method = pseudoField(fields, ':method')
  const scheme = pseudoField(fields, ':scheme')
  const path = pseudoField(fields, ':path')
  if (method === undefined) return { kind: 'malformed', reason: 'a request without :method' }
  if (method === 'CONNECT') {
    if (scheme !== undefined || path !== undefined)
      return { kind: 'malformed', reason: 'a CONNECT request with :scheme or :path' }
  } else if (scheme === undefined || path === undefined || path === '') {
    return { kind: 'malformed', reason: `a ${method} request without :scheme or :path` }
  }
  return { kind: 'request', method, authority: pseudoField(fields, ':authority') }
}

export function readResponseHead(fields: HeaderList): ResponseHead {
  const reason = findMalformed(fields, [':status'])
  if (reason !== undefined) return { kind: 'malformed', reason }
  const status = pseudoField(fields, ':status') ?? ''
  if (!/^[1-9]\d\d$/.test(status)) return { kind: 'malformed', reason: `a response with :status "${status}"` }
  return { kind: 'response', status: Number(status) }
}

/** Trailers have no pseudo header fields. */
export function findMalformedTrailer(fields: HeaderList): string | undefined {
  return findMalformed(fields, [])
}

/** RFC 9113 sections 8.2 and 8.3: what no header list may hold, with these pseudo header fields at most. */
export function findMalformed(fields: HeaderList, allowedPseudo: readonly string[]): string | undefined {
  let regular = false
  for (let at = 0; at < fields.length; at++) {
    const [name, value] = fields[at] ?? ['', '']
    if (name.startsWith(':')) {
      if (regular) return `${name} after a regular header field`
      if (!allowedPseudo.includes(name)) return `the pseudo header field ${name}`
      for (let before = 0; before < at; before++) if (fields[before]?.[0] === name) return `${name} twice`
    } else {
      regular = true
      // A token in lower case (RFC 9113 section 8.2.1, RFC 9110 section 5.6.2).
      if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) return 'an invalid header field name'
      if (connectionSpecific.includes(name)) return `the connection-specific header field ${name}`
      if (name === 'te' && value !== 'trailers') return 'a te header field other than "trailers"'
    }
    if (!validValue(value)) return `an invalid value of ${name}`
  }
  return undefined
}

/** No NUL, CR or LF anywhere, no space or tab at the ends. */
function validValue(value: string): boolean {
  // oxlint-disable-next-line no-control-regex -- these are the characters that the RFC forbids
  return !/[\0\r\n]|^[ \t]|[ \t]$/.test(value)
}

/** Pseudo header fields stand before all others. */
export function pseudoField(fields: HeaderList, name: string): string | undefined {
  for (const field of fields) {
    if (field[0] === name) return field[1]
    if (!field[0].startsWith(':')) return undefined
  }
  return undefined
}

/** Values of one header, in order. */
export function headerValues(fields: HeaderList, name: string): readonly string[] {
  const values: string[] = []
  for (const field of fields) if (field[0] === name) values.push(field[1])
  return values
}
