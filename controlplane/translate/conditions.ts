/** What the status of an object should say: whether its policy is enforced, whether its waypoint is bound. */
import type { ClusterView } from '../cluster/cluster.ts'
import type {
  AuthorizationPolicyObject,
  Labels,
  MeshObject,
  RateLimitPolicyObject
} from '../cluster/objects.ts'
import {
  accepted,
  conditionText,
  waypointAccepted,
  waypointBound,
  waypointMissing,
  ztunnelAccepted,
  type Condition
} from './condition.ts'
import { missingWaypoint } from './outside.ts'
import { bindTarget, type TargetBinding } from './policy-target.ts'
import { translatePolicy } from './policy.ts'
import {
  namespaceWaypoint,
  serviceWaypoint,
  weightedWaypoints,
  workloadWaypoint,
  type Binding
} from './waypoint.ts'

/** By condition type, as {@link conditionText} writes them; a type that is absent has no place in the status. */
export function conditionsOf(view: ClusterView, object: MeshObject): Labels {
  switch (object.kind) {
    case 'AuthorizationPolicy':
      return object.targets.length > 0
        ? one(waypointAccepted, targetsCondition(view, object))
        : one(ztunnelAccepted, policyCondition(view, object))
    case 'RateLimitPolicy':
      return one(waypointAccepted, targetsCondition(view, object))
    case 'Service':
      return one(waypointBound, serviceCondition(view, object.meta))
    case 'ServiceEntry': {
      const bound = serviceWaypoint(view, object.meta).kind === 'bound'
      return {
        ...one(waypointBound, serviceCondition(view, object.meta)),
        ...one(waypointMissing, bound ? undefined : missingWaypoint(object))
      }
    }
    case 'WorkloadEntry':
      return one(waypointBound, bindingCondition(workloadWaypoint(view, object.meta).binding))
    case 'Namespace':
      return one(waypointBound, bindingCondition(namespaceWaypoint(view, object.meta)))
    default:
      return {}
  }
}

/** For an object that cannot be read; the message names the field. */
export function brokenConditions(kind: MeshObject['kind'], message: string): Labels {
  const type = kind === 'AuthorizationPolicy' ? ztunnelAccepted : accepted
  return one(type, { status: 'False', reason: 'Invalid', message })
}

function one(type: string, condition: Condition | undefined): Labels {
  return condition === undefined ? {} : { [type]: conditionText(condition) }
}

function policyCondition(view: ClusterView, policy: AuthorizationPolicyObject): Condition | undefined {
  const translation = translatePolicy(policy, view.settings)
  switch (translation.kind) {
    case 'not-for-ztunnel':
      return undefined
    case 'refused':
      return { status: 'False', reason: 'UnsupportedValue', message: translation.message }
    default:
      return translation.notes.length === 0
        ? { status: 'True', reason: 'Accepted', message: 'attached to ztunnel' }
        : { status: 'False', reason: 'UnsupportedValue', message: translation.notes.join('; ') }
  }
}

/** One condition for all targets: a policy that one waypoint enforces is accepted, and says where it is not. */
function targetsCondition(
  view: ClusterView,
  policy: AuthorizationPolicyObject | RateLimitPolicyObject
): Condition {
  const bindings = policy.targets.map(target => bindTarget(view, policy.meta, target))
  const message = bindings.map(({ message }) => message).join('; ')
  const failed = bindings.filter(({ bound }) => !bound)
  const [first] = failed
  if (first === undefined) return { status: 'True', reason: 'Accepted', message }
  if (failed.length < bindings.length) return { status: 'True', reason: 'PartiallyInvalid', message }
  return { status: 'False', reason: reasonOf(first), message }
}

function reasonOf(binding: TargetBinding): string {
  return binding.bound ? 'Accepted' : binding.reason
}

function serviceCondition(view: ClusterView, meta: MeshObject['meta']): Condition | undefined {
  const binding = serviceWaypoint(view, meta)
  if (binding.kind !== 'bound') return bindingCondition(binding)
  const split = weightedWaypoints(view, meta, binding.waypoint)
  return bindingCondition(split.kind === 'refused' ? split : binding)
}

function bindingCondition(binding: Binding): Condition | undefined {
  switch (binding.kind) {
    case 'none':
      return undefined
    case 'bound':
      return {
        status: 'True',
        reason: 'WaypointAccepted',
        message: `Successfully attached to waypoint ${binding.waypoint.key}`
      }
    default:
      return { status: 'False', reason: binding.reason, message: binding.message }
  }
}
