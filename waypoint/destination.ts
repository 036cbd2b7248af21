/** Whom a tunnel is for: what its CONNECT names, if this waypoint serves it. */
import type { Authority } from '../shared/hbone/connect.ts'
import { formatAuthority } from '../shared/hbone/connect.ts'
import type { GatewayAddress, Service, Workload } from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'

export type Destination =
  | {
      readonly kind: 'service'
      readonly service: Service
      readonly port: number
      /** In the client's hello, where that was looked at; empty without one. */
      readonly serverName?: string
    }
  /** Addressed as a pod: no routes apply. */
  | { readonly kind: 'workload'; readonly workload: Workload; readonly port: number }
  /** Never forwarded blindly. */
  | { readonly kind: 'refused'; readonly reason: string }

export interface ServedBy {
  readonly network: string
  /** The Service by which the mesh knows this waypoint. */
  readonly self: { readonly namespace: string; readonly hostname: string }
  /** From the client's certificate: services may be visible to their own namespace only. */
  readonly clientNamespace: string
}

export function findDestination(view: MeshView, authority: Authority, by: ServedBy): Destination {
  const { clientNamespace, network } = by
  const port = authority.kind === 'address' ? authority.address.port : authority.port
  const service =
    authority.kind === 'address'
      ? view.serviceByAddress(network, authority.address.ip, clientNamespace)
      : view.serviceByHostname(authority.hostname, clientNamespace)
  if (service !== undefined) {
    if (!goesThrough(view, service, by)) return refused(`${service.hostname} does not use this waypoint`)
    if (!service.ports.has(port)) return refused(`${service.hostname} has no port ${port}`)
    return { kind: 'service', service, port }
  }
  const workload =
    authority.kind === 'address' ? view.workloadByAddress(network, authority.address.ip) : undefined
  if (workload === undefined) return refused(`nothing is known of ${formatAuthority(authority)}`)
  if (workload.waypoint === undefined || !isUs(view, workload.waypoint, by)) {
    return refused(`the workload ${workload.namespace}/${workload.name} does not use this waypoint`)
  }
  return { kind: 'workload', workload, port }
}

function goesThrough(view: MeshView, { waypoint, weightedWaypoints }: Service, by: ServedBy): boolean {
  if (waypoint !== undefined && isUs(view, waypoint, by)) return true
  return weightedWaypoints.some(({ destination }) => isUs(view, destination, by))
}

function isUs(view: MeshView, { destination }: GatewayAddress, { self, network }: ServedBy): boolean {
  if (destination.kind === 'hostname') {
    return destination.hostname === self.hostname && destination.namespace === self.namespace
  }
  const service = view.serviceByAddress(network, destination.ip, self.namespace)
  return service?.hostname === self.hostname && service.namespace === self.namespace
}

function refused(reason: string): Destination {
  return { kind: 'refused', reason }
}
