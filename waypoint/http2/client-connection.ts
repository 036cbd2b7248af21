/** Our HTTP/2 connection to a server: as many requests at once as it takes (RFC 9113 section 8). */
import { Connection } from '../../shared/hbone/connection.ts'
import { errorCode, errorName, type Fault } from '../../shared/hbone/frames.ts'
import { withDefaults } from '../../shared/hbone/session-options.ts'
import { StreamTransport } from '../../shared/hbone/stream-transport.ts'
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import type { BodySink } from '../http/body.ts'
import type {
  ClientConnection,
  ClientConnectionEvents,
  ClientRequest,
  ClientRequestEvents
} from '../http/exchange.ts'
import { ClientExchange } from './client-exchange.ts'
import type { FieldSection } from './fields.ts'
import { requestFields } from './request-head.ts'
import { httpSession, keepTrailers } from './session.ts'

export interface Http2ClientOptions {
  /** As HTTP/2 counts header lists; default 60 KiB. */
  readonly maxHeaderListSize?: number
  /** From each answer to the next PING; default none: gRPC servers end connections that ping more often than they like. */
  readonly pingIntervalMs?: number
}

export class Http2ClientConnection implements ClientConnection {
  readonly #connection: Connection
  readonly #events: ClientConnectionEvents
  readonly #exchanges = new Map<Tunnel, ClientExchange>()
  /** Whether a protocol can be switched, only the server's SETTINGS tell. */
  readonly #awaitingSettings = new Set<ClientExchange>()
  #closed = false

  /** Owns the stream from now on. */
  constructor(stream: ByteStream, events: ClientConnectionEvents, options: Http2ClientOptions = {}) {
    this.#events = events
    const { maxHeaderListSize, pingIntervalMs = Infinity } = options
    this.#connection = new Connection(
      new StreamTransport(stream),
      {
        server: false,
        protocol: 'HTTP/2',
        head: (tunnel, section, endStream) => this.#head(tunnel, section, endStream),
        oversizedHead: tunnel => this.#exchanges.get(tunnel)?.oversizedHead(),
        trailers: keepTrailers,
        settled: () => this.#settled(),
        goaway: (lastStreamId, code, debug) => this.#goaway(lastStreamId, code, debug),
        ended: error => this.#ended(error)
      },
      withDefaults({ ...httpSession(maxHeaderListSize), pingIntervalMs }, false)
    )
    this.#connection.start()
  }

  get usable(): boolean {
    return !this.#closed && this.#connection.open && this.active < this.#connection.peer.maxConcurrentStreams
  }

  get active(): number {
    return this.#connection.streams + this.#awaitingSettings.size
  }

  send(request: ClientRequest, events: ClientRequestEvents): BodySink {
    if (!this.usable) throw new Error('the connection takes no request now')
    const exchange = new ClientExchange(this.#connection, request, events, this.#onOver)
    if (request.upgrade === undefined || this.#connection.settled) this.#begin(exchange)
    else this.#awaitingSettings.add(exchange)
    return exchange.sink
  }

  drain(): void {
    this.#close()
    if (this.#awaitingSettings.size === 0) this.#connection.finish()
  }

  destroy(): void {
    this.#connection.destroy(new Error('the connection was closed'))
  }

  #begin(exchange: ClientExchange): void {
    const { request } = exchange
    if (request.upgrade !== undefined && !this.#connection.peer.connectProtocol)
      return exchange.lose(new Error(`the server cannot switch to ${request.upgrade}`), true)
    const endStream = request.framing.kind === 'none' && request.upgrade === undefined
    const tunnel = this.#connection.openStream(requestFields(request), endStream)
    this.#exchanges.set(tunnel, exchange)
    exchange.begin(tunnel)
    if (!this.#connection.open) this.drain() // that was its last identifier
  }

  #head(tunnel: Tunnel, section: FieldSection, endStream: boolean): Fault | undefined {
    const exchange = this.#exchanges.get(tunnel)
    const reason = exchange?.head(section, endStream)
    if (reason === undefined) return undefined
    return this.#connection.streamFault(tunnel.id, errorCode.PROTOCOL_ERROR, reason)
  }

  #settled(): void {
    const waiting = [...this.#awaitingSettings]
    this.#awaitingSettings.clear()
    for (const exchange of waiting) this.#begin(exchange)
    if (this.#closed) this.#connection.finish()
    else if (this.usable) this.#events.idle()
  }

  /** What the server will not look at may be sent to another. */
  #goaway(lastStreamId: number, code: number, debug: string): void {
    this.#close()
    const said = `the server closed the connection (${errorName(code)}${debug === '' ? '' : `: ${debug}`})`
    for (const [tunnel, exchange] of [...this.#exchanges]) {
      if (tunnel.id <= lastStreamId) continue
      exchange.lose(new Error(said), true)
      tunnel.abandon(new Error(said))
    }
  }

  #ended(error: Error): void {
    this.#close()
    for (const exchange of [...this.#awaitingSettings]) exchange.lose(error, true)
  }

  readonly #onOver = (exchange: ClientExchange): void => {
    this.#awaitingSettings.delete(exchange)
    if (exchange.tunnel !== undefined) this.#exchanges.delete(exchange.tunnel)
    if (this.usable) this.#events.idle()
  }

  #close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#events.closed()
  }
}
