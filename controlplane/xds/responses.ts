/** Responses as bytes: resources are encoded once, by the snapshot, and put together for each client. */
import { message, type Message } from '../../shared/xds/schema.ts'
import {
  addressType,
  authorizationType,
  lengthDelimited,
  workloadType,
  type Changes,
  type Snapshot,
  type Table
} from '../desired/snapshot.ts'
import type { Batch } from './subscription.ts'

export interface ServedType {
  readonly table: Table
  readonly workloadsOnly: boolean
  /** For waypoints and gateways only, and each gets just what is for it. */
  readonly scopedOnly: boolean
}

const forMesh = { workloadsOnly: false, scopedOnly: false }
const forWaypoints = { workloadsOnly: false, scopedOnly: true }

/** By URL; configuration goes by the name of its kind. */
export const servedTypes: ReadonlyMap<string, ServedType> = new Map<string, ServedType>([
  [addressType, { table: 'address', ...forMesh }],
  [workloadType, { table: 'address', ...forMesh, workloadsOnly: true }],
  [authorizationType, { table: 'authorization', ...forMesh }],
  ['mesh.istio.io/v1alpha1/MeshConfig', { table: 'MeshConfig', ...forWaypoints }],
  ['gateway.networking.k8s.io/v1/Gateway', { table: 'Gateway', ...forWaypoints }],
  ['core/v1/Secret', { table: 'Secret', ...forWaypoints }],
  ['gateway.networking.k8s.io/v1/HTTPRoute', { table: 'HTTPRoute', ...forWaypoints }],
  ['gateway.networking.k8s.io/v1/GRPCRoute', { table: 'GRPCRoute', ...forWaypoints }],
  ['gateway.networking.k8s.io/v1/TLSRoute', { table: 'TLSRoute', ...forWaypoints }],
  ['security.istio.io/v1/AuthorizationPolicy', { table: 'AuthorizationPolicy', ...forWaypoints }],
  ['security.istio.io/v1/RequestAuthentication', { table: 'RequestAuthentication', ...forWaypoints }],
  ['gateway.networking.k8s.io/v1/BackendTLSPolicy', { table: 'BackendTLSPolicy', ...forWaypoints }],
  ['telemetry.istio.io/v1/Telemetry', { table: 'Telemetry', ...forWaypoints }],
  ['ratelimits.underpass.dev/v1alpha1/RateLimitPolicy', { table: 'RateLimitPolicy', ...forWaypoints }],
  ['networking.istio.io/v1/DestinationRule', { table: 'DestinationRule', ...forWaypoints }],
  ['networking.istio.io/v1/VirtualService', { table: 'VirtualService', ...forWaypoints }]
])

const discoveryResponse: Message<object> = message('envoy.service.discovery.v3.DeltaDiscoveryResponse')
const resourceMessage: Message<object> = message('envoy.service.discovery.v3.Resource')

/** `resources` of a DeltaDiscoveryResponse. */
const resourcesField = 2

/** All resources of a type as they stand in a response, made once for the many clients that start with nothing. */
export class Responses {
  readonly #snapshot: Snapshot
  readonly #bodies = new Map<string, Buffer>()

  constructor(snapshot: Snapshot) {
    this.#snapshot = snapshot
  }

  encode(typeUrl: string, nonce: string, batch: Batch): Buffer {
    const head = discoveryResponse.encode({ typeUrl, nonce, removedResources: batch.removed })
    if (batch.everything) return Buffer.concat([head, this.#everything(typeUrl)])
    const resources = batch.resources.map(({ resource, aliases }) => {
      const wire = typeUrl === workloadType ? asWorkload(resource.wire) : resource.wire
      // Repeated fields of one message may stand apart, so aliases are appended to the shared bytes.
      const whole = aliases.length === 0 ? wire : Buffer.concat([wire, resourceMessage.encode({ aliases })])
      return lengthDelimited(resourcesField, whole)
    })
    return Buffer.concat([head, ...resources])
  }

  #everything(typeUrl: string): Buffer {
    const known = this.#bodies.get(typeUrl)
    if (known !== undefined) return known
    const type = servedTypes.get(typeUrl)
    const parts: Buffer[] = []
    for (const resource of this.#snapshot.table(type?.table ?? 'address').values()) {
      if (type?.workloadsOnly !== true) parts.push(lengthDelimited(resourcesField, resource.wire))
      else if (resource.kind === 'workload')
        parts.push(lengthDelimited(resourcesField, asWorkload(resource.wire)))
    }
    const body = Buffer.concat(parts)
    this.#bodies.set(typeUrl, body)
    return body
  }

  /** Before what changed is sent. */
  forget(changes: Changes): void {
    for (const typeUrl of this.#bodies.keys()) {
      const { changed, removed } = changes[servedTypes.get(typeUrl)?.table ?? 'address']
      if (changed.size + removed.size > 0) this.#bodies.delete(typeUrl)
    }
  }
}

const anyResource: Message<{ resource: { type_url: string; value: Buffer } }> = message(
  'envoy.service.discovery.v3.Resource'
)
const address: Message<{ workload?: object }> = message('istio.workload.Address')
const workload: Message<object> = message('istio.workload.Workload')

/** For the few old clients of the narrower type: the workload without the address around it. */
function asWorkload(wire: Buffer): Buffer {
  const decoded = anyResource.decode(wire)
  const inner = address.decode(decoded.resource.value).workload ?? {}
  return anyResource.encode({
    ...decoded,
    resource: { type_url: workloadType, value: workload.encode(inner) }
  })
}
