/** Cuts heads out of a byte stream, however it is split. */
import { refused, type Refusal } from './refusal.ts'

/** As Envoy's 60 KiB, lines and all. */
export const MAX_HEAD_BYTES = 60 * 1024
const EMPTY = Buffer.alloc(0)

export type HeadCut =
  | { readonly kind: 'more' }
  /** `text`: latin1, each line with its CRLF, without the empty line; `rest` is what follows in the chunk. */
  | { readonly kind: 'head'; readonly text: string; readonly rest: Buffer }
  | Refusal

const more: HeadCut = { kind: 'more' }

/** Keeps what came of a head that is not whole yet; a head that comes in one piece is not copied. */
export class HeadReader {
  #kept: Buffer = EMPTY
  readonly #maxBytes: number

  constructor(maxBytes = MAX_HEAD_BYTES) {
    this.#maxBytes = maxBytes
  }

  /** True when nothing of a head has come: the stream may end here. */
  get empty(): boolean {
    return this.#kept.length === 0
  }

  /** `chunk` is not kept unless the head is incomplete, and then copied. */
  push(chunk: Buffer): HeadCut {
    const searchedTo = Math.max(0, this.#kept.length - 3)
    const bytes = this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk])
    const start = afterEmptyLines(bytes)
    if (start > 4) return refused('more than two empty lines before a message')
    const end = bytes.indexOf('\r\n\r\n', Math.max(start, searchedTo), 'latin1')
    const length = end < 0 ? bytes.length - start : end + 4 - start
    if (length > this.#maxBytes) return refused(`the head is longer than ${this.#maxBytes} bytes`, 431)
    if (end >= 0) {
      this.#kept = EMPTY
      return { kind: 'head', text: bytes.toString('latin1', start, end + 2), rest: bytes.subarray(end + 4) }
    }
    // A line that ends with LF alone would keep us waiting for an end that its sender believes to have sent.
    if (hasBareLineFeed(bytes, start)) return refused('a line ends with LF alone')
    this.#kept = bytes === chunk ? Buffer.from(bytes) : bytes
    return more
  }
}

/** RFC 9112 section 2.2: an empty line before a request is looked over; some clients send one after a body. */
function afterEmptyLines(bytes: Buffer): number {
  let at = 0
  while (bytes[at] === 0x0d && bytes[at + 1] === 0x0a) at += 2
  return at
}

function hasBareLineFeed(bytes: Buffer, start: number): boolean {
  for (let at = bytes.indexOf(0x0a, start); at >= 0; at = bytes.indexOf(0x0a, at + 1)) {
    if (at === 0 || bytes[at - 1] !== 0x0d) return true
  }
  return false
}
