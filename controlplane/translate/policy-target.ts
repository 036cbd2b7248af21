/** Whether some waypoint enforces a policy for one of its targets. Source: Istio's published reasons. */
import type { ClusterView } from '../cluster/cluster.ts'
import type { Meta, TargetReference } from '../cluster/objects.ts'
import { serviceWaypoint } from './waypoint.ts'

export type TargetBinding =
  | { readonly bound: true; readonly message: string }
  | {
      readonly bound: false
      readonly reason: 'Invalid' | 'TargetNotFound' | 'AncestorNotBound'
      readonly message: string
    }

/** Controller of the classes whose gateways are waypoints. */
const waypointControllers = new Set(['istio.io/mesh-controller', 'underpass.dev/mesh-controller'])

export function bindTarget(view: ClusterView, policy: Meta, target: TargetReference): TargetBinding {
  const namespace = target.namespace === '' ? policy.namespace : target.namespace
  const key = `${namespace}/${target.name}`
  switch (target.kind) {
    case 'GatewayClass':
      return bindClass(view, policy, target.name)
    case 'Gateway': {
      const gateway = view.get('Gateway', key)
      return gateway === undefined || gateway.addresses.length === 0
        ? failed('TargetNotFound', `Gateway ${key} is missing or has no address`)
        : { bound: true, message: `bound to ${key}` }
    }
    case 'Service':
    case 'ServiceEntry': {
      const object = view.get(target.kind, key)
      if (object === undefined) return failed('TargetNotFound', `${target.kind} ${key} was not found`)
      const binding = serviceWaypoint(view, object.meta)
      return binding.kind === 'bound'
        ? { bound: true, message: `bound to ${binding.waypoint.key}` }
        : failed('AncestorNotBound', `${target.kind} ${key} is not bound to a waypoint`)
    }
    default:
      return failed('Invalid', `a policy cannot target kind ${target.kind}`)
  }
}

function bindClass(view: ClusterView, policy: Meta, name: string): TargetBinding {
  const { rootNamespace } = view.settings
  if (policy.namespace !== rootNamespace) {
    return failed(
      'Invalid',
      `a policy for GatewayClass ${name} must be in the root namespace ${rootNamespace}`
    )
  }
  const found = view.get('GatewayClass', name)
  if (found === undefined) return failed('TargetNotFound', `GatewayClass ${name} was not found`)
  return waypointControllers.has(found.controller)
    ? { bound: true, message: `bound to ${name}` }
    : failed('Invalid', `GatewayClass ${name} is not one of waypoints`)
}

function failed(reason: Extract<TargetBinding, { bound: false }>['reason'], message: string): TargetBinding {
  return { bound: false, reason, message }
}
