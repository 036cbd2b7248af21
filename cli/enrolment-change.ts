/** What a change of labels does to pods: decided from the cluster's state, before anything is changed. */
import type { Namespace, Pod } from '../shared/kube/core-api.ts'
import { enrolmentOf, modeLabel, type Enrolment } from './enrolment.ts'

export type Target =
  | { readonly kind: 'namespace'; readonly name: string }
  | { readonly kind: 'pod'; readonly namespace: string; readonly name: string }

/** `ambient`, `none`, or undefined for no label of its own. */
export type Mode = 'ambient' | 'none' | undefined

export interface PodChange {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly node: string
  readonly effect: Effect
  /** Why it stays as it is; '' when it does not. */
  readonly reason: string
}

export type Effect = 'joins' | 'leaves' | 'stays inside' | 'stays outside'

/** The label that a target gets to be in the mesh, or out of it. */
export function modeFor(target: Target, inside: boolean, namespace: Namespace): Mode {
  if (inside) return 'ambient'
  // in a namespace that is in the mesh, a pod has to say that it does not want to be
  const enrolled = namespace.metadata.labels?.[modeLabel] === 'ambient'
  return target.kind === 'pod' && enrolled ? 'none' : undefined
}

/** What happens to each pod that runs, when the target's label becomes `mode`. */
export function changesOf(
  target: Target,
  mode: Mode,
  namespace: Namespace,
  pods: readonly Pod[]
): readonly PodChange[] {
  const changed = target.kind === 'namespace' ? withMode(namespace, mode) : namespace
  return pods
    .filter(({ status }) => status?.phase !== 'Succeeded' && status?.phase !== 'Failed')
    .filter(({ metadata }) => target.kind === 'namespace' || metadata.name === target.name)
    .map(pod => {
      const before = enrolmentOf(pod, namespace)
      const after = enrolmentOf(target.kind === 'pod' ? withMode(pod, mode) : pod, changed)
      return {
        namespace: pod.metadata.namespace ?? '',
        name: pod.metadata.name,
        uid: pod.metadata.uid ?? '',
        node: pod.spec?.nodeName ?? '',
        effect: effectOf(isInside(before), isInside(after)),
        reason: isInside(before) === isInside(after) ? reasonOf(after) : ''
      }
    })
}

function effectOf(before: boolean, after: boolean): Effect {
  if (before === after) return after ? 'stays inside' : 'stays outside'
  return after ? 'joins' : 'leaves'
}

/** Wanted in the mesh, and captured or about to be. */
function isInside({ wantedBy, state }: Enrolment): boolean {
  return wantedBy !== '' && state !== 'sidecar'
}

function reasonOf({ reason, wantedBy }: Enrolment): string {
  return reason || (wantedBy === '' ? '' : `has a ${wantedBy}`)
}

function withMode<T extends Pod | Namespace>(object: T, mode: Mode): T {
  const others = Object.entries(object.metadata.labels ?? {}).filter(([key]) => key !== modeLabel)
  const labels = Object.fromEntries(mode === undefined ? others : [...others, [modeLabel, mode]])
  return { ...object, metadata: { ...object.metadata, labels } }
}
