/**
 * The Kubernetes objects that the mesh reads or writes, with the fields that it uses, and where the API
 * server keeps them. Objects come from outside: every field but those marked mandatory may be absent.
 * Sources: Kubernetes API reference; Gateway API v1; Istio's published networking and security APIs.
 */

export interface OwnerReference {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean
  readonly blockOwnerDeletion?: boolean
}

export interface ObjectMeta {
  readonly name: string
  readonly generateName?: string
  readonly namespace?: string
  readonly uid?: string
  readonly resourceVersion?: string
  readonly generation?: number
  /** RFC 3339, whole seconds. */
  readonly creationTimestamp?: string
  /** Set while the object is being deleted. */
  readonly deletionTimestamp?: string
  readonly labels?: Labels
  readonly annotations?: Labels
  readonly ownerReferences?: readonly OwnerReference[]
  readonly finalizers?: readonly string[]
}

export type Labels = Readonly<Record<string, string>>

export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: ObjectMeta
}

/** Where the API server keeps objects of one kind; `group` is '' for the core group. T is carried for typing only. */
export interface ResourceType<T extends KubeObject = KubeObject> {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
  readonly example?: T
}

export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason?: string
  readonly message?: string
  readonly lastTransitionTime?: string
  readonly observedGeneration?: number
}

export interface LabelSelector {
  readonly matchLabels?: Labels
  readonly matchExpressions?: readonly {
    readonly key: string
    readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'
    readonly values?: readonly string[]
  }[]
}

// Core

export interface Namespace extends KubeObject {
  readonly status?: { readonly phase?: 'Active' | 'Terminating' }
}

export interface Node extends KubeObject {
  readonly spec?: {
    readonly podCIDR?: string
    readonly podCIDRs?: readonly string[]
    readonly unschedulable?: boolean
  }
  readonly status?: {
    readonly addresses?: readonly { readonly type: string; readonly address: string }[]
    readonly conditions?: readonly Condition[]
    readonly nodeInfo?: Readonly<Record<string, string>>
  }
}

export interface ContainerPort {
  readonly name?: string
  readonly containerPort: number
  readonly hostPort?: number
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP'
}

export interface Container {
  readonly name: string
  readonly image?: string
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly ports?: readonly ContainerPort[]
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: unknown }[]
  readonly restartPolicy?: string
}

export interface ContainerStatus {
  readonly name: string
  readonly ready: boolean
  readonly restartCount: number
  readonly containerID?: string
  readonly image?: string
  readonly state?: Readonly<
    Record<string, { readonly reason?: string; readonly message?: string; readonly startedAt?: string }>
  >
}

export interface Pod extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string
    readonly serviceAccountName?: string
    readonly hostNetwork?: boolean
    readonly hostname?: string
    readonly subdomain?: string
    readonly containers?: readonly Container[]
    readonly initContainers?: readonly Container[]
  }
  readonly status?: {
    readonly phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'
    readonly podIP?: string
    readonly podIPs?: readonly { readonly ip: string }[]
    readonly hostIP?: string
    readonly conditions?: readonly Condition[]
    readonly containerStatuses?: readonly ContainerStatus[]
    readonly startTime?: string
  }
}

export interface ServicePort {
  readonly name?: string
  readonly port: number
  readonly targetPort?: number | string
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP'
  readonly appProtocol?: string
  readonly nodePort?: number
}

export interface Service extends KubeObject {
  readonly spec?: {
    readonly type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'
    readonly clusterIP?: string
    readonly clusterIPs?: readonly string[]
    readonly ipFamilies?: readonly ('IPv4' | 'IPv6')[]
    readonly ipFamilyPolicy?: 'SingleStack' | 'PreferDualStack' | 'RequireDualStack'
    readonly externalName?: string
    readonly externalIPs?: readonly string[]
    readonly ports?: readonly ServicePort[]
    readonly selector?: Labels
    readonly publishNotReadyAddresses?: boolean
    readonly internalTrafficPolicy?: 'Cluster' | 'Local'
    readonly trafficDistribution?: string
    readonly sessionAffinity?: 'None' | 'ClientIP'
    readonly sessionAffinityConfig?: { readonly clientIP?: { readonly timeoutSeconds?: number } }
  }
  readonly status?: {
    readonly conditions?: readonly Condition[]
    readonly loadBalancer?: {
      readonly ingress?: readonly { readonly ip?: string; readonly hostname?: string }[]
    }
  }
}

export interface EndpointSlice extends KubeObject {
  readonly addressType: 'IPv4' | 'IPv6' | 'FQDN'
  readonly endpoints?: readonly {
    readonly addresses?: readonly string[]
    readonly conditions?: {
      readonly ready?: boolean
      readonly serving?: boolean
      readonly terminating?: boolean
    }
    readonly hostname?: string
    readonly nodeName?: string
    readonly zone?: string
    readonly targetRef?: {
      readonly kind?: string
      readonly namespace?: string
      readonly name?: string
      readonly uid?: string
    }
  }[]
  readonly ports?: readonly {
    readonly name?: string
    readonly port?: number
    readonly protocol?: string
    readonly appProtocol?: string
  }[]
}

export interface ConfigMap extends KubeObject {
  readonly data?: Labels
  readonly binaryData?: Labels
}

/** Values of `data` are base64. */
export interface Secret extends KubeObject {
  readonly type?: string
  readonly data?: Labels
  readonly stringData?: Labels
}

export interface ServiceAccount extends KubeObject {
  readonly automountServiceAccountToken?: boolean
}

export interface Event extends KubeObject {
  readonly type?: string
  readonly reason?: string
  readonly message?: string
  readonly involvedObject?: Readonly<Record<string, string>>
}

// Workload controllers

export interface PodTemplate {
  readonly metadata?: { readonly labels?: Labels; readonly annotations?: Labels }
  readonly spec?: Pod['spec']
}

export interface Deployment extends KubeObject {
  readonly spec?: {
    readonly replicas?: number
    readonly selector?: LabelSelector
    readonly template?: PodTemplate
  }
  readonly status?: {
    readonly replicas?: number
    readonly readyReplicas?: number
    readonly conditions?: readonly Condition[]
  }
}

export interface DaemonSet extends KubeObject {
  readonly spec?: { readonly selector?: LabelSelector; readonly template?: PodTemplate }
  readonly status?: {
    readonly desiredNumberScheduled?: number
    readonly numberReady?: number
    readonly numberUnavailable?: number
  }
}

// Reviews: created to ask, never stored

export interface TokenReview extends KubeObject {
  readonly spec: { readonly token: string; readonly audiences?: readonly string[] }
  readonly status?: {
    readonly authenticated?: boolean
    readonly audiences?: readonly string[]
    readonly error?: string
    readonly user?: {
      readonly username?: string
      readonly uid?: string
      readonly groups?: readonly string[]
      readonly extra?: Readonly<Record<string, readonly string[]>>
    }
  }
}

export interface TokenRequest extends KubeObject {
  readonly spec: {
    readonly audiences: readonly string[]
    readonly expirationSeconds?: number
    readonly boundObjectRef?: {
      readonly kind: string
      readonly apiVersion: string
      readonly name: string
      readonly uid?: string
    }
  }
  readonly status?: { readonly token: string; readonly expirationTimestamp: string }
}

export interface SubjectAccessReview extends KubeObject {
  readonly spec: {
    readonly user?: string
    readonly groups?: readonly string[]
    readonly resourceAttributes?: Readonly<Record<string, string>>
  }
  readonly status?: { readonly allowed: boolean; readonly reason?: string }
}

/** What one policy target or parent reference names. */
export interface TargetReference {
  readonly group?: string
  readonly kind: string
  readonly name: string
  readonly namespace?: string
  readonly sectionName?: string
}

// Gateway API

export interface GatewayClass extends KubeObject {
  readonly spec?: { readonly controllerName?: string; readonly description?: string }
  readonly status?: { readonly conditions?: readonly Condition[] }
}

export interface GatewayListener {
  readonly name: string
  readonly port: number
  readonly protocol: string
  readonly hostname?: string
  readonly tls?: unknown
  readonly allowedRoutes?: unknown
}

export interface Gateway extends KubeObject {
  readonly spec?: {
    readonly gatewayClassName?: string
    readonly listeners?: readonly GatewayListener[]
    readonly addresses?: readonly { readonly type?: string; readonly value?: string }[]
  }
  readonly status?: {
    readonly addresses?: readonly { readonly type?: string; readonly value: string }[]
    readonly conditions?: readonly Condition[]
    readonly listeners?: readonly unknown[]
  }
}

// Istio networking

export interface ServiceEntry extends KubeObject {
  readonly spec?: {
    readonly hosts?: readonly string[]
    readonly addresses?: readonly string[]
    readonly ports?: readonly {
      readonly number: number
      readonly name?: string
      readonly protocol?: string
      readonly targetPort?: number
    }[]
    readonly location?: 'MESH_EXTERNAL' | 'MESH_INTERNAL'
    readonly resolution?: 'NONE' | 'STATIC' | 'DNS' | 'DNS_ROUND_ROBIN' | 'DYNAMIC_DNS'
    readonly endpoints?: readonly WorkloadEntrySpec[]
    readonly workloadSelector?: { readonly labels?: Labels }
    readonly exportTo?: readonly string[]
    readonly subjectAltNames?: readonly string[]
  }
  readonly status?: {
    readonly conditions?: readonly Condition[]
    readonly addresses?: readonly { readonly value: string; readonly host?: string }[]
  }
}

export interface WorkloadEntrySpec {
  readonly address?: string
  readonly ports?: Readonly<Record<string, number>>
  readonly labels?: Labels
  readonly network?: string
  /** `region/zone/subzone`. */
  readonly locality?: string
  readonly weight?: number
  readonly serviceAccount?: string
}

export interface WorkloadEntry extends KubeObject {
  readonly spec?: WorkloadEntrySpec
  readonly status?: { readonly conditions?: readonly Condition[] }
}

// Istio security

export interface AuthorizationSource {
  readonly principals?: readonly string[]
  readonly notPrincipals?: readonly string[]
  readonly requestPrincipals?: readonly string[]
  readonly notRequestPrincipals?: readonly string[]
  readonly namespaces?: readonly string[]
  readonly notNamespaces?: readonly string[]
  readonly serviceAccounts?: readonly string[]
  readonly notServiceAccounts?: readonly string[]
  readonly ipBlocks?: readonly string[]
  readonly notIpBlocks?: readonly string[]
  readonly remoteIpBlocks?: readonly string[]
  readonly notRemoteIpBlocks?: readonly string[]
}

export interface AuthorizationOperation {
  readonly hosts?: readonly string[]
  readonly notHosts?: readonly string[]
  readonly ports?: readonly string[]
  readonly notPorts?: readonly string[]
  readonly methods?: readonly string[]
  readonly notMethods?: readonly string[]
  readonly paths?: readonly string[]
  readonly notPaths?: readonly string[]
}

export interface AuthorizationRule {
  readonly from?: readonly { readonly source?: AuthorizationSource }[]
  readonly to?: readonly { readonly operation?: AuthorizationOperation }[]
  readonly when?: readonly {
    readonly key: string
    readonly values?: readonly string[]
    readonly notValues?: readonly string[]
  }[]
}

export interface AuthorizationPolicy extends KubeObject {
  readonly spec?: {
    readonly selector?: { readonly matchLabels?: Labels }
    readonly targetRef?: TargetReference
    readonly targetRefs?: readonly TargetReference[]
    readonly action?: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM'
    readonly rules?: readonly AuthorizationRule[]
    readonly provider?: { readonly name?: string }
  }
  readonly status?: { readonly conditions?: readonly Condition[] }
}

export type MutualTlsMode = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT'

export interface PeerAuthentication extends KubeObject {
  readonly spec?: {
    readonly selector?: { readonly matchLabels?: Labels }
    readonly mtls?: { readonly mode?: MutualTlsMode }
    readonly portLevelMtls?: Readonly<Record<string, { readonly mode?: MutualTlsMode }>>
  }
  readonly status?: { readonly conditions?: readonly Condition[] }
}

export const namespaces: ResourceType<Namespace> = core('namespaces', 'Namespace', false)
export const nodes: ResourceType<Node> = core('nodes', 'Node', false)
export const pods: ResourceType<Pod> = core('pods', 'Pod')
export const services: ResourceType<Service> = core('services', 'Service')
export const configMaps: ResourceType<ConfigMap> = core('configmaps', 'ConfigMap')
export const secrets: ResourceType<Secret> = core('secrets', 'Secret')
export const serviceAccounts: ResourceType<ServiceAccount> = core('serviceaccounts', 'ServiceAccount')
export const events: ResourceType<Event> = core('events', 'Event')
export const endpointSlices: ResourceType<EndpointSlice> = named('discovery.k8s.io', 'v1', 'EndpointSlice')
export const deployments: ResourceType<Deployment> = named('apps', 'v1', 'Deployment')
export const daemonSets: ResourceType<DaemonSet> = named('apps', 'v1', 'DaemonSet')
export const tokenReviews: ResourceType<TokenReview> = {
  ...named<TokenReview>('authentication.k8s.io', 'v1', 'TokenReview'),
  namespaced: false
}
export const subjectAccessReviews: ResourceType<SubjectAccessReview> = {
  ...named<SubjectAccessReview>('authorization.k8s.io', 'v1', 'SubjectAccessReview'),
  namespaced: false
}
export const gatewayClasses: ResourceType<GatewayClass> = {
  ...named<GatewayClass>('gateway.networking.k8s.io', 'v1', 'GatewayClass'),
  plural: 'gatewayclasses',
  namespaced: false
}
export const gateways: ResourceType<Gateway> = named('gateway.networking.k8s.io', 'v1', 'Gateway')
export const serviceEntries: ResourceType<ServiceEntry> = {
  ...named<ServiceEntry>('networking.istio.io', 'v1', 'ServiceEntry'),
  plural: 'serviceentries'
}
export const workloadEntries: ResourceType<WorkloadEntry> = {
  ...named<WorkloadEntry>('networking.istio.io', 'v1', 'WorkloadEntry'),
  plural: 'workloadentries'
}
export const authorizationPolicies: ResourceType<AuthorizationPolicy> = {
  ...named<AuthorizationPolicy>('security.istio.io', 'v1', 'AuthorizationPolicy'),
  plural: 'authorizationpolicies'
}
export const peerAuthentications: ResourceType<PeerAuthentication> = named(
  'security.istio.io',
  'v1',
  'PeerAuthentication'
)

/** `apps/v1`, or `v1` for the core group. */
export function apiVersionOf(type: Pick<ResourceType, 'group' | 'version'>): string {
  return type.group === '' ? type.version : `${type.group}/${type.version}`
}

/** The key of an object among those of its kind: `namespace/name`, or `name` when its kind has no namespaces. */
export function objectKey(object: { readonly metadata: Pick<ObjectMeta, 'name' | 'namespace'> }): string {
  const { namespace, name } = object.metadata
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`
}

function core<T extends KubeObject>(plural: string, kind: string, namespaced = true): ResourceType<T> {
  return { group: '', version: 'v1', plural, kind, namespaced }
}

function named<T extends KubeObject>(group: string, version: string, kind: string): ResourceType<T> {
  return { group, version, plural: `${kind.toLowerCase()}s`, kind, namespaced: true }
}
