/** Writes the body of one message to its stream; its head has been sent. */
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import type { BodySink } from '../http/body.ts'
import type { Framing } from '../http/framing.ts'
import type { HeaderList } from '../http/header-list.ts'

/** Whose message it is. */
export interface MessageOwner {
  /** All of it is handed to the stream. */
  messageSent(): void
  /** It cannot be made whole, or is not wanted any more; may be told after its end. */
  messageGivenUp(error: Error): void
}

/** Data of a message without a body is dropped. */
export class MessageWriter implements BodySink {
  readonly #tunnel: Tunnel
  readonly #owner: MessageOwner
  /** Bytes that may still go. */
  #left: number
  readonly #kind: Framing['kind']
  #over = false

  constructor(tunnel: Tunnel, framing: Framing, owner: MessageOwner) {
    this.#tunnel = tunnel
    this.#owner = owner
    this.#kind = framing.kind
    this.#left = framing.kind === 'length' ? framing.bytes : Infinity
  }

  /** Nothing more of it is to come. */
  get over(): boolean {
    return this.#over
  }

  data(bytes: Buffer): boolean {
    if (this.#over || this.#kind === 'none') return true
    this.#left -= bytes.length
    if (this.#left >= 0) return this.#tunnel.write(bytes)
    this.fail(new Error('a body longer than its head announced'))
    return true
  }

  end(trailers?: HeaderList): void {
    if (this.#over) return
    if (this.#kind === 'length' && this.#left > 0)
      return this.fail(new Error('a body shorter than its head announced'))
    this.#over = true
    if (this.#kind === 'none') return
    if (trailers === undefined || trailers.size === 0) this.#tunnel.end()
    else this.#tunnel.end([...trailers])
    this.#owner.messageSent()
  }

  fail(error: Error): void {
    this.#over = true
    this.#owner.messageGivenUp(error)
  }
}
