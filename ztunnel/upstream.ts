/** Opens what a route names: a TCP connection, a tunnel, or a tunnel in a tunnel. */
import type net from 'node:net'
import { connectHeaders, networkHeader, newTraceParent } from '../shared/hbone/connect.ts'
import { headerValues } from '../shared/hbone/header-rules.ts'
import type { HeaderList } from '../shared/hbone/header-field.ts'
import type { PoolKey } from '../shared/hbone/pool.ts'
import { ClientSession } from '../shared/hbone/session.ts'
import type { SessionOptions } from '../shared/hbone/session-options.ts'
import { connectTls, type HandshakeOptions, type SecurePeer } from '../shared/hbone/tls.ts'
import { tunnelDuplex } from '../shared/hbone/tunnel-duplex.ts'
import type { Tunnel } from '../shared/hbone/tunnel.ts'
import type { WorkloadCertificate } from '../shared/identity/certificate.ts'
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import type { Workload } from '../shared/mesh/model.ts'
import type { Route } from '../shared/mesh/route.ts'
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import { MeshError, messageOf } from '../shared/runtime/errors.ts'
import type { Party } from '../shared/telemetry/traffic-metrics.ts'
import { baggageOf } from './baggage.ts'
import type { Flow } from './capture.ts'
import { dial, DialTimeout } from '../shared/net/dial.ts'
import { ownIdentity, type Pod } from './pod.ts'

/** A route that can be dialled as it is. */
export type DialableRoute = Exclude<Route, { kind: 'refused' | 'resolve' }>

export interface Upstream {
  readonly stream: net.Socket | Tunnel
  /** Who answered, where the peer said more than the route knew. */
  readonly destination?: Party
  /** Called once when the connection is over, with its error if it had one. */
  readonly ended?: (error?: unknown) => void
}

export async function openUpstream(
  pod: Pod,
  source: Workload,
  flow: Flow,
  route: DialableRoute,
  signal: AbortSignal
): Promise<Upstream> {
  switch (route.kind) {
    case 'passthrough':
    case 'plaintext':
      return { stream: await dialPlain(pod, route.to, signal) }
    case 'hbone':
      return openTunnel(pod, source, flow, route, signal)
    case 'double-hbone':
      return openDoubleTunnel(pod, source, flow, route, signal)
    default:
      return route satisfies never
  }
}

/** The address that a route is dialled at. */
export function dialledAddress(route: DialableRoute): SocketAddress {
  if (route.kind === 'hbone') return route.hop.address
  return route.kind === 'double-hbone' ? route.gateway.address : route.to
}

function dialPlain(pod: Pod, to: SocketAddress, signal: AbortSignal): Promise<net.Socket> {
  const { place, dialOptions: tcp, config } = pod
  return dial({ place, to, timeoutMs: config.connectTimeoutMs, tcp }, signal)
}

async function openTunnel(
  pod: Pod,
  source: Workload,
  flow: Flow,
  route: DialableRoute & { kind: 'hbone' },
  signal: AbortSignal
): Promise<Upstream> {
  const { address, expected } = route.hop
  const key: PoolKey = { source: ownIdentity(pod, source), expected, address, sourceIp: flow.source.ip }
  const head = { authority: route.authority, headers: requestHeaders(source, flow, route) }
  const { tunnel, headers } = await pod.pool.tunnel(key, head, signal)
  const baggage = pod.config.responseBaggage ? pod.baggage.read(headerValues(headers, 'baggage')) : undefined
  return { stream: tunnel, destination: { workload: route.destination, identity: undefined, baggage } }
}

/**
 * Through another network's gateway: it carries the outer tunnel's bytes without looking, so a second session
 * inside runs to the destination. The inner one is never shared: that would pin one remote pod for all.
 */
async function openDoubleTunnel(
  pod: Pod,
  source: Workload,
  flow: Flow,
  route: DialableRoute & { kind: 'double-hbone' },
  signal: AbortSignal
): Promise<Upstream> {
  const identity = ownIdentity(pod, source)
  const { address, expected } = route.gateway
  const key: PoolKey = { source: identity, expected, address, sourceIp: flow.source.ip }
  const headers = requestHeaders(source, flow, route)
  const outer = await pod.pool.tunnel(key, { authority: route.authority, headers }, signal)
  const certificate = await certificateOf(pod, identity, signal)
  const secured = await connectTls(
    tunnelDuplex(outer.tunnel),
    certificate,
    route.innerExpected,
    signal,
    handshakeOptions(pod)
  )
  const session = openSession(pod, certificate, secured)
  // What ends the outer session ends the inner one, for the same reason; otherwise it would only see a broken pipe.
  const { closed } = outer.session
  closed.addEventListener('abort', () => session.destroy(closed.reason as Error), { signal: session.closed })
  try {
    const network: HeaderList = [...headers, [networkHeader, pod.config.network]]
    const inner = await session.openTunnel({ authority: route.authority, headers: network }, signal)
    session.close() // ends with its only tunnel
    const baggage = pod.config.responseBaggage
      ? pod.baggage.read(headerValues(inner.headers, 'baggage'))
      : undefined
    const destination: Party = { workload: route.destination, identity: secured.peer, baggage }
    return { stream: inner.tunnel, destination }
  } catch (error) {
    session.destroy(error instanceof Error ? error : new Error(String(error)))
    throw error
  }
}

/** Makes the session that a pool key stands for; the pool calls it once for all who wait. */
export async function dialSession(pod: Pod, key: PoolKey, signal: AbortSignal): Promise<ClientSession> {
  const certificate = await certificateOf(pod, key.source, signal)
  const socket = await dialHbone(pod, key.address, signal)
  const secured = await connectTls(socket, certificate, key.expected, signal, handshakeOptions(pod))
  return openSession(pod, certificate, secured)
}

/** Throws MeshError PEER_REVOKED; the socket is gone then. */
function openSession(pod: Pod, own: WorkloadCertificate, peer: SecurePeer): ClientSession {
  return pod.revocations.admit(
    'source',
    peer.socket,
    own,
    () => new ClientSession(peer.socket, clientOptions(pod, own, peer))
  )
}

async function dialHbone(pod: Pod, to: SocketAddress, signal: AbortSignal): Promise<net.Socket> {
  const { place, dialOptions: tcp, config } = pod
  try {
    return await dial({ place, to, timeoutMs: config.connectTimeoutMs, tcp }, signal)
  } catch (error) {
    if (!(error instanceof DialTimeout)) throw error
    throw new MeshError(
      'CONNECT_TIMEOUT_HBONE',
      `connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: ${formatSocketAddress(to)}`,
      { cause: error }
    )
  }
}

async function certificateOf(
  pod: Pod,
  identity: SpiffeId,
  signal: AbortSignal
): Promise<WorkloadCertificate> {
  try {
    return await pod.certificates.get(identity, signal)
  } catch (cause) {
    if (signal.aborted) throw cause
    throw new MeshError('IDENTITY_FAILED', `identity error: ${messageOf(cause)}`, { cause })
  }
}

export function handshakeOptions({ config, revocations }: Pod): HandshakeOptions {
  const { tls12, compliance, connectTimeoutMs } = config
  return { tls12, compliance, timeoutMs: connectTimeoutMs, wholeChain: revocations.configured }
}

function clientOptions(pod: Pod, own: WorkloadCertificate, peer: SecurePeer): SessionOptions {
  return { ...sessionOptions(pod, own, peer), maxStreams: pod.config.pool.maxStreams }
}

/** A session lives no longer than the certificates it was made with: then it takes no new streams and ends with its last. */
export function sessionOptions(pod: Pod, own: WorkloadCertificate, peer: SecurePeer): SessionOptions {
  const { streamWindow, connectionWindow, frameSize } = pod.config.http2
  const expiresAt = Math.min(own.notAfter, peer.notAfter)
  return { streamWindow, connectionWindow, maxFrameSize: frameSize, expiresAt }
}

function requestHeaders(
  source: Workload,
  flow: Flow,
  route: DialableRoute & { kind: 'hbone' | 'double-hbone' }
): HeaderList {
  return connectHeaders({
    baggage: baggageOf(source),
    source: flow.source,
    serviceHostname: route.service?.hostname,
    trace: newTraceParent()
  })
}
