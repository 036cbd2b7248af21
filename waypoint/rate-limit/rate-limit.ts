/** A RateLimitPolicy as it is carried out. */
import type { RequestFacts, Test } from '../authorization/facts.ts'
import type { PolicyTarget } from '../policy-target.ts'
import type { Buckets } from './buckets.ts'

export const scopes = ['Local', 'Global'] as const
/** Who counts: each process for itself, or a service for all of them. */
export type Scope = (typeof scopes)[number]

/** So many requests in so long a time, evenly; `burst` of them at once. */
export interface Rate {
  readonly requests: number
  readonly perMs: number
  readonly burst: number
}

export interface RateLimit {
  /** Unique in its policy. */
  readonly name: string
  readonly rate: Rate
  readonly scope: Scope
  /** What requests that count together have in common; none: they all do. */
  readonly key: readonly KeyPart[]
  /** Requests of which one of these does not hold are none of its business. */
  readonly match: readonly Test[]
}

export interface KeyPart {
  /** Of a descriptor, for services that count. Where Envoy has a name for it, that one. */
  readonly name: string
  /** Undefined: the request has none. */
  readonly value: (request: CountedRequest) => string | undefined
}

export interface CountedRequest extends RequestFacts {
  /** Hostname of the service that it is for; undefined for a pod that is addressed itself, and at a gateway. */
  readonly service: string | undefined
}

export interface RateLimitPolicy {
  readonly namespace: string
  readonly name: string
  readonly targets: readonly PolicyTarget[]
  readonly limits: readonly RateLimit[]
  /** Excess is counted, and passes. */
  readonly shadow: boolean
  /** Whether requests pass while the service that counts cannot be asked. */
  readonly failOpen: boolean
  /** Whether answers tell what is left. */
  readonly headers: boolean
  /** Who counts what is Global; empty where nothing is. */
  readonly provider: string
  /** What of it does not count, each with its field. */
  readonly problems: readonly string[]
}

/** A limit with what was used of it. */
export interface LimitInForce {
  readonly limit: RateLimit
  readonly buckets: Buckets
}

/** Requests to all of its targets count together. */
export interface PolicyInForce {
  readonly policy: RateLimitPolicy
  readonly targets: readonly PolicyTarget[]
  readonly limits: readonly LimitInForce[]
}
