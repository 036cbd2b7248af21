/**
 * Why a connection takes the path that it takes, and what the policies on it decide: the same decisions that
 * ztunnel enforces (`decideRoute`, `evaluate`), asked for one imagined connection and written down. Pure; the
 * control plane answers for the desired state, each agent for the state that it holds.
 */
import { formatSocketAddress, type SocketAddress } from '../net/address.ts'
import { findDestination, findSource, type NamedDestination } from './explain-names.ts'
import {
  arrivalAt,
  described,
  destinationOf,
  endpointsOf,
  grouped,
  hopOf,
  maxDestinations,
  targetOf,
  type Arrival,
  type ExplainedDestination,
  type ExplainedWorkload,
  type Leg
} from './explain-parts.ts'
import { serviceKey, workloadIdentity, type Workload } from './model.ts'
import { decideRoute, type Route, type RouteContext } from './route.ts'
import type { MeshView } from './view.ts'

export type { Arrival, ExplainedDestination, ExplainedWorkload, HopDecision, Leg } from './explain-parts.ts'

export interface ExplainRequest {
  /** A pod, deployment, IP address or workload uid; see `explain-names.ts` for the forms. */
  readonly from: string
  /** The same or a service or host name, with a port: `svc/cart.shop:80`. */
  readonly to: string
  /** Where names without a namespace are looked up. */
  readonly namespace: string
}

export interface ExplainSettings {
  /** The proxy's own network; the source's when left out. */
  readonly network?: string
  readonly outboundTrafficPolicy?: 'ALLOW_ANY' | 'REGISTRY_ONLY'
}

export type ExplainResult =
  | Explanation
  /** A name that stands for nothing in this state. */
  | { readonly kind: 'unknown'; readonly what: 'from' | 'to'; readonly message: string }

export interface Explanation {
  readonly kind: 'explanation'
  readonly source: ExplainedWorkload
  readonly destination: ExplainedDestination
  /** One, or two where a waypoint is in between: source to waypoint, waypoint to destination. */
  readonly legs: readonly Leg[]
  /** `depends`: endpoints differ, or a part is decided where this state does not reach. */
  readonly outcome: 'allowed' | 'refused' | 'depends'
}

export function explainPath(
  view: MeshView,
  request: ExplainRequest,
  settings: ExplainSettings
): ExplainResult {
  const source = findSource(view, request.from, request.namespace)
  if (typeof source === 'string') return { kind: 'unknown', what: 'from', message: source }
  const named = findDestination(view, request.to, request.namespace, source)
  if (typeof named === 'string') return { kind: 'unknown', what: 'to', message: named }
  const legs = legsOf(view, source, named, settings)
  return {
    kind: 'explanation',
    source: described(source),
    destination: {
      addresses: named.addresses.map(formatSocketAddress),
      port: named.port,
      service: named.service === undefined ? undefined : serviceKey(named.service),
      workload: named.workload?.uid
    },
    legs,
    outcome: outcomeOf(legs)
  }
}

function legsOf(view: MeshView, source: Workload, named: NamedDestination, settings: ExplainSettings): Leg[] {
  const routes = named.addresses.flatMap(address => routesTo(view, source, address, settings))
  const [first] = routes
  if (first === undefined) return []
  const because = reasonsOf(view, source, named, first)
  if (source.protocol !== 'HBONE') return [uncapturedLeg(view, source, named, routes, because)]
  const leg: Leg = {
    from: described(source),
    hop: hopOf(first),
    because,
    arrivals: grouped(routes.flatMap(route => arrivalOf(view, source, route)))
  }
  return first.kind === 'hbone' && first.through !== 'destination'
    ? [leg, ...legBehindWaypoint(view, first.hop.workload, named)]
    : [leg]
}

/** The route, and what it would be if the endpoints chosen so far could not be dialled: every endpoint in turn. */
function routesTo(view: MeshView, source: Workload, to: SocketAddress, settings: ExplainSettings): Route[] {
  const exclude = new Set<string>()
  const routes: Route[] = []
  while (routes.length < maxDestinations) {
    const route = decideRoute(view, contextOf(source, settings, exclude), to)
    const uid = destinationOf(route)?.uid
    if (uid === undefined || exclude.has(uid)) return routes.length === 0 ? [route] : routes
    routes.push(route)
    exclude.add(uid)
  }
  return routes
}

function contextOf(source: Workload, settings: ExplainSettings, exclude: ReadonlySet<string>): RouteContext {
  const [sourceIp] = source.addresses
  if (sourceIp === undefined) throw new Error(`workload ${source.uid} has no address`) // findSource wants one
  return {
    network: settings.network ?? source.network,
    source,
    sourceIp,
    random: () => 0,
    exclude,
    ...(settings.outboundTrafficPolicy === undefined
      ? {}
      : { outboundTrafficPolicy: settings.outboundTrafficPolicy })
  }
}

/** Handles sources that are not enrolled: they connect in the clear, whatever the mesh knows. */
function uncapturedLeg(
  view: MeshView,
  source: Workload,
  named: NamedDestination,
  routes: readonly Route[],
  because: readonly string[]
): Leg {
  const [to] = named.addresses
  const arrivals = routes.flatMap(route => {
    const destination = named.workload ?? destinationOf(route)
    const target = targetOf(route)
    const behindWaypoint = route.kind === 'hbone' && route.through !== 'destination'
    if (destination === undefined || target === undefined || behindWaypoint) return []
    return [arrivalAt(view, source, destination, target, false)]
  })
  const direct = named.service === undefined ? [] : endpointsOf(view, named.service, named.port, source)
  const behind = direct.map(({ workload, address }) => arrivalAt(view, source, workload, address, false))
  return {
    from: described(source),
    hop: { kind: 'passthrough', to: to === undefined ? '' : formatSocketAddress(to) },
    because,
    arrivals: grouped(arrivals.length > 0 ? arrivals : behind)
  }
}

/** Handles what comes out of a waypoint: it carries the waypoint's identity. */
function legBehindWaypoint(view: MeshView, waypoint: Workload, named: NamedDestination): Leg[] {
  const targets =
    named.service === undefined
      ? named.workload === undefined
        ? []
        : named.addresses.map(address => ({ workload: named.workload as Workload, address }))
      : endpointsOf(view, named.service, named.port, waypoint)
  const [first] = targets
  if (first === undefined) return []
  const { workload, address } = first
  const to = formatSocketAddress(address)
  return [
    {
      from: described(waypoint),
      hop:
        workload.protocol === 'HBONE'
          ? {
              kind: 'hbone',
              to,
              authority: to,
              through: 'destination',
              expected: [workloadIdentity(workload)]
            }
          : { kind: 'plaintext', to },
      because: ['the waypoint chooses among the endpoints after its own routes and policies'],
      arrivals: grouped(
        targets.map(target =>
          arrivalAt(view, waypoint, target.workload, target.address, target.workload.protocol === 'HBONE')
        )
      )
    }
  ]
}

function arrivalOf(view: MeshView, source: Workload, route: Route): Arrival[] {
  const destination = destinationOf(route)
  const target = targetOf(route)
  if (destination === undefined) return []
  if (route.kind === 'hbone' && route.through !== 'destination') {
    return [
      {
        destination: described(destination),
        alike: 0,
        nodes: [destination.node],
        target: formatSocketAddress(route.hop.address),
        identity: workloadIdentity(source),
        enforcedBy: 'waypoint',
        verdict: undefined,
        policies: []
      }
    ]
  }
  if (target === undefined) return []
  return [arrivalAt(view, source, destination, target, route.kind === 'hbone')]
}

function reasonsOf(view: MeshView, source: Workload, named: NamedDestination, route: Route): string[] {
  const reasons: string[] = [...named.because]
  if (source.protocol !== 'HBONE') {
    return [
      ...reasons,
      `${source.name} is not enrolled: nothing captures its connections, they leave in the clear`
    ]
  }
  const { service } = named
  if (service !== undefined) {
    const { length } = view.endpoints(serviceKey(service))
    reasons.push(
      length === 1 ? 'it has one endpoint that may be used' : `it has ${length} endpoints that may be used`
    )
  }
  switch (route.kind) {
    case 'passthrough':
      reasons.push('the mesh knows no workload at this address')
      break
    case 'plaintext':
      reasons.push(`${route.destination.name} does not speak HBONE: it is not enrolled`)
      break
    case 'hbone':
      reasons.push(
        route.through === 'destination'
          ? `${route.destination.name} speaks HBONE`
          : route.through === 'service-waypoint'
            ? 'the service has a waypoint'
            : `${named.workload?.name ?? 'the workload'} has a waypoint`
      )
      break
    case 'double-hbone':
      reasons.push(
        `the destination is in network ${JSON.stringify(route.destination.network)}, behind a gateway`
      )
      break
    case 'resolve':
      reasons.push(`the endpoint is known by the name ${route.hostname} only, which is looked up`)
      break
    case 'refused':
      break
    default:
      return route satisfies never
  }
  return reasons
}

function outcomeOf(legs: readonly Leg[]): Explanation['outcome'] {
  if (legs.some(leg => leg.hop.kind === 'refused')) return 'refused'
  const arrivals = legs.flatMap(leg => leg.arrivals)
  const denied = arrivals.filter(({ verdict }) => verdict?.kind === 'deny').length
  const elsewhere = arrivals.some(({ enforcedBy }) => enforcedBy === 'waypoint')
  const remote = legs.some(leg => leg.hop.kind === 'double-hbone')
  if (denied > 0 && denied === arrivals.filter(({ verdict }) => verdict !== undefined).length && !remote)
    return 'refused'
  return denied > 0 || elsewhere || remote ? 'depends' : 'allowed'
}
