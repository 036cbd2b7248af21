/** A client's HTTP/2 connection: many requests at once, each a stream (RFC 9113 section 8). */
import { Connection } from '../../shared/hbone/connection.ts'
import { errorCode, type Fault } from '../../shared/hbone/frames.ts'
import { withDefaults } from '../../shared/hbone/session-options.ts'
import { StreamTransport } from '../../shared/hbone/stream-transport.ts'
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import type { Exchange } from '../http/exchange.ts'
import { refused, type Refusal } from '../http1/refusal.ts'
import type { FieldSection } from './fields.ts'
import { readRequestHead } from './request-head.ts'
import { ServerExchange } from './server-exchange.ts'
import { httpSession, keepTrailers } from './session.ts'

export interface Http2ServerOptions {
  /** Requests at once; default 100. */
  readonly maxStreams?: number
  /** Of all its requests, where it is known better than by what the client says. */
  readonly scheme?: 'http' | 'https'
  /** As HTTP/2 counts header lists; default 60 KiB. */
  readonly maxHeaderListSize?: number
  /** Without a request for so long, or up to twice as long, it ends; default an hour. */
  readonly idleTimeoutMs?: number
  /** From each answer to the next PING; default a minute. */
  readonly pingIntervalMs?: number
  /** What is said of a message that is not taken, for the log. */
  readonly onRefused?: (refusal: Refusal) => void
  /** It takes no further requests, and nothing of it is under way. */
  readonly onOver?: () => void
}

export class Http2ServerConnection {
  readonly #connection: Connection
  readonly #serve: (exchange: Exchange) => void
  readonly #options: Http2ServerOptions
  readonly #idleTimer: NodeJS.Timeout
  /** Since the timer last rang. */
  #busy = false

  /** Owns the stream from now on. `serve` is called for each request; what it throws is a defect. */
  constructor(stream: ByteStream, serve: (exchange: Exchange) => void, options: Http2ServerOptions = {}) {
    this.#serve = serve
    this.#options = options
    const { maxStreams = 100, maxHeaderListSize, pingIntervalMs = 60_000 } = options
    this.#connection = new Connection(
      new StreamTransport(stream),
      {
        server: true,
        protocol: 'HTTP/2',
        head: (tunnel, section, endStream) => this.#head(tunnel, section, endStream),
        oversizedHead: tunnel => this.#answer(tunnel, refused('a header list longer than we take', 431)),
        trailers: (tunnel, section) => this.#trailers(tunnel, section),
        goaway: () => undefined,
        ended: () => {
          clearInterval(this.#idleTimer)
          options.onOver?.()
        }
      },
      withDefaults({ ...httpSession(maxHeaderListSize), maxStreams, pingIntervalMs }, true)
    )
    this.#idleTimer = setInterval(this.#onIdleTimer, options.idleTimeoutMs ?? 3_600_000)
    this.#idleTimer.unref()
    this.#connection.start()
  }

  /** Takes no further requests; ends with the last answer under way. */
  drain(): void {
    this.#connection.drain()
  }

  /** Ends it, with the requests under way. */
  destroy(): void {
    this.#connection.destroy(new Error('the connection was closed'))
  }

  #head(tunnel: Tunnel, section: FieldSection, endStream: boolean): Fault | undefined {
    this.#busy = true
    const head = readRequestHead(section, endStream)
    if (head.kind === 'request') {
      const { scheme } = this.#options
      const known = scheme === undefined ? head : { ...head, scheme }
      this.#serve(new ServerExchange(this.#connection, tunnel, known))
      return undefined
    }
    if (head.status !== 400) {
      this.#answer(tunnel, head)
      return undefined
    }
    this.#options.onRefused?.(head)
    return this.#connection.streamFault(tunnel.id, errorCode.PROTOCOL_ERROR, head.reason)
  }

  /** Without a body, which the answer to HEAD must not have; and what the method was may not be known. */
  #answer(tunnel: Tunnel, refusal: Refusal): void {
    this.#options.onRefused?.(refusal)
    tunnel.answered = true
    this.#connection.sendHeaders(tunnel, [[':status', String(refusal.status)]], true)
    tunnel.refused()
  }

  #trailers(tunnel: Tunnel, section: FieldSection | undefined): string | undefined {
    const reason = keepTrailers(tunnel, section)
    if (reason !== undefined) this.#options.onRefused?.(refused(reason))
    return reason
  }

  readonly #onIdleTimer = (): void => {
    if (!this.#busy && this.#connection.streams === 0) this.drain()
    this.#busy = this.#connection.streams > 0
  }
}
