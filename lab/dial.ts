/** TCP connections that start in another network namespace. */
import type { Socket } from 'node:net'
import { ipFamily, type Ip, type SocketAddress } from '../shared/net/address.ts'
import { dialerSocket, openDialer } from '../shared/net/sockets.ts'

export interface Dial {
  /** Descriptor of the network namespace. */
  readonly netns: number
  readonly to: SocketAddress
  readonly from?: Ip
}

/** Resolves when connected; the socket then belongs to the caller. */
export function dialIn({ netns, to, from }: Dial, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted()
  const fd = openDialer(
    { netns },
    { family: ipFamily(to.ip), ...(from === undefined ? {} : { bind: { ip: from, port: 0 } }) }
  )
  const socket = dialerSocket(fd)
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      socket.destroy(signal.reason as Error)
    }
    const settle = (): void => {
      signal.removeEventListener('abort', onAbort)
      socket.off('error', onError)
    }
    const onError = (error: Error): void => {
      settle()
      socket.destroy()
      reject(error)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('error', onError)
    socket.connect({ host: to.ip, port: to.port }, () => {
      settle()
      // Until the caller listens itself, a reset must not be an uncaught error.
      socket.on('error', () => undefined)
      resolve(socket)
    })
  })
}
