/** Which services a route applies to, and through which waypoints. Source: Gateway API v1, routes of a mesh. */
import type { ClusterView, HostOwner } from '../cluster/cluster.ts'
import type { ParentReference, RouteObject } from '../cluster/objects.ts'
import type { GatewayAddressMessage } from './messages.ts'
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
      readonly kind: 'refused'
      readonly reference: ParentReference
      readonly reason: 'NoMatchingParent' | 'NotAllowedByListeners'
      readonly message: string
    }

export function attachParent(view: ClusterView, reference: ParentReference): Attachment {
  const { group, kind, namespace, name, port, sectionName } = reference
  const refused = (message: string): Attachment => ({
    kind: 'refused',
    reference,
    reason: kind === 'Gateway' ? 'NotAllowedByListeners' : 'NoMatchingParent',
    message
  })
  if (kind === 'Service' && group !== '') return refused('kind Service is of the core group: write group: ""')
  const key = `${namespace}/${name}`
  if (kind === 'Gateway') {
    return refused(`Gateway ${key} is a waypoint: name the Service or ServiceEntry that the route is for`)
  }
  const owner = view.get(kind, key)
  if (owner === undefined || !view.discovers(namespace)) return refused(`${kind} ${key} was not found`)
  if (owner.kind === 'Service' && owner.external) {
    return refused(`Service ${key} is an ExternalName: it is an alias only, and has no traffic of its own`)
  }
  if (port === undefined && sectionName === '') return { kind: 'attached', reference, owner, port }
  const found = owner.ports.find(
    each => (port === undefined || each.port === port) && (sectionName === '' || each.name === sectionName)
  )
  if (found !== undefined) return { kind: 'attached', reference, owner, port: found.port }
  const wanted = [port ?? [], sectionName === '' ? [] : JSON.stringify(sectionName)].flat().join(' ')
  const ports = owner.ports.map(({ port, name }) => `${port} ${JSON.stringify(name)}`).join(', ')
  return refused(`${kind} ${key} has no TCP port ${wanted}; it has ${ports === '' ? 'none' : ports}`)
}

/** Addresses of the waypoints that have to know the route. */
export function routeWaypoints(view: ClusterView, route: RouteObject): readonly GatewayAddressMessage[] {
  if (!view.discovers(route.meta.namespace)) return []
  return route.parents.flatMap(reference => {
    const attachment = attachParent(view, reference)
    return attachment.kind === 'refused' ? [] : waypointsOf(view, attachment.owner.meta)
  })
}
