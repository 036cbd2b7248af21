/** What a client speaks, by the first bytes that it sends. */

export type Detected = 'http1' | 'http2' | 'tls' | 'tcp' | 'more'

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
/** The longest method that is waited for; extension methods (RFC 9110 section 16.1) are tokens of any length. */
const longestMethod = 24

/** `more`: it could be several still. */
export function detectProtocol(first: Buffer): Detected {
  if (first.length === 0) return 'more'
  const compared = Math.min(first.length, preface.length)
  if (first.compare(preface, 0, compared, 0, compared) === 0) {
    return compared === preface.length ? 'http2' : 'more'
  }
  // A TLS record with a handshake, of any version that calls itself 3.
  if (first[0] === 0x16) return first.length < 2 ? 'more' : first[1] === 3 ? 'tls' : 'tcp'
  const method = /^[A-Z][A-Z-]*/.exec(first.toString('latin1', 0, longestMethod))?.[0]
  if (method === undefined) return 'tcp'
  if (method.length === first.length) return method.length < longestMethod ? 'more' : 'tcp'
  if (first[method.length] !== 0x20) return 'tcp'
  return isRequestLine(first.subarray(method.length + 1))
}

/** A target begins with a slash, or names a scheme or a host: words of a text protocol would not end in HTTP/1. */
function isRequestLine(rest: Buffer): Detected {
  const end = rest.indexOf(0x0d)
  if (end >= 0) return /^\S+ HTTP\/1\.\d$/.test(rest.toString('latin1', 0, end)) ? 'http1' : 'tcp'
  if (rest.includes(0x0a)) return 'tcp'
  if (rest.length > 0 && rest[0] === 0x2f) return 'http1'
  return rest.length < 8192 ? 'more' : 'tcp'
}
