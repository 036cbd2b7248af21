/** Sockets as byte streams, so that one pump and one codec serve them and tunnels alike. */
import net from 'node:net'
import tls from 'node:tls'
import type { ByteSink, ByteStream } from './byte-stream.ts'
import { SentChunks } from './sent-chunks.ts'

/** A TCP or TLS socket as a byte stream. It must not have been read before. */
export function streamOf(stream: net.Socket | ByteStream): ByteStream {
  return stream instanceof net.Socket ? new SocketStream(stream) : stream
}

class SocketStream implements ByteStream {
  readonly exclusive = true
  #sentChunks: SentChunks | undefined
  readonly #socket: net.Socket
  #sink: ByteSink | undefined
  #error: Error | undefined
  #discarding = false

  constructor(socket: net.Socket) {
    this.#socket = socket
    socket.allowHalfOpen = true // else Node would answer the peer's end with our own
    socket.pause()
  }

  attach(sink: ByteSink): void {
    const first = this.#sink === undefined
    this.#sink = sink
    const socket = this.#socket
    if (socket.destroyed) {
      const error =
        socket.errored ?? Object.assign(new Error('the connection is closed'), { code: 'ECONNRESET' })
      queueMicrotask(() => this.#sink?.close(error))
      return
    }
    if (!first) return
    socket.on('data', (chunk: Buffer) => {
      if (!this.#discarding) this.#sink?.data(chunk, false)
    })
    socket.on('end', () => {
      if (!this.#discarding) this.#sink?.end()
    })
    socket.on('drain', () => this.#sink?.drain())
    socket.on('error', error => {
      this.#error = error
    })
    socket.on('close', () => this.#sink?.close(this.#error))
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
    const socket = this.#socket
    // Node would forget the descriptor of a socket that is reset while its end is on the way.
    if (socket instanceof tls.TLSSocket || socket.connecting || socket.writableEnded) socket.destroy()
    else socket.resetAndDestroy()
  }
}
