/** The client's end of one HTTP/2 session: opens tunnels. */
import type tls from 'node:tls'
import type { Clock } from '../runtime/clock.ts'
import type { HeaderList } from './hpack.ts'
import type { Tunnel } from './tunnel.ts'

export interface SessionOptions {
  /** Bytes; default 4 MiB. */
  readonly streamWindow?: number
  /** Bytes; default 16 MiB. */
  readonly connectionWindow?: number
  /** Largest frame taken, bytes; default 1 MiB. */
  readonly maxFrameSize?: number
  readonly maxHeaderListSize?: number
  /** Streams at once before the peer's SETTINGS say otherwise; default 100. */
  readonly maxStreams?: number
  /** Milliseconds; defaults 10 s and 20 s. */
  readonly pingIntervalMs?: number
  readonly pingTimeoutMs?: number
  /** How long the peer may take for its first SETTINGS; default 10 s. */
  readonly settingsTimeoutMs?: number
  readonly clock?: Clock
}

export interface ConnectHead {
  readonly authority: string
  readonly headers: HeaderList
}

export interface OpenedTunnel {
  readonly tunnel: Tunnel
  /** Of the 200 response, without pseudo headers. */
  readonly headers: HeaderList
}

export class ClientSession {
  /** The socket has finished its handshake (see `connectTls`). */
  constructor(_socket: tls.TLSSocket, _options: SessionOptions = {}) {}
  /** Resolves with the 200; throws MeshError HTTP_STATUS, STREAM_FAILED, HTTP2_FAILED, TLS_FAILED, or the signal's reason. */
  openTunnel(_head: ConnectHead, _signal: AbortSignal): Promise<OpenedTunnel> {
    throw new Error('in progress')
  }
  /** Takes no new tunnels and ends with its last one. */
  close(): void {
    throw new Error('in progress')
  }
  /** Cuts every tunnel. */
  destroy(_reason: Error): void {
    throw new Error('in progress')
  }
  /** Aborts when the connection is gone; the reason is an Error. */
  readonly closed: AbortSignal = new AbortController().signal
  /** Another tunnel may be opened now. */
  readonly usable: boolean = false
  readonly streams: number = 0
}
