/** The parts of Kubernetes objects that the lab's controllers and kubelet act on, beyond those the mesh reads. */
import type { ContainerPort, Pod } from '../shared/kube/core-api.ts'
import type { Condition, KubeObject, Labels, LabelSelector, ResourceType } from '../shared/kube/object.ts'

export interface EnvironmentVariable {
  readonly name: string
  readonly value?: string
  readonly valueFrom?: {
    readonly fieldRef?: { readonly fieldPath: string }
    readonly resourceFieldRef?: {
      readonly containerName?: string
      readonly resource: string
      readonly divisor?: string
    }
    readonly configMapKeyRef?: KeyReference
    readonly secretKeyRef?: KeyReference
  }
}

export interface KeyReference {
  readonly name: string
  readonly key: string
  readonly optional?: boolean
}

export interface NameReference {
  readonly name: string
  readonly optional?: boolean
}

export interface VolumeMount {
  readonly name: string
  readonly mountPath: string
  readonly subPath?: string
  readonly readOnly?: boolean
  readonly mountPropagation?: string
}

export interface KeyToPath {
  readonly key: string
  readonly path: string
}

export interface DownwardFile {
  readonly path: string
  readonly fieldRef?: { readonly fieldPath: string }
}

export interface ProjectedSource {
  readonly serviceAccountToken?: {
    readonly path: string
    readonly audience?: string
    readonly expirationSeconds?: number
  }
  readonly configMap?: NameReference & { readonly items?: readonly KeyToPath[] }
  readonly secret?: NameReference & { readonly items?: readonly KeyToPath[] }
  readonly downwardAPI?: { readonly items?: readonly DownwardFile[] }
}

export interface Volume {
  readonly name: string
  readonly emptyDir?: { readonly medium?: string }
  readonly hostPath?: { readonly path: string; readonly type?: string }
  readonly configMap?: NameReference & { readonly items?: readonly KeyToPath[] }
  readonly secret?: {
    readonly secretName: string
    readonly optional?: boolean
    readonly items?: readonly KeyToPath[]
  }
  readonly downwardAPI?: { readonly items?: readonly DownwardFile[] }
  readonly projected?: { readonly sources?: readonly ProjectedSource[] }
}

export interface Probe {
  readonly httpGet?: {
    readonly path?: string
    readonly port: number | string
    readonly host?: string
    readonly scheme?: 'HTTP' | 'HTTPS'
    readonly httpHeaders?: readonly { readonly name: string; readonly value: string }[]
  }
  readonly tcpSocket?: { readonly port: number | string; readonly host?: string }
  readonly grpc?: { readonly port: number; readonly service?: string }
  readonly exec?: { readonly command?: readonly string[] }
  readonly initialDelaySeconds?: number
  readonly periodSeconds?: number
  readonly timeoutSeconds?: number
  readonly successThreshold?: number
  readonly failureThreshold?: number
}

export interface LabContainer {
  readonly name: string
  readonly image?: string
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly workingDir?: string
  readonly ports?: readonly ContainerPort[]
  readonly env?: readonly EnvironmentVariable[]
  readonly envFrom?: readonly {
    readonly prefix?: string
    readonly configMapRef?: NameReference
    readonly secretRef?: NameReference
  }[]
  readonly volumeMounts?: readonly VolumeMount[]
  readonly readinessProbe?: Probe
  readonly livenessProbe?: Probe
  readonly startupProbe?: Probe
  readonly restartPolicy?: string
  readonly resources?: {
    readonly limits?: Labels
    readonly requests?: Labels
  }
}

export interface LabPodSpec {
  readonly nodeName?: string
  readonly nodeSelector?: Labels
  readonly containers?: readonly LabContainer[]
  readonly initContainers?: readonly LabContainer[]
  readonly volumes?: readonly Volume[]
  readonly serviceAccountName?: string
  readonly automountServiceAccountToken?: boolean
  readonly enableServiceLinks?: boolean
  readonly hostNetwork?: boolean
  readonly hostPID?: boolean
  readonly hostname?: string
  readonly subdomain?: string
  readonly dnsPolicy?: string
  readonly dnsConfig?: {
    readonly nameservers?: readonly string[]
    readonly searches?: readonly string[]
    readonly options?: readonly { readonly name: string; readonly value?: string }[]
  }
  readonly hostAliases?: readonly { readonly ip: string; readonly hostnames?: readonly string[] }[]
  readonly restartPolicy?: 'Always' | 'OnFailure' | 'Never'
  readonly terminationGracePeriodSeconds?: number
  readonly readinessGates?: readonly { readonly conditionType: string }[]
}

export interface ContainerState {
  readonly waiting?: { readonly reason: string; readonly message?: string }
  readonly running?: { readonly startedAt: string }
  readonly terminated?: {
    readonly exitCode: number
    readonly reason: string
    readonly startedAt: string
    readonly finishedAt: string
  }
}

export interface LabContainerStatus {
  readonly name: string
  readonly image: string
  /** Says what really runs, such as `underpass.dev/stand-in`. */
  readonly imageID: string
  readonly containerID?: string
  readonly ready: boolean
  readonly started: boolean
  readonly restartCount: number
  readonly state: ContainerState
  readonly lastState: ContainerState
}

export interface LabPodStatus {
  readonly phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'
  readonly reason?: string
  readonly message?: string
  readonly podIP?: string
  readonly podIPs?: readonly { readonly ip: string }[]
  readonly hostIP?: string
  readonly hostIPs?: readonly { readonly ip: string }[]
  readonly startTime?: string
  readonly qosClass?: string
  readonly conditions?: readonly Condition[]
  readonly containerStatuses?: readonly LabContainerStatus[]
  readonly initContainerStatuses?: readonly LabContainerStatus[]
}

export interface LabPod extends KubeObject {
  readonly metadata: Pod['metadata'] & { readonly deletionGracePeriodSeconds?: number }
  readonly spec?: LabPodSpec
  readonly status?: LabPodStatus
}

export interface LabPodTemplate {
  readonly metadata?: { readonly labels?: Labels; readonly annotations?: Labels }
  readonly spec?: LabPodSpec
}

export interface LabDeployment extends KubeObject {
  readonly spec?: {
    readonly replicas?: number
    readonly selector?: LabelSelector
    readonly template?: LabPodTemplate
    readonly paused?: boolean
    readonly revisionHistoryLimit?: number
    readonly strategy?: {
      readonly type?: 'RollingUpdate' | 'Recreate'
      readonly rollingUpdate?: {
        readonly maxSurge?: number | string
        readonly maxUnavailable?: number | string
      }
    }
  }
  readonly status?: WorkloadStatus & { readonly conditions?: readonly Condition[] }
}

export interface WorkloadStatus {
  readonly observedGeneration?: number
  readonly replicas?: number
  readonly readyReplicas?: number
  readonly availableReplicas?: number
  readonly updatedReplicas?: number
  readonly unavailableReplicas?: number
  readonly fullyLabeledReplicas?: number
  readonly currentReplicas?: number
  readonly currentRevision?: string
  readonly updateRevision?: string
  readonly collisionCount?: number
}

export interface ReplicaSet extends KubeObject {
  readonly spec?: {
    readonly replicas?: number
    readonly selector?: LabelSelector
    readonly template?: LabPodTemplate
  }
  readonly status?: WorkloadStatus
}

export interface StatefulSet extends KubeObject {
  readonly spec?: {
    readonly replicas?: number
    readonly serviceName?: string
    readonly selector?: LabelSelector
    readonly template?: LabPodTemplate
    readonly podManagementPolicy?: 'OrderedReady' | 'Parallel'
    readonly volumeClaimTemplates?: readonly { readonly metadata?: { readonly name?: string } }[]
  }
  readonly status?: WorkloadStatus
}

export interface LabDaemonSet extends KubeObject {
  readonly spec?: { readonly selector?: LabelSelector; readonly template?: LabPodTemplate }
  readonly status?: {
    readonly currentNumberScheduled?: number
    readonly desiredNumberScheduled?: number
    readonly numberAvailable?: number
    readonly numberMisscheduled?: number
    readonly numberReady?: number
    readonly numberUnavailable?: number
    readonly updatedNumberScheduled?: number
    readonly observedGeneration?: number
  }
}

export interface Job extends KubeObject {
  readonly spec?: {
    readonly parallelism?: number
    readonly completions?: number
    readonly backoffLimit?: number
    readonly suspend?: boolean
    readonly selector?: LabelSelector
    readonly template?: LabPodTemplate
  }
  readonly status?: {
    readonly active?: number
    readonly succeeded?: number
    readonly failed?: number
    readonly ready?: number
    readonly startTime?: string
    readonly completionTime?: string
    readonly conditions?: readonly Condition[]
  }
}

export const labPods: ResourceType<LabPod> = core('pods', 'Pod')
export const labDeployments: ResourceType<LabDeployment> = group('apps', 'deployments', 'Deployment')
export const replicaSets: ResourceType<ReplicaSet> = group('apps', 'replicasets', 'ReplicaSet')
export const statefulSets: ResourceType<StatefulSet> = group('apps', 'statefulsets', 'StatefulSet')
export const labDaemonSets: ResourceType<LabDaemonSet> = group('apps', 'daemonsets', 'DaemonSet')
export const jobs: ResourceType<Job> = group('batch', 'jobs', 'Job')

/** The namespace of an object of a kind that has them. */
export function namespaceOf(object: KubeObject): string {
  return object.metadata.namespace ?? ''
}

export function refOf(object: KubeObject): { namespace: string | undefined; name: string } {
  return { namespace: object.metadata.namespace, name: object.metadata.name }
}

export function isOwnedBy(object: KubeObject, owner: KubeObject): boolean {
  const { ownerReferences = [] } = object.metadata
  return ownerReferences.some(({ uid, controller }) => controller === true && uid === owner.metadata.uid)
}

export function ownerReference(
  owner: KubeObject
): NonNullable<KubeObject['metadata']['ownerReferences']>[number] {
  const { apiVersion, kind, metadata } = owner
  return {
    apiVersion,
    kind,
    name: metadata.name,
    uid: metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true
  }
}

export function isReady(pod: LabPod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false
}

export function isFinished(pod: LabPod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
}

/** Seconds resolution, as Kubernetes writes times. */
export function kubeTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}

function core<T extends KubeObject>(plural: string, kind: string): ResourceType<T> {
  return { group: '', version: 'v1', plural, kind, namespaced: true }
}

function group<T extends KubeObject>(name: string, plural: string, kind: string): ResourceType<T> {
  return { group: name, version: 'v1', plural, kind, namespaced: true }
}
