/**
 * The messages of the Workload API as they are written, with enums by name; `shared/xds/schema.ts` encodes
 * them. What has its default is left out, so that equal meaning gives equal bytes.
 * Source: Istio's published `workload.proto` and `authorization.proto`.
 */
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import type { ConfigKind } from '../cluster/objects.ts'

export interface NetworkAddressMessage {
  readonly network?: string
  readonly address: Uint8Array
  readonly length?: number
}

export interface GatewayAddressMessage {
  readonly hostname?: { readonly namespace: string; readonly hostname: string }
  readonly address?: NetworkAddressMessage
  readonly hboneMtlsPort: number
}

export interface PortMessage {
  readonly servicePort: number
  readonly targetPort?: number
  readonly appProtocol?: AppProtocol
}

export type AppProtocol = 'HTTP11' | 'HTTP2' | 'GRPC' | 'TCP' | 'TLS'

export interface LocalityMessage {
  readonly region: string
  readonly zone: string
  readonly subzone: string
}

export interface WorkloadMessage {
  readonly uid: string
  readonly name: string
  readonly namespace: string
  readonly addresses?: readonly Uint8Array[]
  readonly hostname?: string
  readonly network?: string
  readonly tunnelProtocol?: 'HBONE'
  readonly trustDomain?: string
  readonly serviceAccount?: string
  readonly waypoint?: GatewayAddressMessage
  readonly node?: string
  readonly canonicalName?: string
  readonly canonicalRevision?: string
  readonly workloadType?: 'POD'
  readonly workloadName?: string
  readonly nativeTunnel?: boolean
  readonly authorizationPolicies?: readonly string[]
  readonly status?: 'UNHEALTHY'
  readonly clusterId?: string
  readonly services?: Readonly<Record<string, { readonly ports: readonly PortMessage[] }>>
  readonly applicationTunnel?: { readonly protocol?: 'PROXY'; readonly port?: number }
  readonly locality?: LocalityMessage
  readonly networkMode?: 'HOST_NETWORK'
  readonly extensions?: readonly ExtensionMessage[]
  readonly capacity?: { readonly value: number }
}

export type RoutingScope = 'REGION' | 'ZONE' | 'SUBZONE' | 'NODE' | 'CLUSTER' | 'NETWORK'

export interface LoadBalancingMessage {
  readonly routingPreference?: readonly RoutingScope[]
  readonly mode?: 'STRICT' | 'FAILOVER' | 'PASSTHROUGH'
  readonly healthPolicy?: 'ALLOW_ALL'
}

export interface ServiceMessage {
  readonly name: string
  readonly namespace: string
  readonly hostname: string
  readonly addresses?: readonly NetworkAddressMessage[]
  readonly ports?: readonly PortMessage[]
  readonly subjectAltNames?: readonly string[]
  readonly waypoint?: GatewayAddressMessage
  readonly loadBalancing?: LoadBalancingMessage
  readonly ipFamilies?: 'IPV4_ONLY' | 'IPV6_ONLY' | 'DUAL'
  readonly extensions?: readonly ExtensionMessage[]
  readonly canonical?: boolean
  readonly ingressUseWaypoint?: boolean
  readonly weightedWaypoints?: readonly {
    readonly destination: GatewayAddressMessage
    readonly weight: number
  }[]
  readonly visibility?: 'NAMESPACE'
}

export interface ExtensionMessage {
  readonly name: string
  readonly config: { readonly type_url: string; readonly value: Uint8Array }
}

export interface StringMatchMessage {
  readonly exact?: string
  readonly prefix?: string
  readonly suffix?: string
  readonly presence?: Readonly<Record<string, never>>
}

export interface BlockMessage {
  readonly address: Uint8Array
  readonly length: number
}

export interface ServiceAccountMatchMessage {
  readonly namespace: string
  readonly serviceAccount: string
}

export interface MatchMessage {
  readonly namespaces?: readonly StringMatchMessage[]
  readonly notNamespaces?: readonly StringMatchMessage[]
  readonly principals?: readonly StringMatchMessage[]
  readonly notPrincipals?: readonly StringMatchMessage[]
  readonly sourceIps?: readonly BlockMessage[]
  readonly notSourceIps?: readonly BlockMessage[]
  readonly destinationIps?: readonly BlockMessage[]
  readonly notDestinationIps?: readonly BlockMessage[]
  readonly destinationPorts?: readonly number[]
  readonly notDestinationPorts?: readonly number[]
  readonly serviceAccounts?: readonly ServiceAccountMatchMessage[]
  readonly notServiceAccounts?: readonly ServiceAccountMatchMessage[]
}

export interface ClauseMessage {
  readonly matches: readonly MatchMessage[]
}

/** The clauses of a rule are joined by AND, its matches by OR; a rule without clauses matches everything. */
export interface RuleMessage {
  readonly clauses?: readonly ClauseMessage[]
}

export interface AuthorizationMessage {
  readonly name: string
  readonly namespace: string
  readonly scope?: 'NAMESPACE' | 'WORKLOAD_SELECTOR'
  readonly action?: 'DENY'
  readonly rules?: readonly RuleMessage[]
  readonly dryRun?: boolean
}

/** Whom a resource is for: a waypoint, by its address, or a gateway, by its Gateway (`namespace/name`). */
export type Recipient = GatewayAddressMessage | { readonly gateway: string }

/** An object that waypoints and gateways carry out themselves. */
export interface ConfigMessage {
  readonly kind: ConfigKind
  readonly message: ConfigResource
  /** Who has to know it. */
  readonly waypoints: readonly Recipient[]
}
