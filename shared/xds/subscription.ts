/** What a delta xDS client holds and wants of one type. */

/** `wildcard`: everything. `on-demand`: only names that were asked for. */
export type SubscriptionMode = 'wildcard' | 'on-demand'

export interface Rejected {
  readonly name: string
  readonly reason: string
}

interface Received {
  readonly name: string
  readonly version: string
  readonly aliases: readonly string[]
}

export class Subscription {
  readonly typeUrl: string
  readonly mode: SubscriptionMode
  readonly #versions = new Map<string, string>()
  /** Refused, and nothing held under the name: the server has to tell of it again, or that it is gone. */
  readonly #refused = new Set<string>()
  readonly #wanted = new Map<string, PromiseWithResolvers<void>>()
  readonly #withRejections: boolean
  #synced: boolean
  #lastRejection: string | undefined

  /** `withRejections`: a push is good enough to begin with even where some of it was refused. */
  constructor(typeUrl: string, mode: SubscriptionMode, withRejections = false) {
    this.typeUrl = typeUrl
    this.mode = mode
    this.#withRejections = withRejections
    this.#synced = mode === 'on-demand'
  }

  /** A push was taken, without an objection where that is asked for; on-demand types have nothing to wait for. */
  get synced(): boolean {
    return this.#synced
  }

  get size(): number {
    return this.#versions.size
  }

  get lastRejection(): string | undefined {
    return this.#lastRejection
  }

  /** What is held, by name; names that wait for an answer, or were refused, have the empty version. */
  versions(): Record<string, string> {
    const open = [...this.#wanted.keys(), ...this.#refused].map(name => [name, ''] as const)
    return Object.fromEntries([...open, ...this.#versions])
  }

  /** `isNew`: nobody asked for this name yet, so the server has to be told. */
  want(name: string): { isNew: boolean; answered: Promise<void> } {
    if (this.#versions.has(name)) return { isNew: false, answered: Promise.resolve() }
    const known = this.#wanted.get(name)
    if (known !== undefined) return { isNew: false, answered: known.promise }
    const waiting = Promise.withResolvers<void>()
    this.#wanted.set(name, waiting)
    return { isNew: true, answered: waiting.promise }
  }

  /** Records a push. What was rejected keeps the version that is held. */
  received(resources: readonly Received[], removed: readonly string[], rejected: readonly Rejected[]): void {
    const refused = new Set(rejected.map(({ name }) => name))
    for (const { name, version, aliases } of resources) {
      if (!refused.has(name)) {
        this.#versions.set(name, version)
        this.#refused.delete(name)
      } else if (!this.#versions.has(name)) this.#refused.add(name)
      for (const answered of [name, ...aliases]) this.#answer(answered)
    }
    for (const name of removed) {
      this.#versions.delete(name)
      this.#refused.delete(name)
      this.#answer(name)
    }
    if (rejected.length === 0 || this.#withRejections) this.#synced = true
    this.#lastRejection = rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; ') || undefined
  }

  #answer(name: string): void {
    this.#wanted.get(name)?.resolve()
    this.#wanted.delete(name)
  }
}
