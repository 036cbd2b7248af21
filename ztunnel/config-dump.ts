/** The mesh as `/config_dump` shows it: the JSON that `istioctl ztunnel-config` reads. Source: istioctl's API of it. */
import type { CertificateFacts } from '../shared/identity/certificate.ts'
import type { CertificateEntry } from '../shared/identity/certificate-store.ts'
import {
  policyKey,
  serviceKey,
  type Endpoint,
  type GatewayAddress,
  type Policy,
  type PolicyMatch,
  type PortMap,
  type Service,
  type StringMatch,
  type Workload
} from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import { formatCidr } from '../shared/net/address.ts'
import type { PodState } from './pods.ts'
import type { PodConnections } from './worker-protocol.ts'

export interface DumpSources {
  readonly view: MeshView
  readonly certificates: readonly CertificateEntry[]
  readonly pods: readonly PodState[]
  readonly connections: readonly PodConnections[]
  readonly config: Record<string, unknown>
  /** What LOCAL_XDS gave. */
  readonly staticConfig: {
    readonly workloads: readonly Workload[]
    readonly services: readonly Service[]
    readonly policies: readonly Policy[]
  }
  readonly version: Record<string, string>
}

export function configDump(sources: DumpSources): Record<string, unknown> {
  const { view, staticConfig } = sources
  return {
    certificates: sources.certificates.map(certificateJson),
    config: sources.config,
    policies: sorted(view.policies(), policyKey).map(policyJson),
    services: sorted(view.services(), serviceKey).map(service =>
      serviceJson(service, view.endpoints(serviceKey(service)))
    ),
    stagedServices: Object.fromEntries(
      [...view.stagedEndpoints()].map(([key, endpoints]) => [key, endpointsJson(endpoints)])
    ),
    staticConfig: {
      workloads: staticConfig.workloads.map(workload => ({
        ...workloadJson(workload),
        services: portMapsJson(workload.services)
      })),
      policies: staticConfig.policies.map(policyJson),
      services: staticConfig.services.map(service => serviceJson(service, []))
    },
    version: sources.version,
    workloadState: workloadStateJson(sources.pods, sources.connections),
    workloads: sorted(view.workloads(), ({ uid }) => uid).map(workloadJson)
  }
}

export function workloadJson(workload: Workload): Record<string, unknown> {
  const { locality } = workload
  return withoutEmpty({
    uid: workload.uid,
    workloadIps: workload.addresses,
    waypoint: workload.waypoint && gatewayJson(workload.waypoint),
    networkGateway: workload.networkGateway && gatewayJson(workload.networkGateway),
    protocol: workload.protocol,
    networkMode: workload.networkMode,
    name: workload.name,
    namespace: workload.namespace,
    trustDomain: workload.trustDomain,
    serviceAccount: workload.serviceAccount,
    network: workload.network,
    workloadName: workload.workloadName,
    workloadType: workload.workloadName === '' ? '' : workload.workloadType,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    hostname: workload.hostname,
    node: workload.node,
    nativeTunnel: workload.nativeTunnel || undefined,
    applicationTunnel:
      workload.applicationTunnel &&
      withoutEmpty({
        protocol: workload.applicationTunnel.protocol,
        port: workload.applicationTunnel.port || undefined
      }),
    authorizationPolicies: workload.authorizationPolicies,
    status: workload.status,
    clusterId: workload.clusterId,
    locality: withoutEmpty({ region: locality.region, zone: locality.zone, subzone: locality.subzone }),
    services: [...workload.services.keys()],
    capacity: workload.capacity
  })
}

export function serviceJson(service: Service, endpoints: readonly Endpoint[]): Record<string, unknown> {
  const { loadBalancer } = service
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.vips.map(({ network, ip }) => `${network}/${ip}`),
    ...(service.cidrVips.length > 0 && {
      cidrVips: service.cidrVips.map(({ network, cidr }) => ({ network, cidr: formatCidr(cidr) }))
    }),
    ports: portsJson(service.ports),
    endpoints: endpointsJson(endpoints),
    subjectAltNames: service.subjectAltNames,
    ...withoutEmpty({
      waypoint: service.waypoint && gatewayJson(service.waypoint),
      weightedWaypoints: service.weightedWaypoints.map(({ destination, weight }) => ({
        destination: gatewayJson(destination),
        weight
      })),
      loadBalancer,
      ipFamilies: service.ipFamilies
    }),
    canonical: service.canonical,
    visibility: service.visibility
  }
}

export function policyJson(policy: Policy): Record<string, unknown> {
  return {
    name: policy.name,
    namespace: policy.namespace,
    scope: policy.scope,
    action: policy.action,
    rules: policy.rules.map(clauses => clauses.map(matches => matches.map(matchJson))),
    dryRun: policy.dryRun
  }
}

function matchJson(match: PolicyMatch): Record<string, unknown> {
  return withoutEmpty({
    namespaces: match.namespaces.map(stringMatchJson),
    notNamespaces: match.notNamespaces.map(stringMatchJson),
    principals: match.principals.map(stringMatchJson),
    notPrincipals: match.notPrincipals.map(stringMatchJson),
    serviceAccounts: match.serviceAccounts,
    notServiceAccounts: match.notServiceAccounts,
    sourceIps: match.sourceIps.map(formatCidr),
    notSourceIps: match.notSourceIps.map(formatCidr),
    destinationIps: match.destinationIps.map(formatCidr),
    notDestinationIps: match.notDestinationIps.map(formatCidr),
    destinationPorts: match.destinationPorts,
    notDestinationPorts: match.notDestinationPorts
  })
}

function stringMatchJson(match: StringMatch): Record<string, unknown> {
  if (match.kind === 'presence') return { Presence: [] }
  const names = { exact: 'Exact', prefix: 'Prefix', suffix: 'Suffix' } as const
  return { [names[match.kind]]: match.value }
}

export function certificateJson({
  identity,
  state,
  chain,
  roots
}: CertificateEntry): Record<string, unknown> {
  return { identity, state, certChain: chain.map(factsJson), rootCerts: roots.map(factsJson) }
}

function factsJson(facts: CertificateFacts): Record<string, string> {
  return {
    pem: Buffer.from(facts.pem).toString('base64'),
    serialNumber: facts.serial,
    validFrom: seconds(facts.notBefore),
    expirationTime: seconds(facts.notAfter)
  }
}

function workloadStateJson(
  pods: readonly PodState[],
  connections: readonly PodConnections[]
): Record<string, unknown> {
  const byUid = Map.groupBy(connections, ({ uid }) => uid)
  const real = pods.filter(({ self }) => !self)
  return Object.fromEntries(
    real.map(({ uid, state, info }) => {
      const live = (byUid.get(uid) ?? []).flatMap(({ connections }) => connections)
      const of = (direction: 'inbound' | 'outbound'): object[] =>
        live
          .filter(connection => connection.direction === direction)
          .map(({ src, originalDst, actualDst, protocol }) => ({ src, originalDst, actualDst, protocol }))
      return [uid, { state, info, connections: { inbound: of('inbound'), outbound: of('outbound') } }]
    })
  )
}

function gatewayJson({ destination, hboneMtlsPort }: GatewayAddress): Record<string, unknown> {
  const text =
    destination.kind === 'address'
      ? `${destination.network}/${destination.ip}`
      : `${destination.namespace}/${destination.hostname}`
  return { destination: text, hboneMtlsPort }
}

function endpointsJson(endpoints: readonly Endpoint[]): Record<string, unknown> {
  return Object.fromEntries(
    endpoints.map(({ workloadUid, ports, status }) => [
      workloadUid,
      { workloadUid, port: portsJson(ports), status }
    ])
  )
}

function portMapsJson(services: Workload['services']): Record<string, unknown> {
  return Object.fromEntries([...services].map(([key, ports]) => [key, portsJson(ports)]))
}

function portsJson(ports: PortMap): Record<string, number> {
  return Object.fromEntries(ports)
}

function sorted<T>(values: Iterable<T>, key: (value: T) => string): T[] {
  return [...values].toSorted((a, b) => (key(a) < key(b) ? -1 : 1))
}

function seconds(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}

/** Keys whose values are undefined, empty texts, empty lists or empty objects are left out. */
function withoutEmpty(value: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([, part]) => !isEmpty(part)))
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return true
  return typeof value === 'object' && Object.keys(value).length === 0
}
