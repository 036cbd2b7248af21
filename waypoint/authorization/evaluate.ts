/**
 * Whether a request, or a connection that is carried as it is, may pass. Source: Istio's published AuthorizationPolicy:
 * CUSTOM that matches refuses until an authorizer can be asked; DENY that matches refuses; without ALLOW the rest
 * passes; else one ALLOW has to match. AUDIT and dry runs decide nothing.
 */
import type { RequestFacts, Test } from './facts.ts'
import type { Action, L7Policy } from './policy.ts'

export type Verdict =
  | { readonly allowed: true; readonly audit: readonly string[]; readonly dryRun: readonly DryRun[] }
  | {
      readonly allowed: false
      /** Id of the rule that refused; `none` where nothing allowed it. */
      readonly policyId: string
      readonly audit: readonly string[]
      readonly dryRun: readonly DryRun[]
    }

/** What the policies of an action that run dry would have decided. */
export interface DryRun {
  readonly action: 'ALLOW' | 'DENY'
  readonly result: 'allowed' | 'denied'
  /** Id of the rule that matched, if one did. */
  readonly policyId: string | undefined
}

/** The policies of one target, ready to be asked. */
export interface PolicySet {
  readonly requests: Plan
  readonly connections: Plan
}

interface Plan {
  readonly empty: boolean
  readonly custom: readonly Rule[]
  readonly audit: readonly Rule[]
  readonly deny: readonly Rule[]
  /** Undefined: there is no such policy. Empty: there is, and it never matches. */
  readonly allow: readonly Rule[] | undefined
  readonly dryDeny: readonly Rule[] | undefined
  readonly dryAllow: readonly Rule[] | undefined
}

interface Rule {
  readonly id: string
  readonly test: Test
}

const nothing: readonly never[] = []
const passes: Verdict = { allowed: true, audit: nothing, dryRun: nothing }

export function policySet(policies: readonly L7Policy[]): PolicySet {
  return { requests: planOf(policies, 'request'), connections: planOf(policies, 'connection') }
}

export const noPolicies: PolicySet = policySet([])

export function authorize(policies: PolicySet, facts: RequestFacts): Verdict {
  const plan = facts.http === undefined ? policies.connections : policies.requests
  if (plan.empty) return passes

  const asked = firstMatch(plan.custom, facts)
  if (asked !== undefined) return { allowed: false, policyId: asked, audit: nothing, dryRun: nothing }
  const audit = plan.audit.length === 0 ? nothing : allMatches(plan.audit, facts)

  let dryRun: readonly DryRun[] = nothing
  if (plan.dryDeny !== undefined) dryRun = [dryDeny(firstMatch(plan.dryDeny, facts))]
  const denied = firstMatch(plan.deny, facts)
  if (denied !== undefined) return { allowed: false, policyId: denied, audit, dryRun }

  if (plan.dryAllow !== undefined) dryRun = [...dryRun, dryAllow(firstMatch(plan.dryAllow, facts))]
  if (plan.allow !== undefined && firstMatch(plan.allow, facts) === undefined) {
    return { allowed: false, policyId: 'none', audit, dryRun }
  }
  return audit.length === 0 && dryRun.length === 0 ? passes : { allowed: true, audit, dryRun }
}

function dryDeny(policyId: string | undefined): DryRun {
  return { action: 'DENY', result: policyId === undefined ? 'allowed' : 'denied', policyId }
}

function dryAllow(policyId: string | undefined): DryRun {
  return { action: 'ALLOW', result: policyId === undefined ? 'denied' : 'allowed', policyId }
}

function firstMatch(rules: readonly Rule[], facts: RequestFacts): string | undefined {
  for (const { id, test } of rules) if (test(facts)) return id
  return undefined
}

function allMatches(rules: readonly Rule[], facts: RequestFacts): readonly string[] {
  return rules.filter(({ test }) => test(facts)).map(({ id }) => id)
}

function planOf(policies: readonly L7Policy[], form: 'request' | 'connection'): Plan {
  const select = (action: Action, dryRun: boolean): readonly Rule[] | undefined => {
    const selected = policies.filter(policy => policy.action === action && policy.dryRun === dryRun)
    return selected.length === 0 ? undefined : rulesOf(selected, form)
  }
  const plan = {
    custom: select('CUSTOM', false) ?? nothing, // an authorizer that is asked by a dry run could decide nothing
    audit: select('AUDIT', false) ?? nothing,
    deny: select('DENY', false) ?? nothing,
    allow: select('ALLOW', false),
    dryDeny: select('DENY', true),
    dryAllow: select('ALLOW', true)
  }
  const empty = Object.values(plan).every(rules => rules === undefined || rules === nothing)
  return { ...plan, empty }
}

/** In the order of their ids as texts, which is the order in which Envoy looks for the one that it reports. */
function rulesOf(policies: readonly L7Policy[], form: 'request' | 'connection'): readonly Rule[] {
  return policies
    .flatMap(({ rules }) => rules)
    .flatMap(({ id, [form]: test }) => (test === undefined ? [] : [{ id, test }]))
    .toSorted((one, other) => (one.id < other.id ? -1 : 1))
}
