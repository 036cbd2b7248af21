/**
 * Which endpoint of a service a connection goes to: candidates, then the best rank by place, then one of these.
 * Source: the load balancing of Istio's ztunnel; least-request, affinity and exclusion are ours.
 */
import type { Ip } from '../net/address.ts'
import { hashOf, mixed } from './hash.ts'
import { serviceKey, type RoutingScope, type Service, type Workload, type WorkloadUid } from './model.ts'
import type { EndpointScopes, EndpointTable, MeshView } from './view.ts'

export interface PickContext {
  readonly source: Workload
  readonly sourceIp: Ip
  /** A number from 0 up to, not including, 1. */
  readonly random: () => number
  readonly loadBalancing?: 'random' | 'least-request'
  /** What is under way to a port of a workload, for `least-request`. */
  readonly load?: (uid: WorkloadUid, port: number) => number
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
  if (table.length === 0) return undefined
  const wanted = { service, port, mode }
  const candidates = withoutExcluded(table, candidatesOf(table, wanted, context.source), context.exclude)
  const row = chooseRow(table, candidates, wanted, context)
  if (row === undefined) return undefined
  return { workload: table.workload(row), port: targetPort(table, row, wanted) }
}

export interface UsableEndpoint extends Picked {
  /** Its share of traffic, relative to the others'. */
  readonly capacity: number
}

/**
 * All endpoints that this service port could use, near or far, for whoever chooses by other rules. The same array while
 * nothing has changed.
 */
export function usableEndpoints(
  view: MeshView,
  service: Service,
  port: number,
  source: Workload
): readonly UsableEndpoint[] {
  const table = view.endpointTable(serviceKey(service))
  if (table.length === 0 || !service.ports.has(port)) return []
  const wanted: WantedPort = { service, port, mode: 'standard' }
  const here = table.scopesOf(source)
  return table.derived(`usable ${keyOf(wanted, here)}`, () =>
    Array.from({ length: table.length }, (_, row) => row)
      .filter(row => usable(table, row, wanted, here))
      .map(row => ({
        workload: table.workload(row),
        port: targetPort(table, row, wanted),
        capacity: table.capacity(row)
      }))
  )
}

/** Rows to choose from, with the sum of their capacities up to each. */
interface Candidates {
  readonly rows: Uint32Array
  readonly sums: Float64Array
}

/** Looked for once while no endpoint changes. */
function candidatesOf(table: EndpointTable, wanted: WantedPort, source: Workload): Candidates {
  const here = table.scopesOf(source)
  return table.derived(keyOf(wanted, here), () => withSums(table, bestRows(table, wanted, here)))
}

/** Everything else that the answer depends on. */
function keyOf({ service, port, mode }: WantedPort, here: EndpointScopes): string {
  const balancer = service.loadBalancer
  const policy = `${balancer?.mode} ${balancer?.healthPolicy} ${balancer?.routingPreferences.join()}`
  const place = `${here.Region} ${here.Zone} ${here.Subzone} ${here.Node} ${here.Cluster} ${here.Network}`
  return `${mode} ${port} ${service.ports.get(port)} ${policy} ${place}`
}

function withSums(table: EndpointTable, found: readonly number[]): Candidates {
  const rows = Uint32Array.from(found)
  const sums = new Float64Array(rows.length)
  let sum = 0
  for (const [index, row] of rows.entries()) sums[index] = sum += table.capacity(row)
  return { rows, sums }
}

interface WantedPort {
  readonly service: Service
  readonly port: number
  readonly mode: PortMode
}

/** Usable endpoints of the best rank. */
function bestRows(table: EndpointTable, wanted: WantedPort, here: EndpointScopes): number[] {
  const { mode = 'Standard', routingPreferences = [] } = wanted.service.loadBalancer ?? {}
  let rows: number[] = []
  let best = 0
  for (let row = 0; row < table.length; row += 1) {
    if (!usable(table, row, wanted, here)) continue
    if (mode === 'Strict' && !isEverywhere(table, row, here, routingPreferences)) continue
    const rank = mode === 'Failover' ? rankOf(table, row, here, routingPreferences) : 0
    if (rank < best) continue
    if (rank > best) rows = []
    best = rank
    rows.push(row)
  }
  return rows
}

function usable(table: EndpointTable, row: number, wanted: WantedPort, here: EndpointScopes): boolean {
  if (!table.healthy(row) && wanted.service.loadBalancer?.healthPolicy !== 'AllowAll') return false
  if (targetPort(table, row, wanted) === 0) return false
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
  candidates: Candidates,
  exclude: ReadonlySet<WorkloadUid> | undefined
): Candidates {
  if (exclude === undefined || exclude.size === 0) return candidates
  const hashes = new Set([...exclude].map(uid => hashOf(uid))) // so that only look-alikes are decoded
  const others = [...candidates.rows].filter(
    row => !hashes.has(table.hash(row)) || !exclude.has(table.workload(row).uid)
  )
  return others.length > 0 ? withSums(table, others) : candidates
}

function chooseRow(
  table: EndpointTable,
  candidates: Candidates,
  wanted: WantedPort,
  context: PickContext
): number | undefined {
  if ((wanted.service.traffic?.clientIpAffinitySeconds ?? 0) > 0) {
    return rowOfClient(table, candidates, context.sourceIp)
  }
  const first = weightedRow(candidates, context.random())
  if (first === undefined || context.loadBalancing !== 'least-request' || candidates.rows.length === 1) {
    return first
  }
  // The less loaded of two chances is nearly as good as the least of all, and does not send everybody there.
  const second = weightedRow(candidates, context.random()) ?? first
  const load = (row: number): number =>
    context.load?.(table.workload(row).uid, targetPort(table, row, wanted)) ?? 0
  return load(second) < load(first) ? second : first
}

/** By capacity: the first row whose sum is above the chance. Without any capacity nothing takes traffic. */
function weightedRow({ rows, sums }: Candidates, chance: number): number | undefined {
  const wanted = chance * (sums.at(-1) ?? 0)
  let low = 0
  let high = rows.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((sums[middle] ?? 0) > wanted) high = middle
    else low = middle + 1
  }
  return rows[low]
}

/**
 * Rendezvous hashing: a client keeps its endpoint while that one can be used, without any state, and an endpoint
 * that comes or goes moves no other client than its own.
 */
function rowOfClient(table: EndpointTable, { rows }: Candidates, client: Ip): number | undefined {
  const clientHash = hashOf(client)
  let best: number | undefined
  let bestScore = -1
  for (const row of rows) {
    const weight = table.capacity(row)
    if (weight === 0) continue
    const chance = (mixed(clientHash, table.hash(row)) + 0.5) / 2 ** 32
    const score = -weight / Math.log(chance)
    if (score > bestScore) {
      best = row
      bestScore = score
    }
  }
  return best
}
