/** The server's end of one HTTP/2 session: takes CONNECT requests and makes tunnels of them. */
import type { Duplex } from 'node:stream'
import { Connection } from './connection.ts'
import { errorCode, type Fault } from './frames.ts'
import { findMalformedTrailer, headerValues, readRequestHead } from './header-rules.ts'
import type { HeaderList } from './header-field.ts'
import { withDefaults, type SessionOptions } from './session-options.ts'
import { SocketTransport } from './socket-transport.ts'
import type { Tunnel } from './tunnel.ts'

export type ServerOptions = SessionOptions

/** One request; exactly one of `accept` and `refuse` is called, sooner or later. */
export interface TunnelRequest {
  /** Any method; HBONE knows only CONNECT. */
  readonly method: string
  readonly authority: string | undefined
  /** Every value of a header, its name in lower case. */
  header(name: string): readonly string[]
  /** Answers 200 with these headers. The tunnel is paused until it is attached and resumed; it may be over already. */
  accept(headers: HeaderList): Tunnel
  /** Answers with this status and ends the stream. */
  refuse(status: number): void
  /** Aborts when the stream is reset or the session ends before the answer. */
  readonly aborted: AbortSignal
}

export interface ServerSession {
  readonly streams: number
  /** Aborts when the connection is gone; the reason is an Error. */
  readonly closed: AbortSignal
  /** Graceful: GOAWAY, tunnels live on, the connection ends with the last. */
  drain(): void
  /** GOAWAY(NO_ERROR), then every tunnel is cut and reports this reason. */
  destroy(reason: Error): void
}

/** `socket`: from `acceptTls`; nothing has been read from it. `onRequest` must not throw. */
export function serveTunnels(
  socket: Duplex,
  options: ServerOptions,
  onRequest: (request: TunnelRequest) => void
): ServerSession {
  const closed = new AbortController()
  const connection = new Connection(
    new SocketTransport(socket),
    {
      server: true,
      protocol: 'HBONE',
      head: (tunnel, fields) => {
        const head = readRequestHead(fields)
        if (head.kind === 'malformed') return malformed(tunnel, head.reason)
        onRequest(new ReceivedRequest(connection, tunnel, head.method, head.authority, fields))
        return undefined
      },
      // RFC 6585 section 5: the list is larger than what SETTINGS_MAX_HEADER_LIST_SIZE announced.
      oversizedHead: tunnel => answer(connection, tunnel, 431),
      trailers: (_, fields) => findMalformedTrailer(fields ?? []),
      goaway: () => undefined,
      ended: error => closed.abort(error)
    },
    withDefaults(options, true)
  )
  const malformed = (tunnel: Tunnel, reason: string): Fault | undefined =>
    connection.streamFault(tunnel.id, errorCode.PROTOCOL_ERROR, reason)
  connection.start()
  return {
    get streams() {
      return connection.streams
    },
    closed: closed.signal,
    drain: () => connection.drain(),
    destroy: reason => connection.destroy(reason)
  }
}

class ReceivedRequest implements TunnelRequest {
  readonly method: string
  readonly authority: string | undefined
  readonly #connection: Connection
  readonly #tunnel: Tunnel
  readonly #fields: HeaderList
  #aborted: AbortController | undefined

  constructor(
    connection: Connection,
    tunnel: Tunnel,
    method: string,
    authority: string | undefined,
    fields: HeaderList
  ) {
    this.#connection = connection
    this.#tunnel = tunnel
    this.method = method
    this.authority = authority
    this.#fields = fields
  }

  header(name: string): readonly string[] {
    return headerValues(this.#fields, name)
  }

  /** Made only when asked for: most requests are answered at once. */
  get aborted(): AbortSignal {
    if (this.#aborted === undefined) {
      const controller = new AbortController()
      this.#aborted = controller
      if (this.#tunnel.over) controller.abort()
      else this.#tunnel.onAbandoned = () => controller.abort()
    }
    return this.#aborted.signal
  }

  accept(headers: HeaderList): Tunnel {
    const tunnel = this.#tunnel
    if (tunnel.over || tunnel.answered) return tunnel
    tunnel.answered = true
    tunnel.onAbandoned = undefined
    this.#connection.sendHeaders(tunnel, [[':status', '200'], ...headers], false)
    return tunnel
  }

  refuse(status: number): void {
    answer(this.#connection, this.#tunnel, status)
  }
}

function answer(connection: Connection, tunnel: Tunnel, status: number): void {
  if (tunnel.over || tunnel.answered) return
  tunnel.answered = true
  tunnel.onAbandoned = undefined
  connection.sendHeaders(tunnel, [[':status', String(status)]], true)
  tunnel.refused()
}
