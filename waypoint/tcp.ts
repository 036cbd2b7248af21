/** A connection that is carried as it is: to one pod of the service, for as long as it lasts. */
import type { WorkloadUid } from '../shared/mesh/model.ts'
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { relay } from '../shared/net/relay.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { refusalOfConnection } from './admission.ts'
import { replies } from './local-reply.ts'
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
  const { arrival } = report
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
  if (cluster?.breaker.tryAcquire('connections') === false) {
    const failure = 'as many connections are open as the DestinationRule allows'
    return { flag: replies.overflow.flag, details: 'overflow', failure }
  }
  try {
    const target = pick(waypoint, arrival, to, cluster)
    if (target === undefined) {
      const { flag, details, body: failure } = replies.noHealthyUpstream
      return { flag, details, failure }
    }
    report.attempt(target)
    waypoint.streams.opens(target)
    try {
      return await carryTo(waypoint, stream, { target, cluster }, report)
    } finally {
      waypoint.streams.closes(target)
    }
  } finally {
    cluster?.breaker.release('connections')
  }
}

function pick(
  waypoint: Waypoint,
  { client }: Arrival,
  to: Upstream,
  cluster: Cluster | undefined
): Target | undefined {
  if (to.kind === 'workload') return to
  if (to.kind === 'waypoint') return pickWaypointPod(waypoint, to)
  const load = (uid: WorkloadUid, port: number): number => waypoint.streams.of(uid, port)
  if (cluster === undefined) return pickPod(waypoint, to.service, to.port, { sourceIp: client.ip, load })
  const hash = cluster.keyOfConnection(client.ip)
  return cluster.pick(to.service, to.port, { tried: none, load, hash })
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
