/**
 * Which waypoint an object's traffic goes through. Any Gateway with an address in its status can serve,
 * whatever its class, so other implementations' waypoints plug in.
 * Source: Istio's published labels `istio.io/use-waypoint*` and `istio.io/waypoint-for`; Gateway API v1.
 */
import { ipToBytes, parseIp } from '../../shared/net/address.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import {
  keyOf,
  type GatewayListener,
  type GatewayObject,
  type Labels,
  type Meta
} from '../cluster/objects.ts'
import { inboundBindingAnnotation } from '../read/gateway.ts'
import { canaryWeightAnnotation } from '../read/core.ts'
import { networkAddress } from './address.ts'
import { admitsNamespace } from './allowed-routes.ts'
import type { GatewayAddressMessage, WorkloadMessage } from './messages.ts'

const managedLabel = 'gateway.istio.io/managed'

const waypointHbonePort = 15008

export interface Waypoint {
  /** `namespace/name` of its Gateway. */
  readonly key: string
  readonly address: GatewayAddressMessage
}

export type TrafficType = 'service' | 'workload'

export type BindingReason =
  | 'WaypointAccepted'
  | 'WaypointIsNotReady'
  | 'AttachmentDenied'
  | 'UnsupportedTrafficType'
  | 'CanaryInvalidWeight'
  | 'CanarySameAsPrimary'

/** What became of an object's wish for a waypoint. */
export type Binding =
  | { readonly kind: 'none' }
  | { readonly kind: 'bound'; readonly waypoint: Waypoint }
  | { readonly kind: 'refused'; readonly reason: BindingReason; readonly message: string }

const none = { kind: 'none' } as const

/** The reference that applies to an object: its own label, else that of its namespace. */
export function waypointReference(
  view: ClusterView,
  meta: Meta
): { readonly key: string; readonly inherited: boolean } | undefined {
  const own = referenceIn(meta.labels, meta.namespace)
  if (own === 'opted-out') return undefined
  if (own !== undefined) return { key: own, inherited: false }
  const labels = view.get('Namespace', meta.namespace)?.meta.labels
  const inherited = labels === undefined ? undefined : referenceIn(labels, meta.namespace)
  return inherited === undefined || inherited === 'opted-out'
    ? undefined
    : { key: inherited, inherited: true }
}

function referenceIn(labels: Labels, namespace: string): string | undefined {
  const name = labels['istio.io/use-waypoint']
  if (name === undefined) return undefined
  if (name === 'none') return 'opted-out'
  return `${labels['istio.io/use-waypoint-namespace'] ?? namespace}/${name}`
}

/** The waypoint of a Service or ServiceEntry. */
export function serviceWaypoint(view: ClusterView, meta: Meta): Binding {
  const managed = meta.labels[managedLabel]
  // Waypoints and gateways are ends of the path themselves.
  if (managed !== undefined && managed.startsWith('istio.io-')) return none
  return bind(view, meta, 'service')
}

/** The waypoint of a workload, and how its own ztunnel hands traffic in when it is an instance of a waypoint. */
export function workloadWaypoint(
  view: ClusterView,
  meta: Meta
): { readonly binding: Binding; readonly tunnel: WorkloadMessage['applicationTunnel'] | undefined } {
  const gatewayName = meta.labels[gatewayNameLabel]
  const instanceOf =
    gatewayName === undefined ? undefined : readyGateway(view, `${meta.namespace}/${gatewayName}`)
  if (instanceOf !== undefined) return { binding: none, tunnel: applicationTunnel(view, instanceOf) }
  return { binding: bind(view, meta, 'workload'), tunnel: undefined }
}

/** The waypoint that a namespace names for what is in it. */
export function namespaceWaypoint(view: ClusterView, meta: Meta): Binding {
  const reference = referenceIn(meta.labels, meta.name)
  if (reference === undefined || reference === 'opted-out') return none
  const binding = resolve(view, reference, meta.name, 'service')
  // For workloads is as good: a namespace names one waypoint for both.
  return binding.kind === 'refused' && binding.reason === 'UnsupportedTrafficType'
    ? resolve(view, reference, meta.name, 'workload')
    : binding
}

function bind(view: ClusterView, meta: Meta, type: TrafficType): Binding {
  const reference = waypointReference(view, meta)
  if (reference === undefined) return none
  const binding = resolve(view, reference.key, meta.namespace, type)
  // A namespace's waypoint for services is no fault of the workloads beside them.
  if (
    binding.kind === 'refused' &&
    binding.reason === 'UnsupportedTrafficType' &&
    type === 'workload' &&
    reference.inherited
  ) {
    return none
  }
  return binding
}

function resolve(
  view: ClusterView,
  key: string,
  namespace: string,
  type: TrafficType
): Exclude<Binding, { kind: 'none' }> {
  const gateway = readyGateway(view, key)
  const address = gateway === undefined ? undefined : gatewayAddress(view, gateway)
  if (gateway === undefined || address === undefined) {
    const message = `waypoint ${key} is not ready: its Gateway is missing or has no address in its status`
    return { kind: 'refused', reason: 'WaypointIsNotReady', message }
  }
  if (!admitsNamespace(view, gateway, admittingListener(gateway, inboundBinding(view, gateway)), namespace)) {
    const message = `waypoint ${key} does not take namespace ${namespace}: see allowedRoutes of its listener`
    return { kind: 'refused', reason: 'AttachmentDenied', message }
  }
  const types = trafficTypes(view, gateway)
  if (types !== 'all' && types !== type) {
    const message = `waypoint ${key} is for ${types} traffic (label istio.io/waypoint-for), not for ${type}`
    return { kind: 'refused', reason: 'UnsupportedTrafficType', message }
  }
  return { kind: 'bound', waypoint: { key, address } }
}

function readyGateway(view: ClusterView, key: string): GatewayObject | undefined {
  const gateway = view.get('Gateway', key)
  if (gateway === undefined || gateway.addresses.length === 0) return undefined
  return view.discovers(gateway.meta.namespace) ? gateway : undefined
}

/** A hostname where there is one: it is the key of a service, whose addresses may change. */
export function gatewayAddress(view: ClusterView, gateway: GatewayObject): GatewayAddressMessage | undefined {
  const hostname = gateway.addresses.find(({ type }) => type === 'Hostname')
  if (hostname !== undefined) {
    return {
      hostname: { namespace: gateway.meta.namespace, hostname: hostname.value },
      hboneMtlsPort: waypointHbonePort
    }
  }
  for (const { type, value } of gateway.addresses) {
    const ip = type === 'IPAddress' ? parseIp(value) : undefined
    if (ip !== undefined) {
      return { address: networkAddress(view.network, ipToBytes(ip)), hboneMtlsPort: waypointHbonePort }
    }
  }
  return undefined
}

function trafficTypes(view: ClusterView, gateway: GatewayObject): string {
  return (
    gateway.meta.labels['istio.io/waypoint-for'] ??
    view.get('GatewayClass', gateway.className)?.meta.labels['istio.io/waypoint-for'] ??
    'service'
  )
}

interface InboundBinding {
  readonly protocol: 'NONE' | 'PROXY'
  readonly port: number
}

/** `PROXY/15088`, `PROXY` or `NONE`; undefined when it is absent or says something else. */
function inboundBinding(view: ClusterView, gateway: GatewayObject): InboundBinding | undefined {
  const text =
    gateway.meta.annotations[inboundBindingAnnotation] ??
    view.get('GatewayClass', gateway.className)?.meta.annotations[inboundBindingAnnotation]
  const [, protocol, port = '0'] = /^(NONE|PROXY)(?:\/(\d{1,5}))?$/.exec(text ?? '') ?? []
  if (protocol === undefined) return undefined
  return { protocol: protocol as InboundBinding['protocol'], port: Number(port) }
}

function applicationTunnel(view: ClusterView, gateway: GatewayObject): WorkloadMessage['applicationTunnel'] {
  const binding = inboundBinding(view, gateway)
  if (binding === undefined) return undefined
  return {
    ...(binding.protocol === 'PROXY' ? { protocol: 'PROXY' as const } : {}),
    ...(binding.port === 0 ? {} : { port: binding.port })
  }
}

function admittingListener(
  gateway: GatewayObject,
  binding: InboundBinding | undefined
): GatewayListener | undefined {
  const bound =
    binding === undefined
      ? undefined
      : gateway.listeners.find(({ port, protocol }) =>
          binding.port !== 0
            ? port === binding.port
            : binding.protocol === 'PROXY' && protocol === 'istio.io/PROXY'
        )
  return (
    bound ??
    gateway.listeners.find(({ protocol, port }) => protocol === 'HBONE' && port === waypointHbonePort)
  )
}

/** The split between a waypoint and its canary, or why there is none. Weights are percent. */
export function weightedWaypoints(
  view: ClusterView,
  meta: Meta,
  primary: Waypoint
):
  | { readonly kind: 'none' }
  | { readonly kind: 'split'; readonly canary: Waypoint; readonly weight: number }
  | Extract<Binding, { kind: 'refused' }> {
  // The canary is declared where the waypoint is: on the object, or on its namespace.
  const inherited = referenceIn(meta.labels, meta.namespace) === undefined
  const namespace = inherited ? view.get('Namespace', meta.namespace)?.meta : undefined
  const declared = [meta, namespace].find(
    level => level?.labels['istio.io/use-waypoint-canary'] !== undefined
  )
  const name = declared?.labels['istio.io/use-waypoint-canary'] ?? ''
  if (declared === undefined || name === '' || name === 'none') return none
  const key = `${declared.labels['istio.io/use-waypoint-canary-namespace'] ?? meta.namespace}/${name}`
  if (key === primary.key) {
    const message = `the canary waypoint ${key} is the waypoint itself`
    return { kind: 'refused', reason: 'CanarySameAsPrimary', message }
  }
  const weight =
    meta.annotations[canaryWeightAnnotation] ?? namespace?.annotations[canaryWeightAnnotation] ?? '0'
  if (!/^\d{1,3}$/.test(weight) || Number(weight) > 100) {
    const message = `annotation ${canaryWeightAnnotation} is ${JSON.stringify(weight)}; expected 0 to 100`
    return { kind: 'refused', reason: 'CanaryInvalidWeight', message }
  }
  const canary = resolve(view, key, meta.namespace, 'service')
  return canary.kind === 'bound' ? { kind: 'split', canary: canary.waypoint, weight: Number(weight) } : canary
}

/** What a service's traffic goes through: its waypoint, and the canary of that. */
export function waypointsServing(view: ClusterView, meta: Meta): readonly Waypoint[] {
  const binding = serviceWaypoint(view, meta)
  if (binding.kind !== 'bound') return []
  const split = weightedWaypoints(view, meta, binding.waypoint)
  return [binding.waypoint, ...(split.kind === 'split' ? [split.canary] : [])]
}

/** Their addresses. */
export function waypointsOf(view: ClusterView, meta: Meta): readonly GatewayAddressMessage[] {
  return waypointsServing(view, meta).map(({ address }) => address)
}

/** Service accounts of the pods that run a Gateway, sorted. */
export function waypointAccounts(view: ClusterView, gateway: GatewayObject): readonly string[] {
  const pods = [...view.podsOfGateway(keyOf(gateway.meta))]
  return [...new Set(pods.map(pod => pod.serviceAccount))].toSorted()
}
