/**
 * Whether a pod is meant to be in the mesh, from its labels and those of its namespace, and whether it is.
 * Source: Istio's ambient labels and annotations, as the node agent applies them.
 */
import type { Namespace, Pod } from '../shared/kube/core-api.ts'

export type EnrolmentState =
  | 'enabled'
  /** Captured, but its proxy has not confirmed: its traffic fails rather than leaving in the clear. */
  | 'pending'
  /** Meant to be in the mesh and not captured: its traffic is in the clear. */
  | 'unprotected'
  | 'sidecar'
  | 'host network'
  | 'outside'
  /** Captured although nothing asks for it (any more). */
  | 'leftover'

export interface Enrolment {
  /** `namespace label`, `pod label`, or '' when nothing wants it in the mesh. */
  readonly wantedBy: string
  readonly state: EnrolmentState
  /** Why it is not wanted in the mesh, or cannot be; '' when it is in it, or should be. */
  readonly reason: string
}

export const modeLabel = 'istio.io/dataplane-mode'
const redirection = 'ambient.istio.io/redirection'

/** Namespaces of which the node agent captures nothing, unless it was told otherwise. */
const excludedByDefault: ReadonlySet<string> = new Set(['kube-system'])

export function enrolmentOf(
  pod: Pod,
  namespace: Namespace | undefined,
  excluded: ReadonlySet<string> = excludedByDefault
): Enrolment {
  const { wantedBy, reason } = wanted(pod, namespace, excluded)
  if (pod.spec?.hostNetwork === true)
    return { wantedBy: '', state: 'host network', reason: 'shares the network of its node' }
  if (pod.metadata.annotations?.['sidecar.istio.io/status'] !== undefined)
    return { wantedBy, state: 'sidecar', reason: 'has a sidecar, which does the same work' }
  const mark = pod.metadata.annotations?.[redirection]
  if (wantedBy === '') return { wantedBy, state: mark === undefined ? 'outside' : 'leftover', reason }
  if (mark === 'enabled' || mark === 'pending') return { wantedBy, state: mark, reason }
  return { wantedBy, state: 'unprotected', reason }
}

function wanted(
  pod: Pod,
  namespace: Namespace | undefined,
  excluded: ReadonlySet<string>
): { readonly wantedBy: string; readonly reason: string } {
  const space = pod.metadata.namespace ?? ''
  if (excluded.has(space)) return { wantedBy: '', reason: `nothing of namespace ${space} is captured` }
  if (isProxy(pod)) return { wantedBy: '', reason: 'is the proxy itself' }
  const own = pod.metadata.labels?.[modeLabel]
  if (own === 'ambient') return { wantedBy: 'pod label', reason: '' }
  if (own === 'none') return { wantedBy: '', reason: `has the label ${modeLabel}=none` }
  const label = namespace?.metadata.labels?.[modeLabel]
  if (label === 'ambient') return { wantedBy: 'namespace label', reason: '' }
  const reason =
    label === undefined
      ? `namespace ${space} has no label ${modeLabel}=ambient`
      : `namespace ${space} has the label ${modeLabel}=${label}, not ambient`
  return { wantedBy: '', reason }
}

/** The proxies themselves are never captured. */
function isProxy(pod: Pod): boolean {
  return pod.metadata.labels?.['app'] === 'ztunnel' && pod.metadata.namespace === 'istio-system'
}
