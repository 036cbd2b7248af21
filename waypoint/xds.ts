/** What the control plane says: services and workloads of this waypoint, and the routes that apply to them. */
import type { MeshChange, MeshStore } from '../shared/mesh/store.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import { decodeConfigResource, type ConfigResource } from '../shared/xds/config-resource.ts'
import { controlPlaneTarget } from '../shared/xds/control-plane-config.ts'
import type { DeltaClient, DeltaResponse, Rejected } from '../shared/xds/delta-client.ts'
import type { Config } from './config.ts'
import type { families } from './families.ts'
import { readGrpcRoute } from './routes/grpc-route.ts'
import { readHttpRoute } from './routes/http-route.ts'
import { standIn } from './routes/route-parts.ts'
import type { Route } from './routes/route.ts'
import type { RouteStore } from './routes/route-store.ts'

const ADDRESS = 'type.googleapis.com/istio.workload.Address'
type ReadRoute = (resource: ConfigResource, domain: string) => Route

/** What makes a route of an object of that type. */
const routeTypes: ReadonlyMap<string, ReadRoute> = new Map([
  ['gateway.networking.k8s.io/v1/HTTPRoute', readHttpRoute],
  ['gateway.networking.k8s.io/v1/GRPCRoute', readGrpcRoute]
])

export interface XdsDeps {
  readonly mesh: MeshStore
  readonly routes: RouteStore
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
    // Routes first, so that no service is known before what applies to it.
    types: [
      ...[...routeTypes.keys()].map(typeUrl => ({ typeUrl, mode: 'wildcard' as const })),
      { typeUrl: ADDRESS, mode: 'wildcard' }
    ],
    onResponse: response => takeResponse(config.clusterDomain, deps, response),
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

/** What cannot be taken is returned and changes nothing; the rest counts. */
export function takeResponse(
  domain: string,
  deps: Pick<XdsDeps, 'mesh' | 'routes' | 'log'>,
  response: DeltaResponse
): readonly Rejected[] {
  const { log } = deps
  const read = routeTypes.get(response.typeUrl)
  const rejected =
    read === undefined
      ? deps.mesh.apply(addressChanges(response)).rejected
      : takeRoutes(deps.routes, response, { read, domain })
  for (const { name, reason } of rejected) {
    log.warn('resource rejected', { type: response.typeUrl, name, reason })
  }
  return rejected
}

function takeRoutes(
  routes: RouteStore,
  { typeUrl, resources, removed }: DeltaResponse,
  { read, domain }: { readonly read: ReadRoute; readonly domain: string }
): readonly Rejected[] {
  const rejected: Rejected[] = []
  for (const { name, bytes } of resources) {
    const key = `${typeUrl} ${name}`
    try {
      const resource = decodeConfigResource(bytes)
      try {
        routes.put(key, read(resource, domain))
      } catch (error) {
        // One that was understood before stays in force.
        if (!routes.has(key)) routes.put(key, standIn(resource, domain))
        throw error
      }
    } catch (error) {
      rejected.push({ name, reason: messageOf(error) })
    }
  }
  for (const name of removed) routes.remove(`${typeUrl} ${name}`)
  return rejected
}

function* addressChanges({ resources, removed }: DeltaResponse): Generator<MeshChange> {
  for (const { name, bytes } of resources) yield { kind: 'address', name, bytes }
  for (const name of removed) yield { kind: 'address-removed', name }
}

/** Source: Istio's node ids, `<type>~<address>~<name>.<namespace>~<namespace>.svc.<domain>`. */
function nodeId({ instanceIp, podName, podNamespace, clusterDomain }: Config): string {
  return `waypoint~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.${clusterDomain}`
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
