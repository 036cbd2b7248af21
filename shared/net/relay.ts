/**
 * The byte pump: copies both directions between two byte streams until both have ended.
 *
 * Listeners, not `pipe`, `pipeline` or `for await`: they cost least per connection and make half close,
 * counters and errors explicit. Each direction ends on its own: the end of one side's input ends the other
 * side's output, and the opposite direction lives on for as long as its ends like.
 */
import net from 'node:net'
import tls from 'node:tls'
import { MeshError } from '../runtime/errors.ts'
import { SentChunks } from './sent-chunks.ts'

/** What a byte stream tells whoever reads it. After `close` it says nothing more. */
export interface ByteSink {
  /** `more`: another chunk follows before control returns to the event loop, so gather instead of writing. */
  data(chunk: Buffer, more: boolean): void
  /** The peer sends no more; writing still works. */
  end(): void
  /** A `write` that returned false has gone out. */
  drain(): void
  /** Both directions are over. With an error the stream was cut; without, everything that was sent arrived. */
  close(error: Error | undefined): void
}

/** A full-duplex byte stream with half close. It starts paused. */
export interface ByteStream {
  /** Nobody else holds the memory of the chunks that it tells. */
  readonly exclusive: boolean
  /** Says where events go; called once, before anything else. */
  attach(sink: ByteSink): void
  pause(): void
  resume(): void
  /**
   * False: stop until `drain`. The chunk must not be changed from here on. After the end it drops the bytes.
   * `disposable`: nobody else holds the chunk's memory, so it may be freed once the chunk is sent.
   */
  write(chunk: Buffer, disposable?: boolean): boolean
  /** Holds writes back until `uncork`, so that they leave together. */
  cork(): void
  uncork(): void
  /** Ends writing after what was written; reading goes on. */
  end(): void
  /** Ends writing after what was written, and reading at once. */
  close(): void
  /** Cuts both directions. With an error the peer sees a connection error, without one a cancellation. */
  destroy(error?: Error): void
}

/** Bytes passed on so far; plain numbers, updated while the relay runs. */
export interface RelayCounters {
  aToB: number
  bToA: number
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
    this.#failure ??= error
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

function streamOf(stream: net.Socket | ByteStream): ByteStream {
  return stream instanceof net.Socket ? new SocketStream(stream) : stream
}

/** A TCP or TLS socket as a byte stream. It must not have been read before. */
class SocketStream implements ByteStream {
  readonly exclusive = true
  #sentChunks: SentChunks | undefined
  readonly #socket: net.Socket
  #error: Error | undefined
  #discarding = false

  constructor(socket: net.Socket) {
    this.#socket = socket
    socket.allowHalfOpen = true // else Node would answer the peer's end with our own
    socket.pause()
  }

  attach(sink: ByteSink): void {
    const socket = this.#socket
    if (socket.destroyed) {
      const error =
        socket.errored ?? Object.assign(new Error('the connection is closed'), { code: 'ECONNRESET' })
      queueMicrotask(() => sink.close(error))
      return
    }
    socket.on('data', (chunk: Buffer) => {
      if (!this.#discarding) sink.data(chunk, false)
    })
    socket.on('end', () => {
      if (!this.#discarding) sink.end()
    })
    socket.on('drain', () => sink.drain())
    socket.on('error', error => {
      this.#error = error
    })
    socket.on('close', () => sink.close(this.#error))
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  write(chunk: Buffer, disposable = false): boolean {
    if (!this.#socket.writable) return true
    if (!disposable || !SentChunks.worth(chunk)) return this.#socket.write(chunk)
    this.#sentChunks ??= new SentChunks()
    this.#sentChunks.add(chunk)
    return this.#socket.write(chunk, this.#sentChunks.onSent)
  }

  cork(): void {
    this.#socket.cork()
  }

  uncork(): void {
    this.#socket.uncork()
  }

  end(): void {
    this.#socket.end()
  }

  close(): void {
    // Read on without listening: closing with unread bytes would reset the connection under what we wrote.
    this.#discarding = true
    this.#socket.resume()
    this.#socket.destroySoon()
  }

  /** The peer sees a reset, so that it cannot take what it has for the whole. */
  destroy(): void {
    this.#discarding = true
    if (this.#socket instanceof tls.TLSSocket || this.#socket.connecting) this.#socket.destroy()
    else this.#socket.resetAndDestroy()
  }
}
