/** Takes a body out of a byte stream, by the framing that its head told. */
import { ChunkedBody } from './chunked-body.ts'
import type { Framing } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'
import type { Refusal } from './refusal.ts'

export type BodyStep =
  /** All that was given is used up. */
  | { readonly kind: 'more' }
  | { readonly kind: 'end'; readonly trailers?: HeaderList; readonly rest: Buffer }
  | Refusal

export class BodyReader {
  readonly #framing: Framing
  readonly #chunks: ChunkedBody | undefined
  #left: number

  constructor(framing: Framing) {
    this.#framing = framing
    this.#chunks = framing.kind === 'chunked' ? new ChunkedBody() : undefined
    this.#left = framing.kind === 'length' ? framing.bytes : 0
  }

  /** True where the end of the connection is the end of the body, and not its loss. */
  get endsWithConnection(): boolean {
    return this.#framing.kind === 'until close'
  }

  /** Hands slices of `input` to `sink`, in order; `rest` is what follows the body. */
  push(input: Buffer, sink: (data: Buffer) => void): BodyStep {
    if (this.#chunks !== undefined) return this.#chunks.push(input, sink)
    if (this.#framing.kind === 'until close') {
      if (input.length > 0) sink(input)
      return { kind: 'more' }
    }
    const take = Math.min(this.#left, input.length)
    this.#left -= take
    if (take > 0) sink(input.subarray(0, take))
    return this.#left > 0 ? { kind: 'more' } : { kind: 'end', rest: input.subarray(take) }
  }
}
