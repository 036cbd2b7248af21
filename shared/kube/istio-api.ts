/** Istio's networking and security objects, with the fields that the mesh uses. Source: Istio's published APIs. */
import { type Condition, type KubeObject, type Labels, namedType, type ResourceType } from './object.ts'

/** What one policy target or parent reference names. */
export interface TargetReference {
  readonly group?: string
  readonly kind: string
  readonly name: string
  readonly namespace?: string
  readonly sectionName?: string
}

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

export const serviceEntries: ResourceType<ServiceEntry> = {
  ...namedType<ServiceEntry>('networking.istio.io', 'v1', 'ServiceEntry'),
  plural: 'serviceentries'
}
export const workloadEntries: ResourceType<WorkloadEntry> = {
  ...namedType<WorkloadEntry>('networking.istio.io', 'v1', 'WorkloadEntry'),
  plural: 'workloadentries'
}
export const authorizationPolicies: ResourceType<AuthorizationPolicy> = {
  ...namedType<AuthorizationPolicy>('security.istio.io', 'v1', 'AuthorizationPolicy'),
  plural: 'authorizationpolicies'
}
export const peerAuthentications: ResourceType<PeerAuthentication> = namedType(
  'security.istio.io',
  'v1',
  'PeerAuthentication'
)
/** What it says is for waypoints to read. */
export const telemetries: ResourceType = {
  ...namedType('telemetry.istio.io', 'v1', 'Telemetry'),
  plural: 'telemetries'
}
export const destinationRules: ResourceType = namedType('networking.istio.io', 'v1', 'DestinationRule')
export const virtualServices: ResourceType = namedType('networking.istio.io', 'v1', 'VirtualService')
/** What it says is for waypoints to read. */
export const requestAuthentications: ResourceType = namedType(
  'security.istio.io',
  'v1',
  'RequestAuthentication'
)
