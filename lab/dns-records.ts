/** The names of a cluster: Kubernetes DNS specification 1.1, answered from the objects themselves. Pure. */
import type { EndpointSlice, Service } from '../shared/kube/core-api.ts'
import { ipFamily, parseIp, type Ip } from '../shared/net/address.ts'
import { recordTypes, type DnsAnswer, type DnsRecord } from './dns-message.ts'
import { clusterDomain } from './pod-files.ts'

export interface ClusterNames {
  service(namespace: string, name: string): Service | undefined
  /** Slices of one Service. */
  slices(namespace: string, service: string): readonly EndpointSlice[]
  hasNamespace(name: string): boolean
}

const noSuchName: DnsAnswer = { kind: 'no-such-name' }
const longestChain = 8

/** The answer; undefined when the name is not the cluster's. */
export function resolve(names: ClusterNames, name: string, type: number, aliases = 0): DnsAnswer | undefined {
  const labels = labelsInCluster(name)
  if (labels === undefined) return undefined
  const kind = labels.at(-1)
  const namespace = labels.at(-2)
  if (kind === undefined) return { kind: 'empty' }
  if (namespace === undefined) return kindAlone(kind)
  if (kind === 'pod') return podAddress(names, name, labels, type)
  if (kind !== 'svc') return noSuchName
  if (labels.length === 2) return names.hasNamespace(namespace) ? { kind: 'empty' } : noSuchName
  const service = names.service(namespace, labels.at(-3) ?? '')
  if (service === undefined) return noSuchName
  return serviceAnswer(names, service, { name, front: labels.slice(0, -3), type, aliases })
}

/** Labels in front of the cluster's domain; undefined for a name elsewhere. */
function labelsInCluster(name: string): string[] | undefined {
  if (name === clusterDomain) return []
  return name.endsWith(`.${clusterDomain}`) ? name.slice(0, -clusterDomain.length - 1).split('.') : undefined
}

function kindAlone(kind: string): DnsAnswer {
  return kind === 'svc' || kind === 'pod' ? { kind: 'empty' } : noSuchName
}

/** `10-244-1-2.shop.pod.cluster.local`. */
function podAddress(names: ClusterNames, name: string, labels: readonly string[], type: number): DnsAnswer {
  const [dashed = '', namespace = ''] = labels
  const address = parseIp(dashed.replaceAll('-', '.')) ?? parseIp(dashed.replaceAll('-', ':'))
  if (labels.length !== 3 || address === undefined || !names.hasNamespace(namespace)) return noSuchName
  return ofType(addressRecords(name, [address]), type)
}

interface Asked {
  readonly name: string
  /** Labels in front of the Service's name. */
  readonly front: readonly string[]
  readonly type: number
  /** Aliases that led here. */
  readonly aliases: number
}

function serviceAnswer(names: ClusterNames, service: Service, asked: Asked): DnsAnswer {
  const { name, front, type, aliases } = asked
  const { externalName, clusterIPs, clusterIP, type: serviceType } = service.spec ?? {}
  if (serviceType === 'ExternalName') {
    if (front.length > 0 || externalName === undefined) return noSuchName
    return externalAnswer(names, name, externalName.replace(/\.$/, '').toLowerCase(), type, aliases)
  }
  const { namespace = '', name: serviceName } = service.metadata
  const slices = names.slices(namespace, serviceName)
  const virtual = (clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP])).filter(
    address => address !== 'None'
  )
  if (front.length === 2) return portAnswer(service, slices, virtual, name, front, type)
  if (front.length === 1) return hostAnswer(slices, name, front[0] ?? '', type)
  if (front.length > 0) return noSuchName
  const addresses = virtual.length > 0 ? virtual.flatMap(parsed) : endpointAddresses(slices)
  if (addresses.length === 0) return noSuchName
  return ofType(addressRecords(name, addresses), type)
}

/** A name elsewhere, followed as long as it stays in the cluster. */
function externalAnswer(
  names: ClusterNames,
  name: string,
  target: string,
  type: number,
  aliases: number
): DnsAnswer {
  const alias: DnsRecord = { type: 'CNAME', name, target }
  const next = aliases < longestChain ? resolve(names, target, type, aliases + 1) : undefined
  return { kind: 'records', records: [alias, ...(next?.kind === 'records' ? next.records : [])] }
}

/** `web-0.web.shop.svc.cluster.local`: an endpoint that has a host name, such as a pod of a StatefulSet. */
function hostAnswer(slices: readonly EndpointSlice[], name: string, host: string, type: number): DnsAnswer {
  const addresses = slices.flatMap(({ endpoints = [] }) =>
    endpoints
      .filter(endpoint => hostnameOf(endpoint) === host && endpoint.conditions?.ready !== false)
      .flatMap(({ addresses = [] }) => addresses.flatMap(parsed))
  )
  return addresses.length === 0 ? noSuchName : ofType(addressRecords(name, addresses), type)
}

/** `_http._tcp.web.shop.svc.cluster.local`. */
function portAnswer(
  service: Service,
  slices: readonly EndpointSlice[],
  virtual: readonly string[],
  name: string,
  [port = '', protocol = '']: readonly string[],
  type: number
): DnsAnswer {
  const wanted = (candidate: { readonly name?: string; readonly protocol?: string }): boolean =>
    `_${candidate.name ?? ''}` === port && `_${(candidate.protocol ?? 'TCP').toLowerCase()}` === protocol
  const host = `${service.metadata.name}.${service.metadata.namespace ?? ''}.svc.${clusterDomain}`
  const records: DnsRecord[] =
    virtual.length > 0
      ? (service.spec?.ports ?? [])
          .filter(wanted)
          .map(({ port }) => ({ type: 'SRV', name, port, target: host }))
      : slices.flatMap(({ endpoints = [], ports = [] }) =>
          ports.filter(wanted).flatMap(({ port = 0 }) =>
            endpoints
              .filter(({ conditions }) => conditions?.ready !== false)
              .map((endpoint): DnsRecord => ({
                type: 'SRV',
                name,
                port,
                target: `${hostnameOf(endpoint)}.${host}`
              }))
          )
        )
  return records.length === 0 ? noSuchName : ofType(records, type)
}

type Endpoint = NonNullable<EndpointSlice['endpoints']>[number]

function hostnameOf({ hostname, addresses = [] }: Endpoint): string {
  return hostname ?? (addresses[0] ?? '').replaceAll(/[.:]/g, '-')
}

function endpointAddresses(slices: readonly EndpointSlice[]): Ip[] {
  return slices.flatMap(({ endpoints = [] }) =>
    endpoints
      .filter(({ conditions }) => conditions?.ready !== false)
      .flatMap(({ addresses = [] }) => addresses.flatMap(parsed))
  )
}

function addressRecords(name: string, addresses: readonly Ip[]): DnsRecord[] {
  return addresses.map(address => ({ type: ipFamily(address) === 4 ? 'A' : 'AAAA', name, address }))
}

function ofType(records: readonly DnsRecord[], type: number): DnsAnswer {
  const wanted = records.filter(record => type === recordTypes.ANY || recordTypes[record.type] === type)
  return wanted.length === 0 ? { kind: 'empty' } : { kind: 'records', records: wanted }
}

function parsed(text: string): Ip[] {
  const address = parseIp(text)
  return address === undefined ? [] : [address]
}
