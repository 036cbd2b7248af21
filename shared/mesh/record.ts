/**
 * The compact text form in which resources lie in shared memory: JSON arrays with one position a field, which
 * JSON.parse reads three times faster than protobufjs reads protobuf. Internal to one
 * process: written and read by the same version of this file.
 *
 * Every field is written out, though a table of fields would say each once: what a loop over such a table decodes
 * takes three times as long and 2.3 KB instead of 0.9.
 */
import { formatCidr, parseCidr, type Cidr, type Ip } from '../net/address.ts'
import {
  noLabels,
  type AppProtocol,
  type ApplicationTunnel,
  type GatewayAddress,
  type LoadBalancer,
  type NetworkAddress,
  type Policy,
  type PolicyMatch,
  type PortMap,
  type Service,
  type TrafficExtension,
  type Workload
} from './model.ts'

type PackedPorts = readonly number[]

type PackedWorkload = readonly [
  uid: string,
  name: string,
  namespace: string,
  addresses: readonly Ip[],
  hostname: string,
  network: string,
  networkMode: Workload['networkMode'],
  protocol: Workload['protocol'],
  nativeTunnel: 0 | 1,
  trustDomain: string,
  serviceAccount: string,
  waypoint: GatewayAddress | 0,
  networkGateway: GatewayAddress | 0,
  applicationTunnel: ApplicationTunnel | 0,
  node: string,
  canonicalName: string,
  canonicalRevision: string,
  workloadName: string,
  workloadType: Workload['workloadType'],
  clusterId: string,
  region: string,
  zone: string,
  subzone: string,
  services: readonly (readonly [string, PackedPorts])[],
  authorizationPolicies: readonly string[],
  status: Workload['status'],
  capacity: number,
  // Few have labels that matter: the others do not pay for them.
  labels?: readonly (readonly [string, string])[]
]

export function packWorkload(workload: Workload): string {
  const { locality } = workload
  const packed: PackedWorkload = [
    workload.uid,
    workload.name,
    workload.namespace,
    workload.addresses,
    workload.hostname,
    workload.network,
    workload.networkMode,
    workload.protocol,
    workload.nativeTunnel ? 1 : 0,
    workload.trustDomain,
    workload.serviceAccount,
    workload.waypoint ?? 0,
    workload.networkGateway ?? 0,
    workload.applicationTunnel ?? 0,
    workload.node,
    workload.canonicalName,
    workload.canonicalRevision,
    workload.workloadName,
    workload.workloadType,
    workload.clusterId,
    locality.region,
    locality.zone,
    locality.subzone,
    [...workload.services].map(([key, ports]) => [key, packPorts(ports)] as const),
    workload.authorizationPolicies,
    workload.status,
    workload.capacity,
    ...(workload.labels.size === 0 ? ([] as const) : ([[...workload.labels]] as const))
  ]
  return JSON.stringify(packed)
}

export function unpackWorkload(text: string): Workload {
  const [
    uid,
    name,
    namespace,
    addresses,
    hostname,
    network,
    networkMode,
    protocol,
    nativeTunnel,
    trustDomain,
    serviceAccount,
    waypoint,
    networkGateway,
    applicationTunnel,
    node,
    canonicalName,
    canonicalRevision,
    workloadName,
    workloadType,
    clusterId,
    region,
    zone,
    subzone,
    services,
    authorizationPolicies,
    status,
    capacity,
    labels
  ] = JSON.parse(text) as PackedWorkload
  return {
    uid,
    name,
    namespace,
    addresses,
    hostname,
    network,
    networkMode,
    protocol,
    nativeTunnel: nativeTunnel === 1,
    trustDomain,
    serviceAccount,
    waypoint: waypoint === 0 ? undefined : waypoint,
    networkGateway: networkGateway === 0 ? undefined : networkGateway,
    applicationTunnel: applicationTunnel === 0 ? undefined : applicationTunnel,
    node,
    canonicalName,
    canonicalRevision,
    workloadName,
    workloadType,
    clusterId,
    locality: { region, zone, subzone },
    services: new Map(services.map(([key, ports]) => [key, unpackPorts(ports)])),
    authorizationPolicies,
    status,
    capacity,
    labels: labels === undefined ? noLabels : new Map(labels)
  }
}

/** What a service is or is not: one bit each. */
const Mark = { canonical: 1, ingressUsesWaypoint: 2 } as const

type PackedService = readonly [
  name: string,
  namespace: string,
  hostname: string,
  vips: readonly NetworkAddress[],
  cidrVips: readonly (readonly [network: string, cidr: string])[],
  ports: PackedPorts,
  subjectAltNames: readonly string[],
  waypoint: GatewayAddress | 0,
  weightedWaypoints: Service['weightedWaypoints'],
  loadBalancer: LoadBalancer | 0,
  ipFamilies: Service['ipFamilies'] | 0,
  /** Those of {@link Mark} that it has. */
  marks: number,
  visibility: Service['visibility'],
  traffic: TrafficExtension | 0,
  protocols: readonly (readonly [number, AppProtocol])[]
]

export function packService(service: Service): string {
  const packed: PackedService = [
    service.name,
    service.namespace,
    service.hostname,
    service.vips,
    service.cidrVips.map(({ network, cidr }) => [network, formatCidr(cidr)] as const),
    packPorts(service.ports),
    service.subjectAltNames,
    service.waypoint ?? 0,
    service.weightedWaypoints,
    service.loadBalancer ?? 0,
    service.ipFamilies ?? 0,
    (service.canonical ? Mark.canonical : 0) | (service.ingressUsesWaypoint ? Mark.ingressUsesWaypoint : 0),
    service.visibility,
    service.traffic ?? 0,
    [...service.protocols]
  ]
  return JSON.stringify(packed)
}

export function unpackService(text: string): Service {
  const [
    name,
    namespace,
    hostname,
    vips,
    cidrVips,
    ports,
    subjectAltNames,
    waypoint,
    weightedWaypoints,
    loadBalancer,
    ipFamilies,
    marks,
    visibility,
    traffic,
    protocols
  ] = JSON.parse(text) as PackedService
  return {
    name,
    namespace,
    hostname,
    vips,
    cidrVips: cidrVips.map(([network, cidr]) => ({ network, cidr: block(cidr) })),
    ports: unpackPorts(ports),
    protocols: new Map(protocols),
    subjectAltNames,
    waypoint: waypoint === 0 ? undefined : waypoint,
    weightedWaypoints,
    loadBalancer: loadBalancer === 0 ? undefined : loadBalancer,
    ipFamilies: ipFamilies === 0 ? undefined : ipFamilies,
    canonical: (marks & Mark.canonical) !== 0,
    visibility,
    ingressUsesWaypoint: (marks & Mark.ingressUsesWaypoint) !== 0,
    traffic: traffic === 0 ? undefined : traffic
  }
}

const blockLists = ['sourceIps', 'notSourceIps', 'destinationIps', 'notDestinationIps'] as const
type PackedMatch = Omit<PolicyMatch, (typeof blockLists)[number]> &
  Record<(typeof blockLists)[number], readonly string[]>

/** Policies are few: named fields, only the blocks in text form. */
export function packPolicy(policy: Policy): string {
  return JSON.stringify({ ...policy, rules: mapMatches(policy.rules, packMatch) })
}

export function unpackPolicy(text: string): Policy {
  const packed = JSON.parse(text) as Omit<Policy, 'rules'> & { rules: PackedMatch[][][] }
  return { ...packed, rules: mapMatches(packed.rules, unpackMatch) }
}

function packMatch(match: PolicyMatch): PackedMatch {
  return {
    ...match,
    sourceIps: match.sourceIps.map(formatCidr),
    notSourceIps: match.notSourceIps.map(formatCidr),
    destinationIps: match.destinationIps.map(formatCidr),
    notDestinationIps: match.notDestinationIps.map(formatCidr)
  }
}

function unpackMatch(match: PackedMatch): PolicyMatch {
  return {
    ...match,
    sourceIps: match.sourceIps.map(block),
    notSourceIps: match.notSourceIps.map(block),
    destinationIps: match.destinationIps.map(block),
    notDestinationIps: match.notDestinationIps.map(block)
  }
}

function mapMatches<A, B>(rules: readonly (readonly (readonly A[])[])[], map: (match: A) => B): B[][][] {
  return rules.map(clauses => clauses.map(matches => matches.map(map)))
}

function packPorts(ports: PortMap): number[] {
  return [...ports].flat()
}

function unpackPorts(packed: PackedPorts): PortMap {
  const ports = new Map<number, number>()
  for (let index = 0; index + 1 < packed.length; index += 2) {
    ports.set(packed[index] ?? 0, packed[index + 1] ?? 0)
  }
  return ports
}

/** Text that `formatCidr` made. */
function block(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed === undefined) throw new Error(`not an address block: ${text}`)
  return parsed
}
