/** Decides what a name means to a client: addresses that the mesh knows, or a question for the resolver. Pure. */
import { serviceKey, type Service } from '../../shared/mesh/model.ts'
import type { MeshView } from '../../shared/mesh/view.ts'
import { ipFamily, type Family, type Ip } from '../../shared/net/address.ts'
import { aliasesOf, patternsOf, withoutDomain, type Alias, type NameContext } from './names.ts'

/** Who asks. */
export interface DnsClient extends NameContext {
  readonly network: string
  readonly clusterId: string
}

export interface DnsSettings {
  readonly ipv6: boolean
  /** Of several services in other namespaces with one host name, the one of this namespace. */
  readonly preferredNamespace: string | undefined
  /** 0 to 1. */
  readonly random: () => number
}

/** Results are the words that the log has for them. */
export type DnsAnswer =
  | { readonly result: 'forwarded' }
  | { readonly result: 'no records' | 'service does not support this record type' }
  | { readonly result: 'success'; readonly alias: string | undefined; readonly addresses: readonly Ip[] }

/** More addresses than that do not fit the largest message; of more, random ones are taken. */
const mostAddresses = 2000

/** `name` in lower case, without the final dot. */
export function answerFor(
  view: MeshView,
  name: string,
  family: Family,
  client: DnsClient,
  settings: DnsSettings
): DnsAnswer {
  for (const alias of aliasesOf(name, client)) {
    const found = find(view, alias, client, settings)
    if (found === undefined) continue
    if (!offers(found, family, settings)) return { result: 'service does not support this record type' }
    const addresses = shuffled(addressesOf(view, found, family, client), settings.random)
    if (addresses.length === 0) return { result: 'no records' }
    // What a wildcard matched is a name of its own; all others have their name without the search domain.
    const shown =
      found.kind === 'service' && found.service.hostname.startsWith('*') ? undefined : alias.stripped
    return { result: 'success', alias: shown, addresses: addresses.slice(0, mostAddresses) }
  }
  return { result: 'forwarded' }
}

type Found =
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'workload'; readonly addresses: readonly Ip[]; readonly service: Service | undefined }

function find(view: MeshView, { name }: Alias, client: DnsClient, settings: DnsSettings): Found | undefined {
  for (const pattern of patternsOf(name)) {
    const service = view.serviceByHostname(pattern, client.namespace, settings.preferredNamespace)
    if (service !== undefined && answerable(service, client)) return { kind: 'service', service }
    const pod =
      pattern === name ? (podOfService(view, name, client) ?? workload(view, name, client)) : undefined
    if (pod !== undefined) return pod
  }
  return undefined
}

/** A service without addresses of its own is answered by its pods if it is Kubernetes'; others are the resolver's. */
function answerable(service: Service, client: DnsClient): boolean {
  return service.vips.length > 0 || isInCluster(service.hostname, client)
}

function isInCluster(hostname: string, { domain }: DnsClient): boolean {
  return hostname.endsWith(`.svc.${domain}`)
}

/** `pod.service.namespace.svc.domain`: one pod of a headless service, by its name. */
function podOfService(view: MeshView, name: string, client: DnsClient): Found | undefined {
  const dot = name.indexOf('.')
  const hostname = name.slice(dot + 1)
  if (dot < 1 || withoutDomain(hostname, `svc.${client.domain}`) === undefined) return undefined
  const service = view.serviceByHostname(hostname, client.namespace)
  if (service === undefined || service.vips.length > 0 || service.cidrVips.length > 0) return undefined
  const pods = view
    .endpoints(serviceKey(service))
    .map(({ workloadUid }) => view.workloadByUid(workloadUid))
    .filter(pod => pod?.name === name.slice(0, dot) && pod.namespace === service.namespace)
  // Clusters may have pods of one name; the own one's comes first.
  const pod = pods.find(one => one?.clusterId === client.clusterId) ?? pods[0]
  return pod === undefined ? undefined : { kind: 'workload', addresses: pod.addresses, service }
}

/** A machine of the client's namespace whose host name is known together with its addresses. */
function workload(view: MeshView, name: string, { namespace }: DnsClient): Found | undefined {
  const found = view.workloadByHostname(namespace, name)
  if (found === undefined || found.addresses.length === 0) return undefined
  return { kind: 'workload', addresses: found.addresses, service: undefined }
}

function offers({ service }: Found, family: Family, { ipv6 }: DnsSettings): boolean {
  if (family === 6 && !ipv6) return false
  return !(service?.ipFamilies === (family === 4 ? 'IPv6' : 'IPv4'))
}

function addressesOf(view: MeshView, found: Found, family: Family, { network }: DnsClient): readonly Ip[] {
  const matches = (address: Ip): boolean => ipFamily(address) === family
  if (found.kind === 'workload') return found.addresses.filter(matches)
  const { service } = found
  if (service.vips.length > 0) {
    return service.vips.filter(vip => vip.network === network && matches(vip.ip)).map(({ ip }) => ip)
  }
  const pods = view.endpoints(serviceKey(service)).map(({ workloadUid }) => view.workloadByUid(workloadUid))
  return pods.map(pod => pod?.addresses.find(matches)).filter(address => address !== undefined)
}

/** In random order: clients take the first. */
function shuffled(addresses: readonly Ip[], random: () => number): readonly Ip[] {
  const order = addresses.map(address => ({ address, rank: random() }))
  return order.toSorted((a, b) => a.rank - b.rank).map(({ address }) => address)
}
