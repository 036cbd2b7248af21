/** DestinationRules as they were read. Source: Istio's published DestinationRule (networking.istio.io/v1). */
import type {
  BackendTls,
  Balancing,
  ConnectionSettings,
  Limits,
  LocalityPolicy,
  OutlierPolicy,
  RetryBudget
} from '../traffic-policy.ts'

export interface DestinationRule {
  readonly namespace: string
  readonly name: string
  readonly createdMs: number
  /** In full; one that begins with `*` is for all hosts that end in the rest. */
  readonly hostname: string
  /** Namespaces, `.` for the rule's own and `*` for all of them; empty: all of them. */
  readonly exportTo: readonly string[]
  readonly policy: RulePolicy | undefined
  readonly subsets: ReadonlyMap<string, Subset>
  /** False: for the sidecars that its workloadSelector names, which a waypoint is not. */
  readonly applies: boolean
}

export interface Subset {
  /** Of its pods; none: all pods. */
  readonly labels: ReadonlyMap<string, string>
  readonly policy: RulePolicy | undefined
}

/** A `trafficPolicy`. What is said for a port counts there alone, with defaults for what it leaves out. */
export interface RulePolicy {
  readonly parts: PolicyParts
  readonly ports: ReadonlyMap<number, PolicyParts>
}

/** By the names of their fields. A part is overridden as a whole, which is why one that says nothing is kept. */
export interface PolicyParts extends PortPolicyParts {
  readonly tunnel?: Part
  readonly proxyProtocol?: Part
  readonly retryBudget?: Part<{ readonly retryBudget: RetryBudget }>
  /** Of a rule that was not understood. */
  readonly unreadable?: Part
}

export interface PortPolicyParts {
  readonly loadBalancer?: Part<{
    readonly balancing: Balancing
    readonly locality: LocalityPolicy | undefined
  }>
  readonly connectionPool?: Part<{ readonly limits: Limits; readonly connections: ConnectionSettings }>
  readonly outlierDetection?: Part<{ readonly outliers: OutlierPolicy }>
  readonly tls?: Part<{ readonly tls: BackendTls | undefined }>
}

/** With what of it is not carried out: the field, and what to do. */
export type Part<T = unknown> = T & { readonly unsupported: readonly string[] }
