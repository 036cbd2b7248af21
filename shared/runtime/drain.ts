/**
 * The only way a program shuts down: first everybody is told to stop accepting (`stopping`), then work in
 * hand runs until the deadline, then it is cut (`cut`).
 */
import { sleep } from './clock.ts'

export class Drain {
  readonly #stopping = new AbortController()
  readonly #cut = new AbortController()
  readonly #work = new Set<Promise<unknown>>()

  /** Aborts when no new work may be accepted. */
  get stopping(): AbortSignal {
    return this.#stopping.signal
  }

  /** Aborts when work in hand must end now. */
  get cut(): AbortSignal {
    return this.#cut.signal
  }

  /** Keeps the shutdown waiting, up to its deadline, for this piece of work. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#work.add(work)
    const forget = (): void => {
      this.#work.delete(work)
    }
    work.then(forget, forget)
    return work
  }

  /** Ends everything; resolves to whether all work was done before the deadline. Idempotent. */
  async run(deadlineMs: number): Promise<boolean> {
    this.#stopping.abort()
    const done = this.#idle()
    const inTime = await Promise.race([done.then(() => true), sleep(deadlineMs).then(() => false)])
    this.#cut.abort()
    return inTime
  }

  async #idle(): Promise<void> {
    while (this.#work.size > 0) await Promise.allSettled(this.#work)
  }
}
