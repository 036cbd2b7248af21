/** What decisions read of the mesh. Lookups and their precedence: which record wins when several claim an address. */
import type { Ip } from '../net/address.ts'
import type {
  Endpoint,
  RoutingScope,
  Policy,
  PolicyKey,
  Service,
  ServiceKey,
  Workload,
  WorkloadUid
} from './model.ts'

/**
 * The mesh at one moment. Values are immutable; while a resource does not change and is in use, a lookup gives the
 * same object, so what is derived from it may be kept in a WeakMap. Use a view within one synchronous step only.
 */
export interface MeshView {
  workloadByUid(uid: WorkloadUid): Workload | undefined
  /** When several claim the address: pods that speak HBONE, then pods, then HBONE, then the rest; newest first. */
  workloadByAddress(network: string, ip: Ip): Workload | undefined
  /** The record of a pod that is known by its Kubernetes names. */
  workloadByName(namespace: string, name: string, serviceAccount: string): Workload | undefined
  workloadByHostname(namespace: string, hostname: string): Workload | undefined

  service(key: ServiceKey): Service | undefined
  /** By exact VIP, else by CIDR VIP. Ranked: visible to the client, its own namespace, canonical, first known. */
  serviceByAddress(network: string, ip: Ip, clientNamespace: string): Service | undefined
  serviceByHostname(
    hostname: string,
    clientNamespace: string,
    preferredNamespace?: string
  ): Service | undefined
  /** Endpoints that the service's health policy allows; empty for an unknown service. For dumps and DNS, not for picking. */
  endpoints(key: ServiceKey): readonly Endpoint[]
  /** What picking reads of a service's endpoints, without decoding their workloads. */
  endpointTable(key: ServiceKey): EndpointTable
  /** Whether the workload is an endpoint of the service. */
  hasEndpoint(key: ServiceKey, uid: WorkloadUid): boolean

  policy(key: PolicyKey): Policy | undefined
  /** Global policies, those of the destination's namespace, and those it lists; the same array while nothing changed. */
  policiesOf(destination: Workload): readonly Policy[]

  /** For dumps; each step decodes one record. */
  workloads(): Iterable<Workload>
  services(): Iterable<Service>
  policies(): Iterable<Policy>
  /** Endpoints that wait for their service, by service. */
  stagedEndpoints(): Iterable<readonly [ServiceKey, readonly Endpoint[]]>
}

/** Rows that stand for endpoints; numbers only, so that thousands can be scanned for one connection. */
export interface EndpointTable {
  readonly length: number
  workload(row: number): Workload
  /** Weight in load balancing. */
  capacity(row: number): number
  healthy(row: number): boolean
  /** Has an address or a host name of its own. */
  addressable(row: number): boolean
  /** Can be reached through a network gateway. */
  hasGateway(row: number): boolean
  /** The endpoint's own target port for a service port; 0 when it names none. */
  targetPort(row: number, servicePort: number): number
  /** Port of the workload's application tunnel; 0 when it has none set, -1 when there is no tunnel. */
  applicationTunnelPort(row: number): number
  /** Places as numbers: equal numbers are equal places. */
  scope(row: number, scope: RoutingScope): number
  scopesOf(source: Workload): EndpointScopes
  /** Stable number of the endpoint's workload, for hashing. */
  hash(row: number): number
  /** What `make` makes of the rows under this key, kept until a row or the workload behind one changes. */
  derived<T>(key: string, make: () => T): T
}

/** The places of a source; -1 is nowhere. */
export type EndpointScopes = Readonly<Record<RoutingScope, number>>
