/** What a program still waits for before it may take traffic. */

export class Readiness {
  readonly #pending = new Set<string>()

  /** Adds a task that is not done; returns what marks it done. Calling it again later is allowed. */
  block(task: string): () => void {
    this.#pending.add(task)
    return () => {
      this.#pending.delete(task)
    }
  }

  set(task: string, ready: boolean): void {
    if (ready) this.#pending.delete(task)
    else this.#pending.add(task)
  }

  /** Names of the tasks that are not done, sorted; empty means ready. */
  pending(): readonly string[] {
    return [...this.#pending].toSorted()
  }

  ready(): boolean {
    return this.#pending.size === 0
  }
}
