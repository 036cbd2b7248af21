/**
 * Which server a TLS client names before it is answered, read from the first bytes that it sends: so that one port can
 * pass some names on untouched and end TLS for others. Sources: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3.
 */

export type Hello =
  /** The hello is not whole yet. */
  | { readonly kind: 'more' }
  /** `serverName`: in lower case; undefined where the client names none. */
  | { readonly kind: 'hello'; readonly serverName: string | undefined }
  | { readonly kind: 'refused'; readonly reason: string }

/** Bytes of a hello that are taken; those of usual clients have up to 2 KiB, also with keys that resist quantum computers. */
const maxHelloBytes = 32 << 10
const maxRecord = 16 << 10
/** Clients use one, or a few. */
const maxRecords = 32
const handshakeRecord = 22
const clientHello = 1
const serverNameExtension = 0
const hostName = 0

/** `first`: everything that has come so far. */
export function readClientHello(first: Buffer): Hello {
  const message = handshakeMessage(first)
  if (!Buffer.isBuffer(message)) return message
  const hello = new Reader(message)
  hello.skip(2 + 32) // version, random
  hello.skip(hello.byte()) // session id
  hello.skip(hello.short()) // cipher suites
  hello.skip(hello.byte()) // compression methods
  if (hello.failed) return truncated
  if (hello.left === 0) return { kind: 'hello', serverName: undefined }
  const extensions = hello.part(hello.short())
  if (extensions === undefined || hello.left > 0) return truncated
  let found: Hello = { kind: 'hello', serverName: undefined }
  let seen = false
  while (extensions.left > 0) {
    const type = extensions.short()
    const body = extensions.part(extensions.short())
    if (body === undefined) return truncated
    if (type !== serverNameExtension) continue
    if (seen) return refused('two server_name extensions')
    seen = true
    found = serverNameOf(body)
  }
  return found
}

/** The body of the first handshake message, which may come in several records (RFC 8446 section 5.1). */
function handshakeMessage(first: Buffer): Buffer | Hello {
  const fragments: Buffer[] = []
  let length = 0
  for (let at = 0; at < first.length;) {
    if (first[at] !== handshakeRecord) return refused('no TLS handshake')
    if (at + 1 < first.length && first[at + 1] !== 3) return refused('no version of TLS that is known')
    if (at + 5 > first.length) break
    const size = first.readUInt16BE(at + 3)
    if (size === 0 || size > maxRecord) return refused(`a record of ${size} bytes`)
    if (fragments.length === maxRecords) return refused('a ClientHello in too many pieces')
    const fragment = first.subarray(at + 5, at + 5 + size)
    fragments.push(fragment)
    length += fragment.length
    at += 5 + size
  }
  if (length < 4) return { kind: 'more' }
  const message = fragments.length === 1 ? (fragments[0] as Buffer) : Buffer.concat(fragments)
  if (message[0] !== clientHello) return refused('no ClientHello')
  const wanted = message.readUIntBE(1, 3)
  if (wanted > maxHelloBytes) return refused(`a ClientHello of ${wanted} bytes`)
  return length < 4 + wanted ? { kind: 'more' } : message.subarray(4, 4 + wanted)
}

function serverNameOf(body: Reader): Hello {
  const list = body.part(body.short())
  if (list === undefined || list.left === 0 || body.left > 0) return truncated
  let serverName: string | undefined
  while (list.left > 0) {
    const type = list.byte()
    const name = list.part(list.short())
    if (name === undefined) return truncated
    if (type !== hostName) continue
    if (serverName !== undefined) return refused('two server names')
    serverName = name.text().toLowerCase()
    if (!/^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?$/.test(serverName)) {
      return refused('a server name that is no hostname')
    }
  }
  return { kind: 'hello', serverName: serverName?.replace(/\.$/, '') }
}

function refused(reason: string): Hello {
  return { kind: 'refused', reason }
}

const truncated = refused('a ClientHello whose lengths do not fit')

/** Reads numbers and parts; what goes beyond the end fails, once and for all. */
class Reader {
  readonly #bytes: Buffer
  #at = 0
  failed = false

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  byte(): number {
    return this.#number(1)
  }

  short(): number {
    return this.#number(2)
  }

  skip(length: number): void {
    if (length > this.left) this.failed = true
    this.#at = Math.min(this.#bytes.length, this.#at + length)
  }

  part(length: number): Reader | undefined {
    const from = this.#at
    this.skip(length)
    return this.failed ? undefined : new Reader(this.#bytes.subarray(from, from + length))
  }

  text(): string {
    return this.#bytes.toString('latin1')
  }

  #number(length: number): number {
    if (length > this.left) {
      this.skip(length)
      return 0
    }
    const value = this.#bytes.readUIntBE(this.#at, length)
    this.#at += length
    return value
  }
}
