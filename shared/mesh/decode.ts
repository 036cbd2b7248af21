/**
 * From the wire to the model: istio.workload.Address and istio.security.Authorization. Strict where a wrong value
 * would change who may talk to whom; every error names the field. The only place that sees these wire types.
 */
import { cidrFromBytes, ipFromBytes, type Cidr, type Ip } from '../net/address.ts'
import { message } from '../xds/schema.ts'
import {
  nameResolutions,
  noLabels,
  SPIFFE_DEFAULT_TRUST_DOMAIN,
  type AppProtocol,
  type GatewayAddress,
  type LoadBalancer,
  type NetworkAddress,
  type Policy,
  type PolicyMatch,
  type PortMap,
  type RoutingScope,
  type Service,
  type ServiceAccountMatch,
  type StringMatch,
  type TrafficExtension,
  type Workload
} from './model.ts'
import type {
  WireAddress,
  WireAuthorization,
  WireExtension,
  WireGatewayAddress,
  WireLoadBalancing,
  WireMatch,
  WireNetworkAddress,
  WirePort,
  WireService,
  WireStringMatch,
  WireStruct,
  WireWorkload
} from './wire.ts'

/** A resource that is refused; the message names the field. */
export class DecodeError extends Error {
  constructor(field: string, problem: string) {
    super(`${field}: ${problem}`)
    this.name = 'DecodeError'
  }
}

const addressMessage = message<WireAddress>('istio.workload.Address')
const authorizationMessage = message<WireAuthorization>('istio.security.Authorization')
const structMessage = message<WireStruct>('google.protobuf.Struct')

export type DecodedAddress =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service }

/** Throws a {@link DecodeError}, or protobuf's own error for bytes that are no message. */
export function decodeAddress(bytes: Uint8Array): DecodedAddress {
  const { workload, service } = addressMessage.decode(bytes)
  if (workload !== undefined) return { kind: 'workload', workload: workloadOf(workload) }
  if (service !== undefined) return { kind: 'service', service: serviceOf(service) }
  throw new DecodeError('type', 'neither a workload nor a service')
}

function workloadOf(wire: WireWorkload): Workload {
  if (!wire.uid) throw new DecodeError('workload.uid', 'is empty')
  const tunnel = wire.tunnelProtocol ?? 0
  if (tunnel === 2) throw new DecodeError('workload.tunnel_protocol', 'LEGACY_ISTIO_MTLS is not supported')
  return {
    uid: wire.uid,
    name: wire.name ?? '',
    namespace: wire.namespace ?? '',
    addresses: wire.addresses.map((bytes, index) => address(`workload.addresses[${index}]`, bytes)),
    hostname: wire.hostname ?? '',
    network: wire.network ?? '',
    networkMode: choice('workload.network_mode', wire.networkMode, ['Standard', 'HostNetwork']),
    protocol: choice('workload.tunnel_protocol', tunnel, ['TCP', 'HBONE']),
    nativeTunnel: wire.nativeTunnel ?? false,
    trustDomain: wire.trustDomain || SPIFFE_DEFAULT_TRUST_DOMAIN,
    serviceAccount: wire.serviceAccount || 'default',
    waypoint: gateway('workload.waypoint', wire.waypoint),
    networkGateway: gateway('workload.network_gateway', wire.networkGateway),
    applicationTunnel:
      wire.applicationTunnel === undefined
        ? undefined
        : {
            protocol: choice('workload.application_tunnel.protocol', wire.applicationTunnel.protocol, [
              'NONE',
              'PROXY'
            ]),
            port: port(wire.applicationTunnel.port)
          },
    node: wire.node ?? '',
    canonicalName: wire.canonicalName ?? '',
    canonicalRevision: wire.canonicalRevision ?? '',
    workloadName: wire.workloadName ?? '',
    workloadType: choice('workload.workload_type', wire.workloadType, [
      'deployment',
      'cronjob',
      'pod',
      'job'
    ]),
    clusterId: wire.clusterId || 'Kubernetes',
    locality: {
      region: wire.locality?.region ?? '',
      zone: wire.locality?.zone ?? '',
      subzone: wire.locality?.subzone ?? ''
    },
    services: new Map(
      Object.entries(wire.services).map(([key, { ports }]) => [serviceKeyOf(key), portMap(ports)] as const)
    ),
    authorizationPolicies: wire.authorizationPolicies,
    status: choice('workload.status', wire.status, ['Healthy', 'Unhealthy']),
    capacity: wire.capacity === undefined ? 1 : (wire.capacity.value ?? 0),
    labels: labelsExtension(wire)
  }
}

function serviceOf(wire: WireService): Service {
  const vips: NetworkAddress[] = []
  const cidrVips: { network: string; cidr: Cidr }[] = []
  for (const [index, entry] of wire.addresses.entries()) {
    const field = `service.addresses[${index}]`
    const bits = (entry.address?.length ?? 0) * 8
    if (entry.length === undefined || entry.length === bits) vips.push(networkAddress(field, entry))
    else cidrVips.push({ network: entry.network ?? '', cidr: block(field, entry.address, entry.length) })
  }
  if (!wire.hostname) throw new DecodeError('service.hostname', 'is empty')
  return {
    name: wire.name ?? '',
    namespace: wire.namespace ?? '',
    hostname: wire.hostname,
    vips,
    cidrVips,
    ports: portMap(wire.ports),
    protocols: protocols(wire.ports),
    subjectAltNames: wire.subjectAltNames,
    waypoint: gateway('service.waypoint', wire.waypoint),
    weightedWaypoints: wire.weightedWaypoints.map(({ destination, weight }, index) => {
      const field = `service.weighted_waypoints[${index}].destination`
      const found = gateway(field, destination)
      if (found === undefined) throw new DecodeError(field, 'is missing')
      return { destination: found, weight: weight ?? 0 }
    }),
    loadBalancer: loadBalancer(wire.loadBalancing),
    ipFamilies: choice('service.ip_families', wire.ipFamilies, [undefined, 'IPv4', 'IPv6', 'Dual']),
    canonical: wire.canonical ?? false,
    // A value from a newer control plane means no more than that: it does not hide the service.
    visibility: wire.visibility === 1 ? 'Namespace' : 'Public',
    ingressUsesWaypoint: wire.ingressUseWaypoint ?? false,
    traffic: trafficExtension(wire)
  }
}

const scopes: readonly (RoutingScope | undefined)[] = [
  undefined,
  'Region',
  'Zone',
  'Subzone',
  'Node',
  'Cluster',
  'Network'
]

function loadBalancer(wire: WireLoadBalancing | undefined): LoadBalancer | undefined {
  if (wire === undefined) return undefined
  const field = 'service.load_balancing'
  return {
    mode: choice(`${field}.mode`, wire.mode, ['Standard', 'Strict', 'Failover', 'Passthrough']),
    routingPreferences: wire.routingPreference.map((value, index) => {
      const scope = scopes[value]
      if (scope === undefined) {
        throw new DecodeError(`${field}.routing_preference[${index}]`, `unknown scope ${value}`)
      }
      return scope
    }),
    healthPolicy: choice(`${field}.health_policy`, wire.healthPolicy, ['OnlyHealthy', 'AllowAll'])
  }
}

export const TRAFFIC_EXTENSION = 'underpass.dev/traffic'

/** Ours, from our control plane; what is not understood is as if it were not there. */
function trafficExtension({ extensions }: WireService): TrafficExtension | undefined {
  const fields = extensionFields(extensions, TRAFFIC_EXTENSION)
  if (fields === undefined) return undefined
  const seconds = fields['clientIpAffinitySeconds']?.numberValue ?? 0
  if (!Number.isFinite(seconds) || seconds < 0) {
    throw new DecodeError(`service.extensions[${TRAFFIC_EXTENSION}].clientIpAffinitySeconds`, 'is no time')
  }
  const resolution = nameResolutions.find(name => name === fields['resolution']?.stringValue)
  return {
    clientIpAffinitySeconds: seconds,
    ...(resolution === undefined ? {} : { resolution }),
    ...(fields['racing']?.boolValue === true ? { racing: true } : {})
  }
}

export const LABELS_EXTENSION = 'underpass.dev/labels'

/** Ours as well: labels by their keys. */
function labelsExtension({ extensions }: WireWorkload): Workload['labels'] {
  const fields = extensionFields(extensions, LABELS_EXTENSION)
  if (fields === undefined) return noLabels
  const labels = Object.entries(fields).map(([key, { stringValue }]) => {
    if (stringValue !== undefined) return [key, stringValue] as const
    throw new DecodeError(`workload.extensions[${LABELS_EXTENSION}].${key}`, 'is no text')
  })
  return new Map(labels)
}

function extensionFields(
  extensions: readonly WireExtension[],
  name: string
): WireStruct['fields'] | undefined {
  const value = extensions.find(extension => extension.name === name)?.config?.value
  return value === undefined ? undefined : structMessage.decode(value).fields
}

/** Throws a {@link DecodeError}, or protobuf's own error for bytes that are no message. */
export function decodeAuthorization(bytes: Uint8Array): Policy {
  const wire = authorizationMessage.decode(bytes)
  if (!wire.name) throw new DecodeError('name', 'is empty')
  return {
    name: wire.name,
    namespace: wire.namespace ?? '',
    scope: choice('scope', wire.scope, ['Global', 'Namespace', 'WorkloadSelector']),
    action: choice('action', wire.action, ['Allow', 'Deny']),
    rules: wire.rules.map(({ clauses }, rule) =>
      clauses.map(({ matches }, clause) =>
        matches.map((match, index) =>
          policyMatch(`rules[${rule}].clauses[${clause}].matches[${index}]`, match)
        )
      )
    ),
    dryRun: wire.dryRun ?? false
  }
}

/** The scope of a policy that cannot be used otherwise; undefined when not even that can be read. */
export function scopeOf(bytes: Uint8Array): Policy['scope'] | undefined {
  try {
    return choice('scope', authorizationMessage.decode(bytes).scope, [
      'Global',
      'Namespace',
      'WorkloadSelector'
    ])
  } catch {
    return undefined // the caller reports why the whole cannot be read
  }
}

function policyMatch(field: string, wire: WireMatch): PolicyMatch {
  const strings = (name: string, values: readonly WireStringMatch[]): StringMatch[] =>
    values.map((value, index) => stringMatch(`${field}.${name}[${index}]`, value))
  const blocks = (name: string, values: WireMatch['sourceIps']): Cidr[] =>
    values.map(({ address, length }, index) => block(`${field}.${name}[${index}]`, address, length ?? 0))
  const accounts = (values: WireMatch['serviceAccounts']): ServiceAccountMatch[] =>
    values.map(({ namespace = '', serviceAccount = '' }) => ({ namespace, serviceAccount }))
  return {
    namespaces: strings('namespaces', wire.namespaces),
    notNamespaces: strings('not_namespaces', wire.notNamespaces),
    principals: strings('principals', wire.principals),
    notPrincipals: strings('not_principals', wire.notPrincipals),
    serviceAccounts: accounts(wire.serviceAccounts),
    notServiceAccounts: accounts(wire.notServiceAccounts),
    sourceIps: blocks('source_ips', wire.sourceIps),
    notSourceIps: blocks('not_source_ips', wire.notSourceIps),
    destinationIps: blocks('destination_ips', wire.destinationIps),
    notDestinationIps: blocks('not_destination_ips', wire.notDestinationIps),
    destinationPorts: wire.destinationPorts,
    notDestinationPorts: wire.notDestinationPorts
  }
}

function stringMatch(field: string, { exact, prefix, suffix, presence }: WireStringMatch): StringMatch {
  if (exact !== undefined) return { kind: 'exact', value: exact }
  if (prefix !== undefined) return { kind: 'prefix', value: prefix }
  if (suffix !== undefined) return { kind: 'suffix', value: suffix }
  if (presence !== undefined) return { kind: 'presence' }
  // Leaving the value out would widen what the list matches.
  throw new DecodeError(field, 'has none of exact, prefix, suffix and presence')
}

function gateway(field: string, wire: WireGatewayAddress | undefined): GatewayAddress | undefined {
  if (wire === undefined) return undefined
  const hboneMtlsPort = port(wire.hboneMtlsPort)
  if (wire.hostname !== undefined) {
    const { namespace = '', hostname = '' } = wire.hostname
    return { destination: { kind: 'hostname', namespace, hostname }, hboneMtlsPort }
  }
  if (wire.address === undefined) throw new DecodeError(field, 'has neither a hostname nor an address')
  return {
    destination: { kind: 'address', ...networkAddress(`${field}.address`, wire.address) },
    hboneMtlsPort
  }
}

function networkAddress(field: string, wire: WireNetworkAddress): NetworkAddress {
  return { network: wire.network ?? '', ip: address(`${field}.address`, wire.address) }
}

function address(field: string, bytes: Uint8Array | undefined): Ip {
  const ip = ipFromBytes(bytes ?? new Uint8Array())
  if (ip === undefined) throw new DecodeError(field, `has ${bytes?.length ?? 0} bytes, not 4 or 16`)
  return ip
}

function block(field: string, bytes: Uint8Array | undefined, length: number): Cidr {
  const found = cidrFromBytes(Uint8Array.from(bytes ?? []), length)
  if (found !== undefined) return found
  throw new DecodeError(field, `a block of ${bytes?.length ?? 0} bytes and prefix length ${length}`)
}

function serviceKeyOf(key: string): string {
  if (!key.includes('/')) throw new DecodeError('workload.services', `key ${JSON.stringify(key)} has no /`)
  return key
}

const appProtocols: readonly (AppProtocol | undefined)[] = [
  undefined,
  'HTTP11',
  'HTTP2',
  'GRPC',
  'TCP',
  'TLS'
]

/** A value from a newer control plane is one that we would have to find out. */
function protocols(ports: readonly WirePort[]): Service['protocols'] {
  const known = ports.flatMap(({ servicePort, appProtocol = 0 }) => {
    const protocol = appProtocols[appProtocol]
    return protocol === undefined ? [] : [[port(servicePort), protocol] as const]
  })
  return known.length === 0 ? noProtocols : new Map(known)
}

const noProtocols: Service['protocols'] = new Map()

function portMap(ports: readonly WirePort[]): PortMap {
  return new Map(ports.map(({ servicePort, targetPort }) => [port(servicePort), port(targetPort)]))
}

/** Ports have 16 bits; what the wire has more is cut, as Istio's ztunnel does. */
function port(value: number | undefined): number {
  return (value ?? 0) & 0xffff
}

function choice<T>(field: string, value: number | undefined, values: readonly T[]): T {
  const number = value ?? 0
  if (number >= values.length || number < 0) throw new DecodeError(field, `unknown value ${number}`)
  return values[number] as T
}
