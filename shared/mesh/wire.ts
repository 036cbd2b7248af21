/** The Workload API's messages as `shared/xds/schema.ts` decodes them: lists and maps always there, the rest when set. */

export interface WireAddress {
  readonly workload?: WireWorkload
  readonly service?: WireService
}

export interface WireNetworkAddress {
  readonly network?: string
  readonly address?: Uint8Array
  readonly length?: number
}

export interface WireGatewayAddress {
  readonly hostname?: { readonly namespace?: string; readonly hostname?: string }
  readonly address?: WireNetworkAddress
  readonly hboneMtlsPort?: number
}

export interface WirePort {
  readonly servicePort?: number
  readonly targetPort?: number
  readonly appProtocol?: number
}

export interface WireWorkload {
  readonly uid?: string
  readonly name?: string
  readonly namespace?: string
  readonly addresses: readonly Uint8Array[]
  readonly hostname?: string
  readonly network?: string
  readonly tunnelProtocol?: number
  readonly trustDomain?: string
  readonly serviceAccount?: string
  readonly waypoint?: WireGatewayAddress
  readonly networkGateway?: WireGatewayAddress
  readonly node?: string
  readonly canonicalName?: string
  readonly canonicalRevision?: string
  readonly workloadType?: number
  readonly workloadName?: string
  readonly nativeTunnel?: boolean
  readonly applicationTunnel?: { readonly protocol?: number; readonly port?: number }
  readonly services: Readonly<Record<string, { readonly ports: readonly WirePort[] }>>
  readonly authorizationPolicies: readonly string[]
  readonly status?: number
  readonly clusterId?: string
  readonly locality?: { readonly region?: string; readonly zone?: string; readonly subzone?: string }
  readonly networkMode?: number
  readonly extensions: readonly WireExtension[]
  readonly capacity?: { readonly value?: number }
}

export interface WireExtension {
  readonly name?: string
  readonly config?: { readonly value?: Uint8Array }
}

export interface WireLoadBalancing {
  readonly routingPreference: readonly number[]
  readonly mode?: number
  readonly healthPolicy?: number
}

export interface WireService {
  readonly name?: string
  readonly namespace?: string
  readonly hostname?: string
  readonly addresses: readonly WireNetworkAddress[]
  readonly ports: readonly WirePort[]
  readonly subjectAltNames: readonly string[]
  readonly waypoint?: WireGatewayAddress
  readonly loadBalancing?: WireLoadBalancing
  readonly ipFamilies?: number
  readonly extensions: readonly WireExtension[]
  readonly canonical?: boolean
  readonly weightedWaypoints: readonly {
    readonly destination?: WireGatewayAddress
    readonly weight?: number
  }[]
  readonly visibility?: number
  readonly ingressUseWaypoint?: boolean
}

/** google.protobuf.Struct, as far as extensions use it. */
export interface WireStruct {
  readonly fields: Readonly<
    Record<
      string,
      { readonly numberValue?: number; readonly stringValue?: string; readonly boolValue?: boolean }
    >
  >
}

export interface WireAuthorization {
  readonly name?: string
  readonly namespace?: string
  readonly scope?: number
  readonly action?: number
  readonly rules: readonly { readonly clauses: readonly { readonly matches: readonly WireMatch[] }[] }[]
  readonly dryRun?: boolean
}

export interface WireStringMatch {
  readonly exact?: string
  readonly prefix?: string
  readonly suffix?: string
  readonly presence?: object
}

export interface WireBlock {
  readonly address?: Uint8Array
  readonly length?: number
}

export interface WireServiceAccountMatch {
  readonly namespace?: string
  readonly serviceAccount?: string
}

export interface WireMatch {
  readonly namespaces: readonly WireStringMatch[]
  readonly notNamespaces: readonly WireStringMatch[]
  readonly principals: readonly WireStringMatch[]
  readonly notPrincipals: readonly WireStringMatch[]
  readonly sourceIps: readonly WireBlock[]
  readonly notSourceIps: readonly WireBlock[]
  readonly destinationIps: readonly WireBlock[]
  readonly notDestinationIps: readonly WireBlock[]
  readonly destinationPorts: readonly number[]
  readonly notDestinationPorts: readonly number[]
  readonly serviceAccounts: readonly WireServiceAccountMatch[]
  readonly notServiceAccounts: readonly WireServiceAccountMatch[]
}
