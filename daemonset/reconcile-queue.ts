/** Keys that wait to be worked on: each at most once, one run per key at a time, failures again with growing pauses. */
import { Backoff } from '../shared/runtime/backoff.ts'

export interface QueueOptions {
  readonly work: (key: string) => Promise<void>
  /** Runs at the same time; 4 when absent. */
  readonly concurrency?: number
  readonly backoff?: { readonly initialMs: number; readonly maxMs: number }
  readonly signal: AbortSignal
}

export class ReconcileQueue {
  readonly #options: QueueOptions
  readonly #waiting = new Set<string>()
  readonly #running = new Set<string>()
  readonly #again = new Set<string>()
  readonly #retries = new Map<string, { readonly backoff: Backoff; timer: NodeJS.Timeout | undefined }>()
  #started = false

  constructor(options: QueueOptions) {
    this.#options = options
    options.signal.addEventListener('abort', () => {
      this.#waiting.clear()
      for (const { timer } of this.#retries.values()) clearTimeout(timer)
    })
  }

  /** Keys that were not worked on to the end: waiting, running, or to be tried again. */
  get size(): number {
    return new Set([...this.#waiting, ...this.#running, ...this.#retries.keys()]).size
  }

  /** Works from now on; keys that were added before have waited. */
  start(): void {
    this.#started = true
    this.#next()
  }

  add(key: string): void {
    if (this.#options.signal.aborted) return
    if (this.#running.has(key)) this.#again.add(key)
    else this.#waiting.add(key)
    this.#next()
  }

  #next(): void {
    const { concurrency = 4, signal } = this.#options
    if (!this.#started || signal.aborted) return
    for (const key of this.#waiting) {
      if (this.#running.size >= concurrency) return
      this.#waiting.delete(key)
      this.#running.add(key)
      void this.#run(key)
    }
  }

  async #run(key: string): Promise<void> {
    clearTimeout(this.#retries.get(key)?.timer)
    try {
      await this.#options.work(key)
      this.#retries.delete(key)
    } catch {
      // The work has reported its failure; here it only means: again, later.
      this.#retryLater(key)
    }
    this.#running.delete(key)
    if (this.#again.delete(key)) this.#waiting.add(key)
    this.#next()
  }

  #retryLater(key: string): void {
    if (this.#options.signal.aborted) return
    const { initialMs = 5, maxMs = 5000 } = this.#options.backoff ?? {}
    const retry = this.#retries.get(key) ?? { backoff: new Backoff({ initialMs, maxMs }), timer: undefined }
    retry.timer = setTimeout(() => this.add(key), retry.backoff.next())
    retry.timer.unref()
    this.#retries.set(key, retry)
  }
}
