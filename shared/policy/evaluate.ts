/**
 * Layer-4 authorization: a verdict for one connection and, when asked for, the trace that explains it.
 * Source: the semantics that Istio's ztunnel gives istio.security.Authorization.
 *
 * Order: an enforced DENY that matches denies; without an enforced ALLOW the rest is allowed; else one ALLOW has
 * to match. Dry-run policies only leave notes.
 */
import { policyKey, type Policy, type PolicyKey } from '../mesh/model.ts'
import { compilePolicy, type CompiledPolicy, type PolicyConnection } from './compile.ts'
import { tracePolicy, type PolicyTrace } from './trace.ts'

export type { PolicyConnection } from './compile.ts'
export type { ClauseTrace, ConditionTrace, MatchTrace, PolicyTrace, RuleTrace } from './trace.ts'

export interface Verdict {
  readonly kind: 'allow' | 'deny'
  readonly reason: string
  /** The policy that decided, where one did. */
  readonly policy: PolicyKey | undefined
  /** What dry-run policies would have done, for the log. */
  readonly notes: readonly string[]
}

/** A verdict with every step that led to it. */
export interface ExplainedVerdict {
  readonly verdict: Verdict
  readonly policies: readonly PolicyTrace[]
}

/** What is decided once per set of policies; view.policiesOf gives the same array while nothing changed. */
interface Plan {
  readonly dryRunDeny: readonly CompiledPolicy[]
  readonly deny: readonly CompiledPolicy[]
  readonly dryRunAllow: readonly CompiledPolicy[]
  readonly allow: readonly CompiledPolicy[]
}

const noNotes: readonly string[] = []
// Remembered work, not state: both depend on nothing but their immutable key, and go with it.
const plans = new WeakMap<readonly Policy[], Plan>()
const compiled = new WeakMap<Policy, CompiledPolicy>()

/** Decides by the policies of the destination (view.policiesOf). */
export function evaluate(policies: readonly Policy[], connection: PolicyConnection): Verdict {
  if (policies.length === 0)
    return { kind: 'allow', reason: 'no policies', policy: undefined, notes: noNotes }
  const plan = planOf(policies)
  const notes: string[] = []
  for (const { key, matches } of plan.dryRunDeny) {
    if (matches(connection)) notes.push(`dry-run: deny policy match: ${key}`)
  }
  for (const { key, matches, unreadable } of plan.deny) {
    if (!matches(connection)) continue
    const why = unreadable === undefined ? '' : ` (it cannot be read, so nothing passes: ${unreadable})`
    return { kind: 'deny', reason: `explicitly denied by: ${key}${why}`, policy: key, notes }
  }
  const dryRunAllowed = plan.dryRunAllow.filter(({ matches }) => matches(connection))
  for (const { key } of dryRunAllowed) notes.push(`dry-run: allow policy match: ${key}`)
  if (plan.allow.length === 0) {
    if (plan.dryRunAllow.length > 0 && dryRunAllowed.length === 0) {
      notes.push('dry-run: no allow policies match')
    }
    return { kind: 'allow', reason: 'no allow policies', policy: undefined, notes }
  }
  for (const { key, matches } of plan.allow) {
    if (matches(connection)) return { kind: 'allow', reason: `allowed by: ${key}`, policy: key, notes }
  }
  return { kind: 'deny', reason: 'allow policies exist, but none allowed', policy: undefined, notes }
}

/** As {@link evaluate}, and says why: every policy, rule, clause, match and condition with what was seen. */
export function explain(policies: readonly Policy[], connection: PolicyConnection): ExplainedVerdict {
  return {
    verdict: evaluate(policies, connection),
    policies: policies.map(policy => tracePolicy(policy, connection))
  }
}

function planOf(policies: readonly Policy[]): Plan {
  const known = plans.get(policies)
  if (known !== undefined) return known
  const select = (action: Policy['action'], dryRun: boolean): CompiledPolicy[] =>
    policies.filter(policy => policy.action === action && policy.dryRun === dryRun).map(compiledOf)
  const plan = {
    dryRunDeny: select('Deny', true),
    deny: select('Deny', false),
    dryRunAllow: select('Allow', true),
    allow: select('Allow', false)
  }
  plans.set(policies, plan)
  return plan
}

function compiledOf(policy: Policy): CompiledPolicy {
  const known = compiled.get(policy)
  if (known !== undefined) return known
  const fresh = compilePolicy(policyKey(policy), policy)
  compiled.set(policy, fresh)
  return fresh
}
