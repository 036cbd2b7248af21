/** The body that a connection is reading now: holds its bytes back until somebody takes them. */
import type { Body, BodySink } from '../http/body.ts'
import { BodyReader } from './body-reader.ts'
import type { Framing } from '../http/framing.ts'
import type { Refusal } from './refusal.ts'

const drop: BodySink = { data: () => true, end: () => undefined, fail: () => undefined }

export type Taken =
  | { readonly kind: 'more' }
  /** Not before somebody takes the body, or takes more of it. */
  | { readonly kind: 'later' }
  | { readonly kind: 'end'; readonly rest: Buffer }
  | Refusal

export class IncomingBody implements Body {
  readonly #reader: BodyReader
  readonly #wanted: () => void
  readonly #cancelled: () => void
  #sink: BodySink | undefined
  #paused = false
  #over = false

  /** `wanted`: somebody takes it now, or takes more; `cancelled`: nobody will. */
  constructor(framing: Framing, wanted: () => void, cancelled: () => void) {
    this.#reader = new BodyReader(framing)
    this.#wanted = wanted
    this.#cancelled = cancelled
    this.#over = framing.kind === 'none' || (framing.kind === 'length' && framing.bytes === 0)
  }

  get over(): boolean {
    return this.#over
  }

  pipe(sink: BodySink): void {
    if (this.#sink !== undefined) throw new Error('the body is piped already')
    this.#sink = sink
    if (this.#over) sink.end()
    else this.#wanted()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#wanted()
  }

  cancel(): void {
    if (this.#over) return
    this.#sink = drop
    this.#paused = false
    this.#cancelled()
  }

  /** Passes on what of `input` is of this body. */
  take(input: Buffer): Taken {
    const sink = this.#sink
    if (sink === undefined || this.#paused) return { kind: 'later' }
    const step = this.#reader.push(input, data => {
      if (!sink.data(data)) this.#paused = true
    })
    if (step.kind === 'end') {
      this.#over = true
      sink.end(step.trailers)
      return { kind: 'end', rest: step.rest }
    }
    if (step.kind === 'refused') this.lose(new Error(step.reason))
    return step
  }

  /** The connection brings nothing more. */
  connectionEnded(): void {
    if (this.#over) return
    if (!this.#reader.endsWithConnection)
      return this.lose(new Error('the connection ended in the middle of a body'))
    this.#over = true
    this.#sink?.end()
  }

  lose(error: Error): void {
    if (this.#over) return
    this.#over = true
    this.#sink?.fail(error)
  }
}
