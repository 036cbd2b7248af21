/**
 * VirtualServices for waypoints: the spec as it is written, with whole hostnames, and each destination either a service
 * that is there or the reason why it is none. A waypoint carries out those of its own namespace and those of the
 * namespace of the service, for services whose traffic goes through it, as far as they are exported to it.
 * Source: Istio's published `hosts`, `exportTo` and `Destination`.
 */
import {
  destinationsOf,
  hostsOfVirtualService,
  wholeHost,
  type ClusterView,
  type HostOwner
} from '../cluster/cluster.ts'
import {
  virtualRouteKinds,
  type JsonObject,
  type VirtualDestination,
  type VirtualRoute,
  type VirtualServiceObject,
  type VirtualShare
} from '../cluster/objects.ts'
import { canonicalOwner, hostOwner, servicesUnder, type HostedService } from './hostname.ts'
import type { ConfigMessage, Recipient } from './messages.ts'
import { waypointsServing } from './waypoint.ts'

/** Undefined when no waypoint carries it out. */
export function translateVirtualService(
  view: ClusterView,
  virtualService: VirtualServiceObject
): ConfigMessage | undefined {
  const waypoints = carriers(view, virtualService)
  if (waypoints.length === 0) return undefined
  const { namespace, name, createdMs } = virtualService.meta
  const routes = virtualRouteKinds
    .map(kind => [kind, virtualService.routes[kind].map(route => routeOf(view, namespace, route))] as const)
    .filter(([, routes]) => routes.length > 0)
  const hosts = hostsOfVirtualService(virtualService, view.settings.domain)
  return {
    kind: 'VirtualService',
    message: { namespace, name, createdMs, spec: { hosts, ...Object.fromEntries(routes) } },
    waypoints
  }
}

/** Waypoints that need this service, though it may not be theirs: their VirtualServices lead to it. */
export function virtualServiceRecipients(
  view: ClusterView,
  owner: HostOwner,
  hostname: string
): readonly Recipient[] {
  return [...view.virtualServicesTo(hostname)]
    .filter(virtualService => {
      const { namespace } = virtualService.meta
      return [...destinationsOf(virtualService)].some(destination => {
        if (wholeHost(destination.host, namespace, view.settings.domain) !== hostname) return false
        const found = resolve(view, namespace, destination)
        return found.kind === 'resolved' && found.owner === owner
      })
    })
    .flatMap(virtualService => carriers(view, virtualService))
}

function carriers(view: ClusterView, virtualService: VirtualServiceObject): readonly Recipient[] {
  const { meta, routes } = virtualService
  if (!view.discovers(meta.namespace)) return []
  if (virtualRouteKinds.every(kind => routes[kind].length === 0)) return []
  const seeing = audienceOf(view, virtualService)
  return hostsOfVirtualService(virtualService, view.settings.domain)
    .flatMap(host => [...servicesUnder(view, host)])
    .flatMap(service => serving(view, meta.namespace, service))
    .filter(({ namespace }) => seeing.includes('*') || seeing.includes(namespace))
    .map(({ recipient }) => recipient)
}

/** Namespaces whose waypoints see it: `*` is all of them. */
function audienceOf({ settings }: ClusterView, { exportTo, meta }: VirtualServiceObject): readonly string[] {
  const names = exportTo.length > 0 ? exportTo : settings.virtualServiceExportTo
  return names.map(name => (name === '.' ? meta.namespace : name))
}

/** Waypoints of a service that heed VirtualServices of the namespace for it, each with its own namespace. */
function serving(
  view: ClusterView,
  namespace: string,
  { owner, hostname }: HostedService
): readonly { readonly namespace: string; readonly recipient: Recipient }[] {
  if (hostOwner(view, owner.meta.namespace, hostname) !== owner) return []
  return waypointsServing(view, owner.meta)
    .map(({ key, address }) => ({ namespace: key.slice(0, key.indexOf('/')), recipient: address }))
    .filter(waypoint => waypoint.namespace === namespace || owner.meta.namespace === namespace)
}

function routeOf(view: ClusterView, namespace: string, route: VirtualRoute): JsonObject {
  const shares = (list: readonly VirtualShare[]): readonly JsonObject[] =>
    list.map(({ destination, fields }) => ({
      destination: destinationOf(view, namespace, destination),
      ...fields
    }))
  const { fields, mirror } = route
  return {
    ...fields,
    ...(route.route.length === 0 ? {} : { route: shares(route.route) }),
    ...(mirror === undefined ? {} : { mirror: destinationOf(view, namespace, mirror) }),
    ...(route.mirrors.length === 0 ? {} : { mirrors: shares(route.mirrors) })
  }
}

function destinationOf(view: ClusterView, namespace: string, destination: VirtualDestination): JsonObject {
  const found = resolve(view, namespace, destination)
  if (found.kind === 'unresolved') return { unresolved: found.reason }
  const { subset } = destination
  return {
    host: found.hostname,
    namespace: found.owner.meta.namespace,
    ...(subset === '' ? {} : { subset }),
    ...(found.port === undefined ? {} : { port: { number: found.port } })
  }
}

type Resolution =
  | {
      readonly kind: 'resolved'
      readonly owner: HostOwner
      readonly hostname: string
      /** Undefined: that which the request was for. */
      readonly port: number | undefined
    }
  | { readonly kind: 'unresolved'; readonly reason: string }

/** A service of the VirtualService's own namespace comes before the one that is everybody's. */
function resolve(view: ClusterView, namespace: string, { host, port }: VirtualDestination): Resolution {
  const hostname = wholeHost(host, namespace, view.settings.domain)
  const owner = hostOwner(view, namespace, hostname) ?? canonicalOwner(view, hostname)
  if (owner === undefined) {
    return { kind: 'unresolved', reason: `no Service or ServiceEntry declares host ${hostname}` }
  }
  const [first, ...others] = owner.ports
  if (first === undefined || (port !== undefined && owner.ports.every(each => each.port !== port))) {
    const ports = owner.ports.map(({ port }) => port).join(', ')
    const wanted = port === undefined ? 'TCP port' : `TCP port ${port}`
    const reason = `${hostname} has no ${wanted}${ports === '' ? '' : `; it has ${ports}`}`
    return { kind: 'unresolved', reason }
  }
  return {
    kind: 'resolved',
    owner,
    hostname,
    port: port ?? (others.length === 0 ? first.port : undefined)
  }
}
