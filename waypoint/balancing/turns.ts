/**
 * Whose turn it is: each row comes as often as its weight says, spread evenly. Every row is due at a time of its own,
 * and after its turn again one step later, the shorter the more it weighs (earliest deadline first).
 */

export class Turns {
  readonly #due: Float64Array
  /** A heap: no row is due before the one at half of its index. */
  readonly #heap: Uint32Array

  constructor(due: Float64Array) {
    this.#due = due
    this.#heap = Uint32Array.from(due.keys())
    this.#order()
  }

  /** The row whose turn it is; there has to be one. */
  get next(): number {
    return this.#heap[0] ?? 0
  }

  /** The time of the next turn. */
  get now(): number {
    return this.dueOf(this.next)
  }

  dueOf(row: number): number {
    return this.#due[row] ?? 0
  }

  /** It had its turn, and comes again after that time. */
  pass(step: number): void {
    this.#due[this.next] = this.now + step
    this.#sink(0)
  }

  /** Weights have grown: nobody waits longer than a step of today, however little it weighed at its last turn. */
  hasten(weights: Float64Array): void {
    const { now } = this
    for (let row = 0; row < this.#due.length; row += 1) {
      this.#due[row] = Math.min(this.dueOf(row), now + 1 / (weights[row] ?? 0))
    }
    this.#order()
  }

  #order(): void {
    for (let at = (this.#heap.length >> 1) - 1; at >= 0; at -= 1) this.#sink(at)
  }

  #sink(start: number): void {
    const heap = this.#heap
    const row = heap[start] ?? 0
    let at = start
    for (let child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && this.#dueAt(child + 1) < this.#dueAt(child)) child += 1
      if (this.#dueAt(child) >= this.dueOf(row)) break
      heap[at] = heap[child] ?? 0
      at = child
    }
    heap[at] = row
  }

  #dueAt(index: number): number {
    return this.dueOf(this.#heap[index] ?? 0)
  }
}
