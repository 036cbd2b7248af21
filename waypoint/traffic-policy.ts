/**
 * How requests to a service are spread over its pods and how many of them there may be, whichever resource says it.
 * Source: Istio's published `DestinationRule.trafficPolicy` (networking.istio.io/v1).
 */

export interface TrafficPolicy {
  readonly balancing: Balancing
  /** Undefined: what the Service itself says of near and far. */
  readonly locality: LocalityPolicy | undefined
  readonly limits: Limits
  readonly connections: ConnectionSettings
  /** Undefined: no pod is left out for what it answers. */
  readonly outliers: OutlierPolicy | undefined
  /** Undefined: `limits.retries` alone bounds them. */
  readonly retryBudget: RetryBudget | undefined
  /** Of the pods' own; undefined: they are spoken to in the clear, inside the mesh's tunnels. */
  readonly tls: BackendTls | undefined
  /** What we cannot carry out: requests are answered 500 rather than sent without it. */
  readonly unsupported: string | undefined
}

export type Balancing =
  | { readonly kind: 'least-request' | 'round-robin'; readonly warmup: Warmup | undefined }
  | { readonly kind: 'random' }
  | { readonly kind: 'consistent-hash'; readonly key: HashKey; readonly table: HashTable }

/** A new pod begins with a part of its share, which grows with time. */
export interface Warmup {
  readonly durationMs: number
  /** 0 to 100, of its share at the beginning. */
  readonly minimumPercent: number
  /** 1: linear; above: faster at the beginning. */
  readonly aggression: number
}

/** What of a request decides; a request without it goes to any pod. */
export type HashKey =
  | { readonly from: 'header' | 'query'; readonly name: string }
  | { readonly from: 'source-ip' }
  | {
      readonly from: 'cookie'
      readonly name: string
      readonly path: string
      /** Undefined: clients bring it or go anywhere. 0: for their session. */
      readonly ttlMs: number | undefined
      readonly attributes: readonly (readonly [name: string, value: string])[]
    }

export type HashTable =
  | { readonly kind: 'ring'; readonly minimumSize: number }
  /** `size`: a prime. */
  | { readonly kind: 'maglev'; readonly size: number }

/** Places are `region/zone/subzone`; a shorter one or `*` at its end means all below. */
export type LocalityPolicy =
  | { readonly kind: 'off' }
  /** Nearest first; `failover` says where else for regions. */
  | {
      readonly kind: 'failover'
      readonly failover: readonly { readonly from: string; readonly to: string }[]
    }
  /** `key` or `key=value`: pods that agree with us in more of them, from the first on, come first. */
  | { readonly kind: 'labels'; readonly labels: readonly string[] }
  | {
      readonly kind: 'distribute'
      readonly rules: readonly {
        readonly from: string
        readonly to: readonly (readonly [place: string, weight: number])[]
      }[]
    }

/** Of one process; Infinity where nobody said. */
export interface Limits {
  readonly connections: number
  /** Requests that wait for a connection. */
  readonly pending: number
  readonly requests: number
  /** Requests that are sent again, at the same time. */
  readonly retries: number
}

export const noLimits: Limits = {
  connections: Infinity,
  pending: Infinity,
  requests: Infinity,
  retries: Infinity
}

/** Undefined: the waypoint's own. */
export interface ConnectionSettings {
  readonly connectTimeoutMs: number | undefined
  /** Infinity: never closed for it. */
  readonly idleMs: number | undefined
  /** Infinity where nobody said. */
  readonly maxRequestsPerConnection: number
  readonly maxConcurrentStreams: number
  /** HTTP/2 to pods whose port says HTTP only. */
  readonly upgradeToHttp2: boolean
}

export const usualConnections: ConnectionSettings = {
  connectTimeoutMs: undefined,
  idleMs: undefined,
  maxRequestsPerConnection: Infinity,
  maxConcurrentStreams: Infinity,
  upgradeToHttp2: false
}

export interface OutlierPolicy {
  /** Answers from 500 on, in a row; 0: not looked at. */
  readonly consecutive5xx: number
  /** 502, 503 and 504. */
  readonly consecutiveGatewayErrors: number
  /** Connections that failed, where they are counted on their own; undefined: they count as 5xx. */
  readonly consecutiveLocalFailures: number | undefined
  readonly intervalMs: number
  /** Times the number of ejections so far. */
  readonly baseEjectionMs: number
  readonly maxEjectionPercent: number
  /** Below it all pods are used, whatever they answered. */
  readonly minHealthPercent: number
}

export interface RetryBudget {
  /** Of the requests that are under way. */
  readonly percent: number
  /** Retries that are always allowed. */
  readonly minConcurrency: number
  /** Requests of this time count as well; 0: only those under way. */
  readonly intervalMs: number
}

export interface BackendTls {
  /** Is in our hello; without `names` the certificate has to be for it. '' in rules for any host: the service's hostname. */
  readonly serverName: string
  /** PEM; undefined: those that the system trusts. */
  readonly roots: string | undefined
  /** The certificate has to be for one of them. */
  readonly names: readonly ServerName[]
  /** False: any server with any certificate will do. */
  readonly verified: boolean
  /** That servers are shown which ask for one; PEM. */
  readonly certificate?: ClientCertificate
}

export interface ClientCertificate {
  readonly cert: string
  readonly key: string
}

/** Of a certificate; hostnames may be addresses, too. */
export interface ServerName {
  readonly kind: 'hostname' | 'uri'
  readonly value: string
}

/** Of text that does not say what it is. */
export function serverNameOf(value: string): ServerName {
  return { kind: value.includes('://') ? 'uri' : 'hostname', value }
}

/** What a service has of which nobody says anything. */
export const usualPolicy: TrafficPolicy = {
  balancing: { kind: 'least-request', warmup: undefined },
  locality: undefined,
  limits: noLimits,
  connections: usualConnections,
  outliers: undefined,
  retryBudget: undefined,
  tls: undefined,
  unsupported: undefined
}
