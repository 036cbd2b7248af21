/**
 * Sessions to reuse, by who talks to whom.
 *
 * Rules:
 * 1. Two tunnels share a session only if source identity, expected identities (in their order), address and
 *    source IP are all equal.
 * 2. One dial at a time for a key. Whoever waits for it shares what comes of it, session or error: nobody waits
 *    longer than one dial may take, however many wait. A dial that was given up by whoever began it is nobody
 *    else's: the next who waited dials.
 * 3. A session that reaches its limit of tunnels leaves the pool at that moment and never comes back, even
 *    when tunnels end; it ends with its last tunnel. The number of sessions for a key is not bounded.
 * 4. A session that nobody checked out for the release time leaves the pool; it ends with its last tunnel.
 * 5. A session that is gone or takes no new streams is found at checkout and replaced. A request that the
 *    peer did not look at (GOAWAY, REFUSED_STREAM) is tried on another session, at most twice.
 * 6. After `close` nothing is in the pool and nothing is dialled.
 */
import type { SpiffeId } from '../identity/spiffe-id.ts'
import { formatSocketAddress, type Ip, type SocketAddress } from '../net/address.ts'
import { steadyClock, type Clock } from '../runtime/clock.ts'
import { MeshError } from '../runtime/errors.ts'
import { Unprocessed, type ClientSession, type ConnectHead, type OpenedTunnel } from './session.ts'

export interface PoolKey {
  readonly source: SpiffeId
  readonly expected: readonly SpiffeId[]
  readonly address: SocketAddress
  readonly sourceIp: Ip
}

/** What the pool needs of a session; a `ClientSession`. */
export type PoolableSession = Pick<
  ClientSession,
  'openTunnel' | 'close' | 'closed' | 'usable' | 'streams' | 'maxStreams'
>

export interface PoolOptions<Session extends PoolableSession = ClientSession> {
  /** Dials and handshakes; throws MeshError. */
  dial(key: PoolKey, signal: AbortSignal): Promise<Session>
  /** Tunnels per session, where the peer does not allow fewer; default 100. */
  readonly maxStreams?: number
  /** Milliseconds since its last checkout after which a session leaves the pool; default 5 min. */
  readonly unusedReleaseMs?: number
  /** One that only goes forward. */
  readonly clock?: Clock
}

export interface PooledTunnel<Session extends PoolableSession = ClientSession> extends OpenedTunnel {
  readonly session: Session
}

interface Held<Session> {
  readonly key: PoolKey
  readonly session: Session
  checkedOutAt: number
  timer: NodeJS.Timeout | undefined
}

interface Failure {
  readonly error: unknown
}

const maxTries = 3

export class TunnelPool<Session extends PoolableSession = ClientSession> {
  readonly #options: PoolOptions<Session>
  readonly #maxStreams: number
  readonly #unusedReleaseMs: number
  readonly #clock: Clock
  readonly #held = new Map<string, Held<Session>>()
  /** Resolves, never rejects, when the dial for this key is over: with what failed for all who wait. */
  readonly #dialling = new Map<string, Promise<Failure | undefined>>()
  #closed = false

  constructor(options: PoolOptions<Session>) {
    this.#options = options
    this.#maxStreams = options.maxStreams ?? 100
    this.#unusedReleaseMs = options.unusedReleaseMs ?? 300_000
    this.#clock = options.clock ?? steadyClock
  }

  /** A new tunnel on a shared or new session. Throws what `dial` and `openTunnel` throw, or the signal's reason. */
  async tunnel(key: PoolKey, head: ConnectHead, signal: AbortSignal): Promise<PooledTunnel<Session>> {
    const name = nameOf(key)
    for (let attempt = 1; ; attempt++) {
      // Checked out and used without a pause in between: else a crowd would all check out one session's last place.
      let session = this.#checkout(name)
      while (session === undefined) {
        await this.#dialled(name, key, signal)
        session = this.#checkout(name)
      }
      try {
        const opening = session.openTunnel(head, signal)
        this.#retireFull(name, session)
        const { tunnel, headers } = await opening
        return { session, tunnel, headers }
      } catch (error) {
        const unprocessed = error instanceof MeshError && error.cause instanceof Unprocessed
        if (!unprocessed || attempt === maxTries || signal.aborted) throw error
        if (this.#held.get(name)?.session === session) this.#release(name)
      }
    }
  }

  /** What can be checked out now, for dumps. */
  sessions(): readonly { readonly key: PoolKey; readonly session: Session; readonly streams: number }[] {
    return [...this.#held.values()].map(({ key, session }) => ({ key, session, streams: session.streams }))
  }

  /** Lets go of every session; each ends with its last tunnel. */
  close(): void {
    this.#closed = true
    for (const name of [...this.#held.keys()]) this.#release(name)
  }

  /** The session in the pool, if it takes another tunnel. */
  #checkout(name: string): Session | undefined {
    if (this.#closed) throw new MeshError('DRAINED', 'no new connections: the tunnel pool is closed')
    const held = this.#held.get(name)
    if (held === undefined) return undefined
    if (!held.session.usable) {
      this.#release(name)
      return undefined
    }
    held.checkedOutAt = this.#clock.now()
    return held.session
  }

  /** Dials, or waits for whoever does; then there is a session, unless others took it or the dial was given up. */
  async #dialled(name: string, key: PoolKey, signal: AbortSignal): Promise<void> {
    const dial = this.#dialling.get(name)
    if (dial === undefined) return this.#dial(name, key, signal)
    const failure = await unlessAborted(dial, signal)
    if (failure !== undefined) throw failure.error
  }

  async #dial(name: string, key: PoolKey, signal: AbortSignal): Promise<void> {
    const dial = this.#options.dial(key, signal)
    const over = dial.then(
      session => this.#hold(name, key, session),
      (error: unknown) => {
        this.#dialling.delete(name)
        return signal.aborted ? undefined : { error }
      }
    )
    this.#dialling.set(name, over)
    await dial
    await over
  }

  #hold(name: string, key: PoolKey, session: Session): undefined {
    this.#dialling.delete(name)
    if (this.#closed) {
      session.close()
      return
    }
    const held: Held<Session> = { key, session, checkedOutAt: this.#clock.now(), timer: undefined }
    this.#held.set(name, held)
    this.#watch(name, held, this.#unusedReleaseMs)
  }

  #watch(name: string, held: Held<Session>, ms: number): void {
    held.timer = setTimeout(() => {
      const unusedMs = this.#clock.now() - held.checkedOutAt
      if (unusedMs >= this.#unusedReleaseMs) this.#release(name)
      else this.#watch(name, held, this.#unusedReleaseMs - unusedMs)
    }, ms)
    held.timer.unref()
  }

  #retireFull(name: string, session: Session): void {
    const limit = Math.min(this.#maxStreams, session.maxStreams)
    if (session.streams >= limit && this.#held.get(name)?.session === session) this.#release(name)
  }

  #release(name: string): void {
    const held = this.#held.get(name)
    if (held === undefined) return
    this.#held.delete(name)
    clearTimeout(held.timer)
    held.session.close()
  }
}

function nameOf({ source, expected, address, sourceIp }: PoolKey): string {
  return `${formatSocketAddress(address)} ${sourceIp} ${source} ${expected.join(' ')}`
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let onAbort: (() => void) | undefined
  try {
    return await new Promise<T>((resolve, reject) => {
      onAbort = () => reject(signal.reason)
      signal.addEventListener('abort', onAbort)
      void work.then(resolve)
    })
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}
