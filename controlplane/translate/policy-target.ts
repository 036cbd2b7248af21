/** Whether some waypoint or gateway enforces a policy for one of its targets. Source: Istio's published reasons. */
import type { ClusterView } from '../cluster/cluster.ts'
import type { Meta, TargetReference } from '../cluster/objects.ts'
import { gatewayController, waypointController } from './gateway-class.ts'
import type { Recipient } from './messages.ts'
import { recipientOf } from './recipient.ts'
import { serviceWaypoint, waypointsOf } from './waypoint.ts'

export type TargetBinding =
  | {
      readonly bound: true
      readonly message: string
      /** Who enforces it. */
      readonly waypoints: readonly Recipient[]
    }
  | {
      readonly bound: false
      readonly reason: 'Invalid' | 'TargetNotFound' | 'AncestorNotBound'
      readonly message: string
    }

/** Controllers of the classes that a policy may be for: of waypoints, as in Istio, and of our gateways. */
const controllers = new Set(['istio.io/mesh-controller', waypointController, gatewayController])

export function bindTarget(view: ClusterView, policy: Meta, target: TargetReference): TargetBinding {
  const key = `${policy.namespace}/${target.name}`
  if (target.namespace !== '' && target.namespace !== policy.namespace && target.kind !== 'GatewayClass') {
    return failed(
      'Invalid',
      `${target.kind} ${target.name} of namespace ${target.namespace} needs a policy there`
    )
  }
  switch (target.kind) {
    case 'GatewayClass':
      return bindClass(view, policy, target.name)
    case 'Gateway': {
      const gateway = view.get('Gateway', key)
      const recipient = gateway === undefined ? undefined : recipientOf(view, gateway)
      return recipient === undefined
        ? failed('TargetNotFound', `Gateway ${key} is missing or has no address`)
        : { bound: true, message: `bound to ${key}`, waypoints: [recipient] }
    }
    case 'Service':
    case 'ServiceEntry': {
      const object = view.get(target.kind, key)
      if (object === undefined) return failed('TargetNotFound', `${target.kind} ${key} was not found`)
      const binding = serviceWaypoint(view, object.meta)
      return binding.kind === 'bound'
        ? {
            bound: true,
            message: `bound to ${binding.waypoint.key}`,
            waypoints: waypointsOf(view, object.meta)
          }
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
  if (!controllers.has(found.controller)) {
    return failed('Invalid', `GatewayClass ${name} is not one of waypoints or gateways of ours`)
  }
  const gateways = [...view.all('Gateway')].filter(({ className }) => className === name)
  const waypoints = gateways.flatMap(gateway => recipientOf(view, gateway) ?? [])
  return { bound: true, message: `bound to ${name}`, waypoints }
}

function failed(reason: Extract<TargetBinding, { bound: false }>['reason'], message: string): TargetBinding {
  return { bound: false, reason, message }
}
