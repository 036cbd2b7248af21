/**
 * Everything that the control plane knows of the cluster, with the indexes that make translating one object
 * cheap. Translation reads it as a {@link ClusterView}; only `desired.ts` changes it.
 */
import {
  isRoute,
  keyOf,
  type BackendReference,
  type DestinationRuleObject,
  type EndpointSliceObject,
  type Kind,
  type MeshObject,
  type ObjectOf,
  type PodObject,
  type RouteFilter,
  type RouteObject,
  type ServiceEntryObject,
  type ServiceObject,
  type VirtualDestination,
  type VirtualServiceObject,
  virtualRouteKinds
} from './objects.ts'
import type { MeshSettings } from './settings.ts'
import { matches } from '../../shared/kube/label-selector.ts'

export const gatewayNameLabel = 'gateway.networking.k8s.io/gateway-name'

/** Who declares a hostname: a Service or a ServiceEntry. */
export type HostOwner = ServiceObject | ServiceEntryObject

export interface ClusterView {
  readonly settings: MeshSettings
  /** Network of this cluster: a label of the system namespace; '' is the default one. */
  readonly network: string
  /** Whether objects of this namespace are read at all. */
  discovers(namespace: string): boolean
  get<K extends Kind>(kind: K, key: string): ObjectOf<K> | undefined
  all<K extends Kind>(kind: K): Iterable<ObjectOf<K>>
  inNamespace<K extends Kind>(kind: K, namespace: string): Iterable<ObjectOf<K>>
  podsOnNode(node: string): Iterable<PodObject>
  /** Pods that run a Gateway (`namespace/name`). */
  podsOfGateway(gateway: string): Iterable<PodObject>
  /** Slices that name this pod (`namespace/name`) as a target. */
  slicesOfPod(pod: string): Iterable<EndpointSliceObject>
  slicesOfService(service: string): Iterable<EndpointSliceObject>
  /** All that declare the hostname, in any namespace. */
  hostOwners(hostname: string): Iterable<HostOwner>
  /** Routes that name it as a parent or as a backend: a {@link routeTarget}. */
  routesNaming(target: string): Iterable<RouteObject>
  /** DestinationRules for this hostname or for a wildcard over it. */
  rulesFor(hostname: string): Iterable<DestinationRuleObject>
  /** VirtualServices for this hostname or for a wildcard over it. */
  virtualServicesFor(hostname: string): Iterable<VirtualServiceObject>
  /** VirtualServices that lead to this hostname. */
  virtualServicesTo(hostname: string): Iterable<VirtualServiceObject>
  /** Pods of an istiod, ours left out, whatever their state. */
  istiodPods(): Iterable<PodObject>
}

export class Cluster implements ClusterView {
  #settings: MeshSettings
  readonly #objects = new Map<Kind, Map<string, MeshObject>>()
  /** By kind and namespace. */
  readonly #byNamespace = new Groups<MeshObject>()
  readonly #podsByNode = new Groups<PodObject>()
  readonly #podsByGateway = new Groups<PodObject>()
  readonly #slicesByPod = new Groups<EndpointSliceObject>()
  readonly #slicesByService = new Groups<EndpointSliceObject>()
  readonly #ownersByHost = new Groups<HostOwner>()
  readonly #routesByTarget = new Groups<RouteObject & MeshObject>()
  /** By their hosts; those with wildcards together. */
  readonly #rulesByHost = new Groups<DestinationRuleObject>()
  readonly #virtualServicesByHost = new Groups<VirtualServiceObject>()
  readonly #virtualServicesByDestination = new Groups<VirtualServiceObject>()
  readonly #istiods = new Groups<PodObject>()

  constructor(settings: MeshSettings) {
    this.#settings = settings
  }

  get settings(): MeshSettings {
    return this.#settings
  }

  configure(settings: MeshSettings): void {
    this.#settings = settings
  }

  get network(): string {
    return (
      this.get('Namespace', this.#settings.systemNamespace)?.meta.labels['topology.istio.io/network'] ?? ''
    )
  }

  discovers(namespace: string): boolean {
    const { discoverySelectors } = this.#settings
    if (discoverySelectors.length === 0) return true
    const labels = this.get('Namespace', namespace)?.meta.labels
    return labels !== undefined && discoverySelectors.some(selector => matches(selector, labels))
  }

  get<K extends Kind>(kind: K, key: string): ObjectOf<K> | undefined {
    return this.#objects.get(kind)?.get(key) as ObjectOf<K> | undefined
  }

  all<K extends Kind>(kind: K): Iterable<ObjectOf<K>> {
    return (this.#objects.get(kind)?.values() ?? []) as Iterable<ObjectOf<K>>
  }

  inNamespace<K extends Kind>(kind: K, namespace: string): Iterable<ObjectOf<K>> {
    return this.#byNamespace.of(`${kind} ${namespace}`) as Iterable<ObjectOf<K>>
  }

  count(kind: Kind): number {
    return this.#objects.get(kind)?.size ?? 0
  }

  podsOnNode(node: string): Iterable<PodObject> {
    return this.#podsByNode.of(node)
  }

  podsOfGateway(gateway: string): Iterable<PodObject> {
    return this.#podsByGateway.of(gateway)
  }

  slicesOfPod(pod: string): Iterable<EndpointSliceObject> {
    return this.#slicesByPod.of(pod)
  }

  slicesOfService(service: string): Iterable<EndpointSliceObject> {
    return this.#slicesByService.of(service)
  }

  hostOwners(hostname: string): Iterable<HostOwner> {
    return this.#ownersByHost.of(hostname)
  }

  routesNaming(target: string): Iterable<RouteObject> {
    return this.#routesByTarget.of(target)
  }

  *rulesFor(hostname: string): Generator<DestinationRuleObject> {
    yield* this.#rulesByHost.of(hostname)
    for (const rule of this.#rulesByHost.of(wildcards)) {
      if (covers(hostOfRule(rule, this.#settings.domain), hostname)) yield rule
    }
  }

  *virtualServicesFor(hostname: string): Generator<VirtualServiceObject> {
    const { domain } = this.#settings
    const named = this.#virtualServicesByHost.of(hostname)
    yield* named
    const isNamed = new Set(named)
    for (const each of this.#virtualServicesByHost.of(wildcards)) {
      if (isNamed.has(each)) continue
      if (hostsOfVirtualService(each, domain).some(host => host.startsWith('*') && covers(host, hostname))) {
        yield each
      }
    }
  }

  virtualServicesTo(hostname: string): Iterable<VirtualServiceObject> {
    return this.#virtualServicesByDestination.of(hostname)
  }

  istiodPods(): Iterable<PodObject> {
    return this.#istiods.of('istiod')
  }

  /** Replaces or adds; returns what was there. */
  put(object: MeshObject): MeshObject | undefined {
    const key = keyOf(object.meta)
    let objects = this.#objects.get(object.kind)
    if (objects === undefined) this.#objects.set(object.kind, (objects = new Map()))
    const previous = objects.get(key)
    if (previous !== undefined) this.#unlink(key, previous)
    objects.set(key, object)
    this.#link(key, object)
    return previous
  }

  delete(kind: Kind, key: string): MeshObject | undefined {
    const objects = this.#objects.get(kind)
    const previous = objects?.get(key)
    if (previous === undefined) return undefined
    objects?.delete(key)
    this.#unlink(key, previous)
    return previous
  }

  #link(key: string, object: MeshObject): void {
    for (const [groups, name] of this.#groupsOf(object)) groups.add(name, key, object)
  }

  #unlink(key: string, object: MeshObject): void {
    for (const [groups, name] of this.#groupsOf(object)) groups.remove(name, key, object)
  }

  *#groupsOf(object: MeshObject): Generator<[Groups<MeshObject>, string]> {
    const { namespace } = object.meta
    if (namespace !== '') yield [this.#byNamespace, `${object.kind} ${namespace}`]
    switch (object.kind) {
      case 'Pod':
        if (object.node !== '') yield [this.#podsByNode, object.node]
        if (object.meta.labels[gatewayNameLabel] !== undefined) {
          yield [this.#podsByGateway, `${namespace}/${object.meta.labels[gatewayNameLabel]}`]
        }
        if (runsIstiod(object)) yield [this.#istiods, 'istiod']
        return
      case 'EndpointSlice':
        if (object.service === '') return
        yield [this.#slicesByService, `${namespace}/${object.service}`]
        for (const { pod } of object.endpoints) {
          if (pod !== undefined) yield [this.#slicesByPod, pod.key]
        }
        return
      case 'Service':
      case 'ServiceEntry':
        for (const host of hostsOf(object, this.#settings.domain)) {
          yield [this.#ownersByHost, host]
        }
        return
      case 'DestinationRule': {
        const host = hostOfRule(object, this.#settings.domain)
        yield [this.#rulesByHost, host.startsWith('*') ? wildcards : host]
        return
      }
      case 'VirtualService': {
        const { domain } = this.#settings
        for (const host of hostsOfVirtualService(object, domain)) {
          yield [this.#virtualServicesByHost, host.startsWith('*') ? wildcards : host]
        }
        for (const { host } of destinationsOf(object)) {
          yield [this.#virtualServicesByDestination, wholeHost(host, object.meta.namespace, domain)]
        }
        return
      }
      default:
        if (!isRoute(object)) return
        for (const parent of object.parents) yield [this.#routesByTarget, routeTarget(parent)]
        for (const backend of backendsOf(object)) yield [this.#routesByTarget, routeTarget(backend)]
    }
  }
}

/** Whether it is a pod of an istiod that is not ours. */
export function runsIstiod({ meta: { labels } }: PodObject): boolean {
  return labels['app'] === 'istiod' && labels['app.kubernetes.io/part-of'] !== 'underpass'
}

/** What a route names: kind, with namespace where the kind has one, and name. */
export function routeTarget(reference: Pick<BackendReference, 'kind' | 'namespace' | 'name'>): string {
  const { kind, namespace, name } = reference
  return kind === 'Hostname' ? `Hostname ${name}` : `${kind} ${namespace}/${name}`
}

/** All that a route names as backends, those of its filters too. */
export function* backendsOf(route: Pick<RouteObject, 'rules'>): Generator<BackendReference> {
  for (const { backends, filters } of route.rules) {
    yield* ofFilters(filters)
    for (const { reference, filters } of backends) {
      yield reference
      yield* ofFilters(filters)
    }
  }
}

function* ofFilters(filters: readonly RouteFilter[]): Generator<BackendReference> {
  for (const { backend } of filters) if (backend !== undefined) yield backend.reference
}

/** The hostnames that an object declares; an ExternalName Service is an alias only and declares none. */
export function hostsOf(object: HostOwner, domain: string): readonly string[] {
  if (object.kind === 'ServiceEntry') return object.hosts
  return object.external ? [] : [`${object.meta.name}.${object.meta.namespace}.svc.${domain}`]
}

/** Name of the group of the wildcards: no hostname is like it. */
const wildcards = ''

/** A name without dots is that of a Service of the namespace. Source: Istio's published DestinationRule.host. */
export function wholeHost(host: string, namespace: string, domain: string): string {
  return host === '*' || host.includes('.') ? host : `${host}.${namespace}.svc.${domain}`
}

export function hostOfRule({ host, meta }: DestinationRuleObject, domain: string): string {
  return wholeHost(host, meta.namespace, domain)
}

export function hostsOfVirtualService(
  { hosts, meta }: VirtualServiceObject,
  domain: string
): readonly string[] {
  return hosts.map(host => wholeHost(host, meta.namespace, domain))
}

/** All that a VirtualService leads to, mirrors too. */
export function* destinationsOf({ routes }: VirtualServiceObject): Generator<VirtualDestination> {
  for (const kind of virtualRouteKinds) {
    for (const { route, mirror, mirrors } of routes[kind]) {
      for (const { destination } of route) yield destination
      if (mirror !== undefined) yield mirror
      for (const { destination } of mirrors) yield destination
    }
  }
}

/** Whether a hostname, or narrower wildcard, lies under a wildcard such as `*.example.com` or `*`. */
export function covers(wildcard: string, hostname: string): boolean {
  return hostname.endsWith(wildcard.slice(1))
}

const nothing: ReadonlyMap<string, never> = new Map<string, never>()

/** Objects by a name that several of them share. */
class Groups<T extends MeshObject> {
  readonly #groups = new Map<string, Map<string, T>>()

  of(name: string): Iterable<T> {
    return (this.#groups.get(name) ?? nothing).values()
  }

  add(name: string, key: string, object: T): void {
    let group = this.#groups.get(name)
    if (group === undefined) this.#groups.set(name, (group = new Map()))
    group.set(`${object.kind} ${key}`, object)
  }

  remove(name: string, key: string, object: T): void {
    const group = this.#groups.get(name)
    group?.delete(`${object.kind} ${key}`)
    if (group?.size === 0) this.#groups.delete(name)
  }
}
