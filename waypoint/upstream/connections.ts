/** HTTP connections to pods, kept while they are in use and for a while after. */
import type { WorkloadUid } from '../../shared/mesh/model.ts'
import type { SocketAddress } from '../../shared/net/address.ts'
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import type { ClientConnection, ClientConnectionEvents } from '../http/exchange.ts'
import { Place, type Terms, type UpstreamProtocol, type Waiting } from './place.ts'
import type { TlsOrigination } from './backend-tls.ts'
import type { Opening, Target } from './tunnels.ts'

export interface ConnectionsOptions {
  /** Throws when the pod cannot be reached. */
  readonly open: (target: Target, opening: Opening) => Promise<ByteStream>
  readonly speak: (
    protocol: UpstreamProtocol,
    stream: ByteStream,
    events: ClientConnectionEvents
  ) => ClientConnection
  /** After which an unused connection is closed, milliseconds. */
  readonly idleMs: number
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

  /** One that takes a request now, a wait for one, or the refusal of the terms. */
  take(target: Target, protocol: UpstreamProtocol): ClientConnection | Waiting
  take(target: Target, protocol: UpstreamProtocol, terms?: Terms): ClientConnection | Waiting | 'overflow'
  take(target: Target, protocol: UpstreamProtocol, terms?: Terms): ClientConnection | Waiting | 'overflow' {
    return this.#place(target, protocol, terms?.tls).take(terms)
  }

  /** Counts a request to the pod; the answer takes it back. */
  count(target: Target, protocol: UpstreamProtocol): () => void {
    const place = this.#place(target, protocol)
    place.active += 1
    return () => {
      place.active -= 1
    }
  }

  /** Ends what is unused, and everything else with its last request. */
  close(): void {
    this.#closed = true
    clearInterval(this.#sweep)
    for (const place of this.#places.values()) place.close()
  }

  #place(target: Target, protocol: UpstreamProtocol, tls?: TlsOrigination): Place {
    const name = nameOf(target.workload.uid, target.port, protocol, target.asks, tls)
    let place = this.#places.get(name)
    if (place === undefined) {
      const { open, speak } = this.#options
      const alpn = protocol === 'http2' ? 'h2' : 'http/1.1'
      place = new Place(protocol, async (events, timeoutMs) =>
        speak(protocol, await open(target, { timeoutMs, tls, alpn }), events)
      )
      if (this.#closed) place.close()
      this.#places.set(name, place)
    }
    return place
  }

  #closeIdle(): void {
    const now = performance.now()
    for (const [name, place] of this.#places) {
      place.closeIdle(now, this.#options.idleMs)
      if (place.unused) this.#places.delete(name)
    }
  }
}

function nameOf(
  uid: WorkloadUid,
  port: number,
  protocol: UpstreamProtocol,
  asks?: SocketAddress,
  tls?: TlsOrigination
): string {
  const name = `${protocol} ${port} ${uid}`
  if (tls !== undefined) return `${name} ${tls.name}`
  return asks === undefined ? name : `${name} ${asks.ip} ${asks.port}`
}
