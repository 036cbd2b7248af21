/** Connections that arrive through HBONE on 15008: mutual TLS, then one CONNECT stream for each. */
import type net from 'node:net'
import {
  fromOtherNetwork,
  networkHeader,
  parseAuthority,
  parseForwardedHost
} from '../shared/hbone/connect.ts'
import type { HeaderList } from '../shared/hbone/header-field.ts'
import { serveTunnels, type ServerSession, type TunnelRequest } from '../shared/hbone/server.ts'
import { acceptTls } from '../shared/hbone/tls.ts'
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import type { Workload } from '../shared/mesh/model.ts'
import { relay } from '../shared/net/relay.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import type { LoggedConnection } from '../shared/telemetry/access-log.ts'
import { connectApplication } from './application.ts'
import { authorize } from './authorize.ts'
import { baggageOf } from './baggage.ts'
import { directFlow, type Flow } from './capture.ts'
import type { TrackedConnection } from './connections.ts'
import { findInboundTarget, type InboundTarget } from './inbound-target.ts'
import { isIllegalPort, ownIdentity, ownWorkload, type Pod } from './pod.ts'
import { proxyHeader } from './proxy-protocol.ts'
import { handshakeOptions, sessionOptions } from './upstream.ts'

/** Authenticates the peer once, then serves its tunnels. Resolves when the session stands, or was refused. */
export async function acceptHbone(pod: Pod, socket: net.Socket): Promise<ServerSession | undefined> {
  const flow = directFlow(socket)
  if (flow === undefined) {
    socket.destroy() // gone before we looked
    return undefined
  }
  try {
    const workload = await ownWorkload(pod)
    const certificate = await pod.certificates.get(ownIdentity(pod, workload), pod.gone)
    const secured = await acceptTls(socket, certificate, pod.gone, handshakeOptions(pod))
    const peer: PeerSession = { identity: secured.peer, flow }
    const options = sessionOptions(pod, certificate, secured)
    const session: ServerSession = pod.revocations.admit('destination', secured.socket, certificate, () =>
      serveTunnels(secured.socket, options, request => void proxyInbound(pod, peer, session.closed, request))
    )
    return session
  } catch (error) {
    pod.reports.refused(addressesOf(flow), error)
    socket.destroy()
    return undefined
  }
}

/** What all tunnels of a session share. `flow` is the TCP connection underneath. */
interface PeerSession {
  readonly identity: SpiffeId
  readonly flow: Flow
}

/** One CONNECT request, with everything that can be known before a policy is asked. */
interface Arrival {
  readonly workload: Workload
  readonly target: InboundTarget & { kind: 'target' }
  readonly tracked: TrackedConnection & { direction: 'inbound' }
  readonly logged: LoggedConnection
}

async function proxyInbound(
  pod: Pod,
  peer: PeerSession,
  sessionClosed: AbortSignal,
  request: TunnelRequest
): Promise<void> {
  let arrival: Arrival
  try {
    arrival = readRequest(pod, peer, request, await ownWorkload(pod))
  } catch (error) {
    pod.reports.refused(addressesOf(peer.flow), error)
    request.refuse(statusOf(error))
    return
  }
  const { workload, tracked, target } = arrival
  const report = pod.reports.begin(arrival.logged)
  using connection = pod.connections.track(tracked, report.bytes)
  const onReset = (): void => connection.close(whyReset(sessionClosed))
  request.aborted.addEventListener('abort', onReset, { once: true })
  let application: net.Socket
  try {
    authorize(pod, workload, tracked)
    const proxied = target.proxyDestination !== undefined
    application = await connectApplication(
      pod,
      { client: tracked.source, target: target.target, proxied },
      connection.signal
    )
  } catch (error) {
    report.fail(error)
    request.refuse(statusOf(error))
    return
  }
  // Everything that can be answered by a status is now behind us.
  try {
    report.open()
    const tunnel = request.accept(responseHeaders(pod, workload))
    if (target.proxyDestination !== undefined) {
      application.write(proxyHeader(tracked.source, target.proxyDestination, peer.identity))
    }
    await relay(tunnel, application, report.bytes, connection.signal)
    report.finish()
  } catch (error) {
    report.fail(error)
    application.destroy()
  } finally {
    request.aborted.removeEventListener('abort', onReset)
  }
}

/** With its session, or alone. */
function whyReset({ reason }: AbortSignal): MeshError {
  return reason instanceof MeshError ? reason : new MeshError('STREAM_FAILED', 'the client gave up')
}

/** Throws a MeshError whose status is the answer. */
function readRequest(
  pod: Pod,
  { identity, flow }: PeerSession,
  request: TunnelRequest,
  workload: Workload
): Arrival {
  if (request.method !== 'CONNECT') {
    throw new MeshError('METHOD_NOT_CONNECT', `expected method CONNECT, got ${request.method}`)
  }
  const authority = parseAuthority(request.authority ?? '')
  if (authority === undefined) {
    throw new MeshError(
      'AUTHORITY_INVALID',
      `no valid authority pseudo header: ${JSON.stringify(request.authority ?? null)}`
    )
  }
  const { network } = pod.config
  const forwardedHost = parseForwardedHost(request.header('forwarded'))
  const asked = {
    authority,
    local: flow.destination,
    workload,
    network,
    forwardedHost,
    isIllegalPort: (port: number) => isIllegalPort(pod.config, port)
  }
  // Behind a gateway the TCP peer is the gateway: only the client's own words say who it is.
  const throughGateway = fromOtherNetwork(request.header(networkHeader), network)
  const { target, source } = pod.mesh.read(view => ({
    target: findInboundTarget(view, asked),
    source: throughGateway ? undefined : view.workloadByAddress(network, flow.source.ip)
  }))
  if (target.kind === 'refused') throw new MeshError(target.code, target.message)
  const baggage = pod.baggage.read(request.header('baggage'))
  return {
    workload,
    target,
    tracked: { direction: 'inbound', source: flow.source, identity, target: target.target, forwardedHost },
    logged: {
      reporter: 'destination',
      source: { workload: source, identity, baggage },
      destination: { workload, identity: ownIdentity(pod, workload), baggage: undefined },
      service: target.service,
      mutualTls: true,
      sourceAddress: flow.source,
      destinationAddress: flow.destination,
      authority: request.authority
    }
  }
}

function responseHeaders(pod: Pod, workload: Workload): HeaderList {
  return pod.config.responseBaggage ? [['baggage', baggageOf(workload)]] : []
}

function addressesOf(flow: Flow): {
  direction: 'inbound'
  sourceAddress: Flow['source']
  destinationAddress: Flow['destination']
} {
  return { direction: 'inbound', sourceAddress: flow.source, destinationAddress: flow.destination }
}

function statusOf(error: unknown): number {
  return error instanceof MeshError ? error.httpStatus : 503
}
