/**
 * The live connections of one pod on one worker: what they are, and how they are ended from outside.
 *
 * A connection is registered before its policies are evaluated, so a policy that changes meanwhile is never
 * missed. Ending one aborts its signal with the reason; the path that owns it reports that reason.
 */
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import type { RelayCounters } from '../shared/net/relay.ts'
import type { PolicyConnection } from '../shared/policy/evaluate.ts'
import { MeshError } from '../shared/runtime/errors.ts'

export type TrackedConnection =
  | {
      readonly direction: 'inbound'
      readonly source: SocketAddress
      /** Undefined for plaintext. */
      readonly identity: SpiffeId | undefined
      /** The application's address. */
      readonly target: SocketAddress
      /** Host name that the client asked for, as its proxy says. */
      readonly forwardedHost: string | undefined
    }
  | {
      readonly direction: 'outbound'
      readonly source: SocketAddress
      readonly originalDestination: SocketAddress
      readonly destination: SocketAddress
      readonly protocol: 'TCP' | 'HBONE' | 'DOUBLEHBONE'
    }

/** A connection as the admin interface shows it. */
export interface ConnectionSummary {
  readonly direction: 'inbound' | 'outbound'
  readonly src: string
  /** Inbound: the forwarded host, if any. */
  readonly originalDst: string | null
  readonly actualDst: string
  readonly protocol: 'TCP' | 'HBONE' | 'DOUBLEHBONE'
  /** Identity that the client proved. */
  readonly identity: string | null
  readonly bytesFromClient: number
  readonly bytesToClient: number
  readonly ageMs: number
}

export class Connection implements Disposable {
  readonly facts: TrackedConnection
  readonly startedAt: number
  readonly bytes: RelayCounters
  /** Sum of bytes at the last look for idle connections, and when that sum was first seen. */
  seenBytes = 0
  seenAt: number
  readonly #abort = new AbortController()
  readonly #forget: (connection: Connection) => void

  constructor(
    facts: TrackedConnection,
    bytes: RelayCounters,
    now: number,
    forget: (connection: Connection) => void
  ) {
    this.facts = facts
    this.bytes = bytes
    this.startedAt = now
    this.seenAt = now
    this.#forget = forget
  }

  /** Aborts with a MeshError when the connection has to end. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  close(reason: MeshError): void {
    this.#abort.abort(reason)
  }

  [Symbol.dispose](): void {
    this.#forget(this)
  }
}

export class Connections {
  readonly #live = new Set<Connection>()
  readonly #now: () => number

  /** `now` by a clock that only goes forward. */
  constructor(now: () => number) {
    this.#now = now
  }

  get size(): number {
    return this.#live.size
  }

  track(facts: TrackedConnection, bytes: RelayCounters): Connection {
    const connection = new Connection(facts, bytes, this.#now(), this.#forget)
    this.#live.add(connection)
    return connection
  }

  /** Ends every inbound connection that is not allowed any more; returns how many. */
  recheck(allowed: (connection: PolicyConnection) => boolean): number {
    let closed = 0
    for (const connection of this.#live) {
      const { facts } = connection
      if (facts.direction === 'outbound' || allowed(policyConnection(facts))) continue
      connection.close(new MeshError('POLICY_CHANGED', 'connection closed due to policy change'))
      closed += 1
    }
    return closed
  }

  /** Ends what has not moved a byte for `idleMs`. */
  closeIdle(idleMs: number): void {
    const now = this.#now()
    for (const connection of this.#live) {
      const bytes = connection.bytes.aToB + connection.bytes.bToA
      if (bytes !== connection.seenBytes) {
        connection.seenBytes = bytes
        connection.seenAt = now
      } else if (now - connection.seenAt >= idleMs) {
        connection.close(new MeshError('IDLE_TIMEOUT', `no byte for ${idleMs} ms (UNDERPASS_IDLE_TIMEOUT)`))
      }
    }
  }

  countOlderThan(ms: number): number {
    const before = this.#now() - ms
    let count = 0
    for (const { startedAt } of this.#live) if (startedAt <= before) count += 1
    return count
  }

  closeAll(reason: MeshError): void {
    for (const connection of this.#live) connection.close(reason)
  }

  list(): ConnectionSummary[] {
    const now = this.#now()
    return [...this.#live].map(connection => summaryOf(connection, now))
  }

  readonly #forget = (connection: Connection): void => {
    this.#live.delete(connection)
  }
}

/** What policies see of a tracked inbound connection. */
export function policyConnection(facts: TrackedConnection & { direction: 'inbound' }): PolicyConnection {
  return {
    sourceIp: facts.source.ip,
    identity: facts.identity,
    destinationIp: facts.target.ip,
    destinationPort: facts.target.port
  }
}

function summaryOf({ facts, bytes, startedAt }: Connection, now: number): ConnectionSummary {
  const common = {
    direction: facts.direction,
    src: formatSocketAddress(facts.source),
    bytesFromClient: bytes.aToB,
    bytesToClient: bytes.bToA,
    ageMs: Math.round(now - startedAt)
  }
  if (facts.direction === 'outbound') {
    return {
      ...common,
      originalDst: formatSocketAddress(facts.originalDestination),
      actualDst: formatSocketAddress(facts.destination),
      protocol: facts.protocol,
      identity: null
    }
  }
  return {
    ...common,
    originalDst: facts.forwardedHost ?? null,
    actualDst: formatSocketAddress(facts.target),
    protocol: facts.identity === undefined ? 'TCP' : 'HBONE',
    identity: facts.identity ?? null
  }
}
