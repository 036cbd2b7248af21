/** On-demand discovery from a worker: what has a name is asked of the main thread before it is used. */

/** The answer comes from the control plane; a connection does not wait longer for it. */
const PATIENCE_MS = 5000

export class AddressLookup {
  readonly #ask: (id: number, name: string) => void
  /** One question for a name, however many connections wait for it. */
  readonly #asked = new Map<string, { readonly id: number; readonly answered: Promise<void> }>()
  readonly #waiting = new Map<number, { readonly name: string; readonly resolve: () => void }>()
  #lastId = 0

  constructor(ask: (id: number, name: string) => void) {
    this.#ask = ask
  }

  /**
   * Resolves when the mesh holds what there is under the name, or when waiting has lasted long enough.
   * Names are `network/ip`, `namespace/hostname` or the uid of a workload.
   */
  async find(name: string): Promise<void> {
    const known = this.#asked.get(name)
    if (known !== undefined) return known.answered
    const id = ++this.#lastId
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.set(id, { name, resolve })
    this.#asked.set(name, { id, answered: promise })
    const timer = setTimeout(() => this.answered(id), PATIENCE_MS)
    this.#ask(id, name)
    await promise
    clearTimeout(timer)
  }

  answered(id: number): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    this.#waiting.delete(id)
    this.#asked.delete(waiting.name)
    waiting.resolve()
  }
}
