/** DestinationRules of tests, read from what their YAML would say. */
import type { ConfigResource } from '../../../shared/xds/config-resource.ts'
import type { DestinationRule } from '../../../waypoint/destination-rules/destination-rule.ts'
import { readDestinationRule } from '../../../waypoint/destination-rules/read-destination-rule.ts'
import { RuleInForce } from '../../../waypoint/destination-rules/rule-in-force.ts'
import type { TrafficPolicy } from '../../../waypoint/traffic-policy.ts'

export const domain = 'cluster.local'

export function resource(spec: object, about: Partial<ConfigResource> = {}): ConfigResource {
  return { namespace: 'shop', name: 'web', createdMs: 5, spec: { host: 'web', ...spec }, ...about }
}

export function read(spec: object, about: Partial<ConfigResource> = {}): DestinationRule {
  return readDestinationRule(resource(spec, about), domain)
}

/** What a rule says of a port and a subset. */
export function policyOf(spec: object, port = 80, subset?: string): TrafficPolicy | undefined {
  return new RuleInForce([read(spec)]).policyFor(port, subset)
}
