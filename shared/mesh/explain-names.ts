/**
 * What people call the ends of a connection, found in a mesh view.
 *
 * Forms: a uid; an IP address; `namespace/hostname` (a service's key); a host name; `[kind/]name[.namespace]` with
 * the kinds pod, deployment (deploy) and service (svc). A destination ends in `:port`.
 */
import { parseIp, type Ip, type SocketAddress, ipFamily } from '../net/address.ts'
import { serviceKey, type Service, type Workload } from './model.ts'
import type { MeshView } from './view.ts'

export interface NamedDestination {
  /** What a client connects to; several when the service has no address of its own. */
  readonly addresses: readonly SocketAddress[]
  readonly port: number
  readonly service: Service | undefined
  readonly workload: Workload | undefined
  /** How the name was read. */
  readonly because: readonly string[]
}

const kinds: Readonly<Record<string, 'pod' | 'deployment' | 'service'>> = {
  pod: 'pod',
  po: 'pod',
  pods: 'pod',
  deploy: 'deployment',
  deployment: 'deployment',
  deployments: 'deployment',
  svc: 'service',
  service: 'service',
  services: 'service'
}

/** The workload, or a text that says why there is none. */
export function findSource(view: MeshView, text: string, namespace: string): Workload | string {
  const found = findWorkload(view, text, namespace, new Set(['pod', 'deployment']))
  if (typeof found === 'string') return found
  return found.addresses.length === 0 ? `${text} has no IP address yet` : found
}

/** The destination as the source would reach it, or a text that says why there is none. */
export function findDestination(
  view: MeshView,
  text: string,
  namespace: string,
  source: Workload
): NamedDestination | string {
  const { name, port } = splitPort(text)
  if (port === undefined) return `${JSON.stringify(text)} has no port: write ${text}:PORT (1 to 65535)`
  const ip = parseIp(name)
  if (ip !== undefined) return atAddress(view, ip, port, source)
  const service = findService(view, name, namespace, source.namespace)
  if (service !== undefined) return atService(view, service, port, source)
  const workload = findWorkload(view, name, namespace, new Set(['pod', 'deployment']))
  if (typeof workload === 'string') return workload
  const own = preferred(workload.addresses, source)
  if (own === undefined) return `${name} has no IP address yet`
  return {
    addresses: [{ ip: own, port }],
    port,
    service: undefined,
    workload,
    because: [`${own} is the address of ${kindOf(workload)} ${workload.namespace}/${workload.name}`]
  }
}

function splitPort(text: string): { name: string; port: number | undefined } {
  const match = /^(.*):(\d{1,5})$/.exec(text)
  const port = Number(match?.[2] ?? 0)
  const name = (match?.[1] ?? text).replace(/^\[(.*)\]$/, '$1')
  return { name, port: port >= 1 && port <= 65535 ? port : undefined }
}

function atAddress(view: MeshView, ip: Ip, port: number, source: Workload): NamedDestination {
  const workload = view.workloadByAddress(source.network, ip)
  const service =
    workload === undefined ? view.serviceByAddress(source.network, ip, source.namespace) : undefined
  const because =
    workload !== undefined
      ? `${ip} is the address of ${kindOf(workload)} ${workload.namespace}/${workload.name}`
      : service !== undefined
        ? `${ip} is the address of service ${serviceKey(service)}`
        : `nothing in the mesh has the address ${ip}`
  return { addresses: [{ ip, port }], port, service, workload, because: [because] }
}

function atService(
  view: MeshView,
  service: Service,
  port: number,
  source: Workload
): NamedDestination | string {
  const key = serviceKey(service)
  if (!service.ports.has(port)) {
    const known = [...service.ports.keys()].join(', ')
    return `service ${key} has no port ${port} (it has: ${known || 'none'})`
  }
  const vips = service.vips.filter(({ network }) => network === source.network).map(({ ip }) => ip)
  const vip = preferred(vips, source)
  if (vip !== undefined) {
    const because = [`${vip} is the address of service ${key}`]
    return { addresses: [{ ip: vip, port }], port, service, workload: undefined, because }
  }
  const addresses = view.endpoints(key).flatMap(endpoint => {
    const ip = preferred(view.workloadByUid(endpoint.workloadUid)?.addresses ?? [], source)
    const target = endpoint.ports.get(port) || service.ports.get(port) || 0
    return ip === undefined || target === 0 ? [] : [{ ip, port: target }]
  })
  if (addresses.length === 0) return `service ${key} has neither an address of its own nor endpoints`
  const because = [`service ${key} has no address of its own: the client connects to a pod`]
  return { addresses, port, service, workload: undefined, because }
}

function findService(
  view: MeshView,
  text: string,
  namespace: string,
  clientNamespace: string
): Service | undefined {
  const byKey = view.service(text)
  if (byKey !== undefined) return byKey
  const { kind, rest } = splitKind(text)
  if (kind !== undefined && kind !== 'service') return undefined
  const byHost = view.serviceByHostname(rest, clientNamespace)
  if (byHost !== undefined) return byHost
  const { name, namespace: wanted } = splitNamespace(rest, namespace)
  for (const service of view.services()) {
    if (service.namespace !== wanted || service.name !== name) continue
    if (service.canonical || service.hostname.startsWith(`${name}.`)) return service
  }
  return undefined
}

function findWorkload(
  view: MeshView,
  text: string,
  namespace: string,
  wanted: ReadonlySet<string>
): Workload | string {
  const byUid = view.workloadByUid(text)
  if (byUid !== undefined) return byUid
  const ip = parseIp(text)
  if (ip !== undefined) {
    for (const workload of view.workloads()) if (workload.addresses.includes(ip)) return workload
    return `no workload has the address ${ip}`
  }
  const { kind, rest } = splitKind(text)
  if (kind !== undefined && !wanted.has(kind)) return `no ${kind} ${rest} in the mesh`
  const { name, namespace: space } = splitNamespace(rest, namespace)
  let found: Workload | undefined
  for (const workload of view.workloads()) {
    if (workload.namespace !== space) continue
    if (kind !== 'deployment' && workload.name === name) return workload
    if (kind === 'pod' || workload.workloadName !== name) continue
    if (found === undefined || rank(workload) < rank(found)) found = workload
  }
  return found ?? `no ${kind ?? 'pod, deployment or service'} ${name} in namespace ${space}`
}

/** Of a deployment's pods: healthy ones that have an address first, then by name, so that the choice is stable. */
function rank(workload: Workload): string {
  const usable = workload.status === 'Healthy' && workload.addresses.length > 0 ? '0' : '1'
  return `${usable} ${workload.name}`
}

function splitKind(text: string): { kind: 'pod' | 'deployment' | 'service' | undefined; rest: string } {
  const slash = text.indexOf('/')
  const kind = slash === -1 ? undefined : kinds[text.slice(0, slash).toLowerCase()]
  return kind === undefined ? { kind, rest: text } : { kind, rest: text.slice(slash + 1) }
}

/** `name.namespace`, `namespace/name`, or a bare name in the default namespace. */
function splitNamespace(text: string, fallback: string): { name: string; namespace: string } {
  const slash = text.indexOf('/')
  if (slash !== -1) return { namespace: text.slice(0, slash), name: text.slice(slash + 1) }
  const dot = text.indexOf('.')
  return dot === -1
    ? { name: text, namespace: fallback }
    : { name: text.slice(0, dot), namespace: text.slice(dot + 1) }
}

/** The first address of the source's family, else the first. */
function preferred(addresses: readonly Ip[], source: Workload): Ip | undefined {
  const family = source.addresses[0] === undefined ? 4 : ipFamily(source.addresses[0])
  return addresses.find(ip => ipFamily(ip) === family) ?? addresses[0]
}

function kindOf(workload: Workload): string {
  return workload.uid.includes('//Pod/') ? 'pod' : 'workload'
}
