/** StatefulSet: pods with names that stay, made one after the other (or all at once where it says so). */
import type { ObjectAccess } from '../api-store/object-access.ts'
import { isFinished, isReady, labPods, refOf, statefulSets, type LabPod } from '../kinds.ts'
import { createPod, podsOf, templateHash } from './pods-of.ts'
import { itself, ownerOf, refOfKey, type Controller } from './reconciler.ts'
import { writeStatus } from './write-status.ts'

const revisionLabel = 'controller-revision-hash'

export const statefulSetController: Controller = {
  name: 'stateful-set',
  watches: [itself(statefulSets), ownerOf(labPods, 'StatefulSet')],
  reconcile
}

function reconcile(objects: ObjectAccess, key: string): void {
  const set = objects.get(statefulSets, refOfKey(key))
  if (set === undefined || set.metadata.deletionTimestamp !== undefined) return
  const { replicas = 1, serviceName, template, podManagementPolicy } = set.spec ?? {}
  const name = set.metadata.name
  const revision = `${name}-${templateHash(template)}`
  const pods = podsOf(objects, set)
  let settled = true
  for (let ordinal = 0; ordinal < replicas; ordinal += 1) {
    if (!settled && podManagementPolicy !== 'Parallel') break
    const pod = pods.find(candidate => candidate.metadata.name === `${name}-${ordinal}`)
    if (pod === undefined) {
      createPod(objects, set, template, {
        name: `${name}-${ordinal}`,
        hostname: `${name}-${ordinal}`,
        ...(serviceName === undefined || serviceName === '' ? {} : { subdomain: serviceName }),
        labels: {
          'statefulset.kubernetes.io/pod-name': `${name}-${ordinal}`,
          'apps.kubernetes.io/pod-index': String(ordinal),
          [revisionLabel]: revision
        }
      })
    } else if (isFinished(pod)) remove(objects, pod)
    settled = pod !== undefined && isReady(pod)
  }
  shrink(objects, pods, name, replicas)
  if (settled) replaceOld(objects, pods, name, replicas, revision)
  const now = podsOf(objects, set)
  const ready = now.filter(isReady).length
  const updated = now.filter(pod => pod.metadata.labels?.[revisionLabel] === revision).length
  writeStatus(objects, statefulSets, set, {
    replicas: now.length,
    readyReplicas: ready,
    availableReplicas: ready,
    currentReplicas: updated,
    updatedReplicas: updated,
    currentRevision: updated === now.length ? revision : (set.status?.currentRevision ?? revision),
    updateRevision: revision,
    collisionCount: 0
  })
}

/** From the highest number down, one at a time. */
function shrink(objects: ObjectAccess, pods: readonly LabPod[], name: string, replicas: number): void {
  const surplus = pods
    .map(pod => ({ pod, ordinal: ordinalOf(pod, name) }))
    .filter(({ ordinal }) => ordinal >= replicas)
    .toSorted((a, b) => b.ordinal - a.ordinal)
  if (surplus[0] !== undefined) remove(objects, surplus[0].pod)
}

/** A pod of a former template goes when all the others are ready, the highest number first. */
function replaceOld(
  objects: ObjectAccess,
  pods: readonly LabPod[],
  name: string,
  replicas: number,
  revision: string
): void {
  const own = pods.filter(pod => ordinalOf(pod, name) < replicas)
  if (own.some(pod => !isReady(pod) || pod.metadata.deletionTimestamp !== undefined)) return
  const [last] = own
    .filter(pod => pod.metadata.labels?.[revisionLabel] !== revision)
    .toSorted((a, b) => ordinalOf(b, name) - ordinalOf(a, name))
  if (last !== undefined) remove(objects, last)
}

function remove(objects: ObjectAccess, pod: LabPod): void {
  if (pod.metadata.deletionTimestamp === undefined) objects.delete(labPods, refOf(pod))
}

function ordinalOf(pod: LabPod, name: string): number {
  return Number(pod.metadata.name.slice(name.length + 1))
}
