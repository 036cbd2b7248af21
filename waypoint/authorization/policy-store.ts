/** All AuthorizationPolicies of a waypoint, and those of one service, ready to be asked. */
import type { OwnGateway, PolicyService } from '../policy-target.ts'
import { TargetedPolicies } from '../targeted-policies.ts'
import { noPolicies, policySet, type PolicySet } from './evaluate.ts'
import type { L7Policy } from './policy.ts'

export class PolicyStore extends TargetedPolicies<L7Policy, PolicySet> {
  constructor(own: OwnGateway) {
    super(own, policies => (policies.length === 0 ? noPolicies : policySet(policies)))
  }

  /** `service`: undefined for a pod that is addressed itself. */
  policiesFor(service: PolicyService | undefined): PolicySet {
    return this.sumFor(service)
  }
}
