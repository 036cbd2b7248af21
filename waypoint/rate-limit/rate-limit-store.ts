/** All RateLimitPolicies of a waypoint with what was used of their limits, and those for one service. */
import { isDeepStrictEqual } from 'node:util'
import type { OwnGateway, PolicyService } from '../policy-target.ts'
import { TargetedPolicies } from '../targeted-policies.ts'
import { Buckets } from './buckets.ts'
import type { LimitInForce, PolicyInForce, RateLimit, RateLimitPolicy } from './rate-limit.ts'

export const noLimits: readonly PolicyInForce[] = []

export class RateLimitStore extends TargetedPolicies<PolicyInForce, readonly PolicyInForce[]> {
  constructor(own: OwnGateway) {
    super(own, policies => (policies.length === 0 ? noLimits : policies))
  }

  /** What was used of a limit stays used while it has its name, its rate and its key. */
  replace(key: string, policy: RateLimitPolicy): void {
    const { namespace, name } = policy
    const before = [...this.all()].find(one => one.policy.namespace === namespace && one.policy.name === name)
    const limits = policy.limits.map(limit => {
      const same = before?.limits.find(one => countsAlike(one.limit, limit))
      return { limit, buckets: same?.buckets ?? new Buckets(limit.rate) }
    })
    this.put(key, { policy, targets: policy.targets, limits })
  }

  /** `service`: undefined for a pod that is addressed itself, and at a gateway. */
  limitsFor(service: PolicyService | undefined): readonly PolicyInForce[] {
    return this.sumFor(service)
  }
}

function countsAlike(one: LimitInForce['limit'], other: RateLimit): boolean {
  const keyOf = ({ key }: RateLimit): readonly string[] => key.map(({ name }) => name)
  return (
    one.name === other.name &&
    isDeepStrictEqual(one.rate, other.rate) &&
    isDeepStrictEqual(keyOf(one), keyOf(other))
  )
}
