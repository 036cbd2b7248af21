/** Connecting from inside a pod: in its network namespace, marked, with a deadline. */
import type net from 'node:net'
import { formatSocketAddress, ipFamily, type SocketAddress } from './address.ts'
import { dialerSocket, openDialer, type SocketPlace, type TcpOptions } from './sockets.ts'
import { MeshError } from '../runtime/errors.ts'

export interface Dial {
  readonly place: SocketPlace
  readonly to: SocketAddress
  readonly timeoutMs: number
  readonly tcp: TcpOptions
  /** Source address that need not be ours. */
  readonly from?: SocketAddress
}

/** The dial took longer than its deadline. */
export class DialTimeout extends MeshError {
  constructor(to: SocketAddress, timeoutMs: number) {
    super(
      'CONNECT_FAILED',
      `connection failed: ${formatSocketAddress(to)} did not answer within ${timeoutMs} ms`
    )
  }
}

/**
 * A connected socket, paused. Throws MeshError CONNECT_FAILED, {@link DialTimeout}, a SystemCallError when the
 * source address cannot be bound, or the signal's reason.
 */
export function dial({ place, to, timeoutMs, tcp, from }: Dial, signal: AbortSignal): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason as Error)
      return
    }
    const spoofed = from === undefined ? {} : { bind: from, transparent: true }
    const socket = dialerSocket(openDialer(place, { family: ipFamily(to.ip), ...tcp, ...spoofed }))
    socket.pause() // whoever takes the socket starts reading
    const settle = (error: Error | undefined): void => {
      clearTimeout(deadline)
      socket.off('connect', onConnect)
      socket.off('error', onError)
      signal.removeEventListener('abort', onAbort)
      if (error === undefined) {
        resolve(socket)
        return
      }
      socket.on('error', ignore)
      socket.destroy()
      reject(error)
    }
    const onConnect = (): void => settle(undefined)
    const onError = (cause: Error): void =>
      settle(new MeshError('CONNECT_FAILED', `connection failed: ${formatSocketAddress(to)}`, { cause }))
    const onAbort = (): void => settle(signal.reason as Error)
    // A busy thread may run timers before it learns that the connection stands: look once more before judging.
    const deadline = setTimeout(() => {
      setImmediate(() => {
        if (socket.connecting) settle(new DialTimeout(to, timeoutMs))
      })
    }, timeoutMs)
    socket.once('connect', onConnect)
    socket.once('error', onError)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.connect({ host: to.ip, port: to.port })
  })
}

function ignore(): void {
  // the dial failed already, and its error is the one that counts
}
