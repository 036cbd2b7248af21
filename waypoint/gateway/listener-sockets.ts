/** The ports of a gateway: they are opened and closed as its listeners change; connections of ports that stay do not notice. */
import net from 'node:net'
import { openListener } from '../../shared/net/sockets.ts'
import { wildcard } from '../../shared/runtime/admin-http.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'

export interface ListenerSocketsOptions {
  readonly ipv6: boolean
  readonly log: Logger
  readonly accept: (port: number, socket: net.Socket) => void
  /** Until a port that could not be opened is tried again, and twice as long each further time. */
  readonly retryMs?: number
}

interface Place {
  server: net.Server | undefined
  retry: NodeJS.Timeout | undefined
}

const longestRetryMs = 60_000

export class ListenerSockets {
  readonly #options: ListenerSocketsOptions
  readonly #places = new Map<number, Place>()
  /** Connections of all ports, also of those that are closed by now. */
  readonly open = new Set<net.Socket>()

  constructor(options: ListenerSocketsOptions) {
    this.#options = options
  }

  /** Opens those that are new, and closes the others; what is connected stays. */
  listenAt(ports: ReadonlySet<number>): void {
    for (const [port, place] of this.#places) if (!ports.has(port)) this.#close(port, place)
    for (const port of ports) {
      if (this.#places.has(port)) continue
      const place: Place = { server: undefined, retry: undefined }
      this.#places.set(port, place)
      this.#open(port, place, this.#options.retryMs ?? 1000)
    }
  }

  destroyOpen(): void {
    for (const socket of this.open) socket.destroy()
  }

  #open(port: number, place: Place, retryMs: number): void {
    const { log, ipv6 } = this.#options
    const failed = (error: unknown): void => {
      if (this.#places.get(port) !== place) return
      place.server = undefined
      const fields = { port, error: messageOf(error), retry: `${retryMs}ms` }
      log.error('a port of the Gateway cannot be opened: nobody can reach its listeners', fields)
      const again = Math.min(2 * retryMs, longestRetryMs)
      place.retry = setTimeout(() => this.#open(port, place, again), retryMs)
      place.retry.unref()
    }
    try {
      const [address] = wildcard(port, ipv6)
      if (address === undefined) throw new Error('no address to listen at')
      const fd = openListener({}, { address, dualStack: ipv6, noDelay: true })
      const server = net.createServer(
        { allowHalfOpen: true, pauseOnConnect: true, noDelay: true },
        this.#accept(port)
      )
      place.server = server
      server.once('error', failed)
      server.listen({ fd }, () => {
        server.off('error', failed)
        server.on('error', error => log.warn('a client was not taken', { port, error: messageOf(error) }))
        log.info('a port of the Gateway is open', { port })
      })
    } catch (error) {
      failed(error)
    }
  }

  #accept(port: number): (socket: net.Socket) => void {
    return socket => {
      this.open.add(socket)
      socket.on('error', () => undefined) // whoever reads it sees it too
      socket.once('close', () => this.open.delete(socket))
      this.#options.accept(port, socket)
    }
  }

  #close(port: number, { server, retry }: Place): void {
    this.#places.delete(port)
    clearTimeout(retry)
    if (server === undefined) return
    server.close()
    this.#options.log.info('a port of the Gateway is closed', { port })
  }
}
