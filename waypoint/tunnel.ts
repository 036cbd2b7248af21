/** A client's ztunnel: mutual TLS once, then one CONNECT stream for each connection of a pod. */
import type net from 'node:net'
import { parseAuthority, parseBaggage, type Baggage } from '../shared/hbone/connect.ts'
import { serveTunnels, type TunnelRequest } from '../shared/hbone/server.ts'
import { acceptTls } from '../shared/hbone/tls.ts'
import { spiffeParts, type SpiffeId } from '../shared/identity/spiffe-id.ts'
import { parseIp, type SocketAddress } from '../shared/net/address.ts'
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { findDestination } from './destination.ts'
import type { Exchange } from './http/exchange.ts'
import { Http1ServerConnection } from './http1/server-connection.ts'
import { Http2ServerConnection } from './http2/server-connection.ts'
import { serveRequest } from './request.ts'
import { sniff } from './sniff.ts'
import { serveTcp } from './tcp.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

/** Resolves when the session stands, or was refused. */
export async function acceptHbone(waypoint: Waypoint, socket: net.Socket): Promise<void> {
  const { config, ending, log } = waypoint
  const client = addressOf(socket)
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
  serve(waypoint, arrival, request.accept([]))
}

/** Hands the stream to whoever speaks its protocol. */
function serve(waypoint: Waypoint, arrival: Arrival, stream: ByteStream): void {
  const { destination } = arrival
  const declared =
    destination.kind === 'service' ? destination.service.protocols.get(destination.port) : undefined
  if (declared === 'TCP' || declared === 'TLS') return serveTcp(waypoint, arrival, stream)
  // Whoever declared HTTP waits for the client as HTTP does; of others a server may speak first.
  const timeoutMs = declared === undefined ? waypoint.config.detectionTimeoutMs : undefined
  sniff(stream, timeoutMs, (detected, whole) => {
    if (detected === 'http2') serveHttp(waypoint, arrival, Http2ServerConnection, whole)
    else if (detected === 'http1' || declared !== undefined)
      serveHttp(waypoint, arrival, Http1ServerConnection, whole)
    else serveTcp(waypoint, arrival, whole)
  })
}

function serveHttp(
  waypoint: Waypoint,
  arrival: Arrival,
  Connection: typeof Http1ServerConnection | typeof Http2ServerConnection,
  stream: ByteStream
): void {
  const { clients, log } = waypoint
  const onDefect = (error: unknown): void => {
    log.error('a request could not be served', { authority: arrival.authority, error: messageOf(error) })
    stream.destroy()
  }
  const serve = (exchange: Exchange): void => {
    try {
      serveRequest(waypoint, arrival, exchange, onDefect)
    } catch (error) {
      onDefect(error) // one client's connection, not everybody's
    }
  }
  const connection = new Connection(stream, serve, {
    onOver: () => clients.delete(connection),
    onRefused: ({ status, reason }) => {
      log.warn('a request was refused', {
        'src.identity': arrival.peer,
        authority: arrival.authority,
        status,
        reason
      })
    }
  })
  clients.add(connection)
}

/** Asserted by the peer: only where it is of the namespace that the certificate proves. */
function believed(baggage: Baggage | undefined, namespace: string): Baggage | undefined {
  return baggage?.namespace === namespace ? baggage : undefined
}

function addressOf(socket: net.Socket): SocketAddress {
  const ip = parseIp(socket.remoteAddress ?? '')
  return { ip: ip ?? unknownAddress, port: socket.remotePort ?? 0 }
}

const unknownAddress = parseIp('0.0.0.0') as SocketAddress['ip']
