/** The body that a stream brings: held back by the stream's window until somebody takes it, and held to its length. */
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import type { Body, BodySink } from '../http/body.ts'
import type { Framing } from '../http/framing.ts'
import { HeaderList } from '../http/header-list.ts'

/** Whose body it is. */
export interface BodyOwner {
  /** Somebody takes it now. */
  bodyWanted(): void
  /** Nobody will take the rest. */
  bodyCancelled(): void
  /** Its length is not what its head said. */
  bodyMalformed(reason: string): void
}

export class IncomingBody implements Body {
  readonly #tunnel: Tunnel
  readonly #owner: BodyOwner
  /** Bytes that may still come. */
  #left: number
  readonly #exact: boolean
  #sink: BodySink | undefined
  /** `over`: all has come. `dropped`: what comes is thrown away. */
  #state: 'open' | 'over' | 'dropped'
  #lost: Error | undefined

  constructor(tunnel: Tunnel, framing: Framing, owner: BodyOwner) {
    this.#tunnel = tunnel
    this.#owner = owner
    this.#exact = framing.kind === 'length'
    this.#left = framing.kind === 'length' ? framing.bytes : framing.kind === 'none' ? 0 : Infinity
    this.#state = framing.kind === 'none' ? 'over' : 'open'
  }

  pipe(sink: BodySink): void {
    if (this.#sink !== undefined) throw new Error('the body is piped already')
    this.#sink = sink
    if (this.#lost !== undefined) return sink.fail(this.#lost)
    if (this.#state === 'over') return this.#tellEnd(sink)
    this.#owner.bodyWanted()
    this.#tunnel.resume()
    this.#tunnel.deliver()
  }

  resume(): void {
    this.#tunnel.resume()
  }

  cancel(): void {
    if (this.#state !== 'open') return
    this.#state = 'dropped'
    this.#lost = new Error('the body was given up')
    this.#owner.bodyCancelled()
    this.#tunnel.resume() // read on, for nothing: a peer may send all before it reads
  }

  // ---- what its stream brings

  take(chunk: Buffer): void {
    if (this.#state === 'dropped') return
    this.#left -= chunk.length
    if (this.#left < 0) this.#malformed('more DATA than the head announced')
    else if (this.#sink?.data(chunk) === false) this.#tunnel.pause()
  }

  /** All has come; a stream that was reset has told {@link lose} before. */
  ended(): void {
    if (this.#state !== 'open') return
    if (this.#exact && this.#left > 0) return this.#malformed('less DATA than content-length says')
    this.#state = 'over'
    if (this.#sink !== undefined) this.#tellEnd(this.#sink)
  }

  /** The rest will not come. */
  lose(error: Error): void {
    if (this.#state !== 'open') return
    this.#drop(error)
  }

  #malformed(reason: string): void {
    if (this.#state === 'open') this.#drop(new Error(reason))
    this.#owner.bodyMalformed(reason)
  }

  #drop(error: Error): void {
    this.#state = 'dropped'
    this.#lost = error
    this.#tunnel.resume() // what waits unread would count for the connection's window for ever
    this.#sink?.fail(error)
  }

  #tellEnd(sink: BodySink): void {
    const { trailers } = this.#tunnel
    if (trailers === undefined) return sink.end()
    const list = new HeaderList()
    for (const [name, value] of trailers) list.append(name, value)
    sink.end(list)
  }
}
