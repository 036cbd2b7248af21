/** Which services a workload belongs to, and which of its ports stands for each of theirs. */
import type { ClusterView, HostOwner } from '../cluster/cluster.ts'
import type {
  EndpointSliceObject,
  Meta,
  PodObject,
  ServiceEntryObject,
  ServiceObject,
  WorkloadSpec
} from '../cluster/objects.ts'
import { hostOwner } from './hostname.ts'
import type { PortMessage } from './messages.ts'
import { selectsSome } from './selector.ts'

export interface ServiceOfWorkload {
  readonly owner: HostOwner
  readonly hostname: string
  readonly ports: readonly PortMessage[]
}

/** Services and ServiceEntries of the pod's namespace that select it, and Services whose slices name it. */
export function podServices(view: ClusterView, pod: PodObject): readonly ServiceOfWorkload[] {
  const { namespace, labels } = pod.meta
  const found: ServiceOfWorkload[] = []
  for (const service of view.inNamespace('Service', namespace)) {
    if (!service.external && selectsSome(service.selector, labels)) found.push(ofService(view, service, pod))
  }
  for (const entry of view.inNamespace('ServiceEntry', namespace)) {
    if (entry.selector === undefined || !selectsSome(entry.selector, labels)) continue
    for (const hostname of hostsWon(view, entry)) {
      found.push({ owner: entry, hostname, ports: entryPodPorts(entry, pod) })
    }
  }
  for (const service of servicesBySlice(view, pod)) {
    if (!found.some(({ owner }) => owner === service)) found.push(ofService(view, service, pod))
  }
  return found
}

function* servicesBySlice(view: ClusterView, pod: PodObject): Generator<ServiceObject> {
  const { namespace, name, uid } = pod.meta
  for (const slice of view.slicesOfPod(`${namespace}/${name}`)) {
    // The uid tells this pod from an earlier one of the same name.
    if (!slice.endpoints.some(({ pod }) => pod?.uid === uid)) continue
    const service = view.get('Service', `${slice.meta.namespace}/${slice.service}`)
    if (service !== undefined && !service.external && view.discovers(service.meta.namespace)) yield service
  }
}

function ofService(view: ClusterView, service: ServiceObject, pod: PodObject): ServiceOfWorkload {
  return { owner: service, hostname: hostnameOf(view, service), ports: servicePodPorts(service, pod) }
}

function hostnameOf(view: ClusterView, { meta }: ServiceObject): string {
  return `${meta.name}.${meta.namespace}.svc.${view.settings.domain}`
}

function servicePodPorts(service: ServiceObject, pod: PodObject): readonly PortMessage[] {
  const ports: PortMessage[] = []
  for (const { port, target } of service.ports) {
    const targetPort = typeof target === 'number' ? target || port : pod.namedPorts.get(target)
    // A name that this pod does not have takes out this port only.
    if (targetPort !== undefined) ports.push({ servicePort: port, targetPort })
  }
  return ports
}

/** A ServiceEntry has no named target ports; the name of its port may be that of a container's. */
function entryPodPorts(entry: ServiceEntryObject, pod: PodObject): readonly PortMessage[] {
  return entry.ports.map(({ port, target, name }) => ({
    servicePort: port,
    targetPort: (name === '' ? undefined : pod.namedPorts.get(name)) ?? (Number(target) || port)
  }))
}

/** Services and ServiceEntries that select a WorkloadEntry. */
export function specServices(
  view: ClusterView,
  meta: Meta,
  spec: WorkloadSpec
): readonly ServiceOfWorkload[] {
  const found: ServiceOfWorkload[] = []
  for (const service of view.inNamespace('Service', meta.namespace)) {
    if (service.external || !selectsSome(service.selector, meta.labels)) continue
    found.push({
      owner: service,
      hostname: hostnameOf(view, service),
      ports: serviceSpecPorts(service, spec)
    })
  }
  for (const entry of view.inNamespace('ServiceEntry', meta.namespace)) {
    if (entry.selector === undefined || !selectsSome(entry.selector, meta.labels)) continue
    const ports = entrySpecPorts(entry, spec)
    for (const hostname of hostsWon(view, entry)) found.push({ owner: entry, hostname, ports })
  }
  return found
}

function serviceSpecPorts(service: ServiceObject, spec: WorkloadSpec): readonly PortMessage[] {
  const ports: PortMessage[] = []
  for (const { port, target, name } of service.ports) {
    const targetPort =
      typeof target === 'string' ? spec.ports.get(target) : (spec.ports.get(name) ?? (target || port))
    if (targetPort !== undefined) ports.push({ servicePort: port, targetPort })
  }
  return ports
}

/** The ports of an endpoint override those of the entry by name. */
export function entrySpecPorts(entry: ServiceEntryObject, spec: WorkloadSpec): readonly PortMessage[] {
  return entry.ports.map(({ port, target, name }) => ({
    servicePort: port,
    targetPort: spec.ports.get(name) ?? (Number(target) || port)
  }))
}

/** The hosts that an entry speaks for in its namespace, without those that an older one or a Service took. */
export function hostsWon(view: ClusterView, entry: ServiceEntryObject): readonly string[] {
  return [...new Set(entry.hosts)].filter(host => hostOwner(view, entry.meta.namespace, host) === entry)
}

/** Ports of a hand-written slice carry the names of the service's ports. */
export function slicePorts(service: ServiceObject, slice: EndpointSliceObject): readonly PortMessage[] {
  const ports: PortMessage[] = []
  for (const { name, port } of slice.ports) {
    const own = service.ports.find(candidate => candidate.name === name)
    if (own !== undefined) ports.push({ servicePort: own.port, targetPort: port })
  }
  return ports
}
