/**
 * Two pods of one node without TLS between them (UNDERPASS_SAME_NODE=direct): the destination's half of the
 * path runs here, with the same policies, identities, metrics and logs as if a tunnel had arrived.
 */
import type { Workload } from '../shared/mesh/model.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import { connectApplication } from './application.ts'
import { authorize } from './authorize.ts'
import type { Flow } from './capture.ts'
import type { Connection } from './connections.ts'
import { findInboundTarget } from './inbound-target.ts'
import { isIllegalPort, ownIdentity, ownWorkload, type Pod } from './pod.ts'
import { proxyHeader } from './proxy-protocol.ts'
import type { DialableRoute, Upstream } from './upstream.ts'

/** Undefined when the route leads elsewhere; then a tunnel has to be opened. Throws as the destination refuses. */
export async function openDirect(
  pod: Pod,
  source: Workload,
  flow: Flow,
  route: DialableRoute,
  connection: Connection
): Promise<Upstream | undefined> {
  if (pod.config.sameNode !== 'direct' || route.kind !== 'hbone' || route.target === undefined)
    return undefined
  const neighbour = pod.neighbour(route.destination)
  if (neighbour === undefined) return undefined
  const workload = await ownWorkload(neighbour)
  const { target: asked, hop, authority } = route
  const { network } = neighbour.config
  const target = neighbour.mesh.read(view =>
    findInboundTarget(view, {
      authority: { kind: 'address', address: asked },
      local: hop.address,
      workload,
      network,
      forwardedHost: route.service?.hostname,
      isIllegalPort: port => isIllegalPort(neighbour.config, port)
    })
  )
  if (target.kind === 'refused') {
    const error = new MeshError(target.code, target.message)
    neighbour.reports.refused(
      { direction: 'inbound', sourceAddress: flow.source, destinationAddress: hop.address },
      error
    )
    throw asSeenThroughTunnel(error)
  }
  const identity = ownIdentity(pod, source)
  const report = neighbour.reports.begin(
    {
      reporter: 'destination',
      source: { workload: source, identity, baggage: undefined },
      destination: { workload, identity: ownIdentity(neighbour, workload), baggage: undefined },
      service: target.service,
      mutualTls: true,
      sourceAddress: flow.source,
      destinationAddress: hop.address,
      authority
    },
    connection.bytes
  )
  const tracked = {
    direction: 'inbound',
    source: flow.source,
    identity,
    target: target.target,
    forwardedHost: route.service?.hostname
  } as const
  const arrived = neighbour.connections.track(tracked, connection.bytes)
  // Whatever ends the destination's half ends the whole connection.
  const onEnd = (): void => connection.close(arrived.signal.reason as MeshError)
  arrived.signal.addEventListener('abort', onEnd, { once: true })
  const ended = (error?: unknown): void => {
    arrived[Symbol.dispose]()
    if (error === undefined) report.finish()
    else report.fail(error)
  }
  try {
    authorize(neighbour, workload, tracked)
    const proxied = target.proxyDestination !== undefined
    const stream = await connectApplication(
      neighbour,
      { client: flow.source, target: target.target, proxied },
      connection.signal
    )
    if (target.proxyDestination !== undefined) {
      stream.write(proxyHeader(flow.source, target.proxyDestination, identity))
    }
    report.open()
    return { stream, ended }
  } catch (error) {
    ended(error)
    throw asSeenThroughTunnel(error)
  }
}

/** The client's half reports a refusal as the status that a tunnel would have brought. */
function asSeenThroughTunnel(error: unknown): unknown {
  if (!(error instanceof MeshError)) return error
  return new MeshError('HTTP_STATUS', `http status: ${error.httpStatus}`, { cause: error })
}
