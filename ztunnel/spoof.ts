/**
 * Connecting to an application from its client's address, so that the application sees the real client.
 *
 * The source port is ours to choose, and it must not be one that the client uses itself: both connections
 * live in one network namespace, so equal pairs of addresses would collide. Linux clients take their ports
 * from 32768 up, so ours come from below, never the client's own, never one in use towards the same target.
 */
import type net from 'node:net'
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import { SystemCallError } from '../shared/net/ffi.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import { dial, DialTimeout, type Dial } from '../shared/net/dial.ts'

const LOWEST_PORT = 1024
const HIGHEST_PORT = 32_767
const TRIES = 3
/** An application in the same namespace answers at once; what takes longer is probably a collision. */
const TRY_TIMEOUT_MS = 250

export interface SpooferOptions {
  /** This thread's share of the ports: those that are `index` modulo `of`. */
  readonly index: number
  readonly of: number
  readonly random: () => number
  /** Called when a connection had to be made from our own address. */
  readonly onFallback: () => void
}

export class Spoofer {
  readonly #options: SpooferOptions
  /** `client ip|port|target` of every socket that this thread has open. */
  readonly #used = new Set<string>()

  constructor(options: SpooferOptions) {
    this.#options = options
  }

  /** As {@link dial}, from `client`'s address when one of three ports works out, else from our own. */
  async dial(options: Omit<Dial, 'from'>, client: SocketAddress, signal: AbortSignal): Promise<net.Socket> {
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const port = this.choosePort(client, options.to)
      if (port === undefined) break
      const key = pair(client, port, options.to)
      this.#used.add(key)
      const from = { ip: client.ip, port }
      const timeoutMs = Math.min(TRY_TIMEOUT_MS, options.timeoutMs)
      try {
        const socket = await dial({ ...options, from, timeoutMs }, signal)
        socket.once('close', () => this.#used.delete(key))
        return socket
      } catch (error) {
        this.#used.delete(key)
        if (!isCollision(error)) throw error
      }
    }
    this.#options.onFallback()
    return dial(options, signal)
  }

  /** A port for the client's address that no socket of ours uses towards the target; undefined when all are taken. */
  choosePort(client: SocketAddress, to: SocketAddress): number | undefined {
    const { index, of, random } = this.#options
    const share = Math.floor((HIGHEST_PORT - LOWEST_PORT - index) / of) + 1
    const start = Math.floor(random() * share)
    for (let step = 0; step < share; step++) {
      const port = LOWEST_PORT + index + ((start + step) % share) * of
      if (port !== client.port && !this.#used.has(pair(client, port, to))) return port
    }
    return undefined
  }
}

function pair(client: SocketAddress, port: number, to: SocketAddress): string {
  return `${client.ip}|${port}|${formatSocketAddress(to)}`
}

/** What another port may cure. A refusal is the application's answer and final. */
function isCollision(error: unknown): boolean {
  if (error instanceof DialTimeout) return true
  const cause = error instanceof MeshError ? error.cause : error
  const code = cause instanceof SystemCallError ? cause.code : (cause as { code?: unknown } | undefined)?.code
  return code === 'EADDRINUSE' || code === 'EADDRNOTAVAIL'
}
