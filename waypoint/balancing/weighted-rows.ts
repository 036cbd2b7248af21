/** Draws rows by weight: O(log n), without allocating. */

export class WeightedRows {
  /** Of the weights up to each row, with it. */
  readonly #sums: Float64Array

  constructor(weights: Float64Array) {
    this.#sums = new Float64Array(weights.length)
    this.weigh(weights)
  }

  /** Weights have changed; there are as many as before. */
  weigh(weights: Float64Array): void {
    let sum = 0
    for (let row = 0; row < this.#sums.length; row += 1) this.#sums[row] = sum += weights[row] ?? 0
  }

  /** `chance` from 0 up to 1. */
  draw(chance: number): number {
    return this.#rowAt(chance * this.#before(this.#sums.length))
  }

  /** Any but that one; -1 where there is no other. */
  drawOther(chance: number, row: number): number {
    const start = this.#before(row)
    const weight = this.#before(row + 1) - start
    const others = this.#before(this.#sums.length) - weight
    if (this.#sums.length < 2 || others <= 0) return -1
    const wanted = chance * others
    const other = this.#rowAt(wanted < start ? wanted : wanted + weight)
    if (other !== row) return other
    return row > 0 ? row - 1 : row + 1 // sums of fractions are not exact
  }

  #before(row: number): number {
    return this.#sums[row - 1] ?? 0
  }

  #rowAt(wanted: number): number {
    let low = 0
    let high = this.#sums.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#sums[middle] ?? 0) > wanted) high = middle
      else low = middle + 1
    }
    return low
  }
}
