/** Whether a Deployment or DaemonSet has come up, and why a pod of it has not. */
import type { DaemonSet, Deployment } from '../../shared/kube/apps-api.ts'
import type { ContainerStatus, Pod } from '../../shared/kube/core-api.ts'

export interface Rollout {
  readonly ready: number
  readonly wanted: number
  readonly done: boolean
}

export function deploymentRollout({ metadata, spec, status }: Deployment): Rollout {
  const wanted = spec?.replicas ?? 1
  const ready = Math.min(status?.availableReplicas ?? 0, status?.updatedReplicas ?? 0)
  const current = (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0)
  const alone = (status?.replicas ?? 0) === wanted
  return { ready, wanted, done: current && alone && ready >= wanted }
}

export function daemonSetRollout({ metadata, status }: DaemonSet): Rollout {
  const wanted = status?.desiredNumberScheduled ?? 0
  const ready = Math.min(status?.numberAvailable ?? 0, status?.updatedNumberScheduled ?? 0)
  const current = (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0)
  return { ready, wanted, done: current && status !== undefined && ready >= wanted }
}

export type PodTrouble =
  /** Gets there by itself, as far as one can see. */
  | { readonly kind: 'starting'; readonly text: string }
  /** Somebody has to do something. */
  | { readonly kind: 'stuck'; readonly text: string }
  /** Ends again and again: its last words say why. */
  | { readonly kind: 'crashing'; readonly text: string; readonly container: string }

/** Reasons of waiting containers that mean an image which cannot be had. */
const imageReasons = ['ErrImagePull', 'ImagePullBackOff', 'ErrImageNeverPull', 'InvalidImageName']

/** Undefined when the pod is ready. */
export function podTrouble({ metadata, status }: Pod): PodTrouble | undefined {
  const condition = (type: string) => status?.conditions?.find(found => found.type === type)
  if (metadata.deletionTimestamp !== undefined) return { kind: 'starting', text: 'is being replaced' }
  if (condition('Ready')?.status === 'True') return undefined
  const scheduled = condition('PodScheduled')
  if (scheduled?.status === 'False') {
    return { kind: 'stuck', text: `cannot be scheduled: ${scheduled.message ?? scheduled.reason ?? ''}` }
  }
  for (const container of status?.containerStatuses ?? []) {
    const trouble = containerTrouble(container)
    if (trouble !== undefined) return trouble
  }
  if (status?.phase === 'Failed') return { kind: 'stuck', text: 'has failed' }
  return {
    kind: 'starting',
    text: status?.phase === 'Running' ? 'runs, but is not ready yet' : 'is being started'
  }
}

function containerTrouble(container: ContainerStatus): PodTrouble | undefined {
  const { name, image = '', restartCount, state, lastState } = container
  const { reason = '', message = '' } = state?.['waiting'] ?? {}
  if (imageReasons.includes(reason)) {
    const detail = message === '' ? '' : `: ${firstLine(message)}`
    return { kind: 'stuck', text: `image ${image} cannot be pulled (${reason})${detail}` }
  }
  const ended = state?.['terminated'] ?? lastState?.['terminated']
  if (reason === 'CrashLoopBackOff' || (ended !== undefined && !container.ready)) {
    const how = ended?.reason === 'OOMKilled' ? 'out of memory' : `exit code ${ended?.exitCode ?? 'unknown'}`
    return { kind: 'crashing', text: `keeps ending (${how}, ${restartCount} restarts)`, container: name }
  }
  if (/^(CreateContainer|RunContainer|CreatePodSandbox).*Error$/.test(reason)) {
    return { kind: 'stuck', text: `${reason}: ${firstLine(message)}` }
  }
  return undefined
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? ''
}
