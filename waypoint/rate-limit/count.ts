/** Whether a request is within the limits of one process. */
import type { Level } from './buckets.ts'
import { keyOf } from './key.ts'
import type { CountedRequest, LimitInForce, PolicyInForce, RateLimit, RateLimitPolicy } from './rate-limit.ts'

/** A limit that a request counts towards, and what is left of it. */
export interface Counted {
  readonly policy: RateLimitPolicy
  readonly limit: RateLimit
  readonly level: Level
}

export interface Count {
  /** The first limit without room; the request counts nowhere then. */
  readonly refusedBy: Counted | undefined
  /** Limits without room of policies that only watch. */
  readonly overInShadow: readonly Counted[]
  /** Of limits whose answers tell of them: the one with the least left. */
  readonly told: Counted | undefined
}

/** Counts it. `now`: milliseconds of a clock that never goes back. */
export function count(policies: readonly PolicyInForce[], request: CountedRequest, now: number): Count {
  const taking: { readonly one: LimitInForce; readonly policy: RateLimitPolicy; readonly key: string }[] = []
  const overInShadow: Counted[] = []
  for (const { policy, limits } of policies) {
    for (const one of limits) {
      const { limit, buckets } = one
      if (limit.scope !== 'Local' || !applies(limit, request)) continue
      const key = keyOf(limit.key, request)
      const level = buckets.level(key, now)
      if (level.remaining > 0) taking.push({ one, policy, key })
      else if (policy.shadow) overInShadow.push({ policy, limit, level })
      else return { refusedBy: { policy, limit, level }, overInShadow, told: undefined }
    }
  }
  let told: Counted | undefined
  for (const { one, policy, key } of taking) {
    const { limit, buckets } = one
    buckets.take(key, now)
    if (!policy.headers || policy.shadow) continue
    const level = buckets.level(key, now)
    if (told === undefined || level.remaining < told.level.remaining) told = { policy, limit, level }
  }
  return { refusedBy: undefined, overInShadow, told }
}

export function applies({ match }: RateLimit, request: CountedRequest): boolean {
  return match.every(test => test(request))
}
