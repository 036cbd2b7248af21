/** Names of places as small numbers, for comparing them in shared memory. Owned by the writing thread. */

/** Counts the uses of a name and gives its number back when there are none; the empty name is 0. */
export class Interned {
  readonly #known = new Map<string, { readonly number: number; uses: number }>()
  readonly #free: number[] = []
  #next = 1

  take(name: string): number {
    if (name === '') return 0
    const known = this.#known.get(name)
    if (known !== undefined) {
      known.uses += 1
      return known.number
    }
    const number = this.#free.pop() ?? this.#next++
    this.#known.set(name, { number, uses: 1 })
    return number
  }

  release(name: string): void {
    const known = this.#known.get(name)
    if (known === undefined) return
    known.uses -= 1
    if (known.uses > 0) return
    this.#known.delete(name)
    this.#free.push(known.number)
  }
}
