/**
 * Writes one message to a connection: its head at once, its body in the framing that the head announced. A head whose
 * body begins in the same breath leaves together with it.
 */
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import type { BodySink } from '../http/body.ts'
import type { Framing } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'
import { chunkStart, lastChunk } from './write-head.ts'

export interface MessageWriterEvents {
  /** All is handed to the connection; `whole` is false where it must not be used any further. */
  readonly finished: (whole: boolean) => void
  /** Given up after that: nobody waits for what it asks for. */
  readonly abandoned?: () => void
  /** The connection takes more again. */
  readonly drained: () => void
}

const lineEnd = Buffer.from('\r\n', 'latin1')
/** Bytes of a body that are worth being copied to leave with the head: one frame instead of two. */
const smallBody = 4096

/** Data of a message without a body is dropped. */
export class MessageWriter implements BodySink {
  readonly #stream: ByteStream
  readonly #framing: Framing
  readonly #events: MessageWriterEvents
  #left: number
  #over = false
  /** The head while it waits for the body; empty once it is written. */
  #head: string

  /** `head`: latin1, with the empty line. */
  constructor(stream: ByteStream, head: string, framing: Framing, events: MessageWriterEvents) {
    this.#stream = stream
    this.#framing = framing
    this.#events = events
    this.#left = framing.kind === 'length' ? framing.bytes : 0
    this.#head = head
    queueMicrotask(this.#writeHead)
  }

  data(bytes: Buffer): boolean {
    if (this.#over || bytes.length === 0 || this.#framing.kind === 'none') return true
    if (this.#framing.kind !== 'chunked') {
      if (this.#framing.kind === 'length') this.#left -= bytes.length
      if (this.#left < 0) {
        this.fail()
        return true
      }
      if (this.#head !== '' && bytes.length <= smallBody) return this.#stream.write(this.#withHead(bytes))
      this.#writeHead()
      return this.#stream.write(bytes)
    }
    this.#stream.cork()
    this.#writeHead()
    this.#stream.write(Buffer.from(chunkStart(bytes.length), 'latin1'))
    this.#stream.write(bytes)
    const more = this.#stream.write(lineEnd)
    this.#stream.uncork()
    return more
  }

  end(trailers?: HeaderList): void {
    if (this.#over) return
    // Fewer bytes than were announced: the reader must see that something is missing, not take the next head for them.
    if (this.#left > 0) return this.fail()
    this.#writeHead()
    if (this.#framing.kind === 'chunked') this.#stream.write(Buffer.from(lastChunk(trailers), 'latin1'))
    this.#finish(this.#framing.kind !== 'until close')
  }

  /** What the reader has got cannot be made whole: the connection ends without the end of the message. */
  fail(): void {
    if (this.#over) return this.#events.abandoned?.()
    this.#writeHead()
    this.#finish(false)
    this.#stream.destroy()
  }

  /** The connection says that it takes more. */
  drained(): void {
    if (!this.#over) this.#events.drained()
  }

  readonly #writeHead = (): void => {
    if (this.#head === '') return
    this.#stream.write(Buffer.from(this.#head, 'latin1'))
    this.#head = ''
  }

  #withHead(bytes: Buffer): Buffer {
    const head = this.#head
    const both = Buffer.allocUnsafe(head.length + bytes.length)
    both.write(head, 'latin1')
    both.set(bytes, head.length)
    this.#head = ''
    return both
  }

  #finish(whole: boolean): void {
    this.#over = true
    this.#events.finished(whole)
  }
}
