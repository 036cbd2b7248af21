/** Connections as they come and go, for whoever watches live: one JSON object an event. */
import { formatSocketAddress, type SocketAddress } from '../net/address.ts'
import { workloadIdentity } from '../mesh/model.ts'
import type { ResponseFlag } from '../runtime/errors.ts'
import type { Party } from './traffic-metrics.ts'

export interface EventEndpoint {
  /** `ip:port`. */
  readonly address: string
  readonly workload?: string
  readonly namespace?: string
  /** SPIFFE identity: of the source only where mutual TLS proved it. */
  readonly identity?: string
}

export interface ConnectionEvent {
  readonly kind: 'opened' | 'closed' | 'refused'
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly direction: 'inbound' | 'outbound'
  readonly source: EventEndpoint
  readonly destination: EventEndpoint
  /** Host name of the service that the client asked for. */
  readonly service?: string
  /** CONNECT authority. */
  readonly authority?: string
  readonly mutualTls?: boolean
  readonly responseFlags?: ResponseFlag
  /** With `closed` and `refused`. */
  readonly bytesFromClient?: number
  readonly bytesToClient?: number
  readonly durationMs?: number
  readonly error?: string
}

/** Takes events while somebody watches. Check `active` before an event is made: usually nobody does. */
export interface EventSink {
  readonly active: boolean
  emit(event: ConnectionEvent): void
}

/** `proven`: name only an identity that mutual TLS proved, never the one on record. */
export function endpointOf(party: Party, address: SocketAddress, proven: boolean): EventEndpoint {
  const { workload, baggage } = party
  const name = workload?.name ?? baggage?.workloadName
  const namespace = workload?.namespace ?? baggage?.namespace
  const identity =
    party.identity ?? (workload === undefined || proven ? undefined : workloadIdentity(workload))
  return {
    address: formatSocketAddress(address),
    ...(name !== undefined && name !== '' && { workload: name }),
    ...(namespace !== undefined && namespace !== '' && { namespace }),
    ...(identity !== undefined && { identity })
  }
}
