/** Waiting times that double up to a cap. */

export interface BackoffOptions {
  /** First waiting time in milliseconds. */
  readonly initialMs: number
  /** Longest waiting time in milliseconds. */
  readonly maxMs: number
  /** Share of the time, 0 to 1, by which it may vary either way. */
  readonly jitter?: number
  readonly random?: () => number
}

export class Backoff {
  readonly #options: BackoffOptions
  #nextMs: number

  constructor(options: BackoffOptions) {
    this.#options = options
    this.#nextMs = options.initialMs
  }

  /** The time to wait now, in milliseconds; the next one will be twice as long. */
  next(): number {
    const { maxMs, jitter = 0, random = Math.random } = this.#options
    const base = this.#nextMs
    this.#nextMs = Math.min(maxMs, base * 2)
    return Math.round(base * (1 + jitter * (random() * 2 - 1)))
  }

  reset(): void {
    this.#nextMs = this.#options.initialMs
  }
}
