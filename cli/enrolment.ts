/**
 * Whether a pod is meant to be in the mesh, from its labels and those of its namespace, and whether it is.
 * Source: Istio's ambient labels and annotations, as the node agent applies them.
 */
import type { Namespace, Pod } from '../shared/kube/resources.ts'

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
}

const modeLabel = 'istio.io/dataplane-mode'
const redirection = 'ambient.istio.io/redirection'

export function enrolmentOf(
  pod: Pod,
  namespace: Namespace | undefined,
  excluded: ReadonlySet<string>
): Enrolment {
  const wantedBy = wanted(pod, namespace, excluded)
  if (pod.spec?.hostNetwork === true) return { wantedBy: '', state: 'host network' }
  if (pod.metadata.annotations?.['sidecar.istio.io/status'] !== undefined)
    return { wantedBy, state: 'sidecar' }
  const mark = pod.metadata.annotations?.[redirection]
  if (wantedBy === '') return { wantedBy, state: mark === undefined ? 'outside' : 'leftover' }
  if (mark === 'enabled' || mark === 'pending') return { wantedBy, state: mark }
  return { wantedBy, state: 'unprotected' }
}

function wanted(pod: Pod, namespace: Namespace | undefined, excluded: ReadonlySet<string>): string {
  if (excluded.has(pod.metadata.namespace ?? '')) return ''
  if (isProxy(pod)) return ''
  const own = pod.metadata.labels?.[modeLabel]
  if (own === 'ambient') return 'pod label'
  return own !== 'none' && namespace?.metadata.labels?.[modeLabel] === 'ambient' ? 'namespace label' : ''
}

/** The proxies themselves are never captured. */
function isProxy(pod: Pod): boolean {
  return pod.metadata.labels?.['app'] === 'ztunnel' && pod.metadata.namespace === 'istio-system'
}
