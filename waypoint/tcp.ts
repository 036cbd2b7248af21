/** A connection that is carried as it is: to one pod of the service, for as long as it lasts. */
import type { WorkloadUid } from '../shared/mesh/model.ts'
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { relay } from '../shared/net/relay.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { refusalOfConnection } from './admission.ts'
import { anyOf } from './egress/any-of.ts'
import { leadsOut, type WayOut } from './egress/egress.ts'
import { readServerName } from './egress/server-name.ts'
import { replies, type LocalReply } from './local-reply.ts'
import { pickPod } from './pick-pod.ts'
import type { Upstream } from './request.ts'
import { endedWell, type ConnectionEnd, type ConnectionReport } from './telemetry/connection-report.ts'
import type { Cluster } from './upstream/cluster.ts'
import { pickWaypointPod } from './upstream/through-waypoint.ts'
import type { Opening, Target } from './upstream/tunnels.ts'
import { connectionWay } from './virtual-services/connection-way.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

export function serveTcp(waypoint: Waypoint, arrival: Arrival, stream: ByteStream, upstream: Upstream): void {
  const report = waypoint.connectionReports.begin(arrival, upstream)
  carry(waypoint, stream, upstream, report).then(
    end => {
      report.finish(end)
      if (end !== endedWell) stream.destroy(new Error(end.failure === '-' ? end.details : end.failure))
    },
    (error: unknown) => {
      const failure = messageOf(error)
      waypoint.log.warn('a connection failed', { authority: arrival.authority, error: failure })
      report.finish({ flag: '-', details: 'internal_error', failure })
      stream.destroy(new Error(failure))
    }
  )
}

async function carry(
  waypoint: Waypoint,
  stream: ByteStream,
  addressed: Upstream,
  report: ConnectionReport
): Promise<ConnectionEnd> {
  const named = await namedBy(waypoint, report.arrival, stream, addressed)
  if (named.kind === 'refused') return named.end
  const { arrival } = named
  const refusal = await refusalOfConnection(waypoint, arrival)
  if (refusal !== undefined) {
    const flag = refusal.startsWith('ext_authz') ? 'UAEX' : '-'
    return { flag, details: refusal, failure: '-' }
  }
  const to = connectionWay(waypoint, arrival, addressed)
  if (to.kind === 'refused') return to.end
  const cluster = to.kind === 'service' ? waypoint.clusters.of(to.service, to.port, to.subset) : undefined
  const { unsupported } = cluster?.policy ?? {}
  if (unsupported !== undefined) {
    const failure = `the traffic policy cannot be carried out: ${unsupported}`
    return { flag: '-', details: 'traffic_policy_not_supported', failure }
  }
  const way = await wayOut(waypoint, arrival, to)
  if (way?.kind === 'refused') return refusedBy(way.reply)
  if (cluster?.breaker.tryAcquire('connections') === false) {
    const failure = 'as many connections are open as the DestinationRule allows'
    return { flag: replies.overflow.flag, details: 'overflow', failure }
  }
  try {
    const target = pick(waypoint, arrival, to, cluster, way)
    if (target === undefined) return refusedBy(replies.noHealthyUpstream)
    report.attempt(target)
    waypoint.streams.opens(target)
    try {
      return await carryTo(waypoint, named.stream, { target, cluster }, report)
    } finally {
      waypoint.streams.closes(target)
    }
  } finally {
    cluster?.breaker.release('connections')
  }
}

type Named =
  | { readonly kind: 'named'; readonly arrival: Arrival; readonly stream: ByteStream }
  | { readonly kind: 'refused'; readonly end: ConnectionEnd }

/** Under a wildcard only what the client says tells where it wants to go; TLS says it. */
async function namedBy(
  { config }: Waypoint,
  arrival: Arrival,
  stream: ByteStream,
  to: Upstream
): Promise<Named> {
  const { destination } = arrival
  if (to.kind !== 'service' || to.service.traffic?.resolution !== 'DYNAMIC_DNS') {
    return { kind: 'named', arrival, stream }
  }
  const { hostname, protocols } = to.service
  try {
    if (protocols.get(to.port) !== 'TLS') throw new Error(`port ${to.port} of ${hostname} is not for TLS`)
    const { serverName = '', whole } = await readServerName(stream, config.connectTimeoutMs)
    const named = destination.kind === 'service' ? { ...destination, serverName } : destination
    return { kind: 'named', arrival: { ...arrival, destination: named }, stream: whole }
  } catch (error) {
    const failure = `nobody is named under ${hostname}: ${messageOf(error)}`
    return { kind: 'refused', end: { flag: 'NR', details: 'no_server_name', failure } }
  }
}

/** Undefined: the endpoints are those that the mesh knows. */
async function wayOut(
  { egress }: Waypoint,
  { destination, addressed }: Arrival,
  to: Upstream
): Promise<WayOut | undefined> {
  if (to.kind !== 'service' || !leadsOut(to.service)) return undefined
  const host = destination.kind === 'workload' ? '' : (destination.serverName ?? '')
  return egress.find(to.service, to.port, { host, addressed })
}

function refusedBy({ flag, details, body }: LocalReply): ConnectionEnd {
  return { flag, details, failure: body === '' ? '-' : body }
}

function pick(
  waypoint: Waypoint,
  { client }: Arrival,
  to: Upstream,
  cluster: Cluster | undefined,
  way: Extract<WayOut, { kind: 'endpoints' }> | undefined
): Target | undefined {
  if (to.kind === 'workload') return to
  if (to.kind === 'waypoint') return pickWaypointPod(waypoint, to)
  if (way?.balanced === false) return anyOf(way.endpoints, none, waypoint.random)
  const load = (uid: WorkloadUid, port: number): number => waypoint.streams.of(uid, port)
  if (cluster === undefined) return pickPod(waypoint, to.service, to.port, { sourceIp: client.ip, load })
  const hash = cluster.keyOfConnection(client.ip)
  return cluster.pick(to.service, to.port, { tried: none, load, hash, endpoints: way?.endpoints })
}

const none: ReadonlySet<WorkloadUid> = new Set()

interface Choice {
  readonly target: Target
  readonly cluster: Cluster | undefined
}

/** A pod that takes no connections is told of; one that does is well again. */
async function carryTo(
  { tunnels, ending }: Waypoint,
  stream: ByteStream,
  { target, cluster }: Choice,
  report: ConnectionReport
): Promise<ConnectionEnd> {
  let upstream: ByteStream
  try {
    upstream = await tunnels.open(target, cluster && openingUnder(cluster))
  } catch (error) {
    cluster?.failed(target, error)
    return { flag: 'UF', details: 'upstream_connection_failure', failure: messageOf(error) }
  }
  cluster?.answered(target, 200)
  report.opened()
  try {
    await relay(stream, upstream, report.bytes, ending)
    return endedWell
  } catch (error) {
    const failure = messageOf(error)
    if (ending.aborted) return { flag: '-', details: 'drained', failure }
    const ofClient = report.bytes.cut === 'a'
    return ofClient
      ? { flag: 'DC', details: 'downstream_connection_cut', failure: '-' }
      : { flag: 'UC', details: 'upstream_connection_cut', failure }
  }
}

function openingUnder({ terms: { connectTimeoutMs: timeoutMs, tls } }: Cluster): Opening {
  return { timeoutMs, tls, alpn: undefined }
}
