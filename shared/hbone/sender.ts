/**
 * The sending side of a connection: the peer's window for all its streams, DATA frames no larger than the peer
 * takes, and the tunnels that wait until the window opens or the transport has drained.
 */
import { frameHeader, frameType, maxWindow } from './frames.ts'
import { defaultWindow } from './settings.ts'
import type { Transport } from './transport.ts'
import type { Tunnel } from './tunnel.ts'

export class Sender {
  readonly #transport: Transport
  /** Bytes that all streams together may still send. */
  #window = defaultWindow
  readonly #awaitingWindow = new Set<Tunnel>()
  readonly #awaitingDrain = new Set<Tunnel>()

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** The transport takes bytes. */
  get writable(): boolean {
    return !this.#transport.full
  }

  /** The transport keeps no reference to what it has taken, and nobody else has what it hands out. */
  get copies(): boolean {
    return this.#transport.copies
  }

  send(frame: Buffer): void {
    this.#transport.send(frame)
  }

  /** Sends what the windows of the stream and of the connection allow; the number of bytes sent. */
  sendData(tunnel: Tunnel, chunk: Buffer, disposable: boolean, maxFrameSize: number): number {
    const room = Math.min(chunk.length, tunnel.sendWindow, this.#window)
    let sent = 0
    while (sent < room) {
      const size = Math.min(room - sent, maxFrameSize)
      const piece = size === chunk.length ? chunk : chunk.subarray(sent, sent + size)
      const head = frameHeader(size, frameType.data, 0, tunnel.id)
      this.#transport.sendData(head, piece, disposable && piece === chunk)
      sent += size
    }
    if (sent > 0) {
      tunnel.spend(sent)
      this.#window -= sent
    }
    return sent
  }

  /** WINDOW_UPDATE on the connection; false when its window would exceed 2^31 - 1. */
  widen(increment: number): boolean {
    this.#window += increment
    if (this.#window > maxWindow) return false
    for (const tunnel of [...this.#awaitingWindow]) {
      if (this.#window <= 0) break
      // A tunnel that still cannot send all goes to the end of the line.
      this.#awaitingWindow.delete(tunnel)
      tunnel.flush()
    }
    return true
  }

  awaitWindow(tunnel: Tunnel): void {
    this.#awaitingWindow.add(tunnel)
  }

  awaitDrain(tunnel: Tunnel): void {
    this.#awaitingDrain.add(tunnel)
  }

  forget(tunnel: Tunnel): void {
    this.#awaitingWindow.delete(tunnel)
    this.#awaitingDrain.delete(tunnel)
  }

  /** What was gathered leaves now. */
  flush(): void {
    this.#transport.flush()
  }

  /** The transport takes bytes again. */
  drained(): void {
    for (const tunnel of [...this.#awaitingDrain]) {
      this.#awaitingDrain.delete(tunnel)
      tunnel.flush()
    }
  }
}
