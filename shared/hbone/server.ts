/** The server's end of one HTTP/2 session: takes tunnels. */
import type tls from 'node:tls'
import type { HeaderList } from './hpack.ts'
import type { SessionOptions } from './session.ts'
import type { Tunnel } from './tunnel.ts'

export type ServerOptions = SessionOptions

export interface TunnelRequest {
  readonly method: string
  readonly authority: string | undefined
  /** Every value of a header, name in lower case. */
  header(name: string): readonly string[]
  /** Answers 200 with these headers; the tunnel starts paused. */
  accept(headers: HeaderList): Tunnel
  /** Answers with this status and ends the stream. */
  refuse(status: number): void
  /** Aborts when the stream is reset or the session is gone before the answer. */
  readonly aborted: AbortSignal
}

export interface ServerSession {
  readonly streams: number
  readonly closed: AbortSignal
  /** Graceful: GOAWAY, tunnels live on, the connection ends with the last. */
  drain(): void
  /** GOAWAY(NO_ERROR), then every tunnel is cut. */
  destroy(reason: Error): void
}

export function serveTunnels(
  _socket: tls.TLSSocket,
  _options: ServerOptions,
  _onRequest: (request: TunnelRequest) => void
): ServerSession {
  throw new Error('in progress')
}
