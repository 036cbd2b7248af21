/**
 * Where a captured connection goes: a pure function of the mesh, the source and the original destination.
 * Source: the outbound behaviour of Istio's ztunnel.
 */
import type { Family, Ip, SocketAddress } from '../net/address.ts'
import type { SpiffeId } from '../identity/spiffe-id.ts'
import type { Service, Workload, WorkloadUid } from './model.ts'
import type { MeshView } from './view.ts'

/** Port on which every pod of the mesh takes HBONE. */
export const HBONE_PORT = 15008

export interface RouteContext {
  /** The proxy's own network. */
  readonly network: string
  readonly source: Workload
  readonly sourceIp: Ip
  /** A number from 0 up to, not including, 1. */
  readonly random: () => number
  /** What happens with destinations that nobody registered; ALLOW_ANY when left out. */
  readonly outboundTrafficPolicy?: 'ALLOW_ANY' | 'REGISTRY_ONLY'
  readonly loadBalancing?: 'random' | 'least-request'
  /** Open connections to a workload, for `least-request`. */
  readonly load?: (uid: WorkloadUid) => number
  /** Endpoints that a dial just failed for; not picked again while there are others. */
  readonly exclude?: ReadonlySet<WorkloadUid>
}

/** An HBONE peer: where it listens, who it must be. */
export interface Hop {
  readonly address: SocketAddress
  /** Identities of which the peer must prove one. */
  readonly expected: readonly SpiffeId[]
  readonly workload: Workload
}

/**
 * `service` is the one that the connection was addressed to, for telemetry and policy texts; `destination`
 * is the workload that is dialled next (a waypoint where one is in between).
 */
export type Route =
  /** Nothing is known about the destination: plain TCP to where it was going. */
  | { readonly kind: 'passthrough'; readonly to: SocketAddress; readonly service: Service | undefined }
  /** A known workload that does not speak HBONE. */
  | {
      readonly kind: 'plaintext'
      readonly to: SocketAddress
      readonly destination: Workload
      readonly service: Service | undefined
    }
  /** One tunnel. `target` is set when the hop is the destination itself: the application's address there. */
  | {
      readonly kind: 'hbone'
      readonly hop: Hop
      readonly authority: string
      readonly through: 'destination' | 'service-waypoint' | 'workload-waypoint'
      readonly target: SocketAddress | undefined
      readonly destination: Workload
      readonly service: Service | undefined
    }
  /** A tunnel to another network's gateway, and in it a second one to the destination or waypoint. */
  | {
      readonly kind: 'double-hbone'
      readonly gateway: Hop
      /** `hostname:port` of the service, in both CONNECTs. */
      readonly authority: string
      readonly innerExpected: readonly SpiffeId[]
      readonly destination: Workload
      readonly service: Service
    }
  /** The chosen workload is known by host name only: look it up, then go on with the address. */
  | {
      readonly kind: 'resolve'
      readonly hostname: string
      readonly prefer: Family
      readonly workload: Workload
      readonly service: Service | undefined
      readonly withAddress: (ip: Ip) => Route
    }
  | { readonly kind: 'refused'; readonly reason: RefusalReason; readonly message: string }

export type RefusalReason =
  | 'unknown-waypoint'
  | 'unknown-network-gateway'
  | 'no-healthy-upstream'
  | 'no-service-for-target'
  | 'no-valid-destination'
  | 'not-registered'

export declare function decideRoute(view: MeshView, context: RouteContext, destination: SocketAddress): Route
