/**
 * How much trouble one peer may make. Memory is bounded by windows and counts; this file bounds the rest:
 * frames that cost us work or an answer but carry no payload. Each kind has a budget that refills with time;
 * a peer that overdraws one is told ENHANCE_YOUR_CALM and loses its connection.
 */
import type { Clock } from '../runtime/clock.ts'
import { fault, type Fault } from './frames.ts'

/** A budget: what may come at once, and how many a second from then on. */
export interface Allowance {
  readonly burst: number
  readonly perSecond: number
}

/** Far above what well-behaved peers send; each with the attack it stops. */
export const defaultAllowances = {
  /**
   * Each is answered: a flood fills our send queue (CVE-2019-9512). Peers ping every 10 s, or, to measure the path, once
   * for each message (gRPC's, Rust's h2): HEADERS and DATA earn a PING each while what we send is taken.
   */
  ping: { burst: 100, perSecond: 10 },
  /** Each is answered and visits every stream (CVE-2019-9515). Peers send one or two. */
  settings: { burst: 20, perSecond: 1 },
  /** Streams that their peer resets before we answered: rapid reset (CVE-2023-44487). Also streams beyond the limit. */
  earlyReset: { burst: 1000, perSecond: 100 },
  /** Violations that we answer with RST_STREAM (CVE-2019-9514, CVE-2025-8671). */
  streamFault: { burst: 100, perSecond: 10 },
  /** DATA without content and without END_STREAM (CVE-2019-9518). */
  emptyData: { burst: 1000, perSecond: 100 },
  /** PRIORITY and unknown types (CVE-2019-9513). */
  idle: { burst: 1000, perSecond: 100 }
} as const satisfies Record<string, Allowance>

export type Nuisance = keyof typeof defaultAllowances
export type Allowances = Readonly<Record<Nuisance, Allowance>>

/** The compressed header block may not be larger than the header list; CONTINUATION only for large ones (CVE-2024-27316). */
export const maxContinuations = 16

export class PeerBudget {
  readonly #allowances: Allowances
  readonly #clock: Clock
  readonly #spent = new Map<Nuisance, { count: number; at: number }>()

  constructor(allowances: Allowances, clock: Clock) {
    this.#allowances = allowances
    this.#clock = clock
  }

  /** Gives one back. */
  earn(kind: Nuisance): void {
    const spent = this.#spent.get(kind)
    if (spent !== undefined && spent.count > 0) spent.count -= 1
  }

  /** Takes one from the budget; the fault when there is none left. */
  spend(kind: Nuisance): Fault | undefined {
    const { burst, perSecond } = this.#allowances[kind]
    const now = this.#clock.now()
    const spent = this.#spent.get(kind)
    if (spent === undefined) {
      this.#spent.set(kind, { count: 1, at: now })
      return undefined
    }
    const refilled = (Math.max(0, now - spent.at) * perSecond) / 1000
    spent.count = Math.max(0, spent.count - refilled) + 1
    spent.at = now
    return spent.count > burst
      ? fault(
          'ENHANCE_YOUR_CALM',
          `${warnings[kind]}, ${burst} at once and ${perSecond} a second are allowed`
        )
      : undefined
  }
}

const warnings: Readonly<Record<Nuisance, string>> = {
  ping: 'a flood of PING',
  settings: 'a flood of SETTINGS',
  earlyReset: 'a flood of streams that are reset at once or exceed the limit',
  streamFault: 'a flood of stream errors',
  emptyData: 'a flood of empty DATA',
  idle: 'a flood of PRIORITY or unknown frames'
}
