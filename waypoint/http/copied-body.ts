/** A request whose body others get too, as it comes: what they make of it changes nothing for whoever takes it. */
import type { Body, BodySink } from './body.ts'
import { derivedExchange } from './derived-exchange.ts'
import type { Exchange } from './exchange.ts'
import type { HeaderList } from './header-list.ts'

/** `copies`: each is told the end or a failure once; that it takes no more is not listened to. */
export function withCopiedBody(exchange: Exchange, copies: readonly BodySink[]): Exchange {
  if (copies.length === 0 || exchange.head.framing.kind === 'none') return exchange
  const body = new CopiedBody(exchange.body, copies)
  return derivedExchange(exchange, {
    body,
    onGone: listener =>
      exchange.onGone(reason => {
        body.lose(reason)
        listener(reason)
      }),
    respond: (head, onDrain) => {
      const sink = exchange.respond(head, onDrain)
      return {
        data: bytes => sink.data(bytes),
        end: trailers => {
          sink.end(trailers)
          body.lose(new Error('the answer ended before the request')) // the rest is read for nothing
        },
        fail: error => {
          sink.fail(error)
          body.lose(error)
        }
      }
    }
  })
}

class CopiedBody implements Body {
  readonly #body: Body
  readonly #copies: readonly BodySink[]
  #over = false

  constructor(body: Body, copies: readonly BodySink[]) {
    this.#body = body
    this.#copies = copies
  }

  pipe(sink: BodySink): void {
    this.#body.pipe({
      data: bytes => {
        const more = sink.data(bytes)
        if (!this.#over) for (const copy of this.#copies) copy.data(bytes)
        return more
      },
      end: trailers => {
        this.#end(trailers)
        sink.end(trailers)
      },
      fail: error => {
        sink.fail(error)
        this.lose(error)
      }
    })
  }

  resume(): void {
    this.#body.resume()
  }

  cancel(): void {
    this.#body.cancel()
    this.lose(new Error('the rest of the body was not wanted'))
  }

  /** Copies get no more of it, unless they have all. */
  lose(error: Error): void {
    if (this.#over) return
    this.#over = true
    for (const copy of this.#copies) copy.fail(error)
  }

  #end(trailers: HeaderList | undefined): void {
    if (this.#over) return
    this.#over = true
    for (const copy of this.#copies) copy.end(trailers)
  }
}
