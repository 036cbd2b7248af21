/** The parts of an explanation: what a hop is, where it arrives, and what is decided there. */
import { formatSocketAddress, ipFamily, type SocketAddress } from '../net/address.ts'
import { explain, type PolicyTrace, type Verdict } from '../policy/evaluate.ts'
import { serviceKey, workloadIdentity, type Service, type ServiceKey, type Workload } from './model.ts'
import type { Route } from './route.ts'
import type { MeshView } from './view.ts'

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
  /** Nodes of all of them. */
  readonly nodes: readonly string[]
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
export const maxDestinations = 64

export function hopOf(route: Route): HopDecision {
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

/** Who is dialled next. */
export function destinationOf(route: Route): Workload | undefined {
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

/** The application's address, where the next hop is the destination itself. */
export function targetOf(route: Route): SocketAddress | undefined {
  if (route.kind === 'plaintext') return route.to
  return route.kind === 'hbone' ? route.target : undefined
}

/** What a connection that comes from `source` meets at a destination; `tunnelled`: with mutual TLS. */
export function arrivalAt(
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
    nodes: [destination.node],
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
export function endpointsOf(
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

export function described(workload: Workload): ExplainedWorkload {
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
export function grouped(arrivals: readonly Arrival[]): Arrival[] {
  const groups = new Map<string, Arrival>()
  for (const arrival of arrivals) {
    const { verdict, policies, enforcedBy, identity } = arrival
    const key = JSON.stringify([enforcedBy, identity ?? '', verdict ?? null, policies])
    const known = groups.get(key)
    groups.set(key, known === undefined ? arrival : joined(known, arrival))
  }
  return [...groups.values()]
}

function joined(known: Arrival, other: Arrival): Arrival {
  return { ...known, alike: known.alike + 1, nodes: [...new Set([...known.nodes, ...other.nodes])] }
}
