/**
 * The byte pump: copies both directions between two byte streams until both have ended.
 *
 * Listeners, not `pipe`, `pipeline` or `for await`: they cost least per connection and make half close,
 * counters and errors explicit. Each direction ends on its own: the end of one side's input ends the other
 * side's output, and the opposite direction lives on for as long as its ends like.
 */
import type net from 'node:net'
import { MeshError } from '../runtime/errors.ts'
import type { ByteSink, ByteStream } from './byte-stream.ts'
import { streamOf } from './socket-stream.ts'

/** Bytes passed on so far; plain numbers, updated while the relay runs. */
export interface RelayCounters {
  aToB: number
  bToA: number
  /** Set at the end: the stream whose failure ended it. */
  cut?: 'a' | 'b'
}

/**
 * Resolves when both streams are closed, also when a peer left early (a reset by an application is its way to
 * close; the other side sees a reset too). Rejects with a MeshError when a stream failed, and with the
 * signal's reason when it aborts; both streams are cut then.
 */
export function relay(
  a: net.Socket | ByteStream,
  b: net.Socket | ByteStream,
  counters: RelayCounters,
  signal: AbortSignal
): Promise<void> {
  return new Promise((resolve, reject) => {
    new Relay(streamOf(a), streamOf(b), counters, signal, resolve, reject).start()
  })
}

class Relay {
  readonly #forward: Direction
  readonly #backward: Direction
  readonly #counters: RelayCounters
  readonly #signal: AbortSignal
  readonly #resolve: () => void
  readonly #reject: (reason: unknown) => void
  #open = 2
  #failure: Error | undefined

  constructor(
    a: ByteStream,
    b: ByteStream,
    counters: RelayCounters,
    signal: AbortSignal,
    resolve: () => void,
    reject: (reason: unknown) => void
  ) {
    this.#forward = new Direction(this, a, b, counters, true)
    this.#backward = new Direction(this, b, a, counters, false)
    this.#counters = counters
    this.#signal = signal
    this.#resolve = resolve
    this.#reject = reject
  }

  start(): void {
    this.#forward.from.attach(this.#forward)
    this.#backward.from.attach(this.#backward)
    this.#forward.from.resume()
    this.#backward.from.resume()
    if (this.#signal.aborted) this.#onAbort()
    else this.#signal.addEventListener('abort', this.#onAbort)
  }

  /** The source of `direction` is over. The first error is the cause; later ones are its echo. */
  closed(direction: Direction, error: Error | undefined): void {
    if (error !== undefined && this.#failure === undefined) {
      this.#failure = error
      this.#counters.cut = direction === this.#forward ? 'a' : 'b'
    }
    this.#open -= 1
    if (this.#open === 0) return this.#settle()
    // Whoever has said everything is heard to the end; a stream that was cut cuts the other.
    if (error === undefined || direction.ended) direction.to.close()
    else direction.to.destroy(error)
  }

  readonly #onAbort = (): void => {
    const reason: unknown = this.#signal.reason
    const error = reason instanceof Error ? reason : new Error(String(reason))
    this.#failure ??= error
    this.#forward.from.destroy(error)
    this.#backward.from.destroy(error)
  }

  #settle(): void {
    const { aborted, reason } = this.#signal
    this.#signal.removeEventListener('abort', this.#onAbort)
    const failure = this.#failure
    if (aborted && this.#failure !== undefined) this.#reject(reason)
    else if (failure === undefined || isLeaving(failure)) this.#resolve()
    else if (failure instanceof MeshError) this.#reject(failure)
    else
      this.#reject(
        new MeshError('STREAM_FAILED', 'a connection failed while its bytes were copied', { cause: failure })
      )
  }
}

/** What one stream says goes to the other. */
class Direction implements ByteSink {
  readonly from: ByteStream
  readonly to: ByteStream
  /** The source has sent its last byte, and all of them were passed on. */
  ended = false
  readonly #relay: Relay
  readonly #counters: RelayCounters
  readonly #forward: boolean
  readonly #disposable: boolean
  #corked = false

  constructor(relay: Relay, from: ByteStream, to: ByteStream, counters: RelayCounters, forward: boolean) {
    this.#relay = relay
    this.from = from
    this.to = to
    this.#counters = counters
    this.#forward = forward
    this.#disposable = from.exclusive
  }

  data(chunk: Buffer, more: boolean): void {
    if (this.#forward) this.#counters.aToB += chunk.length
    else this.#counters.bToA += chunk.length
    if (more && !this.#corked) {
      this.#corked = true
      this.to.cork()
    }
    const ready = this.to.write(chunk, this.#disposable)
    if (!ready) this.from.pause()
    if (this.#corked && !(more && ready)) {
      this.#corked = false
      this.to.uncork()
    }
  }

  end(): void {
    this.ended = true
    this.to.end()
  }

  /** This stream takes bytes again, so the other may speak. */
  drain(): void {
    this.to.resume()
  }

  close(error: Error | undefined): void {
    this.#relay.closed(this, error)
  }
}

/** Errors that are a peer's way to leave: both have nothing more to say to each other. */
function isLeaving(error: Error): boolean {
  const code = 'code' in error ? error.code : undefined
  return code === 'ECONNRESET' || code === 'EPIPE' || code === 'ENOTCONN'
}
