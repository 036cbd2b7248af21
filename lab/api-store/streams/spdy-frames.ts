/**
 * Frames of SPDY/3.1 as far as kubectl's port-forward uses them. Source: draft-mbelshe-httpbis-spdy-00, which
 * SPDY/3.1 follows in its framing.
 */
import { createDeflate, createInflate, constants, type Deflate, type Inflate } from 'node:zlib'

export const frameType = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9
} as const

export const finFlag = 0x01
const version = 3
export const headerLength = 8
/** Longest frame that is taken, in bytes; kubectl's are 32 KiB. */
export const maxFrameBytes = 1 << 20

export type Frame =
  | { readonly kind: 'data'; readonly streamId: number; readonly fin: boolean; readonly payload: Buffer }
  | { readonly kind: 'control'; readonly type: number; readonly flags: number; readonly payload: Buffer }

/** Length of the whole frame whose first {@link headerLength} bytes are given. */
export function frameLength(header: Buffer): number {
  return headerLength + header.readUIntBE(5, 3)
}

export function readFrame(bytes: Buffer): Frame {
  const first = bytes.readUInt32BE(0)
  const flags = bytes[4] ?? 0
  const payload = bytes.subarray(headerLength)
  return first >>> 31 === 0
    ? { kind: 'data', streamId: first, fin: (flags & finFlag) !== 0, payload }
    : { kind: 'control', type: first & 0xffff, flags, payload }
}

export function dataFrame(streamId: number, fin: boolean, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader(streamId, fin ? finFlag : 0, payload.length), payload])
}

export function controlFrame(type: number, flags: number, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader((0x8000 | version) * 0x10000 + type, flags, payload.length), payload])
}

function frameHeader(first: number, flags: number, length: number): Buffer {
  const header = Buffer.alloc(headerLength)
  header.writeUInt32BE(first, 0)
  header[4] = flags
  header.writeUIntBE(length, 5, 3)
  return header
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

const words = [
  ...'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges'.split(
    ' '
  ),
  ...'age allow authorization cache-control connection content-base content-encoding content-language'.split(
    ' '
  ),
  ...'content-length content-location content-md5 content-range content-type date etag expect expires from'.split(
    ' '
  ),
  ...'host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location'.split(
    ' '
  ),
  ...'max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer'.split(
    ' '
  ),
  ...'transfer-encoding upgrade user-agent vary via warning www-authenticate method get status'.split(' '),
  ...['200 OK', 'version', 'HTTP/1.1', 'url', 'public', 'set-cookie', 'keep-alive', 'origin']
]
const rest =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505' +
  '203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized' +
  '403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable' +
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT' +
  'chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,' +
  'text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.'

/** The text that both sides' compressors start from (section 2.6.10.1): words with their lengths, then the rest. */
const dictionary = Buffer.concat([
  ...words.flatMap(word => [uint32(word.length), Buffer.from(word)]),
  Buffer.from(rest)
])

/** Longest header block after decompression, in bytes. */
const maxHeaderBytes = 64 << 10

/** Header blocks of one connection: each direction is one compressed stream. */
export class HeaderCodec {
  readonly #inflate: Inflate = createInflate({ dictionary, finishFlush: constants.Z_SYNC_FLUSH })
  readonly #deflate: Deflate = createDeflate({ dictionary })

  constructor() {
    this.#inflate.on('error', () => undefined) // whoever waits for the block learns of it
  }

  /** Throws an Error for a block that is not one. */
  async decode(block: Buffer): Promise<ReadonlyMap<string, string>> {
    await new Promise<void>((resolve, reject) => {
      // after an error the stream closes without calling back
      const broken = (): void => reject(new Error('a header block is not compressed as it should be'))
      this.#inflate.once('close', broken)
      this.#inflate.write(block, error => {
        this.#inflate.off('close', broken)
        if (error) reject(error)
        else resolve()
      })
    })
    return readPairs(takeAll(this.#inflate))
  }

  async encode(headers: ReadonlyMap<string, string>): Promise<Buffer> {
    const parts = [uint32(headers.size)]
    for (const pair of headers)
      for (const text of pair) parts.push(uint32(Buffer.byteLength(text)), Buffer.from(text))
    this.#deflate.write(Buffer.concat(parts))
    await new Promise<void>(resolve => this.#deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()))
    return takeAll(this.#deflate)
  }

  close(): void {
    this.#inflate.destroy()
    this.#deflate.destroy()
  }
}

function takeAll(stream: Inflate | Deflate): Buffer {
  const chunks: Buffer[] = []
  let bytes = 0
  for (let chunk = stream.read() as Buffer | null; chunk !== null; chunk = stream.read() as Buffer | null) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes > maxHeaderBytes) throw new Error(`a header block is longer than ${maxHeaderBytes} bytes`)
  }
  return Buffer.concat(chunks)
}

function readPairs(block: Buffer): ReadonlyMap<string, string> {
  const headers = new Map<string, string>()
  let offset = 4
  const take = (): string => {
    const length = block.readUInt32BE(offset)
    if (offset + 4 + length > block.length) throw new RangeError('a header is longer than its block')
    const text = block.toString('utf8', offset + 4, offset + 4 + length)
    offset += 4 + length
    return text
  }
  for (let left = block.readUInt32BE(0); left > 0; left -= 1) {
    const name = take()
    headers.set(name.toLowerCase(), take())
  }
  return headers
}
