/** What the control plane says: services and workloads of this waypoint, and the configuration that applies to them. */
import type { MeshChange, MeshStore } from '../shared/mesh/store.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import { decodeConfigResource } from '../shared/xds/config-resource.ts'
import { controlPlaneTarget } from '../shared/xds/control-plane-config.ts'
import type { DeltaClient, DeltaResponse, Rejected } from '../shared/xds/delta-client.ts'
import type { Config } from './config.ts'
import type { ConfigType } from './config-types.ts'
import type { families } from './families.ts'

const ADDRESS = 'type.googleapis.com/istio.workload.Address'

export interface XdsDeps {
  readonly mesh: MeshStore
  readonly types: ReadonlyMap<string, ConfigType>
  readonly metrics: Metrics<typeof families>
  readonly log: Logger
  readonly onConnected: () => void
  readonly signal: AbortSignal
}

export interface Xds {
  /** Resolves when every type was received once; at once where there is no control plane. */
  readonly synced: Promise<void>
  state(): unknown
}

export async function startXds(config: Config, deps: XdsDeps): Promise<Xds> {
  const { xds } = config
  if (xds.address === undefined) return { synced: Promise.resolve(), state: () => ({ state: 'off' }) }
  const { DeltaClient } = await import('../shared/xds/delta-client.ts')
  const client: DeltaClient = new DeltaClient({
    target: controlPlaneTarget(xds, xds.address, config),
    node: { id: nodeId(config), metadata: nodeMetadata(config) },
    // These first, so that no service is known before what applies to it.
    types: [
      ...[...deps.types.keys()].map(typeUrl => ({
        typeUrl,
        mode: 'wildcard' as const,
        syncedWithRejections: true // a stand-in shuts what the object was for
      })),
      { typeUrl: ADDRESS, mode: 'wildcard' }
    ],
    onResponse: response => takeResponse(deps, response),
    onConnected: deps.onConnected,
    onTermination: reason => deps.log.info('the stream of the control plane ended', { reason }),
    onMessage: typeUrl => deps.metrics.series('istio_xds_message_total', typeUrl).add(),
    log: deps.log
  })
  void client.run(deps.signal)
  return {
    synced: client.synced,
    state: () => ({ state: 'on', address: xds.address, ...client.state() })
  }
}

/** What cannot be taken is returned and changes nothing that was in force; the rest counts. */
export function takeResponse(
  { types, mesh, log }: Pick<XdsDeps, 'types' | 'mesh' | 'log'>,
  response: DeltaResponse
): readonly Rejected[] {
  const type = types.get(response.typeUrl)
  const rejected =
    type === undefined ? mesh.apply(addressChanges(response)).rejected : takeConfig(type, response)
  for (const { name, reason } of rejected) {
    log.warn('resource rejected', { type: response.typeUrl, name, reason })
  }
  return rejected
}

function takeConfig(type: ConfigType, { resources, removed }: DeltaResponse): readonly Rejected[] {
  const rejected: Rejected[] = []
  for (const { name, bytes } of resources) {
    try {
      const resource = decodeConfigResource(bytes)
      try {
        type.put(name, resource)
      } catch (error) {
        // One that was understood before stays in force.
        if (!type.has(name)) type.putStandIn(name, resource, messageOf(error))
        throw error
      }
    } catch (error) {
      rejected.push({ name, reason: messageOf(error) })
    }
  }
  for (const name of removed) type.remove(name)
  return rejected
}

function* addressChanges({ resources, removed }: DeltaResponse): Generator<MeshChange> {
  for (const { name, bytes } of resources) yield { kind: 'address', name, bytes }
  for (const name of removed) yield { kind: 'address-removed', name }
}

/** Source: Istio's node ids, `<type>~<address>~<name>.<namespace>~<namespace>.svc.<domain>`. */
export function nodeId({ role, instanceIp, podName, podNamespace, clusterDomain }: Config): string {
  const type = role === 'gateway' ? 'router' : 'waypoint'
  return `${type}~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.${clusterDomain}`
}

function nodeMetadata(config: Config): Record<string, unknown> {
  const { podName, podNamespace, instanceIp, nodeName, clusterId, xds } = config
  return {
    NAME: podName,
    NAMESPACE: podNamespace,
    INSTANCE_IPS: instanceIp,
    NODE_NAME: nodeName,
    CLUSTER_ID: clusterId,
    ...xds.metadata
  }
}
