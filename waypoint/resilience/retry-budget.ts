/**
 * How many requests may be sent again at the same time, as a part of how many there are: a service that is slow
 * because it has too much to do is not given a multiple of it. Source: Istio's published `retryBudget`, whose interval
 * is that of the Gateway API's `retryConstraint.budget`.
 */
import type { Clock } from '../../shared/runtime/clock.ts'
import type { RetryBudget as Policy } from '../traffic-policy.ts'
import { RecentCount } from './recent-count.ts'

/** Of one service port and subset. */
export class RetryBudget {
  readonly #policy: Policy
  readonly #clock: Clock
  /** Requests that have ended; with those under way all that there were in the interval. */
  readonly #ended: RecentCount | undefined
  #requests = 0
  #retries = 0
  #overflows = 0

  /** `clock`: one that never goes back. */
  constructor(policy: Policy, clock: Clock) {
    this.#policy = policy
    this.#clock = clock
    this.#ended = policy.intervalMs > 0 ? new RecentCount(policy.intervalMs) : undefined
  }

  /** A request of a client, however often it is sent. */
  requestBegan(): void {
    this.#requests += 1
  }

  requestEnded(): void {
    if (this.#requests === 0) throw new Error('a request ended twice')
    this.#requests -= 1
    this.#ended?.add(this.#clock.now())
  }

  /** Before the pause that precedes a retry. False: it is one too many. True: {@link release} it, once. */
  tryAcquire(): boolean {
    if (this.#retries >= this.allowed) {
      this.#overflows += 1
      return false
    }
    this.#retries += 1
    return true
  }

  /** The retry has its answer, or gives way to the next. */
  release(): void {
    if (this.#retries === 0) throw new Error('a retry was released twice')
    this.#retries -= 1
  }

  /** Retries at the same time. */
  get allowed(): number {
    const { percent, minConcurrency } = this.#policy
    const requests = this.#requests + (this.#ended?.at(this.#clock.now()) ?? 0)
    return Math.max(minConcurrency, Math.floor((requests * percent) / 100))
  }

  /** Retries now. */
  get active(): number {
    return this.#retries
  }

  /** How often there were too many. */
  get overflows(): number {
    return this.#overflows
  }
}
