/**
 * The connections to one port of one pod in one protocol, and the requests that wait for one. A connection that was
 * opened for a request which is gone meanwhile serves the next one.
 */
import type { ClientConnection, ClientConnectionEvents } from '../http/exchange.ts'
import type { CircuitBreaker } from '../resilience/circuit-breaker.ts'
import type { TlsOrigination } from './backend-tls.ts'

export type UpstreamProtocol = 'http1' | 'http2'

/** What a request asks of its connection; undefined: what the waypoint does for everybody. */
export interface Terms {
  /** What `connections` and `pending` are counted in. */
  readonly counts: Pick<CircuitBreaker, 'tryAcquire' | 'acquire' | 'release'>
  readonly connectTimeoutMs: number | undefined
  readonly idleMs: number | undefined
  readonly maxRequestsPerConnection: number
  readonly maxConcurrentStreams: number
  /** Of the pod's own; never shared with requests that ask for another. */
  readonly tls: TlsOrigination | undefined
}

/** Rejects when the pod cannot be reached. */
export type Open = (
  events: ClientConnectionEvents,
  connectTimeoutMs: number | undefined
) => Promise<ClientConnection>

/** A request for which no connection is free: told once, and not at all after `cancel`. */
export class Waiting {
  readonly terms: Terms | undefined
  readonly #leave: (waiting: Waiting) => void
  #onReady: ((connection: ClientConnection) => void) | undefined
  #onFailed: ((error: unknown) => void) | undefined

  constructor(terms: Terms | undefined, leave: (waiting: Waiting) => void) {
    this.terms = terms
    this.#leave = leave
  }

  /** In the same step in which it was given. `ready` has to use the connection at once. */
  settle(ready: (connection: ClientConnection) => void, failed: (error: unknown) => void): void {
    this.#onReady = ready
    this.#onFailed = failed
  }

  cancel(): void {
    this.#onReady = this.#onFailed = undefined
    this.#leave(this)
  }

  ready(connection: ClientConnection): void {
    this.#onReady?.(connection)
  }

  failed(error: unknown): void {
    this.#onFailed?.(error)
  }
}

interface Kept {
  readonly connection: ClientConnection
  readonly idleMs: number | undefined
  /** Requests that it may still carry. */
  left: number
  usedAt: number
}

export class Place {
  /** Requests that are under way. */
  active = 0
  readonly #protocol: UpstreamProtocol
  readonly #open: Open
  /** Of HTTP/1.1 those without a request, the latest last; of HTTP/2 all. */
  readonly #kept: Kept[] = []
  readonly #waiting: Waiting[] = []
  /** That are open or being opened, and the latter alone. */
  #connections = 0
  #opening = 0
  #closed = false

  constructor(protocol: UpstreamProtocol, open: Open) {
    this.#protocol = protocol
    this.#open = open
  }

  get unused(): boolean {
    return this.active === 0 && this.#connections === 0 && this.#waiting.length === 0
  }

  take(terms: Terms | undefined): ClientConnection | Waiting | 'overflow' {
    const kept = this.#free(terms)
    if (kept !== undefined) return this.#use(kept)
    if (terms?.counts.tryAcquire('pending') === false) return 'overflow'
    const waiting = new Waiting(terms, left => this.#leave(left))
    this.#waiting.push(waiting)
    this.#openMore(terms)
    return waiting
  }

  /** Ends what nobody used for its time. */
  closeIdle(now: number, idleMs: number): void {
    for (const { connection, usedAt, idleMs: own = idleMs } of [...this.#kept]) {
      if (connection.active === 0 && usedAt < now - own) connection.drain() // which takes it out
    }
  }

  /** Ends what is unused, and everything else with its last request. */
  close(): void {
    this.#closed = true
    for (const { connection } of [...this.#kept]) connection.drain()
  }

  #free(terms: Terms | undefined): Kept | undefined {
    const most = terms?.maxConcurrentStreams ?? Infinity
    for (let at = this.#kept.length - 1; at >= 0; at -= 1) {
      const kept = this.#kept[at]
      if (kept !== undefined && kept.left > 0 && kept.connection.usable && kept.connection.active < most) {
        if (this.#protocol === 'http1') this.#kept.splice(at, 1)
        return kept
      }
    }
    return undefined
  }

  #use(kept: Kept): ClientConnection {
    kept.left -= 1
    kept.usedAt = performance.now()
    return kept.connection
  }

  #openMore(terms: Terms | undefined): void {
    // One of HTTP/2 may be enough for all that wait.
    const enough = this.#protocol === 'http2' ? 1 : this.#waiting.length
    if (this.#opening >= enough) return
    if (terms?.counts.tryAcquire('connections') === false) {
      if (this.#connections > 0) return
      terms.counts.acquire('connections') // one there may always be
    }
    this.#connections += 1
    this.#opening += 1
    const gone = (): void => {
      this.#connections -= 1
      terms?.counts.release('connections')
    }
    let kept: Kept | undefined
    const opened = this.#open(
      { idle: () => kept !== undefined && this.#idle(kept), closed: () => this.#lost(kept, gone) },
      terms?.connectTimeoutMs
    )
    opened.then(
      connection => {
        this.#opening -= 1
        const left = terms?.maxRequestsPerConnection ?? Infinity
        kept = { connection, idleMs: terms?.idleMs, left, usedAt: performance.now() }
        this.#kept.push(kept)
        this.#serve()
        if (this.#closed && connection.active === 0) connection.drain()
      },
      (error: unknown) => {
        this.#opening -= 1
        gone()
        const [first] = this.#waiting
        if (this.#connections === 0) this.#failAll(error)
        else if (first !== undefined && this.#opening < this.#waiting.length) this.#fail(first, error)
      }
    )
  }

  /** It takes another request. */
  #idle(kept: Kept): void {
    const { connection } = kept
    if (this.#closed || kept.left <= 0) return connection.drain()
    if (this.#protocol === 'http1') this.#kept.push(kept)
    if (this.#waiting.length > 0) this.#serve()
  }

  #lost(kept: Kept | undefined, gone: () => void): void {
    gone()
    const at = kept === undefined ? -1 : this.#kept.indexOf(kept)
    if (at >= 0) this.#kept.splice(at, 1)
    const [next] = this.#waiting
    if (next !== undefined) this.#openMore(next.terms)
  }

  /** Gives what is free to those that wait, the first first. */
  #serve(): void {
    for (let [next] = this.#waiting; next !== undefined; [next] = this.#waiting) {
      const kept = this.#free(next.terms)
      if (kept === undefined) return this.#openMore(next.terms)
      this.#leave(next)
      next.ready(this.#use(kept))
    }
  }

  #leave(waiting: Waiting): void {
    const at = this.#waiting.indexOf(waiting)
    if (at < 0) return
    this.#waiting.splice(at, 1)
    waiting.terms?.counts.release('pending')
  }

  #fail(waiting: Waiting, error: unknown): void {
    this.#leave(waiting)
    waiting.failed(error)
  }

  #failAll(error: unknown): void {
    for (const waiting of [...this.#waiting]) this.#fail(waiting, error)
  }
}
