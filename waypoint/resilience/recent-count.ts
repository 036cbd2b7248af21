/** How much there was in the time that has just passed, in memory that does not grow with it. */

/** Of an interval; the oldest goes as a whole, so that up to one part less than the interval is counted. */
const parts = 20

export class RecentCount {
  readonly #partMs: number
  readonly #counts = new Float64Array(parts)
  #sum = 0
  /** Number of the part that `now` was in last, counted from the clock's beginning. */
  #part = 0

  /** `intervalMs`: above 0. */
  constructor(intervalMs: number) {
    this.#partMs = intervalMs / parts
  }

  /** `now`: milliseconds of a clock that never goes back. */
  add(now: number): void {
    this.#forget(now)
    const at = this.#part % parts
    this.#counts[at] = (this.#counts[at] ?? 0) + 1
    this.#sum += 1
  }

  at(now: number): number {
    this.#forget(now)
    return this.#sum
  }

  #forget(now: number): void {
    const part = Math.floor(now / this.#partMs)
    if (part === this.#part) return
    const first = Math.max(this.#part + 1, part - parts + 1)
    for (let passed = first; passed <= part; passed += 1) {
      this.#sum -= this.#counts[passed % parts] ?? 0
      this.#counts[passed % parts] = 0
    }
    this.#part = part
  }
}
