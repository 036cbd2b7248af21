/** All RequestAuthentications of a waypoint, and the rules for one service. */
import type { OwnGateway, PolicyService } from '../policy-target.ts'
import { TargetedPolicies } from '../targeted-policies.ts'
import type { JwtPolicy, JwtRule } from './jwt-rule.ts'

export class JwtPolicyStore extends TargetedPolicies<JwtPolicy, readonly JwtRule[]> {
  constructor(own: OwnGateway) {
    super(own, policies =>
      policies
        .flatMap(({ rules }) => rules)
        .toSorted((a, b) => compare(a.issuer, b.issuer) || compare(a.policy, b.policy))
    )
  }

  /** Of every policy, for fetching their keys. */
  *allRules(): Generator<JwtRule> {
    for (const { rules } of this.all()) yield* rules
  }

  /** By issuer; `service`: undefined for a pod that is addressed itself. */
  rulesFor(service: PolicyService | undefined): readonly JwtRule[] {
    return this.sumFor(service)
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
