/**
 * Which of the HTTPRoutes and GRPCRoutes with a host in common a listener takes: the oldest, and with it those of its
 * kind. Source: Gateway API v1, `hostnames` of a GRPCRoute.
 */
import { routeTarget, type ClusterView } from '../cluster/cluster.ts'
import { byAge, keyOf, type GatewayObject, type RouteKind, type RouteObject } from '../cluster/objects.ts'
import { haveCommonHost } from './hostname-intersection.ts'
import { listenersMeant, type AttachedListener, type Attaching } from './route-listeners.ts'
import { isCarriedOut } from './route-support.ts'

interface Contender {
  readonly route: Attaching
  readonly hostnames: readonly string[]
}

const rivalKinds: ReadonlyMap<RouteKind, RouteKind> = new Map([
  ['HTTPRoute', 'GRPCRoute'],
  ['GRPCRoute', 'HTTPRoute']
])

/** The route of the other kind that has a host which `route` wants at a listener; undefined: nobody is in its way. */
export function olderRival(
  view: ClusterView,
  gateway: GatewayObject,
  route: Attaching,
  { name, hostnames }: AttachedListener
): Attaching | undefined {
  const others = [...view.routesNaming(routeTarget({ kind: 'Gateway', ...gateway.meta }))]
  // A rival that has lost itself is in nobody's way, so those before it are looked at as well.
  const contenders: Contender[] = [{ route, hostnames }]
  const met = new Set<Attaching>([route])
  for (const contender of contenders) {
    for (const other of others) {
      if (met.has(other) || !isRival(other, contender.route) || !isOlder(other, contender.route)) continue
      const wanted = hostnamesAt(view, gateway, other, name)
      if (!haveCommonHost(wanted, contender.hostnames)) continue
      met.add(other)
      contenders.push({ route: other, hostnames: wanted })
    }
  }
  const taken: Contender[] = []
  const inTheWay = (contender: Contender): Contender | undefined =>
    taken.find(
      each => isRival(each.route, contender.route) && haveCommonHost(each.hostnames, contender.hostnames)
    )
  for (const contender of contenders.slice(1).toSorted((a, b) => (isOlder(a.route, b.route) ? -1 : 1))) {
    if (inTheWay(contender) === undefined) taken.push(contender)
  }
  return inTheWay({ route, hostnames })?.route
}

/** Those whose attachment may change with that of `route`: they share a host with it, or with one that does. */
export function rivalsOf(view: ClusterView, route: RouteObject): readonly RouteObject[] {
  const found = new Set<RouteObject>()
  const targets = route.parents.filter(({ kind }) => kind === 'Gateway').map(routeTarget)
  for (const target of new Set(targets)) {
    const others = [...view.routesNaming(target)]
    const near = [route]
    for (const each of near) {
      for (const other of others) {
        if (found.has(other) || !isRival(other, each) || !mayShareHost(other, each)) continue
        found.add(other)
        near.push(other)
      }
    }
  }
  return [...found]
}

function isRival(one: Attaching, other: Attaching): boolean {
  return rivalKinds.get(one.kind) === other.kind
}

function mayShareHost(one: Attaching, other: Attaching): boolean {
  return (
    one.hostnames.length === 0 ||
    other.hostnames.length === 0 ||
    haveCommonHost(one.hostnames, other.hostnames)
  )
}

/** By age, then by namespace and name; with both the same an HTTPRoute comes after a GRPCRoute. */
function isOlder(one: Attaching, other: Attaching): boolean {
  const isSame = one.meta.createdMs === other.meta.createdMs && keyOf(one.meta) === keyOf(other.meta)
  return isSame ? one.kind < other.kind : byAge(one, other) < 0
}

/** Those that a route wants at a listener; none where it may not, or nothing of it is carried out. */
function hostnamesAt(
  view: ClusterView,
  gateway: GatewayObject,
  route: RouteObject,
  listener: string
): readonly string[] {
  if (!view.discovers(route.meta.namespace) || !isCarriedOut(route)) return []
  const target = routeTarget({ kind: 'Gateway', ...gateway.meta })
  return route.parents
    .filter(reference => routeTarget(reference) === target)
    .map(reference => listenersMeant(view, gateway, route, reference))
    .flatMap(meant => (meant.kind === 'meant' ? meant.listeners : []))
    .filter(({ name }) => name === listener)
    .flatMap(({ hostnames }) => hostnames)
}
