/** Writes one body to a connection in the framing that its head announced. */
import type { Duplex } from 'node:stream'
import type { BodySink } from './body.ts'
import type { Framing } from './framing.ts'
import type { HeaderList } from './header-list.ts'
import { chunkStart, lastChunk } from './write-head.ts'

export interface MessageWriterEvents {
  /** All is handed to the connection; `whole` is false where it must not be used any further. */
  readonly finished: (whole: boolean) => void
  /** The connection takes more again. */
  readonly drained: () => void
}

/** A {@link BodySink}, so that a body can be piped into it. Data of a message without a body is dropped. */
export class MessageWriter implements BodySink {
  readonly #socket: Duplex
  readonly #framing: Framing
  readonly #events: MessageWriterEvents
  #left: number
  #over = false

  constructor(socket: Duplex, framing: Framing, events: MessageWriterEvents) {
    this.#socket = socket
    this.#framing = framing
    this.#events = events
    this.#left = framing.kind === 'length' ? framing.bytes : 0
    socket.on('drain', events.drained)
  }

  data(bytes: Buffer): boolean {
    if (this.#over || bytes.length === 0 || this.#framing.kind === 'none') return true
    if (this.#framing.kind !== 'chunked') {
      if (this.#framing.kind === 'length') this.#left -= bytes.length
      if (this.#left < 0) {
        this.fail()
        return true
      }
      return this.#socket.write(bytes)
    }
    this.#socket.cork()
    this.#socket.write(chunkStart(bytes.length), 'latin1')
    this.#socket.write(bytes)
    const more = this.#socket.write('\r\n', 'latin1')
    this.#socket.uncork()
    return more
  }

  end(trailers?: HeaderList): void {
    if (this.#over) return
    // Fewer bytes than were announced: the reader must see that something is missing, not take the next head for them.
    if (this.#left > 0) return this.fail()
    if (this.#framing.kind === 'chunked') this.#socket.write(lastChunk(trailers), 'latin1')
    this.#finish(this.#framing.kind !== 'until close')
  }

  /** What the reader has got cannot be made whole: the connection ends without the end of the message. */
  fail(): void {
    if (this.#over) return
    this.#finish(false)
    this.#socket.destroy()
  }

  #finish(whole: boolean): void {
    this.#over = true
    this.#socket.off('drain', this.#events.drained)
    this.#events.finished(whole)
  }
}
