/**
 * What has to be translated again when one object changes. A unit is the smallest thing that is translated
 * on its own; touching one too many costs microseconds and sends nothing, missing one leaves clients with
 * what was true before.
 */
import { isDeepStrictEqual } from 'node:util'
import {
  backendsOf,
  destinationsOf,
  gatewayNameLabel,
  hostOfRule,
  hostsOf,
  routeTarget,
  runsIstiod,
  wholeHost,
  type ClusterView,
  type HostOwner
} from '../cluster/cluster.ts'
import {
  keyOf,
  routeKinds,
  type AuthorizationPolicyObject,
  type DestinationRuleObject,
  type EndpointSliceObject,
  type GatewayObject,
  type Labels,
  type MeshObject,
  type NamespaceObject,
  type PeerAuthenticationObject,
  type PodObject,
  type ReferenceGrantObject,
  type RouteKind,
  type RouteObject,
  type VirtualServiceObject
} from '../cluster/objects.ts'
import { authorityReferences } from '../translate/client-validation.ts'
import { certificateReferences, gatewaysNaming } from '../translate/gateway.ts'
import { policySelector } from '../translate/policy.ts'
import { labelledGateway } from '../translate/proxy-workload.ts'
import { rivalsOf } from '../translate/route-rivals.ts'
import { isEmpty, selects } from '../translate/selector.ts'
import { waypointReference } from '../translate/waypoint.ts'

/** Things that are translated on their own; `key` is `namespace/name`. */
export type Unit =
  | {
      readonly kind:
        | 'Pod'
        | 'WorkloadEntry'
        | 'EndpointSlice'
        | 'AuthorizationPolicy'
        | 'PeerAuthentication'
        /** The endpoints that the entry holds; its hosts are units of their own. */
        | 'ServiceEntry'
        /** The policy that lets a waypoint through, or the listeners of a gateway. */
        | 'Gateway'
        /** A certificate, for the gateways that show it. */
        | 'Secret'
        | 'RequestAuthentication'
        | 'RateLimitPolicy'
        | 'Telemetry'
        | 'DestinationRule'
        | 'BackendTLSPolicy'
        | 'VirtualService'
        | RouteKind
      readonly key: string
    }
  /** One hostname in one namespace, whoever declares it; `key` is `namespace/hostname`. */
  | { readonly kind: 'Host'; readonly key: string }
  /** What waypoints have to know of the mesh configuration. */
  | { readonly kind: 'MeshConfig'; readonly key: '' }
  /** The policy that stands for STRICT. */
  | { readonly kind: 'StaticStrict'; readonly key: '' }

export type Touch = (unit: Unit) => void

/** One of the two is undefined when the object is new or gone. The view holds what is true now. */
export function affected(
  view: ClusterView,
  previous: MeshObject | undefined,
  next: MeshObject | undefined,
  touch: Touch
): void {
  if (isDeepStrictEqual(previous, next)) return
  const either = next ?? previous
  if (either === undefined) return
  switch (either.kind) {
    case 'Pod':
      return byPod(view, previous as PodObject | undefined, next as PodObject | undefined, touch)
    case 'EndpointSlice':
      return bySlice(
        previous as EndpointSliceObject | undefined,
        next as EndpointSliceObject | undefined,
        touch
      )
    case 'Namespace':
      return byNamespace(
        view,
        previous as NamespaceObject | undefined,
        next as NamespaceObject | undefined,
        touch
      )
    case 'Node':
      for (const pod of view.podsOnNode(either.meta.name)) touch({ kind: 'Pod', key: keyOf(pod.meta) })
      return
    case 'WorkloadEntry':
      touch({ kind: 'WorkloadEntry', key: keyOf(either.meta) })
      return
    case 'Service':
    case 'ServiceEntry':
      for (const version of [previous, next] as (HostOwner | undefined)[]) {
        if (version !== undefined) byHostOwner(view, version, touch)
      }
      return
    case 'Gateway':
      for (const version of [previous, next] as (GatewayObject | undefined)[]) {
        if (version !== undefined) touchCertificates(version, touch)
      }
      return byGateway(view, keyOf(either.meta), touch)
    case 'GatewayClass':
      for (const gateway of view.all('Gateway')) {
        if (gateway.className === either.meta.name) byGateway(view, keyOf(gateway.meta), touch)
      }
      targetedPolicies(view, view.settings.rootNamespace, touch)
      return
    case 'AuthorizationPolicy':
      touch({ kind: 'AuthorizationPolicy', key: keyOf(either.meta) })
      for (const version of [previous, next] as (AuthorizationPolicyObject | undefined)[]) {
        if (version !== undefined) workloadsOfPolicy(view, version, touch)
      }
      return
    case 'PeerAuthentication':
      touch({ kind: 'StaticStrict', key: '' })
      touch({ kind: 'PeerAuthentication', key: keyOf(either.meta) })
      for (const version of [previous, next] as (PeerAuthenticationObject | undefined)[]) {
        if (version !== undefined) byPeerAuthentication(view, version, touch)
      }
      return
    case 'RequestAuthentication':
    case 'RateLimitPolicy':
    case 'Telemetry':
      touch({ kind: either.kind, key: keyOf(either.meta) })
      return
    case 'DestinationRule':
      return byRule(
        view,
        previous as DestinationRuleObject | undefined,
        next as DestinationRuleObject | undefined,
        touch
      )
    case 'VirtualService':
      return byVirtualService(
        view,
        previous as VirtualServiceObject | undefined,
        next as VirtualServiceObject | undefined,
        touch
      )
    case 'HTTPRoute':
    case 'GRPCRoute':
    case 'TLSRoute':
      for (const version of [previous, next] as (RouteObject | undefined)[]) {
        if (version !== undefined) byRouteAndRivals(view, version, touch)
      }
      return
    case 'ReferenceGrant':
      return byGrant(view, either, touch)
    case 'Secret':
      touch({ kind: 'Secret', key: keyOf(either.meta) })
      for (const { meta } of gatewaysNaming(view, keyOf(either.meta))) {
        touch({ kind: 'Gateway', key: keyOf(meta) })
      }
      return
    case 'BackendTLSPolicy':
      // Which of several counts for a service, the others decide too.
      touch({ kind: 'BackendTLSPolicy', key: keyOf(either.meta) })
      return backendTlsPolicies(view, either.meta.namespace, touch)
    case 'ConfigMap':
      for (const { meta, authorities } of view.inNamespace('BackendTLSPolicy', either.meta.namespace)) {
        const isNamed = authorities.some(({ name }) => name === either.meta.name)
        if (isNamed) touch({ kind: 'BackendTLSPolicy', key: keyOf(meta) })
      }
      for (const gateway of view.all('Gateway')) {
        const isNamed = authorityReferences(gateway).some(each => keyOf(each) === keyOf(either.meta))
        if (isNamed) touch({ kind: 'Gateway', key: keyOf(gateway.meta) })
      }
      return
    default:
      either satisfies never
  }
}

/** Everything there is: after the start, and when the mesh configuration changes. */
export function everything(view: ClusterView, touch: Touch): void {
  touch({ kind: 'MeshConfig', key: '' })
  touch({ kind: 'StaticStrict', key: '' })
  const kinds = [
    'Pod',
    'WorkloadEntry',
    'EndpointSlice',
    'ServiceEntry',
    'AuthorizationPolicy',
    'PeerAuthentication',
    'Gateway',
    'Secret',
    'RequestAuthentication',
    'RateLimitPolicy',
    'Telemetry',
    'DestinationRule',
    'BackendTLSPolicy',
    'VirtualService',
    ...routeKinds
  ] as const
  for (const kind of kinds) for (const { meta } of view.all(kind)) touch({ kind, key: keyOf(meta) })
  for (const kind of ['Service', 'ServiceEntry'] as const) {
    for (const owner of view.all(kind)) touchHosts(view, owner, touch)
  }
}

function byPod(
  view: ClusterView,
  previous: PodObject | undefined,
  next: PodObject | undefined,
  touch: Touch
): void {
  const pod = next ?? previous
  if (pod !== undefined) touch({ kind: 'Pod', key: keyOf(pod.meta) })
  if ([previous, next].some(version => version !== undefined && runsIstiod(version))) {
    // Beside an istiod it is not for us to speak of its waypoints and gateways.
    for (const kind of ['Gateway', ...routeKinds] as const) {
      for (const { meta } of view.all(kind)) touch({ kind, key: keyOf(meta) })
    }
  }
  const waypoint = (version: PodObject | undefined): string =>
    version === undefined ? '' : `${version.meta.labels[gatewayNameLabel] ?? ''} ${version.serviceAccount}`
  if (waypoint(previous) === waypoint(next)) return
  // The accounts of a waypoint are those of its pods, and the policy that lets it through names them.
  for (const version of [previous, next]) {
    const name = version?.meta.labels[gatewayNameLabel]
    if (version !== undefined && name !== undefined)
      byGateway(view, `${version.meta.namespace}/${name}`, touch)
  }
}

/** Pods join a service by a slice; only those that came or went are touched, not each pod whose readiness changed. */
function bySlice(
  previous: EndpointSliceObject | undefined,
  next: EndpointSliceObject | undefined,
  touch: Touch
): void {
  const slice = next ?? previous
  if (slice === undefined) return
  touch({ kind: 'EndpointSlice', key: keyOf(slice.meta) })
  const podsOf = (version: EndpointSliceObject | undefined): Map<string, string> =>
    new Map(
      version?.endpoints.flatMap(({ pod }) => (pod === undefined ? [] : [[`${pod.key} ${pod.uid}`, pod.key]]))
    )
  const [before, after] = [podsOf(previous), podsOf(next)]
  const same = previous?.service === next?.service
  for (const [id, key] of before) if (!same || !after.has(id)) touch({ kind: 'Pod', key })
  for (const [id, key] of after) if (!same || !before.has(id)) touch({ kind: 'Pod', key })
}

function byNamespace(
  view: ClusterView,
  previous: NamespaceObject | undefined,
  next: NamespaceObject | undefined,
  touch: Touch
): void {
  const name = (next ?? previous)?.meta.name ?? ''
  const network = (version: NamespaceObject | undefined): string =>
    version?.meta.labels['topology.istio.io/network'] ?? ''
  if (name === view.settings.systemNamespace && network(previous) !== network(next)) {
    everything(view, touch)
    return
  }
  for (const kind of [
    'Pod',
    'WorkloadEntry',
    'EndpointSlice',
    'AuthorizationPolicy',
    'PeerAuthentication',
    'RequestAuthentication',
    'RateLimitPolicy',
    'Telemetry'
  ] as const) {
    for (const { meta } of view.inNamespace(kind, name)) touch({ kind, key: keyOf(meta) })
  }
  for (const kind of routeKinds) {
    for (const route of view.inNamespace(kind, name)) byRouteAndRivals(view, route, touch)
  }
  backendTlsPolicies(view, name, touch)
  if (view.settings.discoverySelectors.length > 0) {
    for (const gateway of view.inNamespace('Gateway', name)) byGateway(view, keyOf(gateway.meta), touch)
    for (const rule of view.inNamespace('DestinationRule', name)) byRule(view, undefined, rule, touch)
  }
  for (const kind of ['Service', 'ServiceEntry'] as const) {
    for (const owner of view.inNamespace(kind, name)) byHostOwner(view, owner, touch)
  }
}

/**
 * A Service or ServiceEntry, everybody who declares one of its hosts, the workloads that they select, and the routes
 * and rules that name them.
 */
function byHostOwner(view: ClusterView, owner: HostOwner, touch: Touch): void {
  touchHosts(view, owner, touch)
  touchMembers(view, owner, touch)
  const { kind, meta } = owner
  const gateway = meta.labels[gatewayNameLabel]
  if (gateway !== undefined) {
    touch({ kind: 'Gateway', key: labelledGateway(view, meta.namespace, gateway) })
  }
  targetedPolicies(view, meta.namespace, touch)
  backendTlsPolicies(view, meta.namespace, touch, meta.name)
  for (const route of view.routesNaming(routeTarget({ kind, ...meta }))) byRoute(view, route, touch)
  for (const host of hostsOf(owner, view.settings.domain)) {
    const target = routeTarget({ kind: 'Hostname', namespace: '', name: host })
    for (const route of view.routesNaming(target)) byRoute(view, route, touch)
    for (const { meta } of view.rulesFor(host)) touch({ kind: 'DestinationRule', key: keyOf(meta) })
    for (const each of view.virtualServicesFor(host)) byVirtualService(view, undefined, each, touch)
    for (const each of view.virtualServicesTo(host)) byVirtualService(view, undefined, each, touch)
    for (const other of view.hostOwners(host)) {
      touchHosts(view, other, touch)
      backendTlsPolicies(view, other.meta.namespace, touch, other.meta.name)
      // A Service keeps its host whatever others declare.
      if (other.kind === 'ServiceEntry') touchMembers(view, other, touch)
    }
  }
}

/** Where one of them attaches, the others may not. */
function byRouteAndRivals(view: ClusterView, route: RouteObject, touch: Touch): void {
  byRoute(view, route, touch)
  for (const rival of rivalsOf(view, route)) byRoute(view, rival, touch)
}

/** A route, the gateways that count it, and the services that it leads to: its waypoints and gateways have to know them. */
function byRoute(view: ClusterView, { kind, meta, parents, rules }: RouteObject, touch: Touch): void {
  touch({ kind, key: keyOf(meta) })
  for (const { kind, namespace, name } of parents) {
    if (kind === 'Gateway') touch({ kind, key: `${namespace}/${name}` })
  }
  for (const { kind, namespace, name } of backendsOf({ rules })) {
    if (kind === 'Service') backendTlsPolicies(view, namespace, touch, name)
    if (kind === 'Service') byAudience(view, `${name}.${namespace}.svc.${view.settings.domain}`, touch)
    else if (kind === 'Hostname') byAudience(view, name, touch)
  }
}

/** A hostname that other waypoints have to know: with the rules for it, and the labels that these ask for. */
function byAudience(view: ClusterView, hostname: string, touch: Touch): void {
  const rules = [...view.rulesFor(hostname)]
  for (const { meta } of rules) touch({ kind: 'DestinationRule', key: keyOf(meta) })
  const asks = rules.some(({ labelKeys }) => labelKeys.length > 0)
  for (const owner of view.hostOwners(hostname)) {
    touch({ kind: 'Host', key: `${owner.meta.namespace}/${hostname}` })
    backendTlsPolicies(view, owner.meta.namespace, touch, owner.meta.name)
    if (asks) touchMembers(view, owner, touch)
  }
}

/** A rule, and when it asks for other labels than before, or for those of others, the workloads that may have them. */
function byRule(
  view: ClusterView,
  previous: DestinationRuleObject | undefined,
  next: DestinationRuleObject | undefined,
  touch: Touch
): void {
  const versions = [previous, next].filter(version => version !== undefined)
  for (const { meta } of versions) touch({ kind: 'DestinationRule', key: keyOf(meta) })
  const [before, after] = [previous, next].map(asking)
  if (isDeepStrictEqual(before, after)) return
  for (const rule of versions) if (rule.labelKeys.length > 0) touchAsked(view, rule, touch)
}

/** A VirtualService, and when it leads elsewhere or is for others than before, the services that it leads to. */
function byVirtualService(
  view: ClusterView,
  previous: VirtualServiceObject | undefined,
  next: VirtualServiceObject | undefined,
  touch: Touch
): void {
  const versions = [previous, next].filter(version => version !== undefined)
  for (const { meta } of versions) touch({ kind: 'VirtualService', key: keyOf(meta) })
  const [before, after] = [previous, next].map(reach)
  if (isDeepStrictEqual(before, after)) return
  for (const version of versions) {
    const { namespace } = version.meta
    const led = [...destinationsOf(version)].map(({ host }) =>
      wholeHost(host, namespace, view.settings.domain)
    )
    for (const hostname of new Set(led)) byAudience(view, hostname, touch)
  }
}

/** What decides who has to know which services because of a VirtualService. */
function reach(version: VirtualServiceObject | undefined): unknown {
  if (version === undefined) return undefined
  const { hosts, exportTo } = version
  // With a port that is not there a destination leads nowhere.
  const led = new Set([...destinationsOf(version)].map(({ host, port }) => `${host} ${port}`))
  return { hosts, exportTo, led }
}

/** Workloads that may have labels which the rule asks for. */
function touchAsked(view: ClusterView, rule: DestinationRuleObject, touch: Touch): void {
  const host = hostOfRule(rule, view.settings.domain)
  if (!host.startsWith('*')) {
    for (const owner of view.hostOwners(host)) touchMembers(view, owner, touch)
    return
  }
  // Under a wildcard there may be thousands of services: looking for the members of each takes longer than this.
  for (const kind of ['Pod', 'WorkloadEntry', 'ServiceEntry'] as const) {
    for (const { meta } of view.all(kind)) touch({ kind, key: keyOf(meta) })
  }
}

/** Which labels a rule asks for, and of whom. */
function asking(rule: DestinationRuleObject | undefined): unknown {
  if (rule === undefined || rule.labelKeys.length === 0) return undefined
  const { host, exportTo, labelKeys, spec } = rule
  return { host, exportTo, labelKeys, isForWaypoints: spec !== undefined }
}

/** Grants change seldom, so everything that may refer to something in the namespace is looked for. */
function byGrant(view: ClusterView, { meta }: ReferenceGrantObject, touch: Touch): void {
  for (const gateway of view.all('Gateway')) {
    const references = [...certificateReferences(gateway), ...authorityReferences(gateway)]
    if (!references.some(({ namespace }) => namespace === meta.namespace)) continue
    touch({ kind: 'Gateway', key: keyOf(gateway.meta) })
    touchCertificates(gateway, touch)
  }
  for (const kind of routeKinds) {
    for (const route of view.all(kind)) {
      const leadsThere = [...backendsOf(route)].some(
        each => each.kind === 'Hostname' || each.namespace === meta.namespace
      )
      if (leadsThere) byRoute(view, route, touch)
    }
  }
}

/**
 * Policies of the namespace that name targets: which waypoints enforce them depends on the targets. Telemetries go to
 * the waypoints of the namespace and of its services even without.
 */
function targetedPolicies(view: ClusterView, namespace: string, touch: Touch): void {
  for (const kind of ['AuthorizationPolicy', 'RequestAuthentication', 'RateLimitPolicy'] as const) {
    for (const { meta, targets } of view.inNamespace(kind, namespace)) {
      if (targets.length > 0) touch({ kind, key: keyOf(meta) })
    }
  }
  for (const { meta } of view.inNamespace('Telemetry', namespace)) {
    touch({ kind: 'Telemetry', key: keyOf(meta) })
  }
}

/** Of the namespace, as far as they name the target. */
function backendTlsPolicies(view: ClusterView, namespace: string, touch: Touch, target?: string): void {
  for (const { meta, targets } of view.inNamespace('BackendTLSPolicy', namespace)) {
    const isMeant = target === undefined || targets.some(({ name }) => name === target)
    if (isMeant) touch({ kind: 'BackendTLSPolicy', key: keyOf(meta) })
  }
}

function touchHosts(view: ClusterView, owner: HostOwner, touch: Touch): void {
  for (const host of hostsOf(owner, view.settings.domain)) {
    touch({ kind: 'Host', key: `${owner.meta.namespace}/${host}` })
  }
}

function touchMembers(view: ClusterView, owner: HostOwner, touch: Touch): void {
  const { namespace } = owner.meta
  if (owner.kind === 'ServiceEntry') touch({ kind: 'ServiceEntry', key: keyOf(owner.meta) })
  const selector = owner.selector
  if (selector !== undefined && !isEmpty(selector)) workloads(view, namespace, selector, touch)
  if (owner.kind === 'ServiceEntry') return
  for (const slice of view.slicesOfService(keyOf(owner.meta))) {
    touch({ kind: 'EndpointSlice', key: keyOf(slice.meta) })
    for (const { pod } of slice.endpoints) if (pod !== undefined) touch({ kind: 'Pod', key: pod.key })
  }
}

function touchCertificates(gateway: GatewayObject, touch: Touch): void {
  for (const reference of certificateReferences(gateway)) touch({ kind: 'Secret', key: keyOf(reference) })
}

/** Gateways change seldom, so everything that names this one is looked for. */
function byGateway(view: ClusterView, gateway: string, touch: Touch): void {
  touch({ kind: 'Gateway', key: gateway })
  const object = view.get('Gateway', gateway)
  if (object !== undefined) touchCertificates(object, touch)
  // Which gateways there are decides who has to know the waypoints.
  for (const { meta, addresses } of view.all('Gateway')) {
    for (const { type, value } of addresses) {
      if (type === 'Hostname') touch({ kind: 'Host', key: `${meta.namespace}/${value}` })
    }
  }
  touch({ kind: 'MeshConfig', key: '' })
  for (const host of view.settings.providerHosts) byAudience(view, host, touch)
  const namespace = gateway.slice(0, Math.max(0, gateway.indexOf('/')))
  for (const rule of view.all('DestinationRule')) {
    const isForThere = rule.meta.namespace === namespace || rule.exportTo.includes(namespace)
    if (isForThere) byRule(view, undefined, rule, touch)
  }
  targetedPolicies(view, namespace, touch)
  targetedPolicies(view, view.settings.rootNamespace, touch)
  for (const route of view.routesNaming(`Gateway ${gateway}`)) byRoute(view, route, touch)
  for (const pod of view.podsOfGateway(gateway)) touch({ kind: 'Pod', key: keyOf(pod.meta) })
  for (const kind of ['Service', 'ServiceEntry'] as const) {
    for (const owner of view.all(kind)) if (names(view, owner, gateway)) byHostOwner(view, owner, touch)
  }
  for (const kind of ['Pod', 'WorkloadEntry'] as const) {
    for (const workload of view.all(kind)) {
      if (names(view, workload, gateway)) touch({ kind, key: keyOf(workload.meta) })
    }
  }
  for (const entry of view.all('ServiceEntry')) touch({ kind: 'ServiceEntry', key: keyOf(entry.meta) })
}

function names(view: ClusterView, { meta }: MeshObject, gateway: string): boolean {
  if (waypointReference(view, meta)?.key === gateway) return true
  const namespace = view.get('Namespace', meta.namespace)?.meta
  return [meta, namespace].some(level => {
    const canary = level?.labels['istio.io/use-waypoint-canary']
    const where = level?.labels['istio.io/use-waypoint-canary-namespace'] ?? meta.namespace
    return canary !== undefined && `${where}/${canary}` === gateway
  })
}

function workloadsOfPolicy(view: ClusterView, policy: AuthorizationPolicyObject, touch: Touch): void {
  const selector = policySelector(policy)
  // One without a selector is found by its scope; but an ALLOW makes workloads list their waypoints' policies.
  if (selector === undefined && policy.action !== 'ALLOW') return
  workloadsInReach(view, policy.meta.namespace, selector ?? {}, touch)
}

function byPeerAuthentication(view: ClusterView, policy: PeerAuthenticationObject, touch: Touch): void {
  const { namespace } = policy.meta
  const selector = policySelector(policy)
  workloadsInReach(view, namespace, selector ?? {}, touch)
  if (selector !== undefined) return
  // What others inherit changed.
  const heirs =
    namespace === view.settings.rootNamespace
      ? view.all('PeerAuthentication')
      : view.inNamespace('PeerAuthentication', namespace)
  for (const { meta } of heirs) touch({ kind: 'PeerAuthentication', key: keyOf(meta) })
}

/** From the root namespace a policy reaches every namespace. */
function workloadsInReach(view: ClusterView, namespace: string, selector: Labels, touch: Touch): void {
  workloads(view, namespace === view.settings.rootNamespace ? undefined : namespace, selector, touch)
}

function workloads(view: ClusterView, namespace: string | undefined, selector: Labels, touch: Touch): void {
  for (const kind of ['Pod', 'WorkloadEntry'] as const) {
    const among = namespace === undefined ? view.all(kind) : view.inNamespace(kind, namespace)
    for (const { meta } of among) if (selects(selector, meta.labels)) touch({ kind, key: keyOf(meta) })
  }
  // Endpoints have labels of their own beside those of their entry.
  const entries =
    namespace === undefined ? view.all('ServiceEntry') : view.inNamespace('ServiceEntry', namespace)
  for (const entry of entries) touch({ kind: 'ServiceEntry', key: keyOf(entry.meta) })
}
