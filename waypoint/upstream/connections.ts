/** HTTP connections to pods, kept while they are in use and for a while after. */
import type { WorkloadUid } from '../../shared/mesh/model.ts'
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import type { ClientConnection, ClientConnectionEvents } from '../http/exchange.ts'
import type { Target } from './tunnels.ts'

export type UpstreamProtocol = 'http1' | 'http2'

export interface ConnectionsOptions {
  /** Throws when the pod cannot be reached. */
  readonly open: (target: Target) => Promise<ByteStream>
  readonly speak: (
    protocol: UpstreamProtocol,
    stream: ByteStream,
    events: ClientConnectionEvents
  ) => ClientConnection
  /** After which an unused connection is closed, milliseconds. */
  readonly idleMs: number
}

/** Those to one port of one pod in one protocol. */
interface Place {
  /** Of HTTP/1.1 those without a request, the latest last; of HTTP/2 all. */
  readonly ready: Kept[]
  /** Requests that are under way. */
  active: number
}

interface Kept {
  readonly connection: ClientConnection
  usedAt: number
}

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #places = new Map<string, Place>()
  readonly #sweep: NodeJS.Timeout
  #closed = false

  constructor(options: ConnectionsOptions) {
    this.#options = options
    this.#sweep = setInterval(() => this.#closeIdle(), Math.max(1000, Math.min(options.idleMs / 2, 30_000)))
    this.#sweep.unref()
  }

  /** Requests under way to a pod's port. */
  active(uid: WorkloadUid, port: number, protocol: UpstreamProtocol): number {
    return this.#places.get(nameOf(uid, port, protocol))?.active ?? 0
  }

  /** One that takes a request now; at once where there is one. */
  take(target: Target, protocol: UpstreamProtocol): ClientConnection | Promise<ClientConnection> {
    const place = this.#place(nameOf(target.workload.uid, target.port, protocol))
    for (let kept = place.ready.at(-1); kept !== undefined; kept = place.ready.at(-1)) {
      if (kept.connection.usable) {
        if (protocol === 'http1') place.ready.pop()
        else kept.usedAt = performance.now()
        return kept.connection
      }
      if (protocol === 'http2' && kept.connection.active > 0) break // full: another one beside it
      place.ready.pop()
    }
    return this.#open(target, protocol, place)
  }

  /** Counts a request to the pod; the answer takes it back. */
  count(target: Target, protocol: UpstreamProtocol): () => void {
    const place = this.#place(nameOf(target.workload.uid, target.port, protocol))
    place.active += 1
    return () => {
      place.active -= 1
    }
  }

  /** Ends what is unused, and everything else with its last request. */
  close(): void {
    this.#closed = true
    clearInterval(this.#sweep)
    for (const { ready } of this.#places.values()) for (const { connection } of ready) connection.drain()
    this.#places.clear()
  }

  async #open(target: Target, protocol: UpstreamProtocol, place: Place): Promise<ClientConnection> {
    const stream = await this.#options.open(target)
    const connection: ClientConnection = this.#options.speak(protocol, stream, {
      idle: () => {
        if (this.#closed) connection.drain()
        else if (protocol === 'http1') place.ready.push({ connection, usedAt: performance.now() })
      },
      closed: () => {
        const at = place.ready.findIndex(kept => kept.connection === connection)
        if (at >= 0) place.ready.splice(at, 1)
      }
    })
    if (protocol === 'http2') place.ready.push({ connection, usedAt: performance.now() })
    return connection
  }

  #place(name: string): Place {
    let place = this.#places.get(name)
    if (place === undefined) this.#places.set(name, (place = { ready: [], active: 0 }))
    return place
  }

  #closeIdle(): void {
    const oldest = performance.now() - this.#options.idleMs
    for (const [name, place] of this.#places) {
      const unused = place.ready.filter(
        ({ connection, usedAt }) => usedAt < oldest && connection.active === 0
      )
      for (const { connection } of unused) connection.drain() // which takes it out
      if (place.active === 0 && place.ready.length === 0) this.#places.delete(name)
    }
  }
}

function nameOf(uid: WorkloadUid, port: number, protocol: UpstreamProtocol): string {
  return `${protocol} ${port} ${uid}`
}
