/** Runs work once changes have settled, but never later than a limit after the first of them. */

export interface DebounceOptions {
  /** Milliseconds without a further change. */
  readonly quietMs: number
  /** Milliseconds after the first change. */
  readonly maxMs: number
  /** `firstAt` is when the first change came, by `performance.now()`. */
  readonly run: (firstAt: number) => void
}

export class Debounce {
  readonly #options: DebounceOptions
  #timer: NodeJS.Timeout | undefined
  #firstAt = 0

  constructor(options: DebounceOptions) {
    this.#options = options
  }

  /** Something changed. */
  touch(): void {
    const now = performance.now()
    if (this.#timer === undefined) this.#firstAt = now
    else clearTimeout(this.#timer)
    const left = this.#firstAt + this.#options.maxMs - now
    this.#timer = setTimeout(() => this.flush(), Math.max(0, Math.min(this.#options.quietMs, left)))
  }

  /** Runs now what waits. */
  flush(): void {
    if (this.#timer === undefined) return
    this.stop()
    this.#options.run(this.#firstAt)
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
