/**
 * Limits of how much of a service may be in use at once. What is beyond them is turned away or waits, so that a slow
 * service does not take its callers with it. Source: Istio's published `connectionPool`; Envoy's circuit breakers.
 */
import type { Limits } from '../traffic-policy.ts'

export type Limited = keyof Limits

/** Of one service port and subset. Counts live longer than limits: what was acquired is released under others. */
export class CircuitBreaker {
  #limits: Limits
  readonly #counts: Record<Limited, number> = { connections: 0, pending: 0, requests: 0, retries: 0 }
  readonly #overflows: Record<Limited, number> = { connections: 0, pending: 0, requests: 0, retries: 0 }

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** What is beyond a lower limit stays until it is released. */
  limitTo(limits: Limits): void {
    this.#limits = limits
  }

  /** False: there are as many already as there may be. True: {@link release} it, once. */
  tryAcquire(what: Limited): boolean {
    if (this.#counts[what] >= this.#limits[what]) {
      this.#overflows[what] += 1
      return false
    }
    this.#counts[what] += 1
    return true
  }

  /**
   * Whatever the limit is: for the first connection to a pod, without which the requests that wait for that pod would
   * wait until others of the service are closed.
   */
  acquire(what: Limited): void {
    this.#counts[what] += 1
  }

  /** Throws where there was none, since a count that is too low lets too much through for as long as we run. */
  release(what: Limited): void {
    if (this.#counts[what] === 0) throw new Error(`one of the ${what} was released twice`)
    this.#counts[what] -= 1
  }

  /** In use now. */
  count(what: Limited): number {
    return this.#counts[what]
  }

  /** How often there were too many. */
  overflows(what: Limited): number {
    return this.#overflows[what]
  }
}
