/** Sessions to reuse, by who talks to whom. */
import type { SpiffeId } from '../identity/spiffe-id.ts'
import type { Ip, SocketAddress } from '../net/address.ts'
import type { Clock } from '../runtime/clock.ts'
import type { ClientSession, ConnectHead, OpenedTunnel } from './session.ts'

/** All four must be equal for a session to be shared; the order of `expected` counts. */
export interface PoolKey {
  readonly source: SpiffeId
  readonly expected: readonly SpiffeId[]
  readonly address: SocketAddress
  readonly sourceIp: Ip
}

export interface PoolOptions {
  /** Dials and handshakes; throws MeshError. */
  dial(key: PoolKey, signal: AbortSignal): Promise<ClientSession>
  /** Tunnels per session; default 100. */
  readonly maxStreams?: number
  /** Milliseconds since its last checkout after which a session leaves the pool; default 5 min. */
  readonly unusedReleaseMs?: number
  readonly clock?: Clock
}

export interface PooledTunnel extends OpenedTunnel {
  readonly session: ClientSession
}

export class TunnelPool {
  constructor(_options: PoolOptions) {}
  tunnel(_key: PoolKey, _head: ConnectHead, _signal: AbortSignal): Promise<PooledTunnel> {
    throw new Error('in progress')
  }
  /** For dumps: what can be checked out now. */
  sessions(): readonly {
    readonly key: PoolKey
    readonly session: ClientSession
    readonly streams: number
  }[] {
    throw new Error('in progress')
  }
  /** Lets go of every session; each ends with its last tunnel. */
  close(): void {
    throw new Error('in progress')
  }
}
