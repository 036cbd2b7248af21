/**
 * A socket that carries a connection. What it sends is gathered: frames of one turn of the event loop leave in one
 * write, which means fewer TLS records and system calls.
 */
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { SentChunks } from '../net/sent-chunks.ts'
import type { Transport, TransportEvents } from './transport.ts'

/** Bytes that leave at once instead of at the end of the turn. */
const flushAt = 131_072
/** Bytes that wait for the transport before writers are told to stop. Node gives a server's TLS sockets 64 KiB, which costs 15 % more. */
const roomFor = 524_288
/** Full TLS records tell that more follows. */
const fullRecord = 16_384

export class SocketTransport implements Transport {
  /** TLS encrypts into memory of its own. */
  readonly copies: boolean
  readonly #socket: Duplex
  readonly #room: number
  readonly #sentChunks = new SentChunks()
  #error: Error | undefined
  #full = false
  #corked = false
  #flushScheduled = false

  /** `socket`: a TLS stream after its handshake, nothing read from it yet. */
  constructor(socket: Duplex) {
    this.#socket = socket
    this.copies = socket instanceof TLSSocket
    // Not below the stream's own mark, or its `drain` would not come.
    this.#room = Math.max(roomFor, socket.writableHighWaterMark)
  }

  start(events: TransportEvents): void {
    const socket = this.#socket
    socket.on('data', (chunk: Buffer) => events.data(chunk, chunk.length >= fullRecord))
    socket.on('drain', () => {
      this.#full = false
      events.drain()
    })
    socket.on('end', () => events.end(this.#error))
    socket.on('error', error => {
      this.#error = error
    })
    socket.on('close', () => events.end(this.#error))
  }

  get full(): boolean {
    return this.#full
  }

  send(frame: Buffer): void {
    this.#gather()
    this.#socket.write(frame)
  }

  sendData(head: Buffer, content: Buffer, disposable: boolean): void {
    this.#gather()
    this.#socket.write(head)
    if (disposable && this.copies && SentChunks.worth(content)) {
      this.#sentChunks.add(content)
      this.#socket.write(content, this.#sentChunks.onSent)
    } else {
      this.#socket.write(content)
    }
    const waiting = this.#socket.writableLength
    if (waiting >= flushAt) this.flush()
    if (waiting >= this.#room) this.#full = true
  }

  flush(): void {
    if (!this.#corked) return
    this.#corked = false
    this.#socket.uncork()
  }

  end(): void {
    this.#socket.end()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #gather(): void {
    if (this.#corked) return
    this.#corked = true
    this.#socket.cork()
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    setImmediate(this.#onTurn)
  }

  readonly #onTurn = (): void => {
    this.#flushScheduled = false
    this.flush()
  }
}
