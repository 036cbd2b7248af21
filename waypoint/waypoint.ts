/** What every tunnel and request of a waypoint works with. */
import type { Authority, Baggage } from '../shared/hbone/connect.ts'
import type { ServerSession } from '../shared/hbone/server.ts'
import type { WorkloadCertificate } from '../shared/identity/certificate.ts'
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import type { Workload } from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import type { SocketAddress } from '../shared/net/address.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import type { PolicyStore } from './authorization/policy-store.ts'
import type { Config } from './config.ts'
import type { Destination } from './destination.ts'
import type { Egress } from './egress/egress.ts'
import type { Sender } from './external-authorization/check.ts'
import type { families } from './families.ts'
import type { ClientValidation } from './gateway/client-certificate.ts'
import type { GatewayState } from './gateway/gateway-state.ts'
import type { ReplayBudget } from './http/replay-buffer.ts'
import type { KeySource } from './jwt/check-token.ts'
import type { JwtPolicyStore } from './jwt/policy-store.ts'
import type { CurrentSettings } from './mesh-settings.ts'
import type { Mirrors } from './mirror.ts'
import type { RateLimitStore } from './rate-limit/rate-limit-store.ts'
import type { RequestReports } from './request-report.ts'
import type { RouteStore } from './routes/route-store.ts'
import type { ConnectionReports } from './telemetry/connection-report.ts'
import type { Clusters } from './upstream/clusters.ts'
import type { Connections } from './upstream/connections.ts'
import type { OpenStreams } from './upstream/open-streams.ts'
import type { Tunnels } from './upstream/tunnels.ts'
import type { VirtualServiceStore } from './virtual-services/virtual-service-store.ts'

export interface Waypoint {
  readonly config: Config
  readonly log: Logger
  readonly metrics: Metrics<typeof families>
  readonly view: () => MeshView
  readonly settings: CurrentSettings
  readonly routes: RouteStore
  readonly virtualServices: VirtualServiceStore
  /** Of a gateway; without listeners in a waypoint. */
  readonly gateway: GatewayState
  readonly policies: PolicyStore
  readonly jwtPolicies: JwtPolicyStore
  readonly rateLimits: RateLimitStore
  /** Keys that tokens are verified with. */
  readonly keys: KeySource
  /** How those are reached that policies ask. */
  readonly authorizers: Sender
  /** Its own, valid now. */
  readonly certificate: (signal: AbortSignal) => Promise<WorkloadCertificate>
  readonly tunnels: Tunnels
  readonly connections: Connections
  /** Services with a traffic policy. */
  readonly clusters: Clusters
  /** Where those are that are known by names, or as they were addressed. */
  readonly egress: Egress
  /** Connections that are carried as they are. */
  readonly streams: OpenStreams
  readonly replayBudget: ReplayBudget
  readonly mirrors: Mirrors
  readonly reports: RequestReports
  /** Of connections that are carried as they are. */
  readonly connectionReports: ConnectionReports
  /** What is open, for draining. */
  readonly sessions: Set<ServerSession>
  readonly clients: Map<ClientSide, Arrival>
  /** Aborts when what is still open must end. */
  readonly ending: AbortSignal
  /** A number from 0 up to, not including, 1. */
  readonly random: () => number
}

/** A client's HTTP connection. */
export interface ClientSide {
  /** Takes no further requests; `stay`: but one that may be on its way. */
  drain(idle?: 'end' | 'stay'): void
}

/** A client's connection: who calls, and whom. What is inside cannot change it. */
export interface Arrival {
  /** Undefined: a client of a gateway, of which only its address is known. */
  readonly peer: SpiffeId | undefined
  /** Empty where there is no peer. */
  readonly peerNamespace: string
  readonly client: SocketAddress
  /** The client's record, where there is one. */
  readonly source: Workload | undefined
  /** What it says of itself; only believed where its certificate agrees. */
  readonly baggage: Baggage | undefined
  readonly destination: Exclude<Destination, { kind: 'refused' }> | ListenerPort
  /** As the client addressed it; and what that says. */
  readonly authority: string
  readonly addressed: Authority
}

/** A port of a gateway. Which of its listeners is meant, each request says. */
export interface ListenerPort {
  readonly kind: 'listener'
  readonly port: number
  readonly tls: boolean
  /** The name in the client's hello; empty without one. */
  readonly serverName: string
  /** What the client had to prove, and what is told of its certificate. */
  readonly validation?: ClientValidation | undefined
  readonly clientCertificate?: string | undefined
}
