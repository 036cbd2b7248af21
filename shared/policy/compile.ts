/** A policy as one function, made once per policy. */
import type { Policy, PolicyKey, PolicyMatch } from '../mesh/model.ts'
import { conditionsOf, type PolicyConnection, type Test } from './conditions.ts'

export type { PolicyConnection } from './conditions.ts'

export interface CompiledPolicy {
  readonly key: PolicyKey
  readonly matches: Test
  readonly unreadable: string | undefined
}

/**
 * Rules are joined by OR, clauses by AND, matches by OR, the lists of a match by AND. No rules: never. No
 * clauses in a rule, or no matches in a clause: always. A match with every list empty: never.
 */
export function compilePolicy(key: PolicyKey, policy: Policy): CompiledPolicy {
  const rules = policy.rules.map(clauses => allOf(clauses.map(compileClause)))
  return { key, matches: anyOf(rules), unreadable: policy.unreadable }
}

function compileClause(matches: readonly PolicyMatch[]): Test {
  return matches.length === 0 ? () => true : anyOf(matches.map(compileMatch))
}

function compileMatch(match: PolicyMatch): Test {
  const conditions = conditionsOf(match)
  if (conditions.length === 0) return () => false
  return allOf(
    conditions.map(({ any, negated }) => (negated ? (connection: PolicyConnection) => !any(connection) : any))
  )
}

function anyOf(tests: readonly Test[]): Test {
  const [only] = tests
  if (tests.length === 1 && only !== undefined) return only
  return connection => tests.some(test => test(connection))
}

function allOf(tests: readonly Test[]): Test {
  const [only] = tests
  if (tests.length === 1 && only !== undefined) return only
  return connection => tests.every(test => test(connection))
}
