/** The streams of a connection by identifier: which live, which were never opened, which we have reset lately. */
import { maxStreamId } from './frames.ts'
import type { Tunnel } from './tunnel.ts'

export class StreamTable {
  readonly #server: boolean
  readonly #live = new Map<number, Tunnel>()
  /** What the peer sent on these before it knew is no violation. Oldest first. */
  readonly #resetByUs = new Set<number>()
  readonly #resetsKept: number
  #lastPeerId = 0
  #nextId = 1

  /** `resetsKept`: how many streams that we reset are remembered. */
  constructor(server: boolean, resetsKept: number) {
    this.#server = server
    this.#resetsKept = resetsKept
  }

  get size(): number {
    return this.#live.size
  }

  /** The last stream that the peer opened. */
  get lastPeerId(): number {
    return this.#lastPeerId
  }

  get exhausted(): boolean {
    return this.#nextId > maxStreamId
  }

  get(id: number): Tunnel | undefined {
    return this.#live.get(id)
  }

  values(): Iterable<Tunnel> {
    return this.#live.values()
  }

  /** An identifier for a new stream of ours. */
  takeId(): number {
    const id = this.#nextId
    this.#nextId += 2
    return id
  }

  add(tunnel: Tunnel): void {
    this.#live.set(tunnel.id, tunnel)
  }

  delete(id: number): void {
    this.#live.delete(id)
  }

  /** Whether HEADERS with this identifier may open a stream of the peer's. */
  mayOpen(id: number): boolean {
    return this.#server && id % 2 === 1 && id > this.#lastPeerId
  }

  /** The peer has opened this stream, whether we take it or not. */
  openedByPeer(id: number): void {
    this.#lastPeerId = id
  }

  /** Nobody has opened this stream yet. */
  isIdle(id: number): boolean {
    if (id % 2 === 0) return true
    return this.#server ? id > this.#lastPeerId : id >= this.#nextId
  }

  rememberReset(id: number): void {
    this.#resetByUs.add(id)
    if (this.#resetByUs.size <= this.#resetsKept) return
    for (const oldest of this.#resetByUs) {
      this.#resetByUs.delete(oldest)
      break
    }
  }

  wasReset(id: number): boolean {
    return this.#resetByUs.has(id)
  }
}
