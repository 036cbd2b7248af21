/** One request of ours on an HTTP/2 connection, and what becomes of it. */
import type { Connection } from '../../shared/hbone/connection.ts'
import { errorCode } from '../../shared/hbone/frames.ts'
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import type { ByteSink } from '../../shared/net/byte-stream.ts'
import type { BodySink } from '../http/body.ts'
import type { ClientRequest, ClientRequestEvents } from '../http/exchange.ts'
import type { FieldSection } from './fields.ts'
import { IncomingBody, type BodyOwner } from './incoming-body.ts'
import { MessageWriter, type MessageOwner } from './message-writer.ts'
import { readResponseHead, type Http2ResponseHead } from './response-head.ts'
import { addAccept } from './websocket-handshake.ts'

export class ClientExchange implements ByteSink, BodyOwner, MessageOwner {
  readonly request: ClientRequest
  readonly #connection: Connection
  readonly #events: ClientRequestEvents
  readonly #onOver: (exchange: ClientExchange) => void
  #tunnel: Tunnel | undefined
  #writer: MessageWriter | undefined
  #body: IncomingBody | undefined
  #sent = false
  /** Answered, or failed. */
  #settled = false
  #over = false

  /** `onOver`: it counts no longer. */
  constructor(
    connection: Connection,
    request: ClientRequest,
    events: ClientRequestEvents,
    onOver: (exchange: ClientExchange) => void
  ) {
    this.#connection = connection
    this.request = request
    this.#events = events
    this.#onOver = onOver
  }

  get tunnel(): Tunnel | undefined {
    return this.#tunnel
  }

  /** Takes the body. A request that switches protocols has none, and may not have begun yet. */
  get sink(): BodySink {
    return (
      this.#writer ?? {
        data: () => true,
        end: () => undefined,
        fail: error => this.messageGivenUp(error)
      }
    )
  }

  /** The head has been sent. */
  begin(tunnel: Tunnel): void {
    const { framing, upgrade } = this.request
    this.#tunnel = tunnel
    tunnel.onAbandoned = () => this.#streamOver(tunnel)
    this.#sent = framing.kind === 'none'
    if (upgrade !== undefined) return
    this.#writer = new MessageWriter(tunnel, framing, this)
    tunnel.attach(this)
  }

  /** What is wrong with the head. */
  head(section: FieldSection, endStream: boolean): string | undefined {
    const tunnel = this.#tunnel
    if (tunnel === undefined || this.#settled) return undefined
    const head = readResponseHead(section, this.request.method, endStream)
    if (head.kind === 'refused') {
      this.lose(new Error(head.reason))
      return head.reason
    }
    if (head.status < 200) this.#events.informed?.(head)
    else this.#answered(tunnel, head)
    return undefined
  }

  oversizedHead(): void {
    this.lose(new Error('the answer has more headers than we take'))
    this.#tunnel?.reset(errorCode.CANCEL)
  }

  /** `untouched`: the server has not looked at it. */
  lose(error: Error, untouched = false): void {
    if (this.#settled) return this.#body?.lose(error)
    this.#settled = true
    this.#events.failed(error, { untouched })
    this.#leave()
  }

  // ---- as the sink of its stream

  data(chunk: Buffer): void {
    this.#body?.take(chunk)
  }

  end(): void {
    this.#body?.ended()
    // An answer that comes before the request has been sent means that the rest of it is not wanted.
    if (!this.#sent) this.#tunnel?.reset(errorCode.CANCEL)
  }

  drain(): void {
    this.#events.drained?.()
  }

  /** Told already, by the stream's being over. */
  close(): void {}

  // ---- as the owner of its message and of the answer's body

  messageSent(): void {
    this.#sent = true
  }

  messageGivenUp(error: Error): void {
    this.#tunnel?.reset(errorCode.CANCEL, error)
    this.lose(error)
  }

  bodyWanted(): void {}

  bodyCancelled(): void {
    this.#tunnel?.reset(errorCode.CANCEL)
  }

  bodyMalformed(reason: string): void {
    if (this.#tunnel !== undefined) this.#connection.malformed(this.#tunnel, reason)
  }

  #answered(tunnel: Tunnel, head: Http2ResponseHead): void {
    const { upgrade, headers } = this.request
    this.#settled = true
    tunnel.answered = true
    if (upgrade !== undefined && head.status < 300 && this.#events.switched !== undefined) {
      if (upgrade === 'websocket') addAccept(head.headers, headers)
      tunnel.onAbandoned = () => this.#leave()
      this.#events.switched(head, tunnel)
    } else {
      this.#body = new IncomingBody(tunnel, head.framing, this)
      if (upgrade !== undefined) tunnel.attach(this)
      if (head.framing.kind === 'none') tunnel.resume() // for its end, or for DATA that must not be
      this.#events.answered(head, this.#body)
    }
    if (tunnel.over) this.#leave()
  }

  #streamOver(tunnel: Tunnel): void {
    if (tunnel.whole) {
      // The stream's last head, which ended it, is yet to be told.
      if (this.#settled) this.#leave()
      return
    }
    this.lose(
      tunnel.error ?? new Error('the server cancelled the request'),
      tunnel.resetCode === errorCode.REFUSED_STREAM
    )
    this.#leave()
  }

  #leave(): void {
    if (this.#over) return
    this.#over = true
    this.#onOver(this)
  }
}
