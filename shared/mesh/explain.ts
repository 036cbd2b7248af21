/**
 * Why a connection takes the path that it takes, and what the policies on it decide: the same decisions that
 * ztunnel enforces (`decideRoute`, `evaluate`), asked for one imagined connection and written down. Pure; the
 * control plane answers for the desired state, each agent for the state that it holds.
 */
import { formatSocketAddress, ipFamily, type SocketAddress } from '../net/address.ts'
import { explain, type PolicyTrace, type Verdict } from '../policy/evaluate.ts'
import { findDestination, findSource, type NamedDestination } from './explain-names.ts'
import { serviceKey, workloadIdentity, type Service, type ServiceKey, type Workload } from './model.ts'
import { decideRoute, type Route, type RouteContext } from './route.ts'
import type { MeshView } from './view.ts'

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

export interface ExplainedWorkload {
  readonly uid: string
  readonly name: string
  readonly namespace: string
  readonly node: string
  readonly addresses: readonly string[]
  readonly identity: string
  /** Whether its traffic is captured and its policies are enforced at its node. */
  readonly enrolled: boolean
}

export interface ExplainedDestination {
  /** What the client connects to, `ip:port`; several for a service without an address of its own. */
  readonly addresses: readonly string[]
  readonly port: number
  readonly service: ServiceKey | undefined
  /** Uid of the workload, when one was named. */
  readonly workload: string | undefined
}

export interface Leg {
  readonly from: ExplainedWorkload
  readonly hop: HopDecision
  /** What led to the decision, in order. */
  readonly because: readonly string[]
  /** Where the connection can arrive; destinations that see and decide the same are one entry. */
  readonly arrivals: readonly Arrival[]
}

export type HopDecision =
  | { readonly kind: 'refused'; readonly reason: string; readonly message: string }
  /** As if there were no mesh: the source is not captured, or nobody knows the destination. */
  | { readonly kind: 'passthrough'; readonly to: string }
  | { readonly kind: 'plaintext'; readonly to: string }
  | {
      readonly kind: 'hbone'
      readonly to: string
      readonly authority: string
      readonly through: 'destination' | 'service-waypoint' | 'workload-waypoint'
      readonly expected: readonly string[]
    }
  | { readonly kind: 'double-hbone'; readonly to: string; readonly authority: string }

export interface Arrival {
  readonly destination: ExplainedWorkload
  /** How many more destinations are like this one. */
  readonly alike: number
  /** The application's address there. */
  readonly target: string
  /** What mutual TLS proves about the client; undefined when it comes in the clear. */
  readonly identity: string | undefined
  /** Who decides: the agent on the destination's node, the waypoint, or nobody. */
  readonly enforcedBy: 'agent' | 'waypoint' | 'nobody'
  /** Set when the agent decides. */
  readonly verdict: Verdict | undefined
  readonly policies: readonly PolicyTrace[]
}

/** Destinations of one service that are looked at; more would explain nothing new. */
const maxDestinations = 64

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

function arrivalAt(
  view: MeshView,
  source: Workload,
  destination: Workload,
  target: SocketAddress,
  tunnelled: boolean
): Arrival {
  const identity = tunnelled ? workloadIdentity(source) : undefined
  const base = {
    destination: described(destination),
    alike: 0,
    target: formatSocketAddress(target),
    identity
  }
  const sourceIp = source.addresses.find(ip => ipFamily(ip) === ipFamily(target.ip)) ?? source.addresses[0]
  if (destination.protocol !== 'HBONE' || sourceIp === undefined) {
    return { ...base, enforcedBy: 'nobody', verdict: undefined, policies: [] }
  }
  const { verdict, policies } = explain(view.policiesOf(destination), {
    sourceIp,
    identity,
    destinationIp: target.ip,
    destinationPort: target.port
  })
  return { ...base, enforcedBy: 'agent', verdict, policies }
}

/** The endpoints of a service with the address that a client in the source's place reaches. */
function endpointsOf(
  view: MeshView,
  service: Service,
  port: number,
  source: Workload
): { readonly workload: Workload; readonly address: SocketAddress }[] {
  return view
    .endpoints(serviceKey(service))
    .slice(0, maxDestinations)
    .flatMap(endpoint => {
      const workload = view.workloadByUid(endpoint.workloadUid)
      const target = endpoint.ports.get(port) || service.ports.get(port) || 0
      const family = source.addresses[0] === undefined ? 4 : ipFamily(source.addresses[0])
      const ip = workload?.addresses.find(one => ipFamily(one) === family) ?? workload?.addresses[0]
      return workload === undefined || ip === undefined || target === 0
        ? []
        : [{ workload, address: { ip, port: target } }]
    })
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
    const endpoints = view.endpoints(serviceKey(service))
    const healthy = endpoints.filter(({ status }) => status === 'Healthy').length
    reasons.push(`${healthy} of ${endpoints.length} endpoints are healthy`)
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

function hopOf(route: Route): HopDecision {
  switch (route.kind) {
    case 'refused':
      return { kind: 'refused', reason: route.reason, message: route.message }
    case 'passthrough':
    case 'plaintext':
      return { kind: route.kind, to: formatSocketAddress(route.to) }
    case 'hbone':
      return {
        kind: 'hbone',
        to: formatSocketAddress(route.hop.address),
        authority: route.authority,
        through: route.through,
        expected: route.hop.expected
      }
    case 'double-hbone':
      return {
        kind: 'double-hbone',
        to: formatSocketAddress(route.gateway.address),
        authority: route.authority
      }
    case 'resolve':
      return { kind: 'plaintext', to: route.hostname }
    default:
      return route satisfies never
  }
}

function destinationOf(route: Route): Workload | undefined {
  switch (route.kind) {
    case 'plaintext':
    case 'double-hbone':
      return route.destination
    case 'hbone':
      return route.through === 'destination' ? route.destination : route.hop.workload
    case 'resolve':
      return route.workload
    case 'passthrough':
    case 'refused':
      return undefined
    default:
      return route satisfies never
  }
}

function targetOf(route: Route): SocketAddress | undefined {
  if (route.kind === 'plaintext') return route.to
  return route.kind === 'hbone' ? route.target : undefined
}

function described(workload: Workload): ExplainedWorkload {
  return {
    uid: workload.uid,
    name: workload.name,
    namespace: workload.namespace,
    node: workload.node,
    addresses: workload.addresses,
    identity: workloadIdentity(workload),
    enrolled: workload.protocol === 'HBONE'
  }
}

/** Joins arrivals whose verdict comes about in the same way. */
function grouped(arrivals: readonly Arrival[]): Arrival[] {
  const groups = new Map<string, Arrival>()
  for (const arrival of arrivals) {
    const { verdict, policies, enforcedBy, identity } = arrival
    const key = JSON.stringify([enforcedBy, identity ?? '', verdict ?? null, policies])
    const known = groups.get(key)
    groups.set(key, known === undefined ? arrival : { ...known, alike: known.alike + 1 })
  }
  return [...groups.values()]
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
