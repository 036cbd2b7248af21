/** A Telemetry as a waypoint understands it, and what several of them come to. */
import type { PolicyTarget } from '../../policy-target.ts'
import type { CustomTag, TracingTerms } from '../tracing/tracer.ts'
import type { ResponseTest } from './log-filter.ts'
import type { TagValue } from './tag-value.ts'

export interface TelemetryPolicy {
  readonly namespace: string
  readonly createdMs: number
  /** Empty: everything of its namespace, or of the mesh where that is the root namespace. */
  readonly targets: readonly PolicyTarget[]
  readonly logging: readonly LoggingPart[]
  readonly tracing: readonly TracingPart[]
  readonly metrics: readonly MetricPart[]
  /** What of it is not carried out. */
  readonly unsupported: readonly string[]
}

/** What is undefined leaves what is less special as it is. */
export interface LoggingPart {
  readonly enabled: boolean | undefined
  readonly filter: ResponseTest | undefined
}

export interface TracingPart {
  readonly provider: string | undefined
  /** From 0 to 1. */
  readonly sampling: number | undefined
  readonly reports: boolean | undefined
  readonly propagates: boolean | undefined
  readonly istioTags: boolean | undefined
  /** Takes the place of all others. */
  readonly customTags: readonly CustomTag[] | undefined
}

export interface MetricPart {
  /** Names of families. */
  readonly families: readonly string[]
  readonly disabled: boolean | undefined
  readonly labels: ReadonlyMap<string, LabelChange>
}

export type LabelChange = { readonly kind: 'remove' } | { readonly kind: 'set'; readonly value: TagValue }

/** What applies to the requests of a service. */
export interface TelemetryRules {
  readonly accessLog: 'off' | 'errors' | 'all'
  readonly logs: ResponseTest | undefined
  readonly tracing: TracingTerms | undefined
  /** By the name of the family; those that are as they are always are not in it. */
  readonly metrics: ReadonlyMap<string, FamilyRule>
}

export interface FamilyRule {
  readonly disabled: boolean
  /** By the position of the label in its family. */
  readonly changes: readonly (readonly [at: number, change: LabelChange])[]
}
