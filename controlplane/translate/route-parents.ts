/**
 * Which services and which listeners a route applies to, and who has to know of it.
 * Source: Gateway API v1, attachment of routes, and its routes of a mesh.
 */
import type { ClusterView, HostOwner } from '../cluster/cluster.ts'
import type { GatewayObject, ParentReference, RouteObject } from '../cluster/objects.ts'
import { admitsNamespace } from './allowed-routes.ts'
import { gatewayRole } from './gateway-class.ts'
import { intersection } from './hostname-intersection.ts'
import { takesRoutes } from './listener.ts'
import type { Recipient } from './messages.ts'
import { recipientOf } from './recipient.ts'
import { waypointsOf } from './waypoint.ts'

/** What became of one parent of a route. */
export type Attachment =
  | {
      readonly kind: 'attached'
      readonly reference: ParentReference
      readonly owner: HostOwner
      /** Undefined: every port. */
      readonly port: number | undefined
    }
  | {
      readonly kind: 'at-gateway'
      readonly reference: ParentReference
      readonly gateway: GatewayObject
      /** At least one. */
      readonly listeners: readonly AttachedListener[]
    }
  | {
      readonly kind: 'refused'
      readonly reference: ParentReference
      readonly reason: 'NoMatchingParent' | 'NotAllowedByListeners' | 'NoMatchingListenerHostname'
      readonly message: string
    }

export interface AttachedListener {
  readonly name: string
  /** Of the route and of the listener both; '' = any. */
  readonly hostnames: readonly string[]
}

type Attaching = Pick<RouteObject, 'kind' | 'meta' | 'hostnames'>

export function attachParent(view: ClusterView, route: Attaching, reference: ParentReference): Attachment {
  const { group, kind, namespace, name } = reference
  if (kind === 'Service' && group !== '') {
    return refused(reference, 'NoMatchingParent', 'kind Service is of the core group: write group: ""')
  }
  return kind === 'Gateway'
    ? attachToGateway(view, route, reference, view.get(kind, `${namespace}/${name}`))
    : attachToService(view, route, reference, view.get(kind, `${namespace}/${name}`))
}

function attachToGateway(
  view: ClusterView,
  route: Attaching,
  reference: ParentReference,
  gateway: GatewayObject | undefined
): Attachment {
  const { namespace, name, sectionName, port } = reference
  const key = `${namespace}/${name}`
  if (gateway === undefined || !view.discovers(namespace)) {
    return refused(reference, 'NoMatchingParent', `Gateway ${key} was not found`)
  }
  if (gatewayRole(view, gateway) === 'waypoint') {
    const message = `Gateway ${key} is a waypoint: name the Service or ServiceEntry that the route is for`
    return refused(reference, 'NotAllowedByListeners', message)
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
    return refused(reference, 'NoMatchingParent', message)
  }
  const ofKind = named.filter(listener => takesRoutes(listener, route.kind))
  if (ofKind.length === 0) {
    const message = `no listener of Gateway ${key} that is meant takes a ${route.kind}: see its protocol and allowedRoutes.kinds`
    return refused(reference, 'NotAllowedByListeners', message)
  }
  const admitting = ofKind.filter(listener => admitsNamespace(view, gateway, listener, route.meta.namespace))
  if (admitting.length === 0) {
    const message = `no listener of Gateway ${key} that is meant takes routes of namespace ${route.meta.namespace}: see its allowedRoutes.namespaces`
    return refused(reference, 'NotAllowedByListeners', message)
  }
  const listeners = admitting
    .map(({ name, hostname }) => ({ name, hostnames: intersection(hostname, route.hostnames) }))
    .filter(({ hostnames }) => hostnames.length > 0)
  if (listeners.length > 0) return { kind: 'at-gateway', reference, gateway, listeners }
  const hostnames = admitting.map(({ hostname }) => hostname).join(', ')
  const message = `no hostname of the route is one of the listeners of Gateway ${key}: ${hostnames}`
  return refused(reference, 'NoMatchingListenerHostname', message)
}

function attachToService(
  view: ClusterView,
  route: Attaching,
  reference: ParentReference,
  owner: HostOwner | undefined
): Attachment {
  const { kind, namespace, name, port, sectionName } = reference
  const key = `${namespace}/${name}`
  const without = (message: string): Attachment => refused(reference, 'NoMatchingParent', message)
  if (route.kind === 'TLSRoute') return without('a TLSRoute is for listeners of Gateways alone')
  if (owner === undefined || !view.discovers(namespace)) return without(`${kind} ${key} was not found`)
  if (owner.kind === 'Service' && owner.external) {
    return without(`Service ${key} is an ExternalName: it is an alias only, and has no traffic of its own`)
  }
  if (port === undefined && sectionName === '') return { kind: 'attached', reference, owner, port }
  const found = owner.ports.find(
    each => (port === undefined || each.port === port) && (sectionName === '' || each.name === sectionName)
  )
  if (found !== undefined) return { kind: 'attached', reference, owner, port: found.port }
  const wanted = [port ?? [], sectionName === '' ? [] : JSON.stringify(sectionName)].flat().join(' ')
  const ports = owner.ports.map(({ port, name }) => `${port} ${JSON.stringify(name)}`).join(', ')
  return without(`${kind} ${key} has no TCP port ${wanted}; it has ${ports === '' ? 'none' : ports}`)
}

function refused(
  reference: ParentReference,
  reason: Extract<Attachment, { kind: 'refused' }>['reason'],
  message: string
): Attachment {
  return { kind: 'refused', reference, reason, message }
}

/** The waypoints and gateways that have to know the route. */
export function routeRecipients(view: ClusterView, route: RouteObject): readonly Recipient[] {
  if (!view.discovers(route.meta.namespace)) return []
  return route.parents.flatMap((reference): readonly Recipient[] => {
    const attachment = attachParent(view, route, reference)
    switch (attachment.kind) {
      case 'attached':
        return waypointsOf(view, attachment.owner.meta)
      case 'at-gateway':
        return [recipientOf(view, attachment.gateway) ?? []].flat()
      default:
        return []
    }
  })
}
