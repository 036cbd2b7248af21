/** Keys that need work, each once however often it is added; what fails is tried again later. */
import { sleep } from '../../shared/runtime/clock.ts'

export interface WorkQueueOptions {
  readonly work: (key: string) => Promise<void>
  readonly onFailure: (key: string, error: unknown) => void
  /** Pieces of work at one time. */
  readonly concurrency: number
  readonly signal: AbortSignal
  /** First and longest wait before a failed key is tried again, milliseconds. */
  readonly retryMs?: { readonly first: number; readonly longest: number }
}

export class WorkQueue {
  readonly #options: WorkQueueOptions
  readonly #waiting = new Set<string>()
  /** Keys in work; those added meanwhile wait again. */
  readonly #active = new Set<string>()
  readonly #failures = new Map<string, number>()

  constructor(options: WorkQueueOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#waiting.size + this.#active.size
  }

  add(key: string): void {
    if (this.#options.signal.aborted) return
    this.#waiting.add(key)
    this.#next()
  }

  #next(): void {
    for (const key of this.#waiting) {
      if (this.#active.size >= this.#options.concurrency) return
      if (this.#active.has(key)) continue
      this.#waiting.delete(key)
      this.#active.add(key)
      void this.#run(key)
    }
  }

  async #run(key: string): Promise<void> {
    const { work, onFailure, signal } = this.#options
    try {
      await work(key)
      this.#failures.delete(key)
    } catch (error) {
      if (!signal.aborted) {
        onFailure(key, error)
        void this.#again(key)
      }
    }
    this.#active.delete(key)
    if (!signal.aborted) this.#next()
  }

  async #again(key: string): Promise<void> {
    const { signal, retryMs = { first: 500, longest: 60_000 } } = this.#options
    const failures = (this.#failures.get(key) ?? 0) + 1
    this.#failures.set(key, failures)
    if (await sleep(Math.min(retryMs.longest, retryMs.first * 2 ** (failures - 1)), signal)) this.add(key)
  }
}
