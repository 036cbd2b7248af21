/** Underpass's own kinds, as far as they are looked at; `crds/underpass.yaml` defines them. */
import { namedType, type ResourceType } from './object.ts'

/** What it says is for waypoints to read. */
export const rateLimitPolicies: ResourceType = {
  ...namedType('ratelimits.underpass.dev', 'v1alpha1', 'RateLimitPolicy'),
  plural: 'ratelimitpolicies'
}
