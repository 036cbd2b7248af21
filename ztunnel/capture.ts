/** How the original destination of a captured connection is learned; the only file that knows the ways of capture. */
import type net from 'node:net'
import { parseIp, type SocketAddress } from '../shared/net/address.ts'
import { originalDestination, socketFd } from '../shared/net/sockets.ts'

/** Who connects, and where to. */
export interface Flow {
  readonly source: SocketAddress
  readonly destination: SocketAddress
}

/**
 * Both ends of a connection that arrived at the listener of `listenPort`; undefined when it is gone already.
 * TPROXY leaves the original destination as the local address. REDIRECT replaced it by the listener's port
 * and remembers it in the connection tracking table.
 */
export function capturedFlow(socket: net.Socket, listenPort: number): Flow | undefined {
  const flow = directFlow(socket)
  if (flow === undefined || flow.destination.port !== listenPort) return flow
  const fd = socketFd(socket)
  const destination = fd === undefined ? undefined : originalDestination(fd)
  return destination === undefined ? flow : { source: flow.source, destination }
}

/** Both ends of a connection that nobody redirected. */
export function directFlow(socket: net.Socket): Flow | undefined {
  const source = address(socket.remoteAddress, socket.remotePort)
  const destination = address(socket.localAddress, socket.localPort)
  return source === undefined || destination === undefined ? undefined : { source, destination }
}

function address(text: string | undefined, port: number | undefined): SocketAddress | undefined {
  if (text === undefined || port === undefined) return undefined
  // A dual-stack listener sees IPv4 clients as v4-mapped; the general parser would cost microseconds.
  const mapped = text.startsWith('::ffff:') ? parseIp(text.slice(7)) : undefined
  const ip = mapped ?? parseIp(text)
  return ip === undefined ? undefined : { ip, port }
}
