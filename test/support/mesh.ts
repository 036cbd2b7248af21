/** Meshes for tests, with only what matters written out; the store and its memory are the real ones. */
import { ip, parseCidr, type Cidr, type Ip } from '../../shared/net/address.ts'
import {
  noLabels,
  type GatewayAddress,
  type Policy,
  type PortMap,
  type Service,
  type Workload
} from '../../shared/mesh/model.ts'
import { MeshStore, type MeshStoreOptions } from '../../shared/mesh/store.ts'

/** A pod of namespace `shop` on HBONE; its name also makes its uid. */
export function workload(parts: Partial<Workload> & { readonly name: string }): Workload {
  const { name, namespace = 'shop' } = parts
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    namespace,
    addresses: [],
    hostname: '',
    network: '',
    networkMode: 'Standard',
    protocol: 'HBONE',
    nativeTunnel: false,
    trustDomain: 'cluster.local',
    serviceAccount: name,
    waypoint: undefined,
    networkGateway: undefined,
    applicationTunnel: undefined,
    node: 'node1',
    canonicalName: name,
    canonicalRevision: 'v1',
    workloadName: name,
    workloadType: 'deployment',
    clusterId: 'Kubernetes',
    locality: { region: '', zone: '', subzone: '' },
    services: new Map(),
    authorizationPolicies: [],
    status: 'Healthy',
    capacity: 1,
    labels: noLabels,
    ...parts
  }
}

/** A Kubernetes Service of namespace `shop`, port 80 to 8080. */
export function service(parts: Partial<Service> & { readonly name: string }): Service {
  const { name, namespace = 'shop' } = parts
  return {
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    vips: [],
    cidrVips: [],
    ports: new Map([[80, 8080]]),
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancer: undefined,
    ipFamilies: undefined,
    canonical: true,
    visibility: 'Public',
    ingressUsesWaypoint: false,
    traffic: undefined,
    protocols: new Map(),
    ...parts
  }
}

export function addresses(...texts: string[]): Ip[] {
  return texts.map(ip)
}

export function vips(...texts: string[]): Service['vips'] {
  return texts.map(text => {
    const slash = text.indexOf('/')
    return { network: text.slice(0, Math.max(0, slash)), ip: ip(text.slice(slash + 1)) }
  })
}

/** `endpointOf('web')` or `endpointOf('web', [[80, 9090]])`: in services of namespace `shop`. */
export function endpointOf(
  name: string,
  ports: readonly (readonly [number, number])[] = []
): Workload['services'] {
  return new Map<string, PortMap>([[`shop/${name}.shop.svc.cluster.local`, new Map(ports)]])
}

/** `ns/host:port` or `network/ip:port`. */
export function gatewayTo(text: string, kind: 'hostname' | 'address' = 'hostname'): GatewayAddress {
  const [, first = '', second = '', port = '0'] = /^(.*?)\/(.*):(\d+)$/.exec(text) ?? []
  return {
    destination:
      kind === 'hostname'
        ? { kind, namespace: first, hostname: second }
        : { kind, network: first, ip: ip(second) },
    hboneMtlsPort: Number(port)
  }
}

export function cidr(text: string): Cidr {
  const block = parseCidr(text)
  if (block === undefined) throw new Error(`not a block: ${text}`)
  return block
}

export interface MeshParts {
  readonly workloads?: readonly Workload[]
  readonly services?: readonly Service[]
  readonly policies?: readonly Policy[]
}

export function storeOf(parts: MeshParts, options: MeshStoreOptions = {}): MeshStore {
  const store = new MeshStore(options)
  store.apply([
    ...(parts.policies ?? []).map(policy => ({ kind: 'policy', policy }) as const),
    ...(parts.services ?? []).map(service => ({ kind: 'service', service }) as const),
    ...(parts.workloads ?? []).map(workload => ({ kind: 'workload', workload }) as const)
  ])
  return store
}
