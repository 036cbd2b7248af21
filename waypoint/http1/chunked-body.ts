/** The chunked transfer coding: RFC 9112 section 7.1, read without copying a byte of the body. */
import { readFieldLines } from './field-lines.ts'
import { MAX_HEAD_BYTES } from './head-reader.ts'
import type { HeaderList } from '../http/header-list.ts'
import { refused, type Refusal } from './refusal.ts'

/** Size and extensions of one chunk; nobody needs more, and the bytes count for nothing. */
const MAX_SIZE_LINE = 256
/** They decide about framing, routing or identity, and come too late for it: RFC 9110 section 6.5.1. */
const forbiddenInTrailers = ['transfer-encoding', 'content-length', 'host', 'authorization', 'connection']

export type ChunkedStep =
  /** All that was given is used up. */
  | { readonly kind: 'more' }
  | { readonly kind: 'end'; readonly trailers: HeaderList; readonly rest: Buffer }
  | Refusal

const more: ChunkedStep = { kind: 'more' }

type State = 'size line' | 'data' | 'end of data' | 'trailers'

export class ChunkedBody {
  #state: State = 'size line'
  /** Of the data of this chunk. */
  #left = 0
  /** A line, or trailers, that have not come whole. */
  #kept = ''

  /** Hands slices of `input` to `sink`, in order; they are valid only until the caller reuses the input. */
  push(input: Buffer, sink: (data: Buffer) => void): ChunkedStep {
    let at = 0
    while (at < input.length) {
      if (this.#state === 'data') {
        const take = Math.min(this.#left, input.length - at)
        sink(input.subarray(at, at + take))
        at += take
        this.#left -= take
        if (this.#left === 0) this.#state = 'end of data'
        continue
      }
      const feed = input.indexOf(0x0a, at)
      const lineEnd = feed < 0 ? input.length : feed + 1
      const limit = this.#state === 'trailers' ? MAX_HEAD_BYTES : MAX_SIZE_LINE
      if (this.#kept.length + lineEnd - at > limit)
        return refused(`${this.#state} longer than ${limit} bytes`, 431)
      this.#kept += input.toString('latin1', at, lineEnd)
      at = lineEnd
      if (feed < 0) break
      if (!this.#kept.endsWith('\r\n')) return refused('a line of a chunked body ends with LF alone')
      const step = this.#line(input, at)
      if (step !== undefined) return step
    }
    return more
  }

  /** A whole line has come; `at` is behind it. */
  #line(input: Buffer, at: number): ChunkedStep | undefined {
    const line = this.#kept
    if (this.#state === 'trailers') {
      if (line !== '\r\n' && !line.endsWith('\r\n\r\n')) return undefined
      this.#kept = ''
      return endOf(line, input.subarray(at))
    }
    this.#kept = ''
    if (this.#state === 'end of data') {
      if (line !== '\r\n') return refused('a chunk is longer than its size says')
      this.#state = 'size line'
      return undefined
    }
    const size = sizeOf(line)
    if (size === undefined) return refused('a chunk size that is not a hexadecimal number')
    this.#left = size
    this.#state = size === 0 ? 'trailers' : 'data'
    return undefined
  }
}

/** RFC 9112 section 7.1.1: extensions are looked over, but they must be text; no blank stands before the semicolon. */
function sizeOf(line: string): number | undefined {
  const [, digits = ''] = /^([0-9A-Fa-f]{1,13})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n$/.exec(line) ?? []
  return digits === '' ? undefined : Number.parseInt(digits, 16)
}

function endOf(text: string, rest: Buffer): ChunkedStep {
  const trailers = readFieldLines(text.slice(0, -2), 0)
  if ('kind' in trailers) return trailers
  const wrong = forbiddenInTrailers.find(name => trailers.has(name))
  if (wrong !== undefined) return refused(`${wrong} in the trailers`)
  return { kind: 'end', trailers, rest }
}
