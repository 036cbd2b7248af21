/** NetworkPolicies, with the fields that the mesh reads. Source: Kubernetes API reference. */
import { type KubeObject, type LabelSelector, namedType, type ResourceType } from './object.ts'

export interface NetworkPolicyPort {
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP'
  /** A number, or the name of a container's port. */
  readonly port?: number | string
  readonly endPort?: number
}

export interface NetworkPolicyPeer {
  readonly podSelector?: LabelSelector
  readonly namespaceSelector?: LabelSelector
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] }
}

export interface NetworkPolicy extends KubeObject {
  readonly spec?: {
    readonly podSelector?: LabelSelector
    readonly policyTypes?: readonly ('Ingress' | 'Egress')[]
    readonly ingress?: readonly {
      readonly ports?: readonly NetworkPolicyPort[]
      readonly from?: readonly NetworkPolicyPeer[]
    }[]
    readonly egress?: readonly {
      readonly ports?: readonly NetworkPolicyPort[]
      readonly to?: readonly NetworkPolicyPeer[]
    }[]
  }
}

export const networkPolicies: ResourceType<NetworkPolicy> = {
  ...namedType<NetworkPolicy>('networking.k8s.io', 'v1', 'NetworkPolicy'),
  plural: 'networkpolicies'
}
