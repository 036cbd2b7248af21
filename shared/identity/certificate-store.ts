/**
 * The workload certificates that a ztunnel holds: one per identity, shared by all its pods, renewed at half its life.
 *
 * - At most eight fetches run at a time; connections that wait go before prefetches, these before renewals.
 * - A failed fetch is tried again after about 1 s, doubling to 150 s; after 15 min of failures every 150 s. Whoever
 *   knows that the CA may be back can have all of them tried sooner.
 * - While a certificate is valid it is served, whatever happens to its renewal. An identity without one answers
 *   with its last error at once, until a retry succeeds.
 * - Lives are measured by the wall clock, as their certificates are; retries by a clock that nobody sets: a wall
 *   clock that is set back must not put the next try off by as much.
 */
import { steadyClock, systemClock, type Clock } from '../runtime/clock.ts'
import { Backoff } from '../runtime/backoff.ts'
import { MeshError, messageOf } from '../runtime/errors.ts'
import { readCertificate, type CertificateFacts, type WorkloadCertificate } from './certificate.ts'
import type { SpiffeId } from './spiffe-id.ts'

/** Where certificates come from: the CA client, or the fake CA. Errors say why the CA refused. */
export interface CertificateSource {
  fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate>
}

/** What workers and listeners need of the store. */
export interface Certificates {
  /** The certificate at hand, else the fetch's outcome. Throws {@link MeshError} IDENTITY_FAILED, or the signal's reason. */
  get(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate>
}

/** One held identity, for config dumps; no keys. */
export interface CertificateEntry {
  readonly identity: SpiffeId
  readonly state: 'Initializing' | 'Available' | `Unavailable: ${string}`
  /** Leaf first. */
  readonly chain: readonly CertificateFacts[]
  readonly roots: readonly CertificateFacts[]
}

export type CertificateListener = (identity: SpiffeId, certificate: WorkloadCertificate | undefined) => void

export interface CertificateStoreOptions {
  readonly source: CertificateSource
  readonly clock?: Clock
  /** Milliseconds of a clock that only goes forward. */
  readonly elapsed?: () => number
  /** Calls back once after so many milliseconds; returns what cancels it. */
  readonly timer?: (ms: number, callback: () => void) => () => void
  readonly random?: () => number
}

const priorities = ['realtime', 'warmup', 'background'] as const
type Priority = (typeof priorities)[number]

const concurrentFetches = 8
const retry = { initialMs: 1000, maxMs: 150_000, jitter: 0.2 }
const steadyAfterMs = 15 * 60_000
/** Tries that somebody asks for are spread over this time: all ztunnels of a cluster may be told at once. */
const spreadMs = 3000
/**
 * How long a new certificate is left alone. One that is past its half when it comes (a backdated one of short life,
 * or clocks that differ) would else be asked for again and again, without a pause.
 */
const rest = { leastMs: 1000, mostMs: 30_000 }
/** The clock may jump: never sleep longer than this without looking at it. */
const longestSleepMs = 30_000

interface Entry {
  readonly identity: SpiffeId
  readonly backoff: Backoff
  readonly waiters: Set<Waiter>
  certificate: WorkloadCertificate | undefined
  error: string | undefined
  /** This and the next two by the clock that only goes forward. */
  failingSince: number | undefined
  retryAt: number | undefined
  restUntil: number
  /** When to renew, and the latest moment to try again, by the wall clock. */
  renewAt: number | undefined
  queued: Priority | undefined
  fetching: AbortController | undefined
}

interface Waiter {
  readonly resolve: (certificate: WorkloadCertificate) => void
  readonly reject: (error: unknown) => void
}

export class CertificateStore implements Certificates {
  readonly #source: CertificateSource
  readonly #clock: Clock
  readonly #elapsed: () => number
  readonly #timer: NonNullable<CertificateStoreOptions['timer']>
  readonly #random: () => number
  readonly #entries = new Map<SpiffeId, Entry>()
  readonly #listeners = new Set<CertificateListener>()
  #running = 0
  #cancelTimer: (() => void) | undefined
  #closed = false

  constructor({
    source,
    clock = systemClock,
    elapsed = steadyClock.now,
    timer = unrefTimer,
    random = Math.random
  }: CertificateStoreOptions) {
    this.#source = source
    this.#clock = clock
    this.#elapsed = elapsed
    this.#timer = timer
    this.#random = random
  }

  async get(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    signal.throwIfAborted()
    const entry = this.#entry(identity)
    const certificate = this.#valid(entry)
    if (certificate !== undefined) return certificate
    if (entry.error !== undefined) throw unavailable(identity, entry.error)
    const { promise, resolve, reject } = Promise.withResolvers<WorkloadCertificate>()
    const waiter = { resolve, reject }
    const onAbort = (): void => reject(signal.reason)
    entry.waiters.add(waiter)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#queue(entry, 'realtime')
    try {
      return await promise
    } finally {
      entry.waiters.delete(waiter)
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** The certificate when there is a valid one now. */
  peek(identity: SpiffeId): WorkloadCertificate | undefined {
    const entry = this.#entries.get(identity)
    return entry === undefined ? undefined : this.#valid(entry)
  }

  /** Fetches ahead of the first connection; does nothing for an identity that is already held. */
  prefetch(identity: SpiffeId): void {
    if (!this.#entries.has(identity)) this.#queue(this.#entry(identity), 'warmup')
  }

  /** What failed is tried again within seconds, and then as if it had failed for the first time. */
  retry(): void {
    for (const entry of this.#entries.values()) {
      if (entry.retryAt === undefined) continue
      entry.backoff.reset()
      entry.failingSince = undefined
      entry.retryAt = Math.min(entry.retryAt, this.#elapsed() + this.#random() * spreadMs)
    }
    this.#sleepUntilDue()
  }

  /** Ends renewal and drops what is held; a fetch in flight is cancelled. */
  forget(identity: SpiffeId): void {
    const entry = this.#entries.get(identity)
    if (entry === undefined) return
    this.#entries.delete(identity)
    entry.fetching?.abort()
    for (const { reject } of entry.waiters)
      reject(unavailable(identity, 'no workload of this node has it any more'))
    this.#tell(identity, undefined)
  }

  /** Calls back whenever an identity gets a certificate or is forgotten; returns what ends that. */
  onChange(listener: CertificateListener): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  /** Every held identity, sorted. */
  dump(): readonly CertificateEntry[] {
    const entries = [...this.#entries.values()].toSorted((a, b) => (a.identity < b.identity ? -1 : 1))
    return entries.map(entry => {
      const certificate = this.#valid(entry)
      const { identity } = entry
      if (certificate === undefined) {
        const state = entry.error === undefined ? 'Initializing' : (`Unavailable: ${entry.error}` as const)
        return { identity, state, chain: [], roots: [] }
      }
      const { chainPem, rootsPem } = certificate
      return {
        identity,
        state: 'Available',
        chain: chainPem.map(readCertificate),
        roots: rootsPem.map(readCertificate)
      }
    })
  }

  close(): void {
    this.#closed = true
    this.#cancelTimer?.()
    for (const identity of [...this.#entries.keys()]) this.forget(identity)
  }

  #entry(identity: SpiffeId): Entry {
    const known = this.#entries.get(identity)
    if (known !== undefined) return known
    const entry: Entry = {
      identity,
      backoff: new Backoff({ ...retry, random: this.#random }),
      waiters: new Set(),
      certificate: undefined,
      error: undefined,
      failingSince: undefined,
      retryAt: undefined,
      restUntil: 0,
      renewAt: undefined,
      queued: undefined,
      fetching: undefined
    }
    if (!this.#closed) this.#entries.set(identity, entry)
    return entry
  }

  #valid(entry: Entry): WorkloadCertificate | undefined {
    const { certificate } = entry
    return certificate !== undefined && certificate.notAfter > this.#clock.now() ? certificate : undefined
  }

  /** Asking again can only raise the priority. */
  #queue(entry: Entry, priority: Priority): void {
    if (this.#closed || entry.fetching !== undefined) return
    const current = entry.queued
    if (current === undefined || priorities.indexOf(priority) < priorities.indexOf(current)) {
      entry.queued = priority
    }
    this.#startFetches()
  }

  #startFetches(): void {
    while (this.#running < concurrentFetches) {
      const next = this.#nextQueued()
      if (next === undefined) return
      void this.#fetch(next) // never rejects
    }
  }

  #nextQueued(): Entry | undefined {
    for (const priority of priorities) {
      for (const entry of this.#entries.values()) if (entry.queued === priority) return entry
    }
    return undefined
  }

  async #fetch(entry: Entry): Promise<void> {
    const cancel = new AbortController()
    entry.queued = undefined
    entry.renewAt = undefined
    entry.retryAt = undefined
    entry.fetching = cancel
    this.#running += 1
    try {
      const certificate = await this.#source.fetch(entry.identity, cancel.signal)
      if (!cancel.signal.aborted) this.#succeeded(entry, certificate)
    } catch (error) {
      if (!cancel.signal.aborted) this.#failed(entry, messageOf(error))
    } finally {
      entry.fetching = undefined
      this.#running -= 1
      this.#startFetches()
      this.#sleepUntilDue()
    }
  }

  #succeeded(entry: Entry, certificate: WorkloadCertificate): void {
    if (certificate.identity !== entry.identity) {
      return this.#failed(entry, `the CA answered with a certificate of ${certificate.identity}`)
    }
    if (certificate.notAfter <= this.#clock.now()) {
      return this.#failed(entry, 'the CA answered with a certificate that has expired; compare the clocks')
    }
    entry.certificate = certificate
    entry.error = undefined
    entry.failingSince = undefined
    entry.backoff.reset()
    const { notBefore, notAfter } = certificate
    entry.renewAt = notBefore + (notAfter - notBefore) / 2
    const halfOfTheRest = (notAfter - this.#clock.now()) / 2
    entry.restUntil = this.#elapsed() + Math.max(rest.leastMs, Math.min(rest.mostMs, halfOfTheRest))
    for (const { resolve } of entry.waiters) resolve(certificate)
    this.#tell(entry.identity, certificate)
  }

  #failed(entry: Entry, error: string): void {
    const now = this.#elapsed()
    entry.error = error
    entry.failingSince ??= now
    const wait = now - entry.failingSince >= steadyAfterMs ? retry.maxMs : entry.backoff.next()
    entry.retryAt = now + wait
    entry.restUntil = now
    entry.renewAt = this.#valid(entry)?.notAfter
    for (const { reject } of entry.waiters) reject(unavailable(entry.identity, error))
  }

  #sleepUntilDue(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    if (this.#closed) return
    let wait = longestSleepMs
    let any = false
    for (const entry of this.#entries.values()) {
      const due = this.#dueIn(entry)
      if (due === Infinity) continue
      any = true
      wait = Math.min(wait, due)
    }
    if (any) this.#cancelTimer = this.#timer(Math.max(0, wait), () => this.#queueDue())
  }

  #queueDue(): void {
    for (const entry of this.#entries.values()) {
      if (this.#dueIn(entry) > 0) continue
      entry.renewAt = undefined
      entry.retryAt = undefined
      this.#queue(entry, 'background')
    }
    this.#sleepUntilDue()
  }

  /** Milliseconds until the next fetch by itself; Infinity when none is planned. */
  #dueIn({ renewAt = Infinity, retryAt = Infinity, restUntil, certificate }: Entry): number {
    const now = this.#clock.now()
    const elapsed = this.#elapsed()
    // The clock was set back to before the certificate's life: peers with the same time do not take it.
    const early = retryAt === Infinity && renewAt !== Infinity && (certificate?.notBefore ?? now) > now
    return Math.max(restUntil - elapsed, Math.min(early ? 0 : renewAt - now, retryAt - elapsed))
  }

  #tell(identity: SpiffeId, certificate: WorkloadCertificate | undefined): void {
    for (const listener of this.#listeners) listener(identity, certificate)
  }
}

function unavailable(identity: SpiffeId, error: string): MeshError {
  return new MeshError('IDENTITY_FAILED', `no certificate for ${identity}: ${error}`)
}

function unrefTimer(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms)
  timer.unref()
  return () => clearTimeout(timer)
}
