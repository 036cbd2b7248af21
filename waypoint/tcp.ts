/** A connection that is carried as it is: to one pod of the service, for as long as it lasts. */
import type { WorkloadUid } from '../shared/mesh/model.ts'
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { relay } from '../shared/net/relay.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { refusalOfConnection } from './admission.ts'
import { pickPod } from './pick-pod.ts'
import type { Upstream } from './request.ts'
import type { Cluster } from './upstream/cluster.ts'
import { pickWaypointPod } from './upstream/through-waypoint.ts'
import type { Target, Tunnels } from './upstream/tunnels.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

export function serveTcp(waypoint: Waypoint, arrival: Arrival, stream: ByteStream, upstream: Upstream): void {
  void carry(waypoint, arrival, stream, upstream).catch((error: unknown) => {
    const { authority, peer } = arrival
    const fields = { 'src.identity': peer, authority, error: messageOf(error) }
    waypoint.log.warn('a connection failed', fields)
    stream.destroy(error instanceof Error ? error : new Error(messageOf(error)))
  })
}

async function carry(waypoint: Waypoint, arrival: Arrival, stream: ByteStream, to: Upstream): Promise<void> {
  const refusal = await refusalOfConnection(waypoint, arrival)
  if (refusal !== undefined) throw new Error(refusal)
  const cluster = to.kind === 'service' ? waypoint.clusters.of(to.service, to.port) : undefined
  const { unsupported } = cluster?.policy ?? {}
  if (unsupported !== undefined) throw new Error(`the DestinationRule cannot be carried out: ${unsupported}`)
  if (cluster?.breaker.tryAcquire('connections') === false) {
    throw new Error('overflow: as many connections are open as the DestinationRule allows')
  }
  try {
    const target = pick(waypoint, arrival, to, cluster)
    if (target === undefined) throw new Error('no healthy upstream')
    waypoint.streams.opens(target)
    try {
      const upstream = await open(waypoint, target, cluster)
      await relay(stream, upstream, { aToB: 0, bToA: 0 }, waypoint.ending)
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

/** A pod that takes no connections is told of; one that does is well again. */
async function open(
  { tunnels }: Waypoint,
  target: Target,
  cluster: Cluster | undefined
): ReturnType<Tunnels['open']> {
  try {
    const stream = await tunnels.open(target, cluster?.policy.connections.connectTimeoutMs)
    cluster?.answered(target, 200)
    return stream
  } catch (error) {
    cluster?.failed(target, error)
    throw error
  }
}
