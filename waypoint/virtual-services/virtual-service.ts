/** VirtualServices as they were read. Source: Istio's published VirtualService (networking.istio.io/v1). */
import type { RouteRule, StringMatch } from '../routes/route.ts'
import type { WeightedBackend } from '../routes/tls-route.ts'

export interface VirtualService {
  readonly namespace: string
  readonly name: string
  readonly createdMs: number
  /** In full; one that begins with `*` is for all hosts that end in the rest. */
  readonly hosts: readonly string[]
  readonly http: readonly HttpRule[]
  readonly tls: readonly ConnectionRule[]
  readonly tcp: readonly ConnectionRule[]
}

/** One of the matches has to hold. A rule without any can never be met. */
export interface HttpRule {
  readonly matches: readonly HttpMatch[]
  /** Port 0 of a backend stands for the one that the client asked for. */
  readonly rule: RouteRule
}

/** All that is given must hold. */
export interface HttpMatch {
  readonly path: PathCondition | undefined
  readonly scheme: StringMatch | undefined
  readonly method: StringMatch | undefined
  readonly authority: StringMatch | undefined
  readonly headers: readonly NamedMatch[]
  /** None of these may hold. */
  readonly withoutHeaders: readonly NamedMatch[]
  readonly query: readonly NamedMatch[]
  /** Of the service. */
  readonly port: number | undefined
  /** Of the client. */
  readonly sourceNamespace: string | undefined
}

export interface PathCondition {
  /** In lower case where case is ignored; a prefix may end within a segment. */
  readonly text: Exclude<StringMatch, { kind: 'present' }>
  readonly ignoresCase: boolean
}

export interface NamedMatch {
  /** Of a header in lower case, of a query parameter as it is. */
  readonly name: string
  readonly text: StringMatch
}

/** For connections that are carried as they are. */
export interface ConnectionRule {
  readonly matches: readonly ConnectionMatch[]
  readonly backends: readonly WeightedBackend[]
  /** What we cannot carry out: connections are closed rather than carried without it. */
  readonly unsupported: string | undefined
}

export interface ConnectionMatch {
  readonly port: number | undefined
  /** Undefined: any; else they have to be the service's own host and nothing else. */
  readonly serverNames: readonly string[] | undefined
}
