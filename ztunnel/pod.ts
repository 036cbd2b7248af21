/** One enrolled pod as a worker's paths see it: what they may use, and nothing else of the worker. */
import type { Certificates } from '../shared/identity/certificate-store.ts'
import { spiffeId, type SpiffeId } from '../shared/identity/spiffe-id.ts'
import type { Workload } from '../shared/mesh/model.ts'
import type { MeshReader } from '../shared/mesh/shared-view.ts'
import type { TunnelPool } from '../shared/hbone/pool.ts'
import type { SocketPlace, TcpOptions } from '../shared/net/sockets.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { Reports } from '../shared/telemetry/report.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import type { AddressLookup } from './address-lookup.ts'
import type { BaggageReader } from './baggage.ts'
import type { Connections } from './connections.ts'
import type { DataConfig, PodInfo } from './config.ts'
import { SOCKS_PORT } from './data-config.ts'
import type { workerFamilies } from './families.ts'
import type { OutboundLoad } from './outbound-load.ts'
import type { Revocations } from './revocation.ts'
import type { Spoofer } from './spoof.ts'
import type { UnknownPolicies } from './unknown-policies.ts'

/** A pod to carry, as the main thread describes it to its workers. */
export interface PodDescription {
  /** The pod's Kubernetes UID; `dedicated` or `self` for the proxies that no pod stands behind. */
  readonly uid: string
  readonly info: PodInfo
  /** An open descriptor of its network namespace; undefined means ztunnel's own. */
  readonly netns: number | undefined
  /** ztunnel itself: takes HBONE only, and never spoofs. */
  readonly self: boolean
}

export interface Pod {
  readonly description: PodDescription
  readonly config: DataConfig
  readonly place: SocketPlace
  /** Options of sockets that the proxy dials. */
  readonly dialOptions: TcpOptions
  readonly mesh: MeshReader
  readonly certificates: Certificates
  readonly addresses: AddressLookup
  readonly baggage: BaggageReader
  readonly reports: Reports
  readonly connections: Connections
  readonly pool: TunnelPool
  /** Undefined where applications see the proxy's own address. */
  readonly spoofer: Spoofer | undefined
  readonly log: Logger
  readonly random: () => number
  readonly load: OutboundLoad
  readonly metrics: Metrics<typeof workerFamilies>
  readonly revocations: Revocations
  readonly unknownPolicies: UnknownPolicies
  /** Aborts when the pod goes away. */
  readonly gone: AbortSignal
  /** The pod of this node that is this workload; undefined when it is elsewhere. */
  readonly neighbour: (destination: Workload) => Pod | undefined
}

/** How long a connection waits for the pod's record to arrive over XDS. */
const WORKLOAD_TIMEOUT_MS = 5000

/** The record of the pod itself; waits for it a while. Throws MeshError WORKLOAD_UNKNOWN. */
export async function ownWorkload(pod: Pod): Promise<Workload> {
  const { namespace, name, serviceAccount } = pod.description.info
  const known = pod.mesh.read(view => view.workloadByName(namespace, name, serviceAccount))
  if (known !== undefined) return known
  // A control plane sends the workloads of a node unasked; one that does not knows the pod by this name.
  if (pod.config.onDemand) void pod.addresses.find(`${pod.config.clusterId}//Pod/${namespace}/${name}`)
  const patience = AbortSignal.any([pod.gone, AbortSignal.timeout(WORKLOAD_TIMEOUT_MS)])
  const found = await pod.mesh.until(view => view.workloadByName(namespace, name, serviceAccount), patience)
  if (found !== undefined) return found
  throw new MeshError(
    'WORKLOAD_UNKNOWN',
    `timed out waiting for workload '${namespace}/${name}' (service account ${serviceAccount}) from xds: is the pod known to the control plane?`
  )
}

/** The identity in which the pod speaks: the trust domain of its record, the names that the node agent gave. */
export function ownIdentity(pod: Pod, workload: Workload): SpiffeId {
  const { namespace, serviceAccount } = pod.description.info
  return spiffeId({ trustDomain: workload.trustDomain, namespace, serviceAccount })
}

/** What never is an application's port: our own listeners. */
export function isIllegalPort(config: DataConfig, port: number): boolean {
  const { outbound, inbound, passthrough } = config.ports
  if (config.socks5 && port === SOCKS_PORT) return true
  return port === outbound || port === inbound || port === passthrough
}
