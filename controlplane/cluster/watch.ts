/** Follows the objects of the cluster and passes on what they say; a broken one is reported and changes nothing. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { informer, type Informer } from '../../shared/kube/informer.ts'
import {
  configMaps,
  endpointSlices,
  namespaces,
  nodes,
  pods,
  secrets,
  services,
  type ConfigMap
} from '../../shared/kube/core-api.ts'
import {
  backendTlsPolicies,
  gatewayClasses,
  gateways,
  grpcRoutes,
  httpRoutes,
  referenceGrants,
  tlsRoutes
} from '../../shared/kube/gateway-api.ts'
import {
  authorizationPolicies,
  destinationRules,
  peerAuthentications,
  requestAuthentications,
  serviceEntries,
  telemetries,
  virtualServices,
  workloadEntries
} from '../../shared/kube/istio-api.ts'
import { rateLimitPolicies } from '../../shared/kube/underpass-api.ts'
import { objectKey, type KubeObject, type ResourceType } from '../../shared/kube/object.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Kind, MeshObject } from './objects.ts'
import { readObject, type ReadResult } from '../read/object.ts'

export interface WatchHandlers {
  put(object: MeshObject): void
  delete(kind: Kind, key: string): void
  /** An object that cannot be read: what it said before stays in force. */
  broken(kind: Kind, key: string, problem: Extract<ReadResult, { kind: 'problem' }>): void
  /** The text of the mesh configuration; '' when there is none. */
  meshConfig(text: string): void
}

export interface WatchOptions {
  readonly client: KubeClient
  readonly handlers: WatchHandlers
  /** Whether certificates are followed too, which takes a permission of its own. */
  readonly secrets: boolean
  /** Whether ConfigMaps with certificate authorities are, too. */
  readonly authorities: boolean
  readonly meshConfigMap: { readonly namespace: string; readonly name: string }
  readonly signal: AbortSignal
  readonly log: Logger
}

export interface Watch {
  /** Resolves when every kind has been listed once; a kind that the cluster lacks counts as listed. */
  readonly synced: Promise<void>
  /** Kinds that are not listed yet or whose watch fails now, with the reason. */
  problems(): readonly string[]
}

const kinds: Readonly<Record<Kind, ResourceType>> = {
  Namespace: namespaces,
  Node: nodes,
  Pod: pods,
  Service: services,
  EndpointSlice: endpointSlices,
  ServiceEntry: serviceEntries,
  WorkloadEntry: workloadEntries,
  Gateway: gateways,
  GatewayClass: gatewayClasses,
  AuthorizationPolicy: authorizationPolicies,
  PeerAuthentication: peerAuthentications,
  RequestAuthentication: requestAuthentications,
  RateLimitPolicy: rateLimitPolicies,
  Telemetry: telemetries,
  DestinationRule: destinationRules,
  VirtualService: virtualServices,
  HTTPRoute: httpRoutes,
  GRPCRoute: grpcRoutes,
  TLSRoute: tlsRoutes,
  ReferenceGrant: referenceGrants,
  Secret: secrets,
  BackendTLSPolicy: backendTlsPolicies,
  ConfigMap: configMaps
}

/** What is kept of an object between events: its name, and what reading it gave until it is passed on. */
interface Kept extends KubeObject {
  read?: ReadResult | undefined
}

export function watch(options: WatchOptions): Watch {
  const informers = [
    ...(Object.keys(kinds) as Kind[])
      .filter(kind => kind !== 'Secret' || options.secrets)
      .filter(kind => kind !== 'ConfigMap' || options.authorities)
      .map(kind => follow(kind, options)),
    followMeshConfig(options)
  ]
  return {
    synced: Promise.all(informers.map(async each => each.synced)).then(() => undefined),
    problems: () =>
      informers
        .filter(
          each =>
            !each.isSynced || (each.problem !== undefined && !each.problem.startsWith('the cluster has no'))
        )
        .map(each => `${each.type.plural}: ${each.problem ?? 'not listed yet'}`)
  }
}

function follow(kind: Kind, { client, handlers, signal, log }: WatchOptions): Informer<Kept> {
  return informer<Kept>(client, kinds[kind], {
    signal,
    log,
    // The others hold what is nobody's business here.
    ...(kind === 'Secret' ? { fieldSelector: 'type=kubernetes.io/tls' } : {}),
    // The whole object is dropped at once; tens of thousands of pods would not fit otherwise.
    trim: object => ({ ...identityOf(object), read: readObject(kind, object) }),
    onChange: change => {
      const key = objectKey(change.object)
      const { read } = change.object
      change.object.read = undefined // the cluster holds it from here on
      if (change.type === 'deleted') handlers.delete(kind, key)
      else if (read?.kind === 'object') handlers.put(read.object)
      else if (read !== undefined) handlers.broken(kind, key, read)
    }
  })
}

function identityOf({ apiVersion, kind, metadata }: KubeObject): KubeObject {
  const { name, namespace, uid, resourceVersion, generation } = metadata
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(generation === undefined ? {} : { generation })
    }
  }
}

function followMeshConfig({
  client,
  handlers,
  meshConfigMap,
  signal,
  log
}: WatchOptions): Informer<ConfigMap> {
  return informer(client, configMaps, {
    namespace: meshConfigMap.namespace,
    fieldSelector: `metadata.name=${meshConfigMap.name}`,
    signal,
    log,
    onChange: change =>
      handlers.meshConfig(change.type === 'deleted' ? '' : (change.object.data?.['mesh'] ?? ''))
  })
}
