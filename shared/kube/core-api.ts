/** The core group and EndpointSlices, with the fields that the mesh uses. Source: Kubernetes API reference. */
import {
  type Condition,
  coreType,
  type KubeObject,
  type Labels,
  namedType,
  type ResourceType
} from './object.ts'

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
  readonly state?: ContainerStates
  /** How the run before this one ended. */
  readonly lastState?: ContainerStates
}

/** Of `waiting`, `running` and `terminated` the one that holds. */
export type ContainerStates = Readonly<
  Record<
    string,
    {
      readonly reason?: string
      readonly message?: string
      readonly startedAt?: string
      readonly exitCode?: number
    }
  >
>

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

export const namespaces: ResourceType<Namespace> = coreType('namespaces', 'Namespace', false)
export const nodes: ResourceType<Node> = coreType('nodes', 'Node', false)
export const pods: ResourceType<Pod> = coreType('pods', 'Pod')
export const services: ResourceType<Service> = coreType('services', 'Service')
export const configMaps: ResourceType<ConfigMap> = coreType('configmaps', 'ConfigMap')
export const secrets: ResourceType<Secret> = coreType('secrets', 'Secret')
export const serviceAccounts: ResourceType<ServiceAccount> = coreType('serviceaccounts', 'ServiceAccount')
export const events: ResourceType<Event> = coreType('events', 'Event')
export const endpointSlices: ResourceType<EndpointSlice> = namedType(
  'discovery.k8s.io',
  'v1',
  'EndpointSlice'
)
