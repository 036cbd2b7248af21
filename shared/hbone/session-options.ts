/** What may be set of an HTTP/2 session, with the values that ztunnels use. */
import { systemClock, type Clock } from '../runtime/clock.ts'
import { defaultAllowances, type Allowances } from './limits.ts'

export interface SessionOptions {
  /** Bytes a stream may have on its way to us, unread; default 4 MiB. */
  readonly streamWindow?: number
  /** The same for the whole connection; more than one stream window, else one unread stream blocks all. Default 16 MiB. */
  readonly connectionWindow?: number
  /** Largest frame payload that we take, bytes; default 1 MiB. */
  readonly maxFrameSize?: number
  /** Largest list of headers that we take, as HTTP/2 counts them; default 16384 for clients, 65536 for servers. */
  readonly maxHeaderListSize?: number
  /** Largest compressed header block that we take, bytes; a larger one ends the connection. Default: as the list. */
  readonly maxHeaderBlock?: number
  /** Server: says that it takes CONNECT with `:protocol`; default false. */
  readonly connectProtocol?: boolean
  /** Server: streams at once, default 200. Client: what we assume of a peer that says nothing, default 100. */
  readonly maxStreams?: number
  /** Milliseconds from the start and from each pong to the next PING; Infinity: none. Default 10 s. */
  readonly pingIntervalMs?: number
  /** Milliseconds until a missing pong means that the peer is dead; default 20 s. */
  readonly pingTimeoutMs?: number
  /** Milliseconds that the peer may take for its first SETTINGS; default 10 s. */
  readonly settingsTimeoutMs?: number
  /** When the first certificate of the two expires, ms since the epoch: no streams begin after it, the session ends with its last. */
  readonly expiresAt?: number
  readonly allowances?: Allowances
  readonly clock?: Clock
}

export function withDefaults(options: SessionOptions, server: boolean): Required<SessionOptions> {
  const maxHeaderListSize = server ? 65_536 : 16_384
  return {
    streamWindow: 4 << 20,
    connectionWindow: 16 << 20,
    maxFrameSize: 1 << 20,
    maxHeaderListSize,
    maxHeaderBlock: options.maxHeaderListSize ?? maxHeaderListSize,
    connectProtocol: false,
    maxStreams: server ? 200 : 100,
    pingIntervalMs: 10_000,
    pingTimeoutMs: 20_000,
    settingsTimeoutMs: 10_000,
    expiresAt: Infinity,
    allowances: defaultAllowances,
    clock: systemClock,
    ...options
  }
}
