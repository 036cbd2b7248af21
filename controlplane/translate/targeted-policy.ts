/** Policies that name targets, for the waypoints of these: the spec as it is written. Source: Istio's published `targetRefs`. */
import type { ClusterView } from '../cluster/cluster.ts'
import type {
  AuthorizationPolicyObject,
  RateLimitPolicyObject,
  RequestAuthenticationObject
} from '../cluster/objects.ts'
import type { ConfigMessage } from './messages.ts'
import { bindTarget } from './policy-target.ts'

/** Undefined when no waypoint enforces it. */
export function targetedPolicy(
  view: ClusterView,
  {
    kind,
    meta,
    targets,
    spec
  }: AuthorizationPolicyObject | RequestAuthenticationObject | RateLimitPolicyObject
): ConfigMessage | undefined {
  const bound = targets.map(target => bindTarget(view, meta, target)).filter(binding => binding.bound)
  if (spec === undefined || bound.length === 0) return undefined
  const { namespace, name, createdMs, annotations } = meta
  return {
    kind,
    message: { namespace, name, createdMs, annotations, spec },
    waypoints: bound.flatMap(({ waypoints }) => waypoints)
  }
}
