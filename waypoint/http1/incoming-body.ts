/** The body that a connection is reading now: holds its bytes back until somebody takes them. */
import type { Body, BodySink } from './body.ts'
import { BodyReader } from './body-reader.ts'
import type { Framing } from './framing.ts'
import type { Refusal } from './refusal.ts'

export interface IncomingBodyEvents {
  /** Somebody wants it now, or wants more. */
  readonly wanted: () => void
  readonly cancelled: () => void
}

const drop: BodySink = { data: () => true, end: () => undefined, fail: () => undefined }

export type Taken =
  | { readonly kind: 'more' }
  /** Not before somebody takes the body, or takes more of it. */
  | { readonly kind: 'later' }
  | { readonly kind: 'end'; readonly rest: Buffer }
  | Refusal

export class IncomingBody implements Body {
  readonly #reader: BodyReader
  readonly #events: IncomingBodyEvents
  #sink: BodySink | undefined
  #paused = false
  #over = false

  constructor(framing: Framing, events: IncomingBodyEvents) {
    this.#reader = new BodyReader(framing)
    this.#events = events
    this.#over = framing.kind === 'none' || (framing.kind === 'length' && framing.bytes === 0)
  }

  get over(): boolean {
    return this.#over
  }

  pipe(sink: BodySink): void {
    if (this.#sink !== undefined) throw new Error('the body is piped already')
    this.#sink = sink
    if (this.#over) sink.end()
    else this.#events.wanted()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#events.wanted()
  }

  cancel(): void {
    if (this.#over) return
    this.#sink = drop
    this.#paused = false
    this.#events.cancelled()
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
