/** Finds dead peers: a PING some time after the connection is up and after each answer, an answer in time or none. */
export interface KeepaliveOptions {
  /** Milliseconds from the start, and from each pong, to the next PING; Infinity: none. */
  readonly intervalMs: number
  /** Milliseconds that a pong may take. */
  readonly timeoutMs: number
  readonly sendPing: () => void
  readonly onDead: () => void
}

export class Keepalive {
  readonly #options: KeepaliveOptions
  #timer: NodeJS.Timeout | undefined
  #waiting = false

  constructor(options: KeepaliveOptions) {
    this.#options = options
    this.#arm(options.intervalMs)
  }

  pong(): void {
    if (!this.#waiting) return
    this.#waiting = false
    this.#arm(this.#options.intervalMs)
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #arm(ms: number): void {
    clearTimeout(this.#timer)
    if (ms === Infinity) return
    this.#timer = setTimeout(this.#onTimer, ms)
    this.#timer.unref()
  }

  readonly #onTimer = (): void => {
    if (this.#waiting) {
      this.stop()
      this.#options.onDead()
      return
    }
    this.#waiting = true
    this.#options.sendPing()
    this.#arm(this.#options.timeoutMs)
  }
}
