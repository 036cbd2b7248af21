/** The scheduler: binds every new pod to the fitting node that has the fewest pods. */
import { nodes, type Node } from '../../shared/kube/core-api.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import { isFinished, labPods, type LabPod, type LabPodSpec } from '../kinds.ts'
import { itself, keyOf, refOfKey, type Controller } from './reconciler.ts'

/** Binds a pod, as a POST to its sub-resource `binding` does. */
export type Bind = (pod: { readonly namespace: string; readonly name: string }, node: string) => Promise<void>

export function scheduler(bind: Bind): Controller {
  // One after the other: each decision counts the pods that the former ones bound.
  let last: Promise<void> = Promise.resolve()
  return {
    name: 'scheduler',
    watches: [
      itself(labPods),
      { type: nodes, keysOf: (_, objects) => objects.list(labPods).filter(isUnbound).map(keyOf) }
    ],
    reconcile: (objects, key) => {
      const mine = last.then(() => schedule(objects, refOfKey(key), bind))
      last = mine.catch(() => undefined /* Whoever asked is told and tries again. */)
      return mine
    }
  }
}

async function schedule(
  objects: ObjectAccess,
  ref: { readonly namespace: string; readonly name: string },
  bind: Bind
): Promise<void> {
  const pod = objects.get(labPods, ref)
  if (pod === undefined || !isUnbound(pod)) return
  const node = chooseNode(pod, objects.list(nodes), objects.list(labPods))
  if (node === undefined) explain(objects, pod)
  else await bind(ref, node)
}

function isUnbound(pod: LabPod): boolean {
  return (pod.spec?.nodeName ?? '') === '' && pod.metadata.deletionTimestamp === undefined
}

/** Spreads the pods of one owner first, then all pods; undefined when no node fits. */
export function chooseNode(
  pod: LabPod,
  candidates: readonly Node[],
  pods: readonly LabPod[]
): string | undefined {
  const owner = pod.metadata.ownerReferences?.[0]?.uid
  const load = (node: Node): [siblings: number, all: number] => {
    const here = pods.filter(other => other.spec?.nodeName === node.metadata.name && !isFinished(other))
    const siblings = here.filter(
      other => owner !== undefined && other.metadata.ownerReferences?.[0]?.uid === owner
    )
    return [siblings.length, here.length]
  }
  const ranked = candidates
    .filter(node => node.spec?.unschedulable !== true && fitsNode(pod.spec, node))
    .map(node => ({ name: node.metadata.name, load: load(node) }))
    .toSorted(
      (a, b) =>
        a.load[0] - b.load[0] ||
        a.load[1] - b.load[1] ||
        a.name.localeCompare(b.name, 'en', { numeric: true })
    )
  return ranked[0]?.name
}

/** Whether the node has the labels that the pod selects. */
export function fitsNode(spec: LabPodSpec | undefined, { metadata }: Node): boolean {
  return Object.entries(spec?.nodeSelector ?? {}).every(([key, value]) => metadata.labels?.[key] === value)
}

function explain(objects: ObjectAccess, pod: LabPod): void {
  const condition = {
    type: 'PodScheduled',
    status: 'False' as const,
    reason: 'Unschedulable',
    message: 'no node of the lab has the labels that the pod selects, or all are cordoned'
  }
  if (pod.status?.conditions?.some(({ type }) => type === 'PodScheduled')) return
  objects.edit(
    labPods,
    { namespace: pod.metadata.namespace, name: pod.metadata.name },
    current => ({
      ...current,
      status: { ...current.status, conditions: [...(current.status?.conditions ?? []), condition] }
    }),
    { subresource: 'status', fieldManager: 'kube-scheduler' }
  )
}
