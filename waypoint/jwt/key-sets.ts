/**
 * The key sets of all issuers. Those of an issuer's server are fetched when they are first needed and kept fresh from then
 * on; when that fails the last good ones stay.
 */
import { Backoff } from '../../shared/runtime/backoff.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Cidr } from '../../shared/net/address.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { KeySource } from './check-token.ts'
import { isObject } from './claims.ts'
import { fetchDocument, nearAddresses } from './fetch-document.ts'
import type { JwtRule, KeyLocation } from './jwt-rule.ts'
import { parseKeySet, type KeySet } from './key-set.ts'

export interface KeySetsOptions {
  readonly log: Logger
  /** Ends every fetch and timer. */
  readonly signal: AbortSignal
  /** Addresses that are not asked; by default this host's own and link-local ones. */
  readonly blocked?: readonly Cidr[]
  /** Certificates to trust, PEM; by default the system's. */
  readonly roots?: readonly string[]
  readonly refreshMs?: number
  /** First and longest wait after a fetch that failed. */
  readonly retryMs?: { readonly initialMs: number; readonly maxMs: number }
  /** At most one fetch in this time is for the sake of a request. */
  readonly demandMs?: number
}

type Remote = Extract<KeyLocation, { kind: 'remote' }>

interface Entry {
  readonly location: Remote
  readonly backoff: Backoff
  set: KeySet | undefined
  /** What requests wait for. Never rejects. */
  fetching: Promise<void> | undefined
  /** Next fetch that nobody asks for. */
  timer: NodeJS.Timeout | undefined
  /** When a request may next cause a fetch, by the steady clock. */
  demandAt: number
}

export class KeySets implements KeySource {
  readonly #options: KeySetsOptions
  readonly #entries = new Map<string, Entry>()

  constructor(options: KeySetsOptions) {
    this.#options = options
    options.signal.addEventListener('abort', () => this.keepOnly([]), { once: true })
  }

  keys(location: KeyLocation): KeySet | undefined | Promise<KeySet | undefined> {
    if (location.kind === 'inline') return location.keys
    const entry = this.#entry(location)
    if (entry.set !== undefined) return entry.set
    return this.#onDemand(entry).then(() => entry.set)
  }

  newer(location: KeyLocation, known: KeySet): KeySet | Promise<KeySet> {
    if (location.kind === 'inline') return known
    const entry = this.#entry(location)
    if (entry.set !== undefined && entry.set !== known) return entry.set
    return this.#onDemand(entry).then(() => entry.set ?? known)
  }

  /** Fetches what these rules need before a request does, and forgets what none of them needs any more. */
  keepOnly(rules: Iterable<JwtRule>): void {
    const needed = new Set<string>()
    for (const { keys } of rules) {
      if (keys.kind === 'inline') continue
      needed.add(nameOf(keys))
      if (!this.#entries.has(nameOf(keys))) void this.#onDemand(this.#entry(keys))
    }
    for (const [name, entry] of this.#entries) {
      if (needed.has(name)) continue
      clearTimeout(entry.timer)
      this.#entries.delete(name)
    }
  }

  #entry(location: Remote): Entry {
    const known = this.#entries.get(nameOf(location))
    if (known !== undefined) return known
    const entry: Entry = {
      location,
      backoff: new Backoff({
        ...(this.#options.retryMs ?? { initialMs: 1000, maxMs: 3_600_000 }),
        jitter: 0.1
      }),
      set: undefined,
      fetching: undefined,
      timer: undefined,
      demandAt: 0
    }
    this.#entries.set(nameOf(location), entry)
    return entry
  }

  /** One fetch for all who wait; at once where it is too early for another one. */
  async #onDemand(entry: Entry): Promise<void> {
    if (entry.fetching !== undefined) return entry.fetching
    const now = performance.now()
    if (now < entry.demandAt) return
    entry.demandAt = now + (this.#options.demandMs ?? 30_000)
    return this.#fetch(entry)
  }

  #fetch(entry: Entry): Promise<void> {
    clearTimeout(entry.timer)
    entry.fetching = this.#attempt(entry).finally(() => {
      entry.fetching = undefined
    })
    return entry.fetching
  }

  /** Never rejects. */
  async #attempt(entry: Entry): Promise<void> {
    const { signal, log, refreshMs = 20 * 60_000 } = this.#options
    let waitMs = refreshMs
    try {
      entry.set = await this.#fetchKeys(entry.location)
      entry.backoff.reset()
    } catch (error) {
      if (signal.aborted) return
      waitMs = entry.backoff.next()
      const kept = entry.set === undefined ? 'none' : 'the last ones'
      const { url } = entry.location
      log.warn('keys of tokens could not be fetched', {
        url,
        reason: messageOf(error),
        kept,
        retryMs: waitMs
      })
    }
    if (signal.aborted || this.#entries.get(nameOf(entry.location)) !== entry) return
    entry.timer = setTimeout(() => void this.#fetch(entry), waitMs)
    entry.timer.unref()
  }

  async #fetchKeys(location: Remote): Promise<KeySet> {
    const { blocked = nearAddresses, roots, signal } = this.#options
    const options = { timeoutMs: location.timeoutMs, blocked, roots, signal }
    const document = await fetchDocument(location.url, options)
    const text = location.discover ? await fetchDocument(keysUrl(document), options) : document
    return parseKeySet(text, { secrets: false })
  }
}

/** Source: OpenID Connect Discovery 1.0, section 4.2. */
function keysUrl(document: string): string {
  const value: unknown = JSON.parse(document)
  const url = isObject(value) ? value['jwks_uri'] : undefined
  if (typeof url !== 'string' || !URL.canParse(url)) throw new Error('there is no URL in "jwks_uri"')
  return url
}

function nameOf({ discover, url, timeoutMs }: Remote): string {
  return `${discover} ${timeoutMs} ${url}`
}
