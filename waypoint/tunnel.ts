/** A client's ztunnel: mutual TLS once, then one CONNECT stream for each connection of a pod. */
import type net from 'node:net'
import { parseAuthority, parseBaggage, type Baggage } from '../shared/hbone/connect.ts'
import { serveTunnels, type TunnelRequest } from '../shared/hbone/server.ts'
import { acceptTls } from '../shared/hbone/tls.ts'
import { spiffeParts, type SpiffeId } from '../shared/identity/spiffe-id.ts'
import type { SocketAddress } from '../shared/net/address.ts'
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { clientAddress } from './client-address.ts'
import { findDestination } from './destination.ts'
import type { Upstream } from './request.ts'
import { serveHttp } from './serve-http.ts'
import { sniff } from './sniff.ts'
import { serveTcp } from './tcp.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

/** Resolves when the session stands, or was refused. */
export async function acceptHbone(waypoint: Waypoint, socket: net.Socket): Promise<void> {
  const { config, ending, log } = waypoint
  const client = clientAddress(socket)
  try {
    const certificate = await waypoint.certificate(ending)
    const {
      socket: secured,
      peer,
      notAfter
    } = await acceptTls(socket, certificate, ending, {
      timeoutMs: config.connectTimeoutMs
    })
    const options = { maxStreams: config.maxStreams, expiresAt: Math.min(certificate.notAfter, notAfter) }
    const session = serveTunnels(secured, options, request => openTunnel(waypoint, { peer, client }, request))
    waypoint.sessions.add(session)
    session.closed.addEventListener('abort', () => waypoint.sessions.delete(session))
  } catch (error) {
    log.warn('a connection was refused', {
      'src.addr': `${client.ip}:${client.port}`,
      error: messageOf(error)
    })
    socket.destroy()
  }
}

/** What all tunnels of a session share. */
interface Peer {
  readonly peer: SpiffeId
  readonly client: SocketAddress
}

function openTunnel(waypoint: Waypoint, { peer, client }: Peer, request: TunnelRequest): void {
  const { config, log, metrics } = waypoint
  const refuse = (status: number, error: string): void => {
    metrics.series('underpass_tunnels_refused_total').add()
    log.warn('a tunnel was refused', { 'src.identity': peer, authority: request.authority, error })
    request.refuse(status)
  }
  if (request.method !== 'CONNECT') return refuse(400, `expected method CONNECT, got ${request.method}`)
  const authority = parseAuthority(request.authority ?? '')
  if (authority === undefined) return refuse(400, 'the authority is no address or name with a port')
  const view = waypoint.view()
  const peerNamespace = spiffeParts(peer).namespace
  const { network, self } = config
  const destination = findDestination(view, authority, { network, self, clientNamespace: peerNamespace })
  if (destination.kind === 'refused') return refuse(400, destination.reason)
  const arrival: Arrival = {
    peer,
    peerNamespace,
    client,
    source: view.workloadByAddress(network, client.ip),
    baggage: believed(parseBaggage(request.header('baggage')), peerNamespace),
    destination,
    authority: request.authority ?? '',
    addressed: authority
  }
  serve(waypoint, arrival, destination, request.accept([]))
}

/** Hands the stream to whoever speaks its protocol. */
function serve(waypoint: Waypoint, arrival: Arrival, destination: Upstream, stream: ByteStream): void {
  const declared =
    destination.kind === 'service' ? destination.service.protocols.get(destination.port) : undefined
  if (declared === 'TCP' || declared === 'TLS') return serveTcp(waypoint, arrival, stream, destination)
  // Whoever declared HTTP waits for the client as HTTP does; of others a server may speak first.
  const timeoutMs = declared === undefined ? waypoint.config.detectionTimeoutMs : undefined
  sniff(stream, timeoutMs, (detected, whole) => {
    if (detected === 'http2') serveHttp(waypoint, arrival, 'http2', whole)
    else if (detected === 'http1' || declared !== undefined) serveHttp(waypoint, arrival, 'http1', whole)
    else serveTcp(waypoint, arrival, whole, destination)
  })
}

/** Asserted by the peer: only where it is of the namespace that the certificate proves. */
function believed(baggage: Baggage | undefined, namespace: string): Baggage | undefined {
  return baggage?.namespace === namespace ? baggage : undefined
}
