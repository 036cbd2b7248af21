/** One request on a client's HTTP/2 connection, and its answer. */
import type { Connection } from '../../shared/hbone/connection.ts'
import { errorCode } from '../../shared/hbone/frames.ts'
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import type { ByteSink, ByteStream } from '../../shared/net/byte-stream.ts'
import type { BodySink } from '../http/body.ts'
import type { Exchange, ResponseHead } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import { IncomingBody, type BodyOwner } from './incoming-body.ts'
import { MessageWriter, type MessageOwner } from './message-writer.ts'
import type { Http2RequestHead } from './request-head.ts'
import { informFields, responseFields, sentFraming } from './response-head.ts'
import { withoutHandshake } from './websocket-handshake.ts'

export class ServerExchange implements Exchange, ByteSink, BodyOwner, MessageOwner {
  readonly head: Http2RequestHead
  readonly body: IncomingBody
  readonly #connection: Connection
  readonly #tunnel: Tunnel
  #onDrain: (() => void) | undefined
  #onGone: ((reason: Error) => void) | undefined
  #gone: Error | undefined
  #expectsContinue: boolean
  #writer: MessageWriter | undefined
  /** The answer is handed to the connection. */
  #finished = false

  constructor(connection: Connection, tunnel: Tunnel, head: Http2RequestHead) {
    this.#connection = connection
    this.#tunnel = tunnel
    this.head = head
    this.#expectsContinue = head.expectsContinue
    this.body = new IncomingBody(tunnel, head.framing, this)
    tunnel.onAbandoned = () => this.#onOver()
    // Where a protocol is to be switched, what comes is for whoever takes the stream then.
    if (head.upgrade === undefined) tunnel.attach(this)
  }

  // ---- as an exchange

  onGone(listener: (reason: Error) => void): void {
    this.#onGone = listener
    if (this.#gone !== undefined) listener(this.#gone)
  }

  inform(status: number, headers: HeaderList): void {
    if (this.#tunnel.answered || this.#tunnel.over || status === 101) return
    this.#connection.sendHeaders(this.#tunnel, informFields(status, headers), false)
  }

  respond(response: ResponseHead, onDrain?: () => void): BodySink {
    this.#answer()
    const { method, upgrade } = this.head
    // In the answer to extended CONNECT, success would mean that the protocol is switched.
    const evades = upgrade !== undefined && response.status >= 200 && response.status < 300
    const head = evades ? { ...response, status: 502 } : response
    const framing = sentFraming(method, head)
    this.#onDrain = onDrain
    const writer = (this.#writer = new MessageWriter(this.#tunnel, framing, this))
    if (this.#tunnel.over) return writer
    if (upgrade !== undefined) this.#tunnel.attach(this)
    this.#connection.sendHeaders(this.#tunnel, responseFields(method, head), framing.kind === 'none')
    if (framing.kind === 'none') {
      this.#finished = true
      this.body.cancel()
      this.#tunnel.refused()
    }
    return writer
  }

  switchProtocols(headers: HeaderList): ByteStream {
    this.#answer()
    this.#finished = true
    const head: ResponseHead = {
      status: 200,
      headers: withoutHandshake(headers),
      framing: { kind: 'chunked' }
    }
    if (!this.#tunnel.over) this.#connection.sendHeaders(this.#tunnel, responseFields('GET', head), false)
    return this.#tunnel
  }

  // ---- as the sink of its stream

  data(chunk: Buffer): void {
    this.body.take(chunk)
  }

  end(): void {
    this.body.ended()
  }

  drain(): void {
    this.#onDrain?.()
  }

  /** Told already, by the stream's being over. */
  close(): void {}

  // ---- as the owner of its body and of its answer

  bodyWanted(): void {
    if (!this.#expectsContinue) return
    this.#expectsContinue = false
    this.inform(100, new HeaderList())
  }

  /** The stream stays, for the answer. */
  bodyCancelled(): void {}

  bodyMalformed(reason: string): void {
    this.#connection.malformed(this.#tunnel, reason)
  }

  messageSent(): void {
    this.#finished = true
    this.body.cancel()
    // RFC 9113 section 8.1: what the client has not sent yet is not wanted, which is no fault of the answer.
    this.#tunnel.close(errorCode.NO_ERROR)
  }

  messageGivenUp(error: Error): void {
    if (this.#finished) return
    this.#finished = true
    this.body.cancel()
    this.#tunnel.reset(errorCode.INTERNAL_ERROR, error)
  }

  #answer(): void {
    if (this.#tunnel.answered) throw new Error('the request is answered already')
    this.#tunnel.answered = true
  }

  #onOver(): void {
    // With its last bytes the stream may be over at once, before the writer can tell.
    if (this.#finished || this.#writer?.over === true) return
    const reason = new Error('the client is gone', { cause: this.#tunnel.error })
    this.#gone = reason
    this.body.lose(reason)
    this.#onGone?.(reason)
  }
}
