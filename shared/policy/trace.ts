/** Why a policy matched or not: the same conditions as `compile.ts`, each with what it wanted and what it saw. */
import { policyKey, type Policy, type PolicyKey, type PolicyMatch } from '../mesh/model.ts'
import { conditionsOf, type Condition, type PolicyConnection } from './conditions.ts'

export interface PolicyTrace {
  readonly policy: PolicyKey
  readonly action: 'Allow' | 'Deny'
  readonly dryRun: boolean
  readonly matched: boolean
  /** Index of the first rule that matched. */
  readonly rule: number | undefined
  readonly rules: readonly RuleTrace[]
}

/** AND of its clauses. */
export interface RuleTrace {
  readonly matched: boolean
  readonly clauses: readonly ClauseTrace[]
}

/** OR of its matches; without any it matches. */
export interface ClauseTrace {
  readonly matched: boolean
  readonly matches: readonly MatchTrace[]
}

/** AND of its conditions; without any it does not match. */
export interface MatchTrace {
  readonly matched: boolean
  readonly conditions: readonly ConditionTrace[]
}

/** One non-empty list of a match, for example `notSourceIps`. */
export interface ConditionTrace {
  readonly field: keyof PolicyMatch
  /** The values that the policy lists, as text. */
  readonly wanted: readonly string[]
  /** The connection's value, as text; undefined when it has none. */
  readonly seen: string | undefined
  readonly matched: boolean
}

export function tracePolicy(policy: Policy, connection: PolicyConnection): PolicyTrace {
  const rules = policy.rules.map(clauses => traceRule(clauses, connection))
  const rule = rules.findIndex(({ matched }) => matched)
  return {
    policy: policyKey(policy),
    action: policy.action,
    dryRun: policy.dryRun,
    matched: rule >= 0,
    rule: rule >= 0 ? rule : undefined,
    rules
  }
}

function traceRule(clauses: Policy['rules'][number], connection: PolicyConnection): RuleTrace {
  const traced = clauses.map(matches => traceClause(matches, connection))
  return { matched: traced.every(({ matched }) => matched), clauses: traced }
}

function traceClause(matches: readonly PolicyMatch[], connection: PolicyConnection): ClauseTrace {
  const traced = matches.map(match => traceMatch(match, connection))
  return { matched: traced.length === 0 || traced.some(({ matched }) => matched), matches: traced }
}

function traceMatch(match: PolicyMatch, connection: PolicyConnection): MatchTrace {
  const conditions = conditionsOf(match).map(condition => traceCondition(condition, connection))
  return { matched: conditions.length > 0 && conditions.every(({ matched }) => matched), conditions }
}

function traceCondition(condition: Condition, connection: PolicyConnection): ConditionTrace {
  const { field, wanted, any, negated, seen } = condition
  return { field, wanted, seen: seen(connection), matched: any(connection) !== negated }
}
