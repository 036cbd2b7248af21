/** Deployment: one ReplicaSet a pod template, replaced step by step when the template changes. */
import type { Condition } from '../../shared/kube/object.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import {
  isOwnedBy,
  kubeTime,
  labDeployments,
  namespaceOf,
  ownerReference,
  refOf,
  replicaSets,
  type LabDeployment,
  type ReplicaSet
} from '../kinds.ts'
import { templateHash } from './pods-of.ts'
import { itself, ownerOf, refOfKey, type Controller } from './reconciler.ts'
import { writeStatus } from './write-status.ts'

const hashLabel = 'pod-template-hash'
const revisionAnnotation = 'deployment.kubernetes.io/revision'

export const deploymentController: Controller = {
  name: 'deployment',
  watches: [itself(labDeployments), ownerOf(replicaSets, 'Deployment')],
  reconcile
}

function reconcile(objects: ObjectAccess, key: string): void {
  const deployment = objects.get(labDeployments, refOfKey(key))
  if (deployment === undefined || deployment.metadata.deletionTimestamp !== undefined) return
  const sets = objects
    .list(replicaSets, { namespace: namespaceOf(deployment) })
    .filter(set => isOwnedBy(set, deployment))
  if (deployment.spec?.paused !== true) rollOut(objects, deployment, sets)
  report(objects, deployment)
}

function rollOut(objects: ObjectAccess, deployment: LabDeployment, sets: readonly ReplicaSet[]): void {
  const hash = templateHash(deployment.spec?.template)
  const current = sets.find(set => set.metadata.labels?.[hashLabel] === hash)
  const old = sets.filter(set => set !== current)
  const wanted = deployment.spec?.replicas ?? 1
  const steps = nextScale({
    wanted,
    strategy: deployment.spec?.strategy,
    current: sizeOf(current),
    old: old.map(sizeOf)
  })
  if (current === undefined) createSet(objects, deployment, hash, steps.current, sets)
  else {
    scale(objects, current, steps.current)
    const newest = Math.max(0, ...old.map(revisionOf))
    if (revisionOf(current) <= newest) annotateRevision(objects, current, newest + 1)
  }
  for (const [index, set] of old.entries()) scale(objects, set, steps.old[index] ?? 0)
  forget(objects, old, deployment.spec?.revisionHistoryLimit ?? 10)
}

export interface SetSize {
  readonly replicas: number
  /** Pods that exist. */
  readonly pods: number
  readonly available: number
}

export interface RollOut {
  readonly wanted: number
  readonly strategy: NonNullable<LabDeployment['spec']>['strategy']
  readonly current: SetSize
  /** Sets of former templates. */
  readonly old: readonly SetSize[]
}

/** The sizes that the sets get now, so that never more than the surge exist nor fewer than allowed are available. */
export function nextScale({ wanted, strategy, current, old }: RollOut): { current: number; old: number[] } {
  const oldPods = old.reduce((sum, { pods }) => sum + pods, 0)
  if (strategy?.type === 'Recreate') {
    return { current: oldPods > 0 ? current.replicas : wanted, old: old.map(() => 0) }
  }
  const { maxSurge = '25%', maxUnavailable = '25%' } = strategy?.rollingUpdate ?? {}
  const surge = share(maxSurge, wanted, Math.ceil)
  // With no surge and no slack at all nothing could move.
  const slack = Math.max(share(maxUnavailable, wanted, Math.floor), surge === 0 ? 1 : 0)
  const oldReplicas = old.reduce((sum, { replicas }) => sum + replicas, 0)
  const room = wanted + surge - current.replicas - oldReplicas
  const grown = current.replicas >= wanted ? wanted : Math.min(wanted, current.replicas + Math.max(0, room))
  const available = current.available + old.reduce((sum, set) => sum + set.available, 0)
  // Pods of old sets that are not available serve nobody: they may all go.
  let spare = available - (wanted - slack)
  const shrunk = old.map(({ replicas, available: serving }) => {
    const useless = Math.max(0, replicas - serving)
    const taken = Math.max(0, Math.min(replicas - useless, spare))
    spare -= taken
    return replicas - useless - taken
  })
  return { current: grown, old: shrunk }
}

function share(value: number | string, of: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value
  return value.endsWith('%') ? round((Number(value.slice(0, -1)) / 100) * of) : Number(value)
}

function sizeOf(set: ReplicaSet | undefined): SetSize {
  const { replicas: pods = 0, availableReplicas: available = 0 } = set?.status ?? {}
  return { replicas: set?.spec?.replicas ?? 0, pods, available }
}

function createSet(
  objects: ObjectAccess,
  deployment: LabDeployment,
  hash: string,
  replicas: number,
  sets: readonly ReplicaSet[]
): void {
  const { template = {}, selector = {} } = deployment.spec ?? {}
  const labels = { ...template.metadata?.labels, [hashLabel]: hash }
  objects.create(replicaSets, {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `${deployment.metadata.name}-${hash}`,
      namespace: namespaceOf(deployment),
      labels,
      annotations: { [revisionAnnotation]: String(Math.max(0, ...sets.map(revisionOf)) + 1) },
      ownerReferences: [ownerReference(deployment)]
    },
    spec: {
      replicas,
      selector: { ...selector, matchLabels: { ...selector.matchLabels, [hashLabel]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } }
    }
  })
}

function scale(objects: ObjectAccess, set: ReplicaSet, replicas: number): void {
  if (set.spec?.replicas === replicas) return
  objects.edit(replicaSets, refOf(set), current => ({ ...current, spec: { ...current.spec, replicas } }))
}

function revisionOf(set: ReplicaSet): number {
  return Number(set.metadata.annotations?.[revisionAnnotation] ?? 0)
}

function annotateRevision(objects: ObjectAccess, set: ReplicaSet, revision: number): void {
  objects.edit(replicaSets, refOf(set), current => ({
    ...current,
    metadata: {
      ...current.metadata,
      annotations: { ...current.metadata.annotations, [revisionAnnotation]: String(revision) }
    }
  }))
}

/** Empty sets of old templates, beyond those that are kept to roll back. */
function forget(objects: ObjectAccess, old: readonly ReplicaSet[], kept: number): void {
  const empty = old
    .filter(set => set.spec?.replicas === 0 && (set.status?.replicas ?? 0) === 0)
    .toSorted((a, b) => revisionOf(b) - revisionOf(a))
  for (const set of empty.slice(kept)) objects.delete(replicaSets, refOf(set))
}

function report(objects: ObjectAccess, deployment: LabDeployment): void {
  const sets = objects
    .list(replicaSets, { namespace: namespaceOf(deployment) })
    .filter(set => isOwnedBy(set, deployment))
  const hash = templateHash(deployment.spec?.template)
  const current = sizeOf(sets.find(set => set.metadata.labels?.[hashLabel] === hash))
  const all = sets.map(sizeOf)
  const sum = (of: (size: SetSize) => number): number => all.reduce((total, size) => total + of(size), 0)
  const wanted = deployment.spec?.replicas ?? 1
  const available = sum(size => size.available)
  const replicas = sum(size => size.pods)
  const done = current.available >= wanted && current.pods >= wanted && replicas === current.pods
  writeStatus(objects, labDeployments, deployment, {
    replicas,
    updatedReplicas: current.pods,
    readyReplicas: available,
    availableReplicas: available,
    unavailableReplicas: Math.max(0, wanted - available),
    conditions: [
      condition(
        deployment,
        'Available',
        available >= wanted,
        available >= wanted ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable'
      ),
      condition(deployment, 'Progressing', true, done ? 'NewReplicaSetAvailable' : 'ReplicaSetUpdated')
    ]
  })
}

function condition(deployment: LabDeployment, type: string, ok: boolean, reason: string): Condition {
  const status = ok ? 'True' : 'False'
  const known = deployment.status?.conditions?.find(candidate => candidate.type === type)
  if (known?.status === status && known.reason === reason) return known
  return { type, status, reason, lastTransitionTime: kubeTime(Date.now()) }
}
