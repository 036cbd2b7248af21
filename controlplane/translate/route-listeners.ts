/** Which listeners of a Gateway a route means, and may attach to as far as they say. Source: Gateway API v1, attachment of routes. */
import type { ClusterView } from '../cluster/cluster.ts'
import type { GatewayObject, ParentReference, RouteObject } from '../cluster/objects.ts'
import { admitsNamespace } from './allowed-routes.ts'
import { gatewayRole } from './gateway-class.ts'
import { intersection } from './hostname-intersection.ts'
import { takesRoutes } from './listener.ts'

export interface AttachedListener {
  readonly name: string
  /** Of the route and of the listener both; '' = any. */
  readonly hostnames: readonly string[]
}

/** Reasons of `Accepted` of a route. */
export type RouteRefusal = 'NoMatchingParent' | 'NotAllowedByListeners' | 'NoMatchingListenerHostname'

export type Attaching = Pick<RouteObject, 'kind' | 'meta' | 'hostnames'>

export type MeantListeners =
  /** At least one. */
  | { readonly kind: 'meant'; readonly listeners: readonly AttachedListener[] }
  | { readonly kind: 'refused'; readonly reason: RouteRefusal; readonly message: string }

/** By themselves: other routes are not looked at. */
export function listenersMeant(
  view: ClusterView,
  gateway: GatewayObject,
  route: Attaching,
  reference: ParentReference
): MeantListeners {
  const { namespace, name, sectionName, port } = reference
  const key = `${namespace}/${name}`
  if (gatewayRole(view, gateway) === 'waypoint') {
    const message = `Gateway ${key} is a waypoint: name the Service or ServiceEntry that the route is for`
    return refused('NotAllowedByListeners', message)
  }
  const named = gateway.listeners.filter(
    each => (sectionName === '' || each.name === sectionName) && (port === undefined || each.port === port)
  )
  if (named.length === 0) {
    const wanted = [
      ...(sectionName === '' ? [] : [`name ${JSON.stringify(sectionName)}`]),
      ...(port === undefined ? [] : [`port ${port}`])
    ].join(' and ')
    const present = gateway.listeners.map(({ name, port }) => `${JSON.stringify(name)} at ${port}`).join(', ')
    const message = `Gateway ${key} has no listener of ${wanted}; it has ${present === '' ? 'none' : present}`
    return refused('NoMatchingParent', message)
  }
  const ofKind = named.filter(listener => takesRoutes(listener, route.kind))
  if (ofKind.length === 0) {
    const message = `no listener of Gateway ${key} that is meant takes a ${route.kind}: see its protocol and allowedRoutes.kinds`
    return refused('NotAllowedByListeners', message)
  }
  const admitting = ofKind.filter(listener => admitsNamespace(view, gateway, listener, route.meta.namespace))
  if (admitting.length === 0) {
    const message = `no listener of Gateway ${key} that is meant takes routes of namespace ${route.meta.namespace}: see its allowedRoutes.namespaces`
    return refused('NotAllowedByListeners', message)
  }
  const listeners = admitting
    .map(({ name, hostname }) => ({ name, hostnames: intersection(hostname, route.hostnames) }))
    .filter(({ hostnames }) => hostnames.length > 0)
  if (listeners.length > 0) return { kind: 'meant', listeners }
  const hostnames = admitting.map(({ hostname }) => hostname).join(', ')
  const message = `no hostname of the route is one of the listeners of Gateway ${key}: ${hostnames}`
  return refused('NoMatchingListenerHostname', message)
}

function refused(reason: RouteRefusal, message: string): MeantListeners {
  return { kind: 'refused', reason, message }
}
