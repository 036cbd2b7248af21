/** DaemonSet: one pod on every node. */
import { nodes } from '../../shared/kube/core-api.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import { isFinished, isReady, labDaemonSets, labPods, refOf, type LabPod } from '../kinds.ts'
import { createPod, podsOf, templateHash } from './pods-of.ts'
import { itself, keyOf, ownerOf, refOfKey, type Controller } from './reconciler.ts'
import { fitsNode } from './scheduler.ts'
import { writeStatus } from './write-status.ts'

const revisionLabel = 'controller-revision-hash'

export const daemonSetController: Controller = {
  name: 'daemon-set',
  watches: [
    itself(labDaemonSets),
    ownerOf(labPods, 'DaemonSet'),
    { type: nodes, keysOf: (_, objects) => objects.list(labDaemonSets).map(keyOf) }
  ],
  reconcile
}

function reconcile(objects: ObjectAccess, key: string): void {
  const set = objects.get(labDaemonSets, refOfKey(key))
  if (set === undefined || set.metadata.deletionTimestamp !== undefined) return
  const { template } = set.spec ?? {}
  const revision = templateHash(template)
  const wanted = objects.list(nodes).filter(node => fitsNode(template?.spec, node))
  const pods = podsOf(objects, set)
  for (const node of wanted) {
    const own = pods.filter(pod => pod.spec?.nodeName === node.metadata.name)
    for (const pod of own.filter(isFinished)) remove(objects, pod)
    if (own.length === 0) {
      createPod(objects, set, template, {
        nodeName: node.metadata.name,
        labels: { [revisionLabel]: revision }
      })
    }
  }
  for (const pod of pods) {
    if (wanted.every(node => node.metadata.name !== pod.spec?.nodeName)) remove(objects, pod)
  }
  // A new template replaces one pod at a time, when all are ready.
  const old = pods.filter(pod => pod.metadata.labels?.[revisionLabel] !== revision)
  if (old[0] !== undefined && pods.every(pod => isReady(pod) || old.includes(pod))) {
    const broken = old.find(pod => !isReady(pod))
    remove(objects, broken ?? old[0])
  }
  const now = podsOf(objects, set).filter(pod => pod.metadata.deletionTimestamp === undefined)
  const ready = now.filter(isReady).length
  writeStatus(objects, labDaemonSets, set, {
    currentNumberScheduled: now.length,
    desiredNumberScheduled: wanted.length,
    numberMisscheduled: 0,
    numberReady: ready,
    numberAvailable: ready,
    numberUnavailable: wanted.length - ready,
    updatedNumberScheduled: now.filter(pod => pod.metadata.labels?.[revisionLabel] === revision).length
  })
}

function remove(objects: ObjectAccess, pod: LabPod): void {
  if (pod.metadata.deletionTimestamp === undefined) objects.delete(labPods, refOf(pod))
}
