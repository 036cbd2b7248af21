/**
 * Which pods of a service are left out for what they answer. A pod that fails so many times in a row is ejected at
 * once, the longer the more often it was before; each interval brings back those whose time is over, and takes one
 * ejection off the past of those that stayed. Nothing is asked to see whether it is well again.
 * Source: Istio's published `outlierDetection`; Envoy's documentation of outlier detection.
 */
import type { WorkloadUid } from '../../shared/mesh/model.ts'
import type { Clock } from '../../shared/runtime/clock.ts'
import type { OutlierPolicy } from '../traffic-policy.ts'

export type EjectionReason =
  | 'consecutive-5xx'
  | 'consecutive-gateway-errors'
  | 'consecutive-local-origin-failures'

export interface OutlierEvents {
  /** `forMs`: it is back at the first interval that ends after that. */
  readonly onEjected: (ejection: {
    readonly uid: WorkloadUid
    readonly reason: EjectionReason
    readonly forMs: number
  }) => void
  readonly onReturned: (uid: WorkloadUid) => void
}

interface Member {
  readonly uid: WorkloadUid
  /** In a row. */
  serverErrors: number
  gatewayErrors: number
  localFailures: number
  /** What its last ejection was multiplied by, less the intervals from then to `countedAt` that it stayed. */
  ejections: number
  countedAt: number
  /** While it is ejected: the interval whose end brings it back. */
  returnsAt: number | undefined
}

/** Whatever the number of ejections, unless one alone is longer. */
const longestEjectionMs = 300_000

const gatewayStatuses = new Set([502, 503, 504])

/** Of one service port and subset. */
export class OutlierDetection {
  readonly #policy: OutlierPolicy
  readonly #clock: Clock
  readonly #events: OutlierEvents
  readonly #longestMs: number
  readonly #startedAt: number
  #uids: ReadonlySet<WorkloadUid> = new Set()
  /** Of members that have failed at least once. */
  readonly #seen = new Map<WorkloadUid, Member>()
  readonly #ejected = new Map<WorkloadUid, Member>()
  /** When the earliest of the ejected may be back. */
  #nextReturn = Infinity
  #panicking = false

  /** `clock`: one that never goes back. */
  constructor(policy: OutlierPolicy, clock: Clock, events: OutlierEvents) {
    this.#policy = policy
    this.#clock = clock
    this.#events = events
    this.#longestMs = Math.max(policy.baseEjectionMs, longestEjectionMs)
    this.#startedAt = clock.now()
  }

  /** All pods that there are now, ejected or not. What is known of others is forgotten. */
  members(uids: Iterable<WorkloadUid>): void {
    this.#uids = new Set(uids)
    for (const uid of this.#seen.keys()) {
      if (this.#uids.has(uid)) continue
      this.#seen.delete(uid)
      this.#ejected.delete(uid)
    }
    this.#ejectionsChanged()
  }

  /** A try to send a request was answered by the pod. */
  answered(uid: WorkloadUid, status: number): void {
    const failed = status >= 500 && status <= 599
    const member = failed ? this.#memberOf(uid) : this.#seen.get(uid)
    if (member === undefined) return
    member.localFailures = 0
    if (failed) return this.#serverError(member, gatewayStatuses.has(status))
    member.serverErrors = 0
    member.gatewayErrors = 0
  }

  /** There was no connection, it broke before the answer, or the answer did not come in time. */
  failedLocally(uid: WorkloadUid): void {
    const member = this.#memberOf(uid)
    if (member === undefined) return
    const threshold = this.#policy.consecutiveLocalFailures
    if (threshold === undefined) return this.#serverError(member, true)
    member.localFailures += 1
    if (!reached(member.localFailures, threshold)) return
    member.localFailures = 0
    this.#eject(member, 'consecutive-local-origin-failures')
  }

  /** For every choice of a pod; costs nothing while all are well. */
  usable(uid: WorkloadUid): boolean {
    if (this.#ejected.size === 0) return true
    this.#bringBack()
    return this.#panicking || !this.#ejected.has(uid)
  }

  /** Too few pods are left: all of them are used, ejected or not. */
  get panicking(): boolean {
    this.#bringBack()
    return this.#panicking
  }

  /** How many are ejected now, for metrics. */
  get ejected(): number {
    this.#bringBack()
    return this.#ejected.size
  }

  #memberOf(uid: WorkloadUid): Member | undefined {
    this.#bringBack()
    const known = this.#seen.get(uid)
    if (known !== undefined || !this.#uids.has(uid)) return known
    const member: Member = {
      uid,
      serverErrors: 0,
      gatewayErrors: 0,
      localFailures: 0,
      ejections: 0,
      countedAt: 0,
      returnsAt: undefined
    }
    this.#seen.set(uid, member)
    return member
  }

  #serverError(member: Member, gateway: boolean): void {
    member.gatewayErrors = gateway ? member.gatewayErrors + 1 : 0
    member.serverErrors += 1
    if (reached(member.gatewayErrors, this.#policy.consecutiveGatewayErrors)) {
      member.gatewayErrors = 0
      this.#eject(member, 'consecutive-gateway-errors')
    }
    if (reached(member.serverErrors, this.#policy.consecutive5xx)) {
      member.serverErrors = 0
      this.#eject(member, 'consecutive-5xx')
    }
  }

  #eject(member: Member, reason: EjectionReason): void {
    if (member.returnsAt !== undefined || !this.#mayEjectOneMore()) return
    const now = this.#clock.now()
    const { baseEjectionMs } = this.#policy
    const passed = this.#intervalOf(now) - member.countedAt
    member.ejections = Math.max(0, member.ejections - passed)
    // Past the longest ejection more of them would only take longer to be forgotten.
    if (member.ejections * baseEjectionMs < this.#longestMs) member.ejections += 1
    const forMs = Math.min(member.ejections * baseEjectionMs, this.#longestMs)
    member.returnsAt = Math.ceil((now + forMs - this.#startedAt) / this.#policy.intervalMs)
    this.#ejected.set(member.uid, member)
    this.#ejectionsChanged()
    this.#events.onEjected({ uid: member.uid, reason, forMs })
  }

  /** One always may, but for the only one: without it nobody would answer, and few have as many as 10 % need. */
  #mayEjectOneMore(): boolean {
    const after = this.#ejected.size + 1
    const all = this.#uids.size
    return after * 100 <= this.#policy.maxEjectionPercent * all || (after === 1 && all > 1)
  }

  #bringBack(): void {
    if (this.#ejected.size === 0) return
    const now = this.#clock.now()
    if (now < this.#nextReturn) return
    const interval = this.#intervalOf(now)
    const returned = [...this.#ejected.values()].filter(({ returnsAt = 0 }) => returnsAt <= interval)
    for (const member of returned) {
      this.#ejected.delete(member.uid)
      member.countedAt = member.returnsAt ?? interval
      member.returnsAt = undefined
      // The counter that did not eject it may be close to its threshold.
      member.serverErrors = 0
      member.gatewayErrors = 0
      member.localFailures = 0
    }
    this.#ejectionsChanged()
    for (const { uid } of returned) this.#events.onReturned(uid)
  }

  #ejectionsChanged(): void {
    const { intervalMs, minHealthPercent } = this.#policy
    this.#nextReturn = Infinity
    for (const { returnsAt = Infinity } of this.#ejected.values()) {
      this.#nextReturn = Math.min(this.#nextReturn, this.#startedAt + returnsAt * intervalMs)
    }
    const healthy = this.#uids.size - this.#ejected.size
    this.#panicking = healthy * 100 < minHealthPercent * this.#uids.size
  }

  /** Intervals that have ended. */
  #intervalOf(now: number): number {
    return Math.floor((now - this.#startedAt) / this.#policy.intervalMs)
  }
}

/** 0: it is not looked at. */
function reached(count: number, threshold: number): boolean {
  return threshold > 0 && count >= threshold
}
