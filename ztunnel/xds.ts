/** The mesh over delta xDS: what istiod, or our control plane, says of workloads, services and policies. */
import type { MeshChange, MeshStore } from '../shared/mesh/store.ts'
import { MemoryReturn } from '../shared/runtime/give-back-memory.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import { controlPlaneTarget } from '../shared/xds/control-plane-config.ts'
import type { DeltaClient, DeltaResponse, Rejected } from '../shared/xds/delta-client.ts'
import type { Config } from './config.ts'
import type { mainFamilies } from './families.ts'

const ADDRESS = 'type.googleapis.com/istio.workload.Address'
const AUTHORIZATION = 'type.googleapis.com/istio.security.Authorization'

/** A message of this size leaves enough garbage behind to be worth a collection, once it is applied, in bytes. */
const LARGE = 1 << 20
const APPLIED_AFTER_MS = 300

export interface XdsDeps {
  readonly mesh: Pick<MeshStore, 'apply'>
  readonly metrics: Metrics<typeof mainFamilies>
  readonly log: Logger
  /** A policy was accepted or removed. */
  readonly onPoliciesChanged: () => void
  /** The control plane answers, for the first time or again. */
  readonly onConnected: () => void
  readonly signal: AbortSignal
}

export interface Xds {
  /** Resolves when every type was received once; at once where there is no control plane. */
  readonly synced: Promise<void>
  /** On-demand mode: asks for `network/ip`, `namespace/hostname` or a uid. Resolves when the answer is in the mesh. */
  ask(name: string): Promise<void>
  state(): unknown
}

export async function startXds(config: Config, deps: XdsDeps): Promise<Xds> {
  const { xds } = config
  const memory = new MemoryReturn(APPLIED_AFTER_MS)
  if (xds.address === undefined) {
    memory.soon() // what starting took
    return { synced: Promise.resolve(), ask: () => Promise.resolve(), state: () => ({ state: 'off' }) }
  }
  const { DeltaClient } = await import('../shared/xds/delta-client.ts')
  const client: DeltaClient = new DeltaClient({
    target: controlPlaneTarget(xds, xds.address, config),
    node: { id: nodeId(config), metadata: nodeMetadata(config) },
    // Policies first, so that no address is known before what protects it.
    types: [
      { typeUrl: AUTHORIZATION, mode: 'wildcard' },
      { typeUrl: ADDRESS, mode: config.data.onDemand ? 'on-demand' : 'wildcard' }
    ],
    onResponse: response => {
      const rejected = take(deps, response)
      if (response.bytes >= LARGE) memory.soon()
      return rejected
    },
    onConnected: deps.onConnected,
    onTermination: reason => deps.metrics.series('istio_xds_connection_terminations_total', reason).add(),
    onMessage: (typeUrl, bytes) => {
      deps.metrics.series('istio_xds_message_total', typeUrl).add()
      deps.metrics.series('istio_xds_message_bytes_total', typeUrl).add(bytes)
    },
    log: deps.log
  })
  void client.run(deps.signal)
  void client.synced.then(() => memory.soon())
  return {
    synced: client.synced,
    ask: name => client.subscribe(ADDRESS, name),
    state: () => ({ state: 'on', address: xds.address, ...client.state() })
  }
}

/** Puts a push into the mesh; what cannot be taken is returned, the rest counts. */
function take({ mesh, log, onPoliciesChanged }: XdsDeps, response: DeltaResponse): readonly Rejected[] {
  const told = changesOf(response)
  if (told === undefined) {
    log.warn('resources of an unknown type are ignored', { type: response.typeUrl })
    return []
  }
  const { rejected, policiesChanged } = mesh.apply(told)
  for (const { name, reason } of rejected)
    log.warn('resource rejected', { type: response.typeUrl, name, reason })
  if (policiesChanged) onPoliciesChanged()
  return rejected
}

function changesOf(response: DeltaResponse): Iterable<MeshChange> | undefined {
  if (response.typeUrl === ADDRESS) return changes('address', response)
  return response.typeUrl === AUTHORIZATION ? changes('authorization', response) : undefined
}

/** One at a time: a push may hold a hundred thousand. */
function* changes(
  kind: 'address' | 'authorization',
  { resources, removed }: DeltaResponse
): Generator<MeshChange> {
  for (const { name, bytes } of resources) yield { kind, name, bytes }
  for (const name of removed) yield { kind: `${kind}-removed`, name }
}

/** Source: Istio's node ids, `<type>~<address>~<name>.<namespace>~<namespace>.svc.cluster.local`. */
function nodeId({ instanceIp, podName, podNamespace }: Config): string {
  return `ztunnel~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`
}

function nodeMetadata({ podName, podNamespace, instanceIp, nodeName, xds }: Config): Record<string, unknown> {
  return {
    NAME: podName,
    NAMESPACE: podNamespace,
    INSTANCE_IPS: instanceIp,
    NODE_NAME: nodeName,
    ...xds.metadata
  }
}
