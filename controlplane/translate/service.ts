/** Services and ServiceEntries as services of the Workload API: one message per namespace and hostname. */
import { ipToBytes } from '../../shared/net/address.ts'
import type { ClusterView, HostOwner } from '../cluster/cluster.ts'
import type { Meta, ServiceEntryObject, ServiceObject } from '../cluster/objects.ts'
import { trafficDistributionAnnotation } from '../read/core.ts'
import { outsideTraffic } from './outside.ts'
import { trafficExtension } from './extension.ts'
import { hostsToAllocate } from './allocation.ts'
import { addressOrBlock, networkAddress } from './address.ts'
import { canonicalOwner, visibility } from './hostname.ts'
import type { LoadBalancingMessage, NetworkAddressMessage, PortMessage, ServiceMessage } from './messages.ts'
import { protocolNamed, protocolOfPort } from './protocol.ts'
import { serviceWaypoint, weightedWaypoints } from './waypoint.ts'

export function translateService(view: ClusterView, owner: HostOwner, hostname: string): ServiceMessage {
  return {
    name: owner.meta.name,
    namespace: owner.meta.namespace,
    hostname,
    ...(owner.kind === 'Service' ? ofService(view, owner) : ofServiceEntry(view, owner, hostname)),
    ...waypointFields(view, owner.meta)
  }
}

function ofService(view: ClusterView, service: ServiceObject): Partial<ServiceMessage> {
  const loadBalancing = loadBalancingOf(view, service)
  const ipFamilies = familiesOf(service.ipFamilies)
  return {
    addresses: service.vips.map(vip => networkAddress(view.network, ipToBytes(vip))),
    ports: service.ports.map(({ port, target, name, protocol }) =>
      portMessage(port, typeof target === 'number' ? target : 0, protocolOfPort(port, name, protocol))
    ),
    ...(loadBalancing === undefined ? {} : { loadBalancing }),
    ...(ipFamilies === undefined ? {} : { ipFamilies }),
    ...(service.affinitySeconds === 0
      ? {}
      : { extensions: [trafficExtension({ clientIpAffinitySeconds: service.affinitySeconds })] }),
    canonical: true
  }
}

function ofServiceEntry(
  view: ClusterView,
  entry: ServiceEntryObject,
  hostname: string
): Partial<ServiceMessage> {
  const passthrough: LoadBalancingMessage = { mode: 'PASSTHROUGH', healthPolicy: 'ALLOW_ALL' }
  const loadBalancing =
    entry.resolution === 'NONE' ? passthrough : distribution(trafficDistribution(view, entry.meta, ''))
  const traffic = outsideTraffic(entry)
  return {
    addresses: entryAddresses(view, entry, hostname),
    ports: entry.ports.map(({ port, target, protocol }) =>
      portMessage(port, typeof target === 'number' && target !== 0 ? target : port, protocolNamed(protocol))
    ),
    ...(entry.subjectAltNames.length === 0 ? {} : { subjectAltNames: entry.subjectAltNames }),
    ...(loadBalancing === undefined ? {} : { loadBalancing }),
    ...(traffic === undefined ? {} : { extensions: [trafficExtension(traffic)] }),
    ...(canonicalOwner(view, hostname) === entry ? { canonical: true } : {}),
    ...(visibility(view, entry) === 'NAMESPACE' ? { visibility: 'NAMESPACE' as const } : {})
  }
}

/** The entry's own addresses, else those allocated for the host. */
function entryAddresses(
  view: ClusterView,
  entry: ServiceEntryObject,
  hostname: string
): readonly NetworkAddressMessage[] {
  const texts = hostsToAllocate(entry).includes(hostname)
    ? entry.allocated.filter(({ host }) => host === hostname).map(({ address }) => address)
    : entry.addresses
  return texts.map(text => addressOrBlock(view.network, text)).filter(address => address !== undefined)
}

function portMessage(
  servicePort: number,
  targetPort: number,
  appProtocol: PortMessage['appProtocol'] | undefined
): PortMessage {
  return {
    servicePort,
    ...(targetPort === 0 ? {} : { targetPort }),
    ...(appProtocol === undefined ? {} : { appProtocol })
  }
}

function waypointFields(view: ClusterView, meta: Meta): Partial<ServiceMessage> {
  const binding = serviceWaypoint(view, meta)
  if (binding.kind !== 'bound') return {}
  const { waypoint } = binding
  const split = weightedWaypoints(view, meta, waypoint)
  return {
    waypoint: waypoint.address,
    ...(ingressUsesWaypoint(view, meta) ? { ingressUseWaypoint: true } : {}),
    ...(split.kind === 'split'
      ? {
          weightedWaypoints: [
            { destination: waypoint.address, weight: 100 - split.weight },
            { destination: split.canary.address, weight: split.weight }
          ]
        }
      : {})
  }
}

function ingressUsesWaypoint(view: ClusterView, meta: Meta): boolean {
  const label = 'istio.io/ingress-use-waypoint'
  const value = meta.labels[label] ?? view.get('Namespace', meta.namespace)?.meta.labels[label] ?? ''
  return ['true', '1', 't'].includes(value.toLowerCase())
}

function familiesOf(families: readonly string[]): ServiceMessage['ipFamilies'] | undefined {
  if (families.length === 2) return 'DUAL'
  const [only] = families
  if (only === undefined) return undefined
  return only === 'IPv4' ? 'IPV4_ONLY' : 'IPV6_ONLY'
}

function loadBalancingOf(view: ClusterView, service: ServiceObject): LoadBalancingMessage | undefined {
  const chosen: LoadBalancingMessage | undefined = service.localOnly
    ? { routingPreference: ['NODE'], mode: 'STRICT' }
    : distribution(trafficDistribution(view, service.meta, service.trafficDistribution))
  return service.publishNotReady ? { ...chosen, healthPolicy: 'ALLOW_ALL' } : chosen
}

/** The field of the Service, else the annotation on it, else that on its namespace. */
function trafficDistribution(view: ClusterView, meta: Meta, field: string): string {
  return (
    [
      field,
      meta.annotations[trafficDistributionAnnotation],
      view.get('Namespace', meta.namespace)?.meta.annotations[trafficDistributionAnnotation]
    ].find(value => value !== undefined && value !== '') ?? ''
  ).toLowerCase()
}

function distribution(preference: string): LoadBalancingMessage | undefined {
  switch (preference) {
    case 'preferclose':
    case 'prefersamezone':
      return { routingPreference: ['NETWORK', 'REGION', 'ZONE'], mode: 'FAILOVER' }
    case 'prefersamenode':
      return { routingPreference: ['NETWORK', 'REGION', 'ZONE', 'SUBZONE', 'NODE'], mode: 'FAILOVER' }
    default:
      return undefined
  }
}
