/** EndpointSlices of Services with a selector: one a family, named so that each write replaces the former. */
import { matches } from '../../shared/kube/label-selector.ts'
import {
  endpointSlices,
  services,
  type EndpointSlice,
  type Service,
  type ServicePort
} from '../../shared/kube/core-api.ts'
import { ipFamily, parseIp } from '../../shared/net/address.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import { isFinished, isReady, labPods, namespaceOf, ownerReference, refOf, type LabPod } from '../kinds.ts'
import { itself, keyOf, refOfKey, type Controller } from './reconciler.ts'

const managedBy = 'endpointslice.kubernetes.io/managed-by'
const manager = 'endpointslice-controller.k8s.io'

export const endpointSliceController: Controller = {
  name: 'endpoint-slice',
  watches: [
    itself(services),
    {
      type: labPods,
      keysOf: ({ metadata }, objects) =>
        objects
          .list(services, { namespace: metadata.namespace })
          .filter(
            ({ spec }) =>
              spec?.selector !== undefined && matches({ matchLabels: spec.selector }, metadata.labels ?? {})
          )
          .map(keyOf)
    }
  ],
  reconcile
}

function reconcile(objects: ObjectAccess, key: string): void {
  const service = objects.get(services, refOfKey(key))
  // A slice goes with its Service, as its owner.
  if (service?.spec?.selector === undefined || service.spec.type === 'ExternalName') return
  const pods = objects
    .list(labPods, { namespace: namespaceOf(service) })
    .filter(
      pod =>
        matches({ matchLabels: service.spec?.selector ?? {} }, pod.metadata.labels ?? {}) && !isFinished(pod)
    )
  const written = new Set<string>()
  for (const family of service.spec.ipFamilies ?? ['IPv4']) {
    for (const [index, slice] of slicesOf(service, pods, family).entries()) {
      const name = `${service.metadata.name}-${family.toLowerCase()}${index === 0 ? '' : `-${index}`}`
      write(objects, service, name, slice)
      written.add(name)
    }
  }
  const labelSelector = `kubernetes.io/service-name=${service.metadata.name},${managedBy}=${manager}`
  for (const slice of objects.list(endpointSlices, { namespace: namespaceOf(service), labelSelector })) {
    if (!written.has(slice.metadata.name)) objects.delete(endpointSlices, refOf(slice))
  }
}

type SliceContent = Pick<EndpointSlice, 'addressType' | 'endpoints' | 'ports'>

/**
 * Named target ports may have other numbers in other pods: pods are grouped by the numbers that they give.
 * Always at least one slice, if only an empty one.
 */
export function slicesOf(service: Service, pods: readonly LabPod[], family: 'IPv4' | 'IPv6'): SliceContent[] {
  const groups = new Map<
    string,
    {
      ports: NonNullable<EndpointSlice['ports']>
      endpoints: NonNullable<EndpointSlice['endpoints']>[number][]
    }
  >()
  for (const pod of pods) {
    const address = addressOf(pod, family)
    if (address === undefined) continue
    const ports = (service.spec?.ports ?? []).flatMap(port => {
      const number = targetPort(port, pod)
      return number === undefined ? [] : [slicePort(port, number)]
    })
    const key = JSON.stringify(ports)
    const group = groups.get(key) ?? { ports, endpoints: [] }
    groups.set(key, group)
    group.endpoints.push(endpointOf(service, pod, address))
  }
  if (groups.size === 0) return [{ addressType: family, endpoints: [], ports: [] }]
  return [...groups.values()].map(({ ports, endpoints }) => ({ addressType: family, endpoints, ports }))
}

function endpointOf(
  service: Service,
  pod: LabPod,
  address: string
): NonNullable<EndpointSlice['endpoints']>[number] {
  const terminating = pod.metadata.deletionTimestamp !== undefined
  const serving = isReady(pod)
  const ready = (serving && !terminating) || service.spec?.publishNotReadyAddresses === true
  const { name, namespace = '', uid = '' } = pod.metadata
  const { hostname, subdomain, nodeName } = pod.spec ?? {}
  return {
    addresses: [address],
    conditions: { ready, serving: serving || service.spec?.publishNotReadyAddresses === true, terminating },
    ...(hostname !== undefined && subdomain === service.metadata.name ? { hostname } : {}),
    ...(nodeName === undefined ? {} : { nodeName }),
    targetRef: { kind: 'Pod', namespace, name, uid }
  }
}

function slicePort(port: ServicePort, number: number): NonNullable<EndpointSlice['ports']>[number] {
  return {
    name: port.name ?? '',
    port: number,
    protocol: port.protocol ?? 'TCP',
    ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol })
  }
}

/** The pod's port behind a Service's; undefined when the pod has none of that name. */
export function targetPort(
  { port, targetPort: target = port }: ServicePort,
  pod: LabPod
): number | undefined {
  if (typeof target === 'number') return target
  const ports = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].flatMap(
    container => container.ports ?? []
  )
  return ports.find(({ name }) => name === target)?.containerPort
}

function addressOf(pod: LabPod, family: 'IPv4' | 'IPv6'): string | undefined {
  const wanted = family === 'IPv4' ? 4 : 6
  return pod.status?.podIPs?.find(({ ip }) => {
    const address = parseIp(ip)
    return address !== undefined && ipFamily(address) === wanted
  })?.ip
}

function write(objects: ObjectAccess, service: Service, name: string, content: SliceContent): void {
  const namespace = namespaceOf(service)
  const labels = {
    ...service.metadata.labels,
    'kubernetes.io/service-name': service.metadata.name,
    [managedBy]: manager,
    ...(service.spec?.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {})
  }
  const known = objects.get(endpointSlices, { namespace, name })
  if (known === undefined) {
    objects.create(endpointSlices, {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { namespace, name, labels, ownerReferences: [ownerReference(service)] },
      ...content
    })
    return
  }
  const next: EndpointSlice = { ...known, ...content, metadata: { ...known.metadata, labels } }
  if (JSON.stringify(essence(known)) !== JSON.stringify(essence(next))) {
    objects.edit(endpointSlices, refOf(known), current => ({
      ...current,
      ...content,
      metadata: { ...current.metadata, labels }
    }))
  }
}

function essence({ metadata, endpoints, ports }: EndpointSlice): unknown {
  return [metadata.labels, endpoints, ports]
}
