/**
 * What a connection sends, gathered: frames of one turn of the event loop leave in one write, which means
 * fewer TLS records and system calls. Says when its writers have to wait.
 */
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { SentChunks } from '../net/sent-chunks.ts'

/** Bytes that leave at once instead of at the end of the turn. */
const flushAt = 131_072
/** Bytes that wait for the transport before writers are told to stop. Node gives a server's TLS sockets 64 KiB, which costs 15 % more. */
const roomFor = 524_288

export class Outbox {
  /**
   * The transport is TLS: it keeps no reference to what it has taken, and nobody else has what it hands out.
   */
  readonly copies: boolean
  readonly #socket: Duplex
  readonly #room: number
  readonly #sentChunks = new SentChunks()
  #full = false
  #corked = false
  #flushScheduled = false

  /** `onDrain`: called when writers may go on. */
  constructor(socket: Duplex, onDrain: () => void) {
    this.#socket = socket
    this.copies = socket instanceof TLSSocket
    // Not below the stream's own mark, or its `drain` would not come.
    this.#room = Math.max(roomFor, socket.writableHighWaterMark)
    socket.on('drain', () => {
      this.#full = false
      onDrain()
    })
  }

  /** Writers have to wait. */
  get full(): boolean {
    return this.#full
  }

  send(frame: Buffer): void {
    this.#gather()
    this.#socket.write(frame)
  }

  /** A frame's head and content. `disposable`: nobody else holds the content's memory; it is freed once sent. */
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
