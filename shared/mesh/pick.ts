/**
 * Which endpoint of a service a connection goes to: candidates, then the best rank by place, then one of these.
 * Source: the load balancing of Istio's ztunnel; least-request, affinity and exclusion are ours.
 */
import type { Ip } from '../net/address.ts'
import { hashOf } from './hash.ts'
import { serviceKey, type RoutingScope, type Service, type Workload, type WorkloadUid } from './model.ts'
import type { EndpointScopes, EndpointTable, MeshView } from './view.ts'

export interface PickContext {
  readonly source: Workload
  readonly sourceIp: Ip
  /** A number from 0 up to, not including, 1. */
  readonly random: () => number
  readonly loadBalancing?: 'random' | 'least-request'
  /** Open connections to a workload, for `least-request`. */
  readonly load?: (uid: WorkloadUid) => number
  /** Endpoints that a dial just failed for; not picked again while there are others. */
  readonly exclude?: ReadonlySet<WorkloadUid>
}

export interface Picked {
  readonly workload: Workload
  readonly port: number
}

/**
 * `standard`: the service has to list the port. `gateway`: for waypoints and network gateways, whose port may be
 * missing in the service when the endpoint has an application tunnel; it then passes as it is.
 */
export type PortMode = 'standard' | 'gateway'

/** One endpoint for this service port, or undefined when none can be used. */
export function pickEndpoint(
  view: MeshView,
  service: Service,
  port: number,
  mode: PortMode,
  context: PickContext
): Picked | undefined {
  if (mode === 'standard' && !service.ports.has(port)) return undefined
  const table = view.endpointTable(serviceKey(service))
  const ports = { service, port, mode }
  const rows = bestRows(table, ports, context)
  const row = chooseRow(table, withoutExcluded(table, rows, context.exclude), service, context)
  if (row === undefined) return undefined
  return { workload: table.workload(row), port: targetPort(table, row, ports) }
}

interface WantedPort {
  readonly service: Service
  readonly port: number
  readonly mode: PortMode
}

/** Usable endpoints of the best rank. */
function bestRows(table: EndpointTable, ports: WantedPort, context: PickContext): number[] {
  const { loadBalancer } = ports.service
  const preferences = loadBalancer?.routingPreferences ?? []
  const ranked = loadBalancer?.mode === 'Failover' || loadBalancer?.mode === 'Strict'
  const here = table.length === 0 ? undefined : table.scopesOf(context.source)
  let rows: number[] = []
  if (here === undefined) return rows
  let best = 0
  for (let row = 0; row < table.length; row += 1) {
    if (!usable(table, row, ports, here)) continue
    if (ranked) {
      if (loadBalancer.mode === 'Strict' && !isEverywhere(table, row, here, preferences)) continue
      const rank = rankOf(table, row, here, preferences)
      if (rank < best) continue
      if (rank > best) {
        rows = []
        best = rank
      }
    }
    rows.push(row)
  }
  return rows
}

function usable(table: EndpointTable, row: number, ports: WantedPort, here: EndpointScopes): boolean {
  if (!table.healthy(row) && ports.service.loadBalancer?.healthPolicy !== 'AllowAll') return false
  if (targetPort(table, row, ports) === 0) return false
  if (table.addressable(row)) return true
  return table.hasGateway(row) && table.scope(row, 'Network') !== here.Network
}

/** The endpoint's own port, else the service's, else with an application tunnel the service port; 0 is none. */
function targetPort(table: EndpointTable, row: number, { service, port, mode }: WantedPort): number {
  const tunnel = table.applicationTunnelPort(row)
  if (mode === 'gateway' && !service.ports.has(port)) return tunnel >= 0 ? port : 0
  const own = table.targetPort(row, port)
  if (own > 0) return own
  const common = service.ports.get(port) ?? 0
  if (common > 0) return common
  return tunnel > 0 ? port : 0
}

/**
 * Preferences that hold, counted from the first until one does not. A first preference for the network is
 * stronger: whatever is in our network beats everything else, and what is not goes on being ranked.
 */
function rankOf(
  table: EndpointTable,
  row: number,
  here: EndpointScopes,
  preferences: readonly RoutingScope[]
): number {
  let rank = 0
  for (const [index, scope] of preferences.entries()) {
    const same = table.scope(row, scope) === here[scope]
    if (index === 0 && scope === 'Network') {
      if (same) rank += preferences.length
      continue
    }
    if (!same) break
    rank += 1
  }
  return rank
}

function isEverywhere(
  table: EndpointTable,
  row: number,
  here: EndpointScopes,
  scopes: readonly RoutingScope[]
): boolean {
  return scopes.every(scope => table.scope(row, scope) === here[scope])
}

/** All of them again when every one is excluded: a second try at the same endpoint is better than none. */
function withoutExcluded(
  table: EndpointTable,
  rows: number[],
  exclude: ReadonlySet<WorkloadUid> | undefined
): number[] {
  if (exclude === undefined || exclude.size === 0) return rows
  const hashes = new Set([...exclude].map(hashOf)) // so that only look-alikes are decoded
  const others = rows.filter(row => !hashes.has(table.hash(row)) || !exclude.has(table.workload(row).uid))
  return others.length > 0 ? others : rows
}

function chooseRow(
  table: EndpointTable,
  rows: readonly number[],
  service: Service,
  context: PickContext
): number | undefined {
  if ((service.traffic?.clientIpAffinitySeconds ?? 0) > 0) return rowOfClient(table, rows, context.sourceIp)
  const first = weightedRow(table, rows, context.random)
  if (first === undefined || context.loadBalancing !== 'least-request' || rows.length === 1) return first
  // The less loaded of two chances is nearly as good as the least of all, and does not send everybody there.
  const second = weightedRow(table, rows, context.random) ?? first
  const load = (row: number): number => context.load?.(table.workload(row).uid) ?? 0
  return load(second) < load(first) ? second : first
}

/** By capacity; without any capacity nothing takes traffic. */
function weightedRow(
  table: EndpointTable,
  rows: readonly number[],
  random: () => number
): number | undefined {
  let total = 0
  for (const row of rows) total += table.capacity(row)
  let rest = random() * total
  for (const row of rows) {
    rest -= table.capacity(row)
    if (rest < 0) return row
  }
  return undefined
}

/**
 * Rendezvous hashing: a client keeps its endpoint while that one can be used, without any state, and an endpoint
 * that comes or goes moves no other client than its own.
 */
function rowOfClient(table: EndpointTable, rows: readonly number[], client: Ip): number | undefined {
  let best: number | undefined
  let bestScore = -1
  for (const row of rows) {
    const weight = table.capacity(row)
    if (weight === 0) continue
    const chance = (hashOf(`${client}|${table.hash(row)}`) + 0.5) / 2 ** 32
    const score = -weight / Math.log(chance)
    if (score > bestScore) {
      best = row
      bestScore = score
    }
  }
  return best
}
