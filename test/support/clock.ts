/** A clock with timers that only moves when told to. */
import type { Clock } from '../../shared/runtime/clock.ts'

interface Timer {
  readonly at: number
  readonly callback: () => void
}

export class TurnedClock implements Clock {
  readonly #timers = new Set<Timer>()
  #now: number
  /** By how much the clock was set, forward or back. */
  #jumped = 0

  constructor(now = Date.UTC(2030, 0, 1)) {
    this.#now = now
  }

  now(): number {
    return this.#now + this.#jumped
  }

  /** What passed, whatever the clock was set to. */
  readonly elapsed = (): number => this.#now

  readonly timer = (ms: number, callback: () => void): (() => void) => {
    const timer = { at: this.#now + Math.max(0, ms), callback }
    this.#timers.add(timer)
    return () => {
      this.#timers.delete(timer)
    }
  }

  /** Lets the time pass; timers fire in order, and what they started gets its turn before the next. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms
    for (let round = 0; round < 100_000; round += 1) {
      await settled()
      const next = [...this.#timers].filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.callback()
    }
    this.#now = end
    await settled()
  }

  /** The clock is set to another time, by so much; timers go on as if nothing had happened. */
  jump(ms: number): void {
    this.#jumped += ms
  }
}

/** Lets everything that is ready to run, run. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise<void>(resolve => setImmediate(resolve))
}
