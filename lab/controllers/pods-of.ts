/** Pods of a controller object: which there are, how a new one is made, which one goes first. */
import { matches } from '../../shared/kube/label-selector.ts'
import type { KubeObject, LabelSelector } from '../../shared/kube/object.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import {
  isFinished,
  isOwnedBy,
  isReady,
  labPods,
  namespaceOf,
  ownerReference,
  type LabPod,
  type LabPodTemplate
} from '../kinds.ts'

/** The pods that an object owns, those that are being deleted included. */
export function podsOf(objects: ObjectAccess, owner: KubeObject): readonly LabPod[] {
  return objects.list(labPods, { namespace: namespaceOf(owner) }).filter(pod => isOwnedBy(pod, owner))
}

/** Pods that are neither finished nor on their way out. */
export function livePods(pods: readonly LabPod[]): readonly LabPod[] {
  return pods.filter(pod => pod.metadata.deletionTimestamp === undefined && !isFinished(pod))
}

/** Takes over pods that the selector matches and nobody owns, as Kubernetes does. */
export function adoptPods(
  objects: ObjectAccess,
  owner: KubeObject,
  selector: LabelSelector | undefined
): void {
  if (selector === undefined) return
  for (const pod of objects.list(labPods, { namespace: namespaceOf(owner) })) {
    const { ownerReferences = [], deletionTimestamp, labels = {} } = pod.metadata
    const owned = ownerReferences.some(({ controller }) => controller === true)
    if (owned || deletionTimestamp !== undefined || !matches(selector, labels)) continue
    objects.edit(labPods, { namespace: namespaceOf(pod), name: pod.metadata.name }, current => ({
      ...current,
      metadata: { ...current.metadata, ownerReferences: [...ownerReferences, ownerReference(owner)] }
    }))
  }
}

export interface PodIdentity {
  readonly name?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly hostname?: string
  readonly subdomain?: string
  readonly nodeName?: string
}

export function createPod(
  objects: ObjectAccess,
  owner: KubeObject,
  template: LabPodTemplate | undefined,
  { name, labels = {}, ...spec }: PodIdentity = {}
): void {
  objects.create(labPods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...(name === undefined ? { name: '', generateName: `${owner.metadata.name}-` } : { name }),
      namespace: namespaceOf(owner),
      labels: { ...template?.metadata?.labels, ...labels },
      ...(template?.metadata?.annotations === undefined
        ? {}
        : { annotations: template.metadata.annotations }),
      ownerReferences: [ownerReference(owner)]
    },
    spec: { ...template?.spec, ...spec }
  })
}

/** In the order in which a ReplicaSet lets them go: not bound, not ready, youngest first. */
export function byUselessness(a: LabPod, b: LabPod): number {
  const rank = (pod: LabPod): number => (pod.spec?.nodeName === undefined ? 0 : isReady(pod) ? 2 : 1)
  const age = (pod: LabPod): string => pod.metadata.creationTimestamp ?? ''
  return rank(a) - rank(b) || age(b).localeCompare(age(a)) || b.metadata.name.localeCompare(a.metadata.name)
}

/** Eight characters that tell pod templates apart, in the alphabet of Kubernetes' own. */
export function templateHash(template: LabPodTemplate | undefined): string {
  // FNV-1a, 32 bits, twice over.
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(JSON.stringify(sorted(template))))
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  const alphabet = 'bcdfghjklmnpqrstvwxz2456789'
  let text = ''
  for (let left = hash; text.length < 8; left = Math.imul(left ^ text.length, 0x01000193) >>> 0) {
    text += alphabet[left % alphabet.length]
  }
  return text
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => a.localeCompare(b))
      .map(([key, inner]) => [key, sorted(inner)])
  )
}
