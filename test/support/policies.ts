/** Policies for tests, with only what matters written out. */
import type { Policy, PolicyMatch } from '../../shared/mesh/model.ts'

export function match(lists: Partial<PolicyMatch> = {}): PolicyMatch {
  return {
    namespaces: [],
    notNamespaces: [],
    principals: [],
    notPrincipals: [],
    serviceAccounts: [],
    notServiceAccounts: [],
    sourceIps: [],
    notSourceIps: [],
    destinationIps: [],
    notDestinationIps: [],
    destinationPorts: [],
    notDestinationPorts: [],
    ...lists
  }
}

export function policy(parts: Partial<Policy> = {}): Policy {
  return {
    name: 'p',
    namespace: 'shop',
    scope: 'Namespace',
    action: 'Allow',
    rules: [],
    dryRun: false,
    ...parts
  }
}

/** A policy with one rule of one clause of one match. */
export function policyOf(lists: Partial<PolicyMatch>, parts: Partial<Policy> = {}): Policy {
  return policy({ rules: [[[match(lists)]]], ...parts })
}
