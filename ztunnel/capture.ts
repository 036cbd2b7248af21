/** How the original destination of a captured connection is learned; the only file that knows the ways of capture. */
import type net from 'node:net'
import type { SocketAddress } from '../shared/net/address.ts'
import { boundAddress, originalDestination, peerAddress, socketFd } from '../shared/net/sockets.ts'

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
  const fd = socketFd(socket)
  const flow = fd === undefined ? undefined : endsOf(fd)
  if (fd === undefined || flow?.destination.port !== listenPort) return flow
  const destination = originalDestination(fd)
  return destination === undefined ? flow : { source: flow.source, destination }
}

/** Both ends of a connection that nobody redirected. */
export function directFlow(socket: net.Socket): Flow | undefined {
  const fd = socketFd(socket)
  return fd === undefined ? undefined : endsOf(fd)
}

/** Asks the kernel, not Node: its texts would have to be read as addresses again. */
function endsOf(fd: number): Flow | undefined {
  const source = peerAddress(fd)
  const destination = boundAddress(fd)
  return source === undefined || destination === undefined ? undefined : { source, destination }
}
