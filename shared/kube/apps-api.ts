/** Controllers of pods, with the fields that the mesh uses. Source: Kubernetes API reference, apps/v1. */
import type { Pod } from './core-api.ts'
import {
  type Condition,
  type KubeObject,
  type Labels,
  type LabelSelector,
  namedType,
  type ResourceType
} from './object.ts'

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
    readonly observedGeneration?: number
    readonly replicas?: number
    readonly readyReplicas?: number
    readonly updatedReplicas?: number
    readonly availableReplicas?: number
    readonly conditions?: readonly Condition[]
  }
}

export interface DaemonSet extends KubeObject {
  readonly spec?: { readonly selector?: LabelSelector; readonly template?: PodTemplate }
  readonly status?: {
    readonly observedGeneration?: number
    readonly desiredNumberScheduled?: number
    readonly updatedNumberScheduled?: number
    readonly numberAvailable?: number
    readonly numberReady?: number
    readonly numberUnavailable?: number
  }
}

export const deployments: ResourceType<Deployment> = namedType('apps', 'v1', 'Deployment')
export const daemonSets: ResourceType<DaemonSet> = namedType('apps', 'v1', 'DaemonSet')
