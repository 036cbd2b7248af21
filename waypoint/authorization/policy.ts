/** An AuthorizationPolicy as it is evaluated. */
import type { PolicyTarget } from '../policy-target.ts'
import type { Test } from './facts.ts'

export const actions = ['DENY', 'ALLOW', 'AUDIT', 'CUSTOM'] as const
export type Action = (typeof actions)[number]

export interface L7Policy {
  readonly namespace: string
  readonly name: string
  readonly createdMs: number
  readonly action: Action
  /** Whom CUSTOM asks; empty where the policy names none. */
  readonly provider: string
  /** Evaluated, but nothing follows from it. */
  readonly dryRun: boolean
  readonly targets: readonly PolicyTarget[]
  /** It matches when one of them does. */
  readonly rules: readonly PolicyRule[]
  /** What of it does not count, each with its field: for logs and status. */
  readonly problems: readonly string[]
}

export interface PolicyRule {
  /**
   * As operators of Istio know it, also from logs: `ns[<namespace>]-policy[<name>]-rule[<index>]`; of CUSTOM with
   * `istio-ext-authz-<provider>-` before it.
   */
  readonly id: string
  /** For requests, and for connections that are carried as they are; undefined where it matches none. */
  readonly request: Test | undefined
  readonly connection: Test | undefined
}
