/** One message to a resolver by UDP, and its answer. Each has a socket and a port of its own, as the client's had. */
import dgram from 'node:dgram'
import { ipFamily, type SocketAddress } from '../../shared/net/address.ts'
import { check, libc } from '../../shared/net/ffi.ts'
import { openDatagramDialer } from '../../shared/net/datagrams.ts'
import { closeDescriptor, type SocketPlace } from '../../shared/net/sockets.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { answers } from './message.ts'

/** Resolvers that do not answer are waited for so long all together; then clients ask again anyway. */
export const patienceMs = 5000

/** Asks one after the other until one answers. Throws with what the last one did. */
export async function askResolvers(
  place: SocketPlace,
  resolvers: readonly SocketAddress[],
  message: Buffer,
  signal: AbortSignal
): Promise<Buffer> {
  let problem: unknown = new Error('no resolver is configured')
  for (const resolver of resolvers) {
    try {
      return await askResolver(place, resolver, message, patienceMs / resolvers.length, signal)
    } catch (error) {
      problem = error
      if (signal.aborted) break
    }
  }
  throw problem
}

async function askResolver(
  place: SocketPlace,
  resolver: SocketAddress,
  message: Buffer,
  timeoutMs: number,
  signal: AbortSignal
): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const fd = openDatagramDialer(place, resolver)
  const socket = dgram.createSocket(ipFamily(resolver.ip) === 4 ? 'udp4' : 'udp6')
  const onAbort = (): void => reject(new Error('the pod is gone'))
  const timer = setTimeout(() => reject(new Error(`${resolver.ip} did not answer in time`)), timeoutMs)
  signal.addEventListener('abort', onAbort, { once: true })
  // Only the resolver's datagrams arrive here; of these, only one that fits is the answer.
  socket.on('message', reply => {
    if (answers(reply, message)) resolve(reply)
  })
  socket.on('error', error => reject(new Error(`${resolver.ip}: ${messageOf(error)}`)))
  try {
    adopt(socket, fd)
    check('write', libc.write(fd, message, message.length), resolver.ip)
    return await promise
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
    socket.close()
  }
}

/** The descriptor is the socket's from here on. */
function adopt(socket: dgram.Socket, fd: number): void {
  try {
    socket.bind({ fd })
  } catch (error) {
    closeDescriptor(fd)
    throw error
  }
}
