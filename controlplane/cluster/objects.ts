/**
 * The Kubernetes objects as the control plane keeps them: only the fields that decide something, so that
 * tens of thousands fit in memory. `read/` makes them from what the API server sends.
 */
import type { LabelSelector } from '../../shared/kube/object.ts'
import type { Ip } from '../../shared/net/address.ts'

export type Labels = Readonly<Record<string, string>>

export interface Meta {
  /** `''` for kinds without namespaces. */
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly labels: Labels
  /** Only the annotations that the kind's translation reads. */
  readonly annotations: Labels
  /** Milliseconds since the epoch; 0 when unknown. */
  readonly createdMs: number
  readonly generation: number
  /** Those conditions of its status that are ours to write, by type; see `translate/conditions.ts`. */
  readonly conditions: Labels
}

export interface Locality {
  readonly region: string
  readonly zone: string
  readonly subzone: string
}

export interface NamespaceObject {
  readonly kind: 'Namespace'
  readonly meta: Meta
}

export interface NodeObject {
  readonly kind: 'Node'
  readonly meta: Meta
  readonly locality: Locality | undefined
}

export interface PodObject {
  readonly kind: 'Pod'
  readonly meta: Meta
  /** The owner's name and kind that telemetry reports. */
  readonly workloadName: string
  readonly serviceAccount: string
  readonly node: string
  readonly hostNetwork: boolean
  readonly phase: string
  readonly ips: readonly Ip[]
  readonly ready: boolean
  readonly terminating: boolean
  /** Named TCP ports of its containers and of its native sidecars. */
  readonly namedPorts: ReadonlyMap<string, number>
}

export interface ServicePort {
  readonly name: string
  readonly port: number
  /** A name is looked up in each endpoint. */
  readonly target: number | string
  readonly protocol: string
}

export interface ServiceObject {
  readonly kind: 'Service'
  readonly meta: Meta
  readonly external: boolean
  readonly vips: readonly Ip[]
  /** What a load balancer gave it: IP addresses and hostnames. */
  readonly ingress: readonly string[]
  /** TCP only. */
  readonly ports: readonly ServicePort[]
  readonly selector: Labels
  readonly localOnly: boolean
  readonly trafficDistribution: string
  readonly publishNotReady: boolean
  readonly ipFamilies: readonly string[]
  /** Seconds of client-address affinity; 0 = none. */
  readonly affinitySeconds: number
}

export interface SliceEndpoint {
  readonly addresses: readonly Ip[]
  readonly ready: boolean
  /** `namespace/name` of the pod behind it, with its uid. */
  readonly pod: { readonly key: string; readonly uid: string } | undefined
}

export interface EndpointSliceObject {
  readonly kind: 'EndpointSlice'
  readonly meta: Meta
  /** Name of its Service; '' when it belongs to none. */
  readonly service: string
  /** TCP only; `name` is that of the service's port. */
  readonly ports: readonly { readonly name: string; readonly port: number }[]
  readonly endpoints: readonly SliceEndpoint[]
}

export interface WorkloadSpec {
  readonly address: string
  readonly ip: Ip | undefined
  readonly ports: ReadonlyMap<string, number>
  readonly labels: Labels
  readonly network: string
  readonly locality: Locality | undefined
  readonly weight: number
  readonly serviceAccount: string
}

export interface WorkloadEntryObject {
  readonly kind: 'WorkloadEntry'
  readonly meta: Meta
  readonly spec: WorkloadSpec
  readonly healthy: boolean
}

export type Resolution = 'NONE' | 'STATIC' | 'DNS' | 'DNS_ROUND_ROBIN' | 'DYNAMIC_DNS'

export interface ServiceEntryObject {
  readonly kind: 'ServiceEntry'
  readonly meta: Meta
  readonly hosts: readonly string[]
  readonly addresses: readonly string[]
  /** Addresses that a controller allocated, by host. */
  readonly allocated: readonly { readonly host: string; readonly address: string }[]
  readonly ports: readonly ServicePort[]
  readonly resolution: Resolution
  readonly endpoints: readonly WorkloadSpec[]
  readonly selector: Labels | undefined
  readonly subjectAltNames: readonly string[]
}

export interface GatewayListener {
  readonly name: string
  readonly port: number
  readonly protocol: string
  /** In lower case, perhaps `*.` first; '' = any. */
  readonly hostname: string
  readonly tls: ListenerTls | undefined
  readonly from: 'All' | 'Same' | 'Selector' | 'None'
  readonly selector: LabelSelector | undefined
  /** Kinds of routes that it takes; empty = all of its protocol. */
  readonly kinds: readonly { readonly group: string; readonly kind: string }[]
}

export interface ListenerTls {
  readonly mode: 'Terminate' | 'Passthrough'
  readonly certificates: readonly CertificateReference[]
}

export interface CertificateReference {
  /** Path of the field, for messages. */
  readonly field: string
  readonly group: string
  readonly kind: string
  readonly namespace: string
  readonly name: string
}

export interface GatewayAddress {
  readonly type: string
  readonly value: string
}

/** What the objects that run a Gateway are to have. */
export interface GatewayInfrastructure {
  readonly labels: Labels
  readonly annotations: Labels
  /** Kind and name of the parameters that it names; '' = none. */
  readonly parameters: string
}

/** The certificates that clients of a Gateway have to show. */
export interface ClientValidation {
  readonly field: string
  readonly mode: 'AllowValidOnly' | 'AllowInsecureFallback'
  readonly authorities: readonly CertificateReference[]
}

export interface GatewayFrontend {
  /** For ports of which nothing else is said. */
  readonly fallback: ClientValidation | undefined
  readonly perPort: readonly { readonly port: number; readonly validation: ClientValidation | undefined }[]
}

export interface GatewayObject {
  readonly kind: 'Gateway'
  readonly meta: Meta
  readonly className: string
  readonly listeners: readonly GatewayListener[]
  readonly infrastructure: GatewayInfrastructure
  /** Of its spec: those that it asks for. */
  readonly requestedAddresses: readonly GatewayAddress[]
  /** What its proxies show to backends that ask for a certificate; undefined: nothing. */
  readonly backendCertificate: CertificateReference | undefined
  /** The certificates that it asks clients for; undefined: none. */
  readonly frontend: GatewayFrontend | undefined
  /** Of its status. */
  readonly addresses: readonly GatewayAddress[]
}

export interface GatewayClassObject {
  readonly kind: 'GatewayClass'
  readonly meta: Meta
  readonly controller: string
}

export interface TargetReference {
  readonly group: string
  readonly kind: string
  readonly name: string
  readonly namespace: string
}

export interface PolicySource {
  readonly principals: readonly string[]
  readonly notPrincipals: readonly string[]
  readonly namespaces: readonly string[]
  readonly notNamespaces: readonly string[]
  readonly serviceAccounts: readonly string[]
  readonly notServiceAccounts: readonly string[]
  readonly ipBlocks: readonly string[]
  readonly notIpBlocks: readonly string[]
  /** Names of the attributes set that only a waypoint can decide. */
  readonly layer7: readonly string[]
}

export interface PolicyOperation {
  readonly ports: readonly string[]
  readonly notPorts: readonly string[]
  readonly layer7: readonly string[]
}

export interface PolicyCondition {
  readonly key: string
  readonly values: readonly string[]
  readonly notValues: readonly string[]
}

export interface PolicyRule {
  readonly from: readonly PolicySource[]
  readonly to: readonly PolicyOperation[]
  readonly when: readonly PolicyCondition[]
}

export interface AuthorizationPolicyObject {
  readonly kind: 'AuthorizationPolicy'
  readonly meta: Meta
  readonly selector: Labels | undefined
  readonly targets: readonly TargetReference[]
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM'
  readonly rules: readonly PolicyRule[]
  /** As written, when it has targets: then it is for waypoints. */
  readonly spec: JsonObject | undefined
}

export interface RequestAuthenticationObject {
  readonly kind: 'RequestAuthentication'
  readonly meta: Meta
  readonly targets: readonly TargetReference[]
  /** As written, when it has targets: then it is for waypoints. */
  readonly spec: JsonObject | undefined
}

export interface TelemetryObject {
  readonly kind: 'Telemetry'
  readonly meta: Meta
  /** Empty: it is for everything of its namespace, or of the mesh. */
  readonly targets: readonly TargetReference[]
  /** As written, unless it is for the pods of a selector only. */
  readonly spec: JsonObject | undefined
}

export interface RateLimitPolicyObject {
  readonly kind: 'RateLimitPolicy'
  readonly meta: Meta
  readonly targets: readonly TargetReference[]
  /** As written, when it has targets; without any it says nothing. */
  readonly spec: JsonObject | undefined
}

export interface DestinationRuleObject {
  readonly kind: 'DestinationRule'
  readonly meta: Meta
  /** As written: a hostname, a wildcard such as `*.example.com`, or the name of a Service beside it. */
  readonly host: string
  /** Namespaces, `*` for all, `.` for its own; empty: as the mesh configuration says. */
  readonly exportTo: readonly string[]
  /** Keys of the labels by which it chooses endpoints; sorted, each once. */
  readonly labelKeys: readonly string[]
  /** As written, unless it is for the workloads of a selector only: waypoints take the others. */
  readonly spec: JsonObject | undefined
}

/** Where a VirtualService leads: as written. */
export interface VirtualDestination {
  readonly host: string
  /** '' = the whole service. */
  readonly subset: string
  readonly port: number | undefined
}

/** One of several destinations, with what is said beside it: a weight, header changes, a percentage. */
export interface VirtualShare {
  readonly destination: VirtualDestination
  readonly fields: JsonObject
}

/** Of kind `http`, `tls` or `tcp`. */
export interface VirtualRoute {
  /** As written, without destinations, and without the matches that are for Gateways only. */
  readonly fields: JsonObject
  readonly route: readonly VirtualShare[]
  readonly mirror: VirtualDestination | undefined
  readonly mirrors: readonly VirtualShare[]
}

export const virtualRouteKinds = ['http', 'tls', 'tcp'] as const

export interface VirtualServiceObject {
  readonly kind: 'VirtualService'
  readonly meta: Meta
  /** As written: hostnames, wildcards such as `*.example.com`, or names of Services beside it. */
  readonly hosts: readonly string[]
  /** Namespaces, `*` for all, `.` for its own; empty: as the mesh configuration says. */
  readonly exportTo: readonly string[]
  /** Those for the mesh; what is for Gateways only is not kept. */
  readonly routes: Readonly<Record<(typeof virtualRouteKinds)[number], readonly VirtualRoute[]>>
}

export type TlsMode = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT'

export interface PeerAuthenticationObject {
  readonly kind: 'PeerAuthentication'
  readonly meta: Meta
  readonly selector: Labels | undefined
  readonly mode: TlsMode
  readonly ports: readonly { readonly port: number; readonly mode: TlsMode }[]
}

export const routeKinds = ['HTTPRoute', 'GRPCRoute', 'TLSRoute'] as const

export type RouteKind = (typeof routeKinds)[number]

/** What waypoints are sent as configuration: objects of these kinds, and what the mesh configuration has for them. */
export const configKinds = [
  'MeshConfig',
  'Gateway',
  'Secret',
  ...routeKinds,
  'AuthorizationPolicy',
  'RequestAuthentication',
  'RateLimitPolicy',
  'Telemetry',
  'BackendTLSPolicy',
  'DestinationRule',
  'VirtualService'
] as const

export type ConfigKind = (typeof configKinds)[number]

export type JsonObject = Readonly<Record<string, unknown>>

/** What a route applies to: the listeners of a Gateway, or requests to a Service or ServiceEntry. */
export interface ParentReference {
  /** As it stands in the spec; a status repeats it. */
  readonly written: JsonObject
  readonly group: string
  readonly kind: 'Service' | 'ServiceEntry' | 'Gateway'
  readonly namespace: string
  readonly name: string
  /** Undefined: every port. */
  readonly port: number | undefined
  /** Name of a port or listener; '' when it does not say. */
  readonly sectionName: string
}

/** Where a route sends requests to. */
export interface BackendReference {
  /** Path of the field, for messages. */
  readonly field: string
  readonly group: string
  readonly kind: string
  readonly namespace: string
  readonly name: string
  readonly port: number | undefined
}

export interface RouteFilter {
  readonly field: string
  readonly type: string
  /** As written, with the API's defaults. */
  readonly fields: JsonObject
  /** The backend that it names, and the field that holds it. */
  readonly backend: { readonly holder: string; readonly reference: BackendReference } | undefined
}

export interface RouteBackend {
  readonly reference: BackendReference
  readonly weight: number
  readonly filters: readonly RouteFilter[]
}

export interface RouteRule {
  readonly field: string
  /** As written, with the API's defaults, without filters and backends. */
  readonly fields: JsonObject
  readonly filters: readonly RouteFilter[]
  readonly backends: readonly RouteBackend[]
}

export interface RouteObject {
  readonly kind: RouteKind
  readonly meta: Meta
  /** Without kinds that are nobody's here. */
  readonly parents: readonly ParentReference[]
  /** In lower case; none = any. They count where a parent is a Gateway. */
  readonly hostnames: readonly string[]
  readonly rules: readonly RouteRule[]
  /** What its status says in our name, as `parentsText` of `translate/route-status.ts` writes it. */
  readonly reported: string
}

export interface ReferenceGrantObject {
  readonly kind: 'ReferenceGrant'
  readonly meta: Meta
  readonly from: readonly { readonly group: string; readonly kind: string; readonly namespace: string }[]
  /** A name of '' stands for every one. */
  readonly to: readonly { readonly group: string; readonly kind: string; readonly name: string }[]
}

/** A certificate with its key; Secrets of other types are not read. */
export interface SecretObject {
  readonly kind: 'Secret'
  readonly meta: Meta
  /** PEM, as it was written: nobody has looked at it yet. */
  readonly certificate: string
  readonly key: string
}

/** A target of a policy, in the policy's own namespace. */
export interface PolicyTargetReference {
  /** Path of the field, for messages. */
  readonly field: string
  readonly group: string
  readonly kind: string
  readonly name: string
  /** Name of a port; '' = all that no other policy names. */
  readonly sectionName: string
}

export interface BackendTlsPolicyObject {
  readonly kind: 'BackendTLSPolicy'
  readonly meta: Meta
  readonly targets: readonly PolicyTargetReference[]
  readonly hostname: string
  /** As written. */
  readonly subjectAltNames: readonly JsonObject[]
  readonly authorities: readonly {
    readonly field: string
    readonly group: string
    readonly kind: string
    readonly name: string
  }[]
  /** `System`; '' where it does not say. */
  readonly wellKnown: string
  /** What its status says in our name, as `ancestorsText` of `translate/backend-tls-status.ts` writes it. */
  readonly reported: string
}

export interface ConfigMapObject {
  readonly kind: 'ConfigMap'
  readonly meta: Meta
  /** Its `ca.crt`, as it was written; undefined without one. */
  readonly authorities: string | undefined
}

export type MeshObject =
  | NamespaceObject
  | NodeObject
  | PodObject
  | ServiceObject
  | EndpointSliceObject
  | ServiceEntryObject
  | WorkloadEntryObject
  | GatewayObject
  | GatewayClassObject
  | AuthorizationPolicyObject
  | PeerAuthenticationObject
  | RequestAuthenticationObject
  | RateLimitPolicyObject
  | TelemetryObject
  | DestinationRuleObject
  | VirtualServiceObject
  | (RouteObject & { readonly kind: 'HTTPRoute' })
  | (RouteObject & { readonly kind: 'GRPCRoute' })
  | (RouteObject & { readonly kind: 'TLSRoute' })
  | ReferenceGrantObject
  | SecretObject
  | BackendTlsPolicyObject
  | ConfigMapObject

export type Kind = MeshObject['kind']
export type ObjectOf<K extends Kind> = Extract<MeshObject, { readonly kind: K }>

/** `namespace/name`, or the name alone for kinds without namespaces. */
export function keyOf(meta: Pick<Meta, 'namespace' | 'name'>): string {
  return meta.namespace === '' ? meta.name : `${meta.namespace}/${meta.name}`
}

export function isRouteKind(kind: Kind): kind is RouteKind {
  return (routeKinds as readonly Kind[]).includes(kind)
}

export function isRoute(object: MeshObject): object is Extract<MeshObject, { readonly kind: RouteKind }> {
  return isRouteKind(object.kind)
}

export function kindKey(object: MeshObject): string {
  return `${object.kind} ${keyOf(object.meta)}`
}

/** The oldest first; of equals the one whose key sorts first. */
export function byAge(a: { readonly meta: Meta }, b: { readonly meta: Meta }): number {
  return a.meta.createdMs - b.meta.createdMs || (keyOf(a.meta) < keyOf(b.meta) ? -1 : 1)
}
