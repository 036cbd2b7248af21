/** What the status of an object should say: whether its policy is enforced, whether its waypoint is bound. */
import type { ClusterView } from '../cluster.ts'
import type { AuthorizationPolicyObject, Labels, MeshObject } from '../objects.ts'
import { accepted, conditionText, waypointBound, ztunnelAccepted, type Condition } from './condition.ts'
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
      return one(ztunnelAccepted, policyCondition(view, object))
    case 'Service':
    case 'ServiceEntry':
      return one(waypointBound, serviceCondition(view, object.meta))
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
