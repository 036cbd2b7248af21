/** Pods, WorkloadEntries, endpoints of ServiceEntries and of EndpointSlices as workloads of the Workload API. */
import { ipToBytes } from '../../shared/net/address.ts'
import { SPIFFE_DEFAULT_TRUST_DOMAIN } from '../../shared/mesh/model.ts'
import type { ClusterView } from '../cluster/cluster.ts'
import type {
  EndpointSliceObject,
  Labels,
  Locality,
  PodObject,
  ServiceEntryObject,
  SliceEndpoint,
  WorkloadEntryObject,
  WorkloadSpec
} from '../cluster/objects.ts'
import type { WorkloadMessage } from './messages.ts'
import { attachedPolicies } from './attachment.ts'
import { askedLabels } from './destination-rule.ts'
import { labelsExtension } from './extension.ts'
import {
  entrySpecPorts,
  hostsWon,
  podServices,
  slicePorts,
  specServices,
  type ServiceOfWorkload
} from './membership.ts'
import { workloadWaypoint } from './waypoint.ts'

export function podUid(clusterId: string, pod: { readonly meta: PodObject['meta'] }): string {
  return `${clusterId}//Pod/${pod.meta.namespace}/${pod.meta.name}`
}

/** Undefined while the pod has no address, and when it has ended. A pending pod with an address counts. */
export function translatePod(view: ClusterView, pod: PodObject): WorkloadMessage | undefined {
  if (pod.phase === 'Succeeded' || pod.phase === 'Failed' || pod.ips.length === 0) return undefined
  const { meta } = pod
  const services = podServices(view, pod)
  const locality = view.get('Node', pod.node)?.locality
  return {
    uid: podUid(view.settings.clusterId, pod),
    name: meta.name,
    namespace: meta.namespace,
    addresses: pod.ips.map(ipToBytes),
    ...text('network', view.network),
    ...text('serviceAccount', pod.serviceAccount),
    ...text('node', pod.node),
    ...place(view, locality),
    ...described(meta.labels, pod.workloadName),
    ...tunnel(meta.labels, meta.annotations),
    ...attachments(view, meta, meta.labels, services),
    ...extensions(view, meta.labels, services),
    ...(pod.ready && !pod.terminating ? {} : { status: 'UNHEALTHY' }),
    ...(pod.hostNetwork ? { networkMode: 'HOST_NETWORK' } : {})
  }
}

export function translateWorkloadEntry(view: ClusterView, entry: WorkloadEntryObject): WorkloadMessage {
  const { meta, spec } = entry
  const name = meta.labels['service.istio.io/workload-name'] ?? meta.name
  const services = specServices(view, meta, spec)
  return {
    uid: `${view.settings.clusterId}/networking.istio.io/WorkloadEntry/${meta.namespace}/${meta.name}`,
    name: meta.name,
    namespace: meta.namespace,
    ...ofSpec(view, spec),
    ...described(meta.labels, name),
    ...tunnel(meta.labels, meta.annotations),
    ...attachments(view, meta, meta.labels, services),
    ...extensions(view, meta.labels, services),
    ...(entry.healthy ? {} : { status: 'UNHEALTHY' })
  }
}

/**
 * The endpoints written into a ServiceEntry; without any, and resolved by DNS, each host is its own endpoint.
 * An entry that lost its hosts to an older one has none, nor has one that stands for all names under a wildcard.
 */
export function translateServiceEntryEndpoints(
  view: ClusterView,
  entry: ServiceEntryObject
): readonly WorkloadMessage[] {
  const hosts = hostsWon(view, entry)
  if (hosts.length === 0 || entry.resolution === 'DYNAMIC_DNS') return []
  if (entry.endpoints.length > 0) {
    return entry.endpoints.map(spec => entryEndpoint(view, entry, spec, hosts, spec.labels))
  }
  const resolved = entry.resolution !== 'NONE' && entry.resolution !== 'STATIC'
  if (!resolved || entry.selector !== undefined) return []
  return hosts.map(host => entryEndpoint(view, entry, { ...blankSpec, address: host }, [host], undefined))
}

const blankSpec: WorkloadSpec = {
  address: '',
  ip: undefined,
  ports: new Map(),
  labels: {},
  network: '',
  locality: undefined,
  weight: 0,
  serviceAccount: ''
}

/** `labels` of the endpoint choose its waypoint, policies and subsets; those of the entry name it in telemetry. */
function entryEndpoint(
  view: ClusterView,
  entry: ServiceEntryObject,
  spec: WorkloadSpec,
  hosts: readonly string[],
  labels: Labels | undefined
): WorkloadMessage {
  const { meta } = entry
  const services = hosts.map(hostname => ({ owner: entry, hostname, ports: entrySpecPorts(entry, spec) }))
  const own = labels === undefined ? undefined : { ...meta, labels }
  return {
    uid: `${view.settings.clusterId}/networking.istio.io/ServiceEntry/${meta.namespace}/${meta.name}/${spec.address}`,
    name: meta.name,
    namespace: meta.namespace,
    ...ofSpec(view, spec),
    ...described(meta.labels, meta.name),
    ...tunnel(meta.labels, meta.annotations),
    ...attachments(view, own, { ...meta.labels, ...labels }, services),
    ...extensions(view, labels ?? {}, services)
  }
}

/** Endpoints that somebody wrote by hand; those that stand for pods are known from the pods. */
export function translateSlice(view: ClusterView, slice: EndpointSliceObject): readonly WorkloadMessage[] {
  const service = view.get('Service', `${slice.meta.namespace}/${slice.service}`)
  if (slice.service === '' || service === undefined || service.external) return []
  const hostname = `${slice.service}.${slice.meta.namespace}.svc.${view.settings.domain}`
  const ports = slicePorts(service, slice)
  const seen = new Set<string>()
  const workloads: WorkloadMessage[] = []
  for (const endpoint of slice.endpoints) {
    const [first] = endpoint.addresses
    if (endpoint.pod !== undefined || first === undefined || seen.has(first)) continue
    seen.add(first)
    workloads.push(
      sliceWorkload(view, slice, endpoint, first, { [`${slice.meta.namespace}/${hostname}`]: { ports } })
    )
  }
  return workloads
}

function sliceWorkload(
  view: ClusterView,
  slice: EndpointSliceObject,
  endpoint: SliceEndpoint,
  address: string,
  services: NonNullable<WorkloadMessage['services']>
): WorkloadMessage {
  const { namespace, name } = slice.meta
  return {
    uid: `${view.settings.clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${address}`,
    name,
    namespace,
    addresses: endpoint.addresses.map(ipToBytes),
    ...text('network', view.network),
    ...place(view, undefined),
    services,
    ...(endpoint.ready ? {} : { status: 'UNHEALTHY' }),
    // Nothing says whose address it is; several may share it, so it is found through its service only.
    networkMode: 'HOST_NETWORK'
  }
}

function ofSpec(view: ClusterView, spec: WorkloadSpec): Partial<WorkloadMessage> {
  return {
    ...(spec.ip === undefined ? text('hostname', spec.address) : { addresses: [ipToBytes(spec.ip)] }),
    ...text('network', spec.network === '' ? view.network : spec.network),
    ...text('serviceAccount', spec.serviceAccount),
    ...place(view, spec.locality),
    ...(spec.weight > 0 ? { capacity: { value: spec.weight } } : {})
  }
}

function place(view: ClusterView, locality: Locality | undefined): Partial<WorkloadMessage> {
  const { clusterId, trustDomain } = view.settings
  return {
    clusterId,
    ...(trustDomain === SPIFFE_DEFAULT_TRUST_DOMAIN ? {} : { trustDomain }),
    ...(locality === undefined ? {} : { locality })
  }
}

/** The names that telemetry shows. The type is always POD, which is what clients expect. */
function described(labels: Labels, workloadName: string): Partial<WorkloadMessage> {
  return {
    workloadType: 'POD',
    workloadName,
    canonicalName:
      labels['service.istio.io/canonical-name'] ??
      labels['app.kubernetes.io/name'] ??
      labels['app'] ??
      workloadName,
    canonicalRevision:
      labels['service.istio.io/canonical-revision'] ??
      labels['app.kubernetes.io/version'] ??
      labels['version'] ??
      'latest'
  }
}

function tunnel(labels: Labels, annotations: Labels): Partial<WorkloadMessage> {
  const native = labels['networking.istio.io/tunnel']?.split(',').includes('http') ?? false
  if (native) return { tunnelProtocol: 'HBONE', nativeTunnel: true }
  return annotations['ambient.istio.io/redirection'] === 'enabled' ? { tunnelProtocol: 'HBONE' } : {}
}

/** Services, policies and waypoint. `meta` undefined: no object of its own that could name a waypoint. */
function attachments(
  view: ClusterView,
  meta: PodObject['meta'] | undefined,
  labels: Labels,
  services: readonly ServiceOfWorkload[]
): Partial<WorkloadMessage> {
  const namespace = services[0]?.owner.meta.namespace ?? ''
  const { binding, tunnel } = meta === undefined ? noWaypoint : workloadWaypoint(view, meta)
  const waypoint = binding.kind === 'bound' ? binding.waypoint : undefined
  const policies = attachedPolicies(view, {
    namespace: meta?.namespace ?? namespace,
    labels,
    waypoint: waypoint?.key,
    services
  })
  return {
    ...(waypoint === undefined ? {} : { waypoint: waypoint.address }),
    ...(tunnel === undefined ? {} : { applicationTunnel: tunnel }),
    ...(policies.length === 0 ? {} : { authorizationPolicies: policies }),
    ...(services.length === 0 ? {} : { services: servicesField(services) })
  }
}

function extensions(
  view: ClusterView,
  labels: Labels,
  services: readonly ServiceOfWorkload[]
): Partial<WorkloadMessage> {
  const asked = askedLabels(view, labels, services)
  return asked.length === 0 ? {} : { extensions: [labelsExtension(asked)] }
}

const noWaypoint = { binding: { kind: 'none' }, tunnel: undefined } as const

/** In the order of their keys, so that equal memberships give equal bytes. */
function servicesField(services: readonly ServiceOfWorkload[]): NonNullable<WorkloadMessage['services']> {
  const entries = services.map(
    ({ owner, hostname, ports }) => [`${owner.meta.namespace}/${hostname}`, { ports }] as const
  )
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

function text<K extends keyof WorkloadMessage>(name: K, value: string): Partial<Record<K, string>> {
  return value === '' ? {} : ({ [name]: value } as Partial<Record<K, string>>)
}
