/**
 * Who has which name, kept for as long as the answer said. While a name is asked for again, and while no server answers,
 * the addresses that were known stay in use.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Ip } from '../../shared/net/address.ts'
import { steadyClock, type Clock } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'

export interface Answer {
  /** Empty: nobody has the name. */
  readonly addresses: readonly Ip[]
  readonly ttlMs: number
}

export type Found =
  /** At least one, in the order of the answer. The same object while the answer is the same. */
  | { readonly kind: 'addresses'; readonly addresses: readonly Ip[] }
  | { readonly kind: 'none'; readonly reason: string }

export interface NamesOptions {
  /** Rejects where nobody answers. */
  readonly ask: (name: string) => Promise<Answer>
  readonly clock?: Clock
  /** Names that are kept, and names that are asked for at one time. */
  readonly most?: number
}

/** However soon an answer says that it is too old, or how late. */
const shortestMs = 1000
const longestMs = 3_600_000
/** For which it is believed that a name has no address, and after which a server that does not answer is asked again. */
const withoutMs = 5000
/** After its time for which an answer is used while a new one is on its way. */
const graceMs = 30_000

interface Entry {
  found: Found
  freshUntil: number
  asking: Promise<Found> | undefined
}

export class Names {
  readonly #ask: NamesOptions['ask']
  readonly #clock: Clock
  readonly #most: number
  /** Those that were asked for longest ago come first. */
  readonly #entries = new Map<string, Entry>()
  #asking = 0

  constructor({ ask, clock = steadyClock, most = 4096 }: NamesOptions) {
    this.#ask = ask
    this.#clock = clock
    this.#most = most
  }

  /** At once where it is known. Never rejects. */
  find(name: string): Found | Promise<Found> {
    const entry = this.#entries.get(name)
    const now = this.#clock.now()
    if (entry !== undefined && now < entry.freshUntil) return entry.found
    const asking = entry?.asking ?? this.#begin(name, entry)
    if (entry?.found.kind === 'addresses' && now < entry.freshUntil + graceMs) return entry.found
    return asking
  }

  get size(): number {
    return this.#entries.size
  }

  #begin(name: string, before: Entry | undefined): Promise<Found> {
    if (this.#asking >= this.#most) {
      return Promise.resolve(before?.found ?? { kind: 'none', reason: 'too many names are being looked up' })
    }
    this.#asking += 1
    const asking = this.#ask(name).then(
      answer => this.#answered(name, answer),
      (error: unknown) => this.#unanswered(name, error)
    )
    if (before !== undefined) before.asking = asking
    else this.#set(name, { found: { kind: 'none', reason: 'it is being looked up' }, freshUntil: 0, asking })
    return asking
  }

  #answered(name: string, { addresses, ttlMs }: Answer): Found {
    if (addresses.length === 0)
      return this.#keep(name, { kind: 'none', reason: `${name} has no address` }, withoutMs)
    const known = this.#entries.get(name)?.found
    const same = known?.kind === 'addresses' && isDeepStrictEqual(known.addresses, addresses)
    const found: Found = same ? known : { kind: 'addresses', addresses }
    return this.#keep(name, found, Math.max(shortestMs, Math.min(longestMs, ttlMs)))
  }

  /** Whoever was there before is likely to be there still. */
  #unanswered(name: string, error: unknown): Found {
    const known = this.#entries.get(name)?.found
    const reason = `${name} could not be looked up: ${messageOf(error)}`
    return this.#keep(name, known?.kind === 'addresses' ? known : { kind: 'none', reason }, withoutMs)
  }

  #keep(name: string, found: Found, forMs: number): Found {
    this.#asking -= 1
    this.#set(name, { found, freshUntil: this.#clock.now() + forMs, asking: undefined })
    return found
  }

  /** As the latest one. */
  #set(name: string, entry: Entry): void {
    this.#entries.delete(name)
    this.#entries.set(name, entry)
    if (this.#entries.size <= this.#most) return
    for (const [oldest, { asking }] of this.#entries) {
      if (asking !== undefined) continue
      this.#entries.delete(oldest)
      return
    }
  }
}
