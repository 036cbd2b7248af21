/** ReplicaSet: as many pods as it says. */
import type { ObjectAccess } from '../api-store/object-access.ts'
import { isReady, labPods, refOf, replicaSets } from '../kinds.ts'
import { adoptPods, byUselessness, createPod, livePods, podsOf } from './pods-of.ts'
import { itself, ownerOf, refOfKey, type Controller } from './reconciler.ts'
import { writeStatus } from './write-status.ts'

export const replicaSetController: Controller = {
  name: 'replica-set',
  watches: [itself(replicaSets), ownerOf(labPods, 'ReplicaSet')],
  reconcile
}

function reconcile(objects: ObjectAccess, key: string): void {
  const set = objects.get(replicaSets, refOfKey(key))
  if (set === undefined || set.metadata.deletionTimestamp !== undefined) return
  const { replicas = 1, selector, template } = set.spec ?? {}
  adoptPods(objects, set, selector)
  const pods = livePods(podsOf(objects, set))
  for (let missing = replicas - pods.length; missing > 0; missing -= 1) createPod(objects, set, template)
  for (const pod of pods.toSorted(byUselessness).slice(0, Math.max(0, pods.length - replicas))) {
    objects.delete(labPods, refOf(pod))
  }
  const now = livePods(podsOf(objects, set))
  const ready = now.filter(isReady).length
  writeStatus(objects, replicaSets, set, {
    replicas: now.length,
    fullyLabeledReplicas: now.length,
    readyReplicas: ready,
    availableReplicas: ready
  })
}
