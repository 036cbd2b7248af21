/**
 * Which services and which listeners a route applies to, and who has to know of it.
 * Source: Gateway API v1, attachment of routes, and its routes of a mesh.
 */
import type { ClusterView, HostOwner } from '../cluster/cluster.ts'
import { keyOf, type GatewayObject, type ParentReference, type RouteObject } from '../cluster/objects.ts'
import type { Recipient } from './messages.ts'
import { recipientOf } from './recipient.ts'
import {
  listenersMeant,
  type AttachedListener,
  type Attaching,
  type RouteRefusal
} from './route-listeners.ts'
import { olderRival } from './route-rivals.ts'
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
      readonly reason: RouteRefusal
      readonly message: string
    }

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
  const { namespace, name } = reference
  const key = `${namespace}/${name}`
  if (gateway === undefined || !view.discovers(namespace)) {
    return refused(reference, 'NoMatchingParent', `Gateway ${key} was not found`)
  }
  const meant = listenersMeant(view, gateway, route, reference)
  if (meant.kind === 'refused') return refused(reference, meant.reason, meant.message)
  const contests = meant.listeners.map(listener => ({
    listener,
    rival: olderRival(view, gateway, route, listener)
  }))
  const listeners = contests.flatMap(({ listener, rival }) => (rival === undefined ? [listener] : []))
  if (listeners.length > 0) return { kind: 'at-gateway', reference, gateway, listeners }
  const lost = contests.flatMap(({ listener, rival }) =>
    rival === undefined ? [] : [`${rival.kind} ${keyOf(rival.meta)} of listener ${listener.name}`]
  )
  const message = `hosts of the route are those of an older route of another kind: ${lost.join(', ')}; give them other hostnames`
  return refused(reference, 'NotAllowedByListeners', message)
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

function refused(reference: ParentReference, reason: RouteRefusal, message: string): Attachment {
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
