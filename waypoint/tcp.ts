/** A connection that is carried as it is: to one pod of the service, for as long as it lasts. */
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { relay } from '../shared/net/relay.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { refusalOfConnection } from './admission.ts'
import { pickPod } from './pick-pod.ts'
import type { Upstream } from './request.ts'
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
  const target =
    to.kind === 'workload' ? to : pickPod(waypoint, to.service, to.port, { sourceIp: arrival.client.ip })
  if (target === undefined) throw new Error('no healthy upstream')
  const upstream = await waypoint.tunnels.open(target)
  await relay(stream, upstream, { aToB: 0, bToA: 0 }, waypoint.ending)
}
