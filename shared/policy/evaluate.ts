/**
 * Layer-4 authorization: a verdict for one connection and, when asked for, the trace that explains it.
 * Source: the semantics that Istio's ztunnel gives istio.security.Authorization.
 */
import type { Ip } from '../net/address.ts'
import type { SpiffeId } from '../identity/spiffe-id.ts'
import type { Policy, PolicyKey } from '../mesh/model.ts'

/** What policies see of a connection. */
export interface PolicyConnection {
  /** TCP peer. */
  readonly sourceIp: Ip
  /** Identity that mutual TLS proved; undefined for plaintext. */
  readonly identity: SpiffeId | undefined
  /** The application's address and port: the pod IP, never the VIP or 15008. */
  readonly destinationIp: Ip
  readonly destinationPort: number
}

export type Verdict =
  | {
      readonly kind: 'allow'
      readonly reason: string
      readonly policy?: PolicyKey
      readonly notes: readonly string[]
    }
  | {
      readonly kind: 'deny'
      readonly reason: string
      readonly policy?: PolicyKey
      readonly notes: readonly string[]
    }

/** A verdict with every step that led to it. */
export interface ExplainedVerdict {
  readonly verdict: Verdict
  readonly policies: readonly PolicyTrace[]
}

export interface PolicyTrace {
  readonly policy: PolicyKey
  readonly action: 'Allow' | 'Deny'
  readonly dryRun: boolean
  readonly matched: boolean
  /** Index of the first rule that matched. */
  readonly rule: number | undefined
  readonly rules: readonly RuleTrace[]
}

export interface RuleTrace {
  readonly matched: boolean
  readonly clauses: readonly ClauseTrace[]
}

export interface ClauseTrace {
  readonly matched: boolean
  readonly matches: readonly MatchTrace[]
}

export interface MatchTrace {
  readonly matched: boolean
  readonly conditions: readonly ConditionTrace[]
}

/** One non-empty list of a match, for example `notSourceIps`. */
export interface ConditionTrace {
  readonly field: string
  /** The values that the policy lists, as text. */
  readonly wanted: readonly string[]
  /** The connection's value, as text; undefined when it has none. */
  readonly seen: string | undefined
  readonly matched: boolean
}

/** Decides by the policies of the destination (view.policiesOf); `notes` are the lines that dry-run policies cause. */
export declare function evaluate(policies: readonly Policy[], connection: PolicyConnection): Verdict
/** As {@link evaluate}, and says why. */
export declare function explain(policies: readonly Policy[], connection: PolicyConnection): ExplainedVerdict
