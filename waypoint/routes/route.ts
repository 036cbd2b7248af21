/**
 * Routes as a waypoint carries them out, whichever resource they were written as: rules with matches, what is changed
 * in a request, and where it goes.
 */
import type { RegularExpression, Replacement } from './regular-expression.ts'

export type TextMatch =
  | { readonly kind: 'exact'; readonly value: string }
  | { readonly kind: 'regex'; readonly value: RegularExpression }

/** Of VirtualServices. */
export type StringMatch =
  | TextMatch
  | { readonly kind: 'prefix'; readonly value: string }
  /** Whatever it is. */
  | { readonly kind: 'present' }

export type PathMatch =
  | { readonly kind: 'exact'; readonly value: string }
  /** Whole segments; without a slash at the end, so the prefix of everything is empty. */
  | { readonly kind: 'prefix'; readonly value: string }
  | { readonly kind: 'regex'; readonly value: RegularExpression }

export interface FieldMatch {
  /** Of a header in lower case, of a query parameter as it is. */
  readonly name: string
  readonly text: TextMatch
}

/** All that is given must hold. */
export interface RouteMatch {
  readonly path: PathMatch
  readonly method: string | undefined
  readonly headers: readonly FieldMatch[]
  readonly query: readonly FieldMatch[]
}

export interface HeaderChange {
  /** Names in lower case. */
  readonly set: readonly (readonly [name: string, value: string])[]
  readonly add: readonly (readonly [name: string, value: string])[]
  readonly remove: readonly string[]
}

export type PathChange =
  | { readonly kind: 'full'; readonly value: string }
  /** The prefix that matched gives way to this one. */
  | { readonly kind: 'prefix'; readonly value: string }
  /** What matched gives way to this text, character by character. */
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'expression'; readonly value: Replacement }

export interface Redirect {
  readonly scheme: 'http' | 'https' | undefined
  readonly hostname: string | undefined
  readonly path: PathChange | undefined
  readonly port: number | undefined
  readonly status: number
}

export interface Rewrite {
  readonly hostname: string | undefined
  readonly path: PathChange | undefined
}

/** An origin of a web page: RFC 6454. */
export interface HttpOrigin {
  readonly scheme: 'http' | 'https'
  /** In lower case. */
  readonly host: string
  readonly port: number
}

export type AllowedOrigin =
  | { readonly kind: 'any' }
  | ({ readonly kind: 'one' } & HttpOrigin)
  /** Every host with something before `host`, which may be empty. */
  | ({ readonly kind: 'ending' } & HttpOrigin)
  /** As it is written. */
  | { readonly kind: 'written'; readonly text: StringMatch }

/** In lists a `*` stands for everything. */
export interface CorsPolicy {
  readonly origins: readonly AllowedOrigin[]
  readonly methods: readonly string[]
  readonly headers: readonly string[]
  /** Headers of answers that scripts may read. */
  readonly exposed: readonly string[]
  readonly credentials: boolean
  /** For how long a browser may keep the answer to a preflight; undefined: the browser decides. */
  readonly maxAgeSeconds: number | undefined
  /** What comes from other origins is the application's to answer, preflights too. */
  readonly forwardsOthers?: true
}

export type BackendReference =
  | {
      readonly kind: 'service'
      readonly hostname: string
      readonly namespace: string
      readonly port: number
      /** Only those of its pods; as its DestinationRule has them. */
      readonly subset?: string
    }
  /** One that cannot be used, and why. */
  | { readonly kind: 'unresolved'; readonly reason: string }

/** Who else gets requests, without a say in their answers. */
export interface Mirror {
  /** Unresolved: it is left out. */
  readonly backend: BackendReference
  /** Of all requests, from 0 to 1. */
  readonly share: number
  /** Its host gets the suffix `-shadow`. */
  readonly shadowHost?: true
}

/** What a rule of a VirtualService answers in place of a backend. */
export type OwnAnswer =
  | { readonly kind: 'direct'; readonly status: number; readonly body: string }
  | {
      readonly kind: 'redirect'
      readonly status: number
      readonly scheme: string | undefined
      readonly authority: string | undefined
      /** With a query it takes the place of the request's. */
      readonly uri: string | undefined
      /** In the place of what matched of the path; the query stays. */
      readonly prefix: string | undefined
      /** `request`: that the client asked for. */
      readonly port: number | 'request' | undefined
    }

/** Of a share of requests, from 0 to 1. */
export interface Fault {
  readonly delay: { readonly ms: number; readonly share: number } | undefined
  /** `grpcStatus`: that clients of gRPC are told; undefined: what the status means to them. */
  readonly abort:
    | { readonly status: number; readonly grpcStatus: number | undefined; readonly share: number }
    | undefined
}

/** In the order in which they act; all of them may be empty. */
export interface Filters {
  readonly cors: CorsPolicy | undefined
  readonly mirrors: readonly Mirror[]
  readonly requestHeaders: HeaderChange | undefined
  readonly responseHeaders: HeaderChange | undefined
  readonly rewrite: Rewrite | undefined
  readonly redirect: Redirect | undefined
  readonly ownAnswer?: OwnAnswer | undefined
  /** What we cannot carry out: requests are answered 500 rather than passed on without it. */
  readonly unsupported: string | undefined
}

/** Unresolved: its share of requests is answered 500. */
export type Backend = BackendReference & {
  readonly weight: number
  readonly filters: Filters
}

/** Which requests are sent again; those that no pod can have acted on are in any case. */
export interface Retry {
  /** How often, beside the first time. */
  readonly times: number
  /** Of answers that are not passed on while there is another try. */
  readonly statuses: ReadonlySet<number>
  /** Shortest pause before another try, milliseconds; undefined: nobody said. */
  readonly backoffMs: number | undefined
  /** Undefined: all that failed without an answer. */
  readonly conditions?: RetryConditions
}

/** How a request has to fail so that it is sent again. Source: Envoy's published `x-envoy-retry-on`. */
export interface RetryConditions {
  /** In any way before an answer, by taking too long, too. */
  readonly reset: boolean
  /** Nothing of the request had gone out. */
  readonly resetBeforeRequest: boolean
  readonly connectFailure: boolean
  /** Also where a kept connection turned out to be closed. */
  readonly refusedStream: boolean
  /** Of answers that say it in their head: `grpc-status`. */
  readonly grpcStatuses: ReadonlySet<string>
  /** Pods that were tried, while there are others. */
  readonly avoidsTried: boolean
}

/** Where clients carry the session that they are in. */
export type SessionCarrier =
  /** `permanent`: it outlives the client's own session, up to the timeout. */
  | { readonly kind: 'cookie'; readonly name: string; readonly path: string; readonly permanent: boolean }
  /** `name`: in lower case. */
  | { readonly kind: 'header'; readonly name: string }

/** Clients stay at the pod that answered them first. */
export interface SessionPersistence {
  /** Whose sessions they are; no other rule takes them. */
  readonly rule: string
  readonly carrier: SessionCarrier
  /** After which a session is over, used or not; undefined: never. */
  readonly absoluteTimeoutMs: number | undefined
}

/** What becomes of requests that meet it. */
export interface RouteRule {
  /** `namespace/name` of its object. */
  readonly route: string
  /** As logs and metrics call it: the rule's name, else its place. */
  readonly name: string
  readonly fault?: Fault | undefined
  readonly filters: Filters
  readonly backends: readonly Backend[]
  /** What a request is answered for which none of them can be used. */
  readonly statusWithoutBackend: 500 | 503
  /** Milliseconds; undefined is no limit. */
  readonly requestTimeoutMs: number | undefined
  /** A client's `grpc-timeout` is a limit, too. */
  readonly heedsGrpcTimeout?: true
  readonly backendTimeoutMs: number | undefined
  /** Undefined: the route says nothing of it. */
  readonly retry: Retry | undefined
  readonly persistence: SessionPersistence | undefined
}

/** A rule of a Gateway API route. */
export interface MatchingRule extends RouteRule {
  readonly matches: readonly RouteMatch[]
}

/** The service that a route is for. */
export interface RouteParent {
  readonly namespace: string
  readonly hostname: string
  /** Undefined: every port. */
  readonly port: number | undefined
}

/** A listener of a Gateway that a route is for. */
export interface ListenerParent {
  readonly namespace: string
  readonly gateway: string
  readonly listener: string
  /** Those that listener and route have in common: `a.b`, `*.b`, or '' for any; in lower case. */
  readonly hostnames: readonly string[]
}

export interface Route {
  readonly namespace: string
  readonly name: string
  readonly createdMs: number
  readonly parents: readonly RouteParent[]
  readonly listeners: readonly ListenerParent[]
  readonly rules: readonly MatchingRule[]
}
