/** Connections that the pod's applications open: captured on 15001, carried to where the mesh says. */
import type net from 'node:net'
import type { Service, Workload, WorkloadUid } from '../shared/mesh/model.ts'
import { decideRoute, type Route } from '../shared/mesh/route.ts'
import { isLoopback } from '../shared/net/address.ts'
import { relay } from '../shared/net/relay.ts'
import { MeshError, type ErrorCode } from '../shared/runtime/errors.ts'
import type { LoggedConnection } from '../shared/telemetry/access-log.ts'
import { nobody, type Party } from '../shared/telemetry/traffic-metrics.ts'
import { capturedFlow, type Flow } from './capture.ts'
import { openDirect } from './direct.ts'
import { discover } from './discover.ts'
import type { Connection } from './connections.ts'
import { isIllegalPort, ownIdentity, ownWorkload, type Pod } from './pod.ts'
import { resolveHostname } from './resolve.ts'
import { dialledAddress, openUpstream, type DialableRoute, type Upstream } from './upstream.ts'

export async function proxyOutbound(pod: Pod, socket: net.Socket): Promise<void> {
  const flow = capturedFlow(socket, pod.config.ports.outbound)
  if (flow === undefined) {
    socket.destroy() // gone before we looked
    return
  }
  await carryOutbound(pod, socket, flow)
}

/** As {@link proxyOutbound}, where both ends of the connection are known already. */
export async function carryOutbound(pod: Pod, socket: net.Socket, flow: Flow): Promise<void> {
  let source: Workload
  let route: DialableRoute
  try {
    refuseRecursion(pod, flow)
    source = await ownWorkload(pod)
    route = await findRoute(pod, source, flow)
  } catch (error) {
    pod.reports.refused(
      { direction: 'outbound', sourceAddress: flow.source, destinationAddress: flow.destination },
      error
    )
    socket.destroy()
    return
  }
  const report = pod.reports.begin(describe(pod, source, flow, route))
  using connection = pod.connections.track(trackedOf(flow, route), report.bytes)
  let upstream: Dialled | undefined
  try {
    upstream = await dialUntilOneAnswers(pod, source, flow, route, connection)
    report.open(upstream.changes)
    await relay(socket, upstream.stream, report.bytes, connection.signal)
    upstream.ended?.()
    report.finish()
  } catch (error) {
    upstream?.ended?.(error)
    report.fail(error)
    socket.destroy()
  } finally {
    upstream?.load?.[Symbol.dispose]()
  }
}

/** An application that dials our own listeners would have us call ourselves without end. */
function refuseRecursion(pod: Pod, { destination }: Flow): void {
  if (isLoopback(destination.ip) && isIllegalPort(pod.config, destination.port)) {
    throw new MeshError('RECURSIVE_CALL', 'attempted recursive call to ourselves')
  }
}

async function findRoute(
  pod: Pod,
  source: Workload,
  flow: Flow,
  exclude?: ReadonlySet<WorkloadUid>
): Promise<DialableRoute> {
  const { network, outboundTrafficPolicy, loadBalancing } = pod.config
  const context = {
    network,
    source,
    sourceIp: flow.source.ip,
    random: pod.random,
    outboundTrafficPolicy,
    loadBalancing,
    load: (uid: WorkloadUid): number => pod.load.of(uid),
    ...(exclude !== undefined && { exclude })
  }
  if (pod.config.onDemand) await discover(pod, source, flow.destination.ip)
  let route: Route = pod.mesh.read(view => decideRoute(view, context, flow.destination))
  if (route.kind === 'resolve') route = route.withAddress(await resolveHostname(pod, source, route))
  if (route.kind === 'refused') throw new MeshError('CONNECT_FAILED', route.message)
  if (route.kind === 'resolve')
    throw new MeshError('CONNECT_FAILED', `${route.hostname} leads to another host name`)
  return route
}

interface Dialled extends Upstream {
  /** What the report has to correct, when it was another endpoint or a peer that said more of itself. */
  readonly changes: Partial<LoggedConnection>
  /** Counts as load of its endpoint until it is over. */
  readonly load: Disposable | undefined
}

/** Dials the route; when that fails, the next endpoint of the same service, as often as is configured. */
async function dialUntilOneAnswers(
  pod: Pod,
  source: Workload,
  flow: Flow,
  first: DialableRoute,
  connection: Connection
): Promise<Dialled> {
  const failed = new Set<WorkloadUid>()
  let route = first
  for (;;) {
    try {
      const upstream =
        (pod.config.sameNode === 'direct'
          ? await openDirect(pod, source, flow, route, connection)
          : undefined) ?? (await openUpstream(pod, source, flow, route, connection.signal))
      const changes = route === first ? {} : describe(pod, source, flow, route)
      const { destination } = upstream
      const load = route.kind === 'passthrough' ? undefined : pod.load.hold(route.destination.uid)
      return { ...upstream, load, changes: destination === undefined ? changes : { ...changes, destination } }
    } catch (error) {
      const next =
        failed.size < pod.config.dialRetries
          ? await nextRoute(pod, source, flow, route, failed, error)
          : undefined
      if (next === undefined || connection.signal.aborted) throw error
      pod.metrics.series('underpass_dial_retries_total').add()
      route = next
    }
  }
}

/** The endpoint cannot be reached, or its session was lost before it answered. */
const unreached: ReadonlySet<ErrorCode> = new Set([
  'CONNECT_FAILED',
  'CONNECT_TIMEOUT_HBONE',
  'STREAM_FAILED'
])

/** Another endpoint, if the failure was the endpoint's and the service has one. Nothing was sent to the failed one yet. */
async function nextRoute(
  pod: Pod,
  source: Workload,
  flow: Flow,
  route: DialableRoute,
  failed: Set<WorkloadUid>,
  error: unknown
): Promise<DialableRoute | undefined> {
  const dialFailed = error instanceof MeshError && unreached.has(error.code)
  if (!dialFailed || route.kind === 'passthrough' || route.service === undefined) return undefined
  failed.add(route.destination.uid)
  try {
    const next = await findRoute(pod, source, flow, failed)
    return 'destination' in next && failed.has(next.destination.uid) ? undefined : next
  } catch {
    return undefined // no other endpoint: the first failure is the one to report
  }
}

function describe(pod: Pod, source: Workload, flow: Flow, route: DialableRoute): LoggedConnection {
  const tunnelled = route.kind === 'hbone' || route.kind === 'double-hbone'
  const service: Service | undefined = route.service
  const destination: Party =
    route.kind === 'passthrough' ? nobody : { ...nobody, workload: route.destination }
  return {
    reporter: 'source',
    source: {
      workload: source,
      identity: tunnelled ? ownIdentity(pod, source) : undefined,
      baggage: undefined
    },
    destination,
    service,
    mutualTls: tunnelled,
    trustDestinationBaggage: route.kind === 'double-hbone',
    sourceAddress: flow.source,
    destinationAddress: dialledAddress(route),
    authority: tunnelled ? route.authority : undefined
  }
}

const protocols = {
  passthrough: 'TCP',
  plaintext: 'TCP',
  hbone: 'HBONE',
  'double-hbone': 'DOUBLEHBONE'
} as const

function trackedOf(flow: Flow, route: DialableRoute): Connection['facts'] {
  return {
    direction: 'outbound',
    source: flow.source,
    originalDestination: flow.destination,
    destination: dialledAddress(route),
    protocol: protocols[route.kind]
  }
}
