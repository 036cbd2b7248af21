/**
 * What the mesh is made of, as its programs think of it. Immutable values; the wire forms are in
 * `shared/xds/proto`, the translation in `decode.ts`.
 * Source: Istio's Workload API (istio.workload, istio.security), published field definitions.
 */
import type { Cidr, Ip } from '../net/address.ts'
import { spiffeId, type SpiffeId } from '../identity/spiffe-id.ts'

/** `namespace/hostname`, the resource name of a service. */
export type ServiceKey = string
/** `namespace/name`, the resource name of a policy. */
export type PolicyKey = string
/** The resource name of a workload, for pods `<cluster>//Pod/<namespace>/<name>`. */
export type WorkloadUid = string

export type TunnelProtocol = 'TCP' | 'HBONE'
export type WorkloadType = 'deployment' | 'cronjob' | 'pod' | 'job'

export interface Locality {
  readonly region: string
  readonly zone: string
  readonly subzone: string
}

export interface NetworkAddress {
  /** `''` is the default network. */
  readonly network: string
  readonly ip: Ip
}

/** Where a waypoint or network gateway is found. `hboneMtlsPort` is a service port when the destination is a service. */
export interface GatewayAddress {
  readonly destination:
    | { readonly kind: 'hostname'; readonly namespace: string; readonly hostname: string }
    | { readonly kind: 'address'; readonly network: string; readonly ip: Ip }
  readonly hboneMtlsPort: number
}

export interface ApplicationTunnel {
  readonly protocol: 'NONE' | 'PROXY'
  /** 0 = not set. */
  readonly port: number
}

/** Service port → target port; a target of 0 means named, so only endpoints know it. */
export type PortMap = ReadonlyMap<number, number>

export interface Workload {
  readonly uid: WorkloadUid
  readonly name: string
  readonly namespace: string
  readonly addresses: readonly Ip[]
  readonly hostname: string
  readonly network: string
  readonly networkMode: 'Standard' | 'HostNetwork'
  readonly protocol: TunnelProtocol
  readonly nativeTunnel: boolean
  readonly trustDomain: string
  readonly serviceAccount: string
  readonly waypoint: GatewayAddress | undefined
  readonly networkGateway: GatewayAddress | undefined
  readonly applicationTunnel: ApplicationTunnel | undefined
  readonly node: string
  readonly canonicalName: string
  readonly canonicalRevision: string
  readonly workloadName: string
  readonly workloadType: WorkloadType
  readonly clusterId: string
  readonly locality: Locality
  readonly services: ReadonlyMap<ServiceKey, PortMap>
  readonly authorizationPolicies: readonly PolicyKey[]
  readonly status: 'Healthy' | 'Unhealthy'
  /** Weight in load balancing; 0 takes no traffic. */
  readonly capacity: number
  /** Those that some DestinationRule asks for, of all that the workload has; {@link noLabels} when there are none. */
  readonly labels: ReadonlyMap<string, string>
}

export const noLabels: Workload['labels'] = new Map()

export type RoutingScope = 'Region' | 'Zone' | 'Subzone' | 'Node' | 'Cluster' | 'Network'

export interface LoadBalancer {
  readonly mode: 'Standard' | 'Strict' | 'Failover' | 'Passthrough'
  readonly routingPreferences: readonly RoutingScope[]
  readonly healthPolicy: 'OnlyHealthy' | 'AllowAll'
}

/** What is known to be spoken on a port. Source: istio.workload.Port.AppProtocol. */
export type AppProtocol = 'HTTP11' | 'HTTP2' | 'GRPC' | 'TCP' | 'TLS'

/** What Underpass's control plane adds to a service as extension `underpass.dev/traffic`. */
export interface TrafficExtension {
  /** Seconds for which one client address keeps its endpoint; 0 = no affinity. */
  readonly clientIpAffinitySeconds: number
  /** Who has the name outside of the mesh; absent: the endpoints are known by their addresses. */
  readonly resolution?: NameResolution
  /** All addresses of a name are tried, and whichever takes the connection first is it. */
  readonly racing?: true
}

/**
 * How names become addresses: all that a name has; the first of them; or those of the name that a request asks for,
 * under a wildcard. Source: `resolution` of Istio's ServiceEntry.
 */
export const nameResolutions = ['DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'] as const
export type NameResolution = (typeof nameResolutions)[number]

export interface Service {
  readonly name: string
  readonly namespace: string
  readonly hostname: string
  readonly vips: readonly NetworkAddress[]
  readonly cidrVips: readonly { readonly network: string; readonly cidr: Cidr }[]
  readonly ports: PortMap
  /** By service port; of a port that is not here nobody said what it speaks. */
  readonly protocols: ReadonlyMap<number, AppProtocol>
  readonly subjectAltNames: readonly string[]
  readonly waypoint: GatewayAddress | undefined
  readonly weightedWaypoints: readonly { readonly destination: GatewayAddress; readonly weight: number }[]
  readonly loadBalancer: LoadBalancer | undefined
  readonly ipFamilies: 'IPv4' | 'IPv6' | 'Dual' | undefined
  /** A Kubernetes Service, as against one that a ServiceEntry declares. */
  readonly canonical: boolean
  readonly visibility: 'Public' | 'Namespace'
  /** Gateways send requests for it through its waypoint, where it has an address and one. */
  readonly ingressUsesWaypoint: boolean
  readonly traffic: TrafficExtension | undefined
}

/** One workload as a target of a service. */
export interface Endpoint {
  readonly workloadUid: WorkloadUid
  readonly ports: PortMap
  readonly status: 'Healthy' | 'Unhealthy'
}

export type StringMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly value: string }
  | { readonly kind: 'presence' }

export interface ServiceAccountMatch {
  readonly namespace: string
  readonly serviceAccount: string
}

/** Types are joined by AND, the values of one type by OR; a match with every list empty matches nothing. */
export interface PolicyMatch {
  readonly namespaces: readonly StringMatch[]
  readonly notNamespaces: readonly StringMatch[]
  readonly principals: readonly StringMatch[]
  readonly notPrincipals: readonly StringMatch[]
  readonly serviceAccounts: readonly ServiceAccountMatch[]
  readonly notServiceAccounts: readonly ServiceAccountMatch[]
  readonly sourceIps: readonly Cidr[]
  readonly notSourceIps: readonly Cidr[]
  readonly destinationIps: readonly Cidr[]
  readonly notDestinationIps: readonly Cidr[]
  readonly destinationPorts: readonly number[]
  readonly notDestinationPorts: readonly number[]
}

export interface Policy {
  readonly name: string
  readonly namespace: string
  readonly scope: 'Global' | 'Namespace' | 'WorkloadSelector'
  readonly action: 'Allow' | 'Deny'
  /** Rules are joined by OR, the clauses of a rule by AND, the matches of a clause by OR. */
  readonly rules: readonly (readonly (readonly PolicyMatch[])[])[]
  readonly dryRun: boolean
  /**
   * Set on the stand-in for a policy that was received but cannot be read: it denies everything in its scope
   * until a valid one comes. The text says what is wrong.
   */
  readonly unreadable?: string
}

export const SPIFFE_DEFAULT_TRUST_DOMAIN = 'cluster.local'

export function serviceKey(service: Pick<Service, 'namespace' | 'hostname'>): ServiceKey {
  return `${service.namespace}/${service.hostname}`
}

export function policyKey(policy: Pick<Policy, 'namespace' | 'name'>): PolicyKey {
  return `${policy.namespace}/${policy.name}`
}

export function workloadIdentity(
  workload: Pick<Workload, 'trustDomain' | 'namespace' | 'serviceAccount'>
): SpiffeId {
  return spiffeId(workload)
}
