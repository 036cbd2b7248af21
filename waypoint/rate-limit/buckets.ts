/**
 * Token buckets, one for each key, filled evenly. Of each only the moment is kept at which it will be full again, which is all that
 * there is to know of it. Times are milliseconds of a clock that never goes back.
 */
import type { Rate } from './rate-limit.ts'

/** Of those that were used last; what is dropped begins full again. */
export const mostKeys = 65_536
/** Sums of fractions may be off by less than this; in milliseconds. */
const tolerance = 0.001

/** What one bucket holds. */
export interface Level {
  /** Whole requests that may come now. */
  readonly remaining: number
  /** Until one may come. */
  readonly waitMs: number
  /** Until it is full. */
  readonly fullMs: number
}

export class Buckets {
  readonly #intervalMs: number
  readonly #depthMs: number
  readonly #most: number
  /** When each is full again; the one that was used longest ago is first. */
  readonly #fullAt = new Map<string, number>()

  constructor({ requests, perMs, burst }: Rate, most = mostKeys) {
    this.#intervalMs = perMs / requests
    this.#depthMs = burst * this.#intervalMs
    this.#most = most
  }

  get size(): number {
    return this.#fullAt.size
  }

  /** Looking is use too: whoever asks in vain is not forgotten. */
  level(key: string, now: number): Level {
    const fullAt = this.#fullAt.get(key)
    if (fullAt !== undefined) this.#use(key, fullAt)
    const owed = Math.max(0, (fullAt ?? 0) - now)
    const free = this.#depthMs - owed + tolerance
    return {
      remaining: Math.max(0, Math.floor(free / this.#intervalMs)),
      waitMs: Math.max(0, this.#intervalMs - free),
      fullMs: owed
    }
  }

  /** False, and nothing is taken, where the bucket does not hold one. */
  take(key: string, now: number): boolean {
    const fullAt = Math.max(now, this.#fullAt.get(key) ?? 0) + this.#intervalMs
    if (fullAt - now > this.#depthMs + tolerance) return false
    this.#use(key, fullAt)
    if (this.#fullAt.size > this.#most) this.#dropFirst()
    return true
  }

  #use(key: string, fullAt: number): void {
    this.#fullAt.delete(key)
    this.#fullAt.set(key, fullAt)
  }

  #dropFirst(): void {
    for (const key of this.#fullAt.keys()) {
      this.#fullAt.delete(key)
      return
    }
  }
}
