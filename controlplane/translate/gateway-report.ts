/** What the status of a gateway should say, of itself and of each listener. Source: Gateway API v1. */
import type { GatewayObject } from '../cluster/objects.ts'
import type { ClusterView } from '../cluster/cluster.ts'
import { gatewayGroup } from '../read/gateway.ts'
import type { AssignedAddresses } from './gateway-address.ts'
import {
  deploymentCondition,
  type GatewayReport,
  type ListenerReport,
  type Programmed,
  type Said
} from './gateway-status.ts'
import { letsAnybodyIn } from './client-validation.ts'
import { backendCertificate } from './gateway.ts'
import { listenerStates, type ListenerState, type Problem } from './listener.ts'
import { attachedRoutes } from './route-conditions.ts'

/** Whether it is taken, with any of its listeners; its proxies stay as they are where it is not. */
export function isTaken(view: ClusterView, gateway: GatewayObject): boolean {
  return acceptedCondition(gateway, listenerStates(view, gateway)).status === 'True'
}

/** Why the Gateway as a whole is not taken. */
function gatewayRefusal(gateway: GatewayObject): Problem | undefined {
  const { parameters } = gateway.infrastructure
  if (parameters !== '') {
    return {
      reason: 'InvalidParameters',
      message: `infrastructure.parametersRef: ${parameters} is not supported; leave it out`
    }
  }
  const odd = gateway.requestedAddresses.find(({ type }) => type !== 'IPAddress')
  if (odd === undefined) return undefined
  return {
    reason: 'UnsupportedAddress',
    message: `addresses: type ${odd.type} is not supported; use IPAddress, or leave them out`
  }
}

export function gatewayReport(
  view: ClusterView,
  gateway: GatewayObject,
  programmed: Programmed,
  assigned: AssignedAddresses
): GatewayReport {
  const states = listenerStates(view, gateway)
  const accepted = acceptedCondition(gateway, states)
  const ready = accepted.status === 'True' ? readiness(programmed, assigned) : unaccepted
  const routes = attachedRoutes(view, gateway)
  return {
    conditions: [accepted, ready, ...resolvedRefs(view, gateway), ...insecureFallback(gateway)],
    listeners: states.map(state => listenerReport(state, routes.get(state.listener.name) ?? 0, ready)),
    addresses: assigned.kind === 'assigned' ? assigned.addresses : undefined
  }
}

/** Said where the Gateway itself, beside its listeners, refers to something. Source: Gateway API v1, `spec.tls.backend`. */
function resolvedRefs(view: ClusterView, gateway: GatewayObject): readonly Said[] {
  const found = backendCertificate(view, gateway)
  if (found === undefined) return []
  const type = 'ResolvedRefs'
  if (found.kind === 'resolved') {
    return [{ type, status: 'True', reason: type, message: 'the certificate for backends was found' }]
  }
  const { reason, message } = found
  const named = reason === 'InvalidCertificateRef' ? 'InvalidClientCertificateRef' : reason
  return [{ type, status: 'False', reason: named, message }]
}

/** Said as long as it is so. Source: Gateway API v1, `AllowInsecureFallback`. */
function insecureFallback(gateway: GatewayObject): readonly Said[] {
  if (!letsAnybodyIn(gateway)) return []
  const message = 'clients whose certificates cannot be verified are let in: mode AllowInsecureFallback'
  const type = 'InsecureFrontendValidationMode'
  return [{ type, status: 'True', reason: 'ConfigurationChanged', message }]
}

function acceptedCondition(gateway: GatewayObject, states: readonly ListenerState[]): Said {
  const type = 'Accepted'
  const refusal = gatewayRefusal(gateway)
  if (refusal !== undefined) return { type, status: 'False', ...refusal }
  const bad = states.filter(({ refused }) => refused !== undefined)
  if (bad.length === 0) {
    return { type, status: 'True', reason: 'Accepted', message: 'the control plane runs this gateway' }
  }
  const message = `listeners that are not accepted: ${bad.map(({ listener }) => listener.name).join(', ')}`
  const status = bad.length === states.length ? 'False' : 'True'
  return { type, status, reason: 'ListenersNotValid', message }
}

const unaccepted: Said = {
  type: 'Programmed',
  status: 'False',
  reason: 'Invalid',
  message: 'the Gateway is not accepted'
}

function readiness(programmed: Programmed, assigned: AssignedAddresses): Said {
  if (programmed.kind !== 'available') return deploymentCondition(programmed)
  const type = 'Programmed'
  if (assigned.kind === 'pending') return { type, status: 'False', ...assigned.problem }
  return { type, status: 'True', reason: 'Programmed', message: assigned.message }
}

function listenerReport(state: ListenerState, routes: number, ready: Said): ListenerReport {
  const { listener, kinds, refused, unresolved, served } = state
  const [missing] = unresolved
  const conflict = refused?.conflict === true ? refused : undefined
  return {
    name: listener.name,
    attachedRoutes: routes,
    supportedKinds: kinds.map(kind => ({ group: gatewayGroup, kind })),
    conditions: [
      condition('Accepted', refused, 'the listener is taken'),
      {
        type: 'Conflicted',
        status: conflict === undefined ? 'False' : 'True',
        reason: conflict?.reason ?? 'NoConflicts',
        message: conflict?.message ?? 'no other listener is in its way'
      },
      {
        type: 'ResolvedRefs',
        status: missing === undefined ? 'True' : 'False',
        reason: missing?.reason ?? 'ResolvedRefs',
        message:
          missing === undefined ? 'nothing is missing' : unresolved.map(each => each.message).join('; ')
      },
      served && ready.status === 'True'
        ? { type: 'Programmed', status: 'True', reason: 'Programmed', message: `listens on ${listener.port}` }
        : {
            type: 'Programmed',
            status: 'False',
            reason: served ? 'Pending' : 'Invalid',
            message: notServed(state, ready)
          }
    ]
  }
}

function condition(type: string, problem: Problem | undefined, fine: string): Said {
  return problem === undefined
    ? { type, status: 'True', reason: type, message: fine }
    : { type, status: 'False', reason: problem.reason, message: problem.message }
}

function notServed({ served, refused, unresolved }: ListenerState, ready: Said): string {
  if (served) return ready.message
  return refused?.message ?? unresolved.map(({ message }) => message).join('; ')
}
