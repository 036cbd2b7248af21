/**
 * Which application a CONNECT request reaches: a pure decision. The host is always the pod that the request
 * arrived at; the authority only chooses the port, or a tunnel would be an open relay.
 */
import type { Authority } from '../shared/hbone/connect.ts'
import {
  serviceKey,
  type GatewayAddress,
  type Service,
  type ServiceKey,
  type Workload
} from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import { formatSocketAddress, ipFamily, type Ip, type SocketAddress } from '../shared/net/address.ts'
import type { ErrorCode } from '../shared/runtime/errors.ts'

export interface InboundRequest {
  readonly authority: Authority
  /** The accepted socket's own address: pod IP and 15008. */
  readonly local: SocketAddress
  /** The pod's record. */
  readonly workload: Workload
  readonly network: string
  /** Service that the client asked for, as its proxy says; telemetry only. */
  readonly forwardedHost: string | undefined
  readonly isIllegalPort: (port: number) => boolean
}

export type InboundTarget =
  | {
      readonly kind: 'target'
      /** What policies judge and the connection goes to; an application tunnel's port has replaced the one asked for. */
      readonly target: SocketAddress
      readonly service: Service | undefined
      /** Set when the application takes PROXY headers: the destination to name in them. */
      readonly proxyDestination: SocketAddress | undefined
    }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string }

export function findInboundTarget(view: MeshView, request: InboundRequest): InboundTarget {
  const { authority, local, workload } = request
  if (authority.kind === 'address' && !addressAllowed(view, request, authority.address.ip)) {
    return refused('AUTHORITY_MISMATCH', `ip mismatch: ${local.ip} != ${authority.address.ip}`)
  }
  const named =
    authority.kind === 'hostname' ? view.serviceByHostname(authority.hostname, workload.namespace) : undefined
  if (authority.kind === 'hostname' && named === undefined) {
    return refused('SERVICE_UNKNOWN', `no service or workload for hostname: ${authority.hostname}`)
  }
  const servicePort = authority.kind === 'hostname' ? authority.port : authority.address.port
  const port = named === undefined ? servicePort : targetPortOf(named, workload, servicePort)
  if (port === 0) {
    return refused('PORT_UNKNOWN', `requested service ${textOf(authority)} found, but cannot resolve port`)
  }
  if (request.isIllegalPort(port)) return refused('RECURSIVE_CALL', 'attempted recursive call to ourselves')
  const { applicationTunnel } = workload
  let proxyDestination: SocketAddress | undefined
  if (applicationTunnel?.protocol === 'PROXY') {
    proxyDestination =
      authority.kind === 'address' ? authority.address : vipOf(named, request.network, servicePort)
    if (proxyDestination === undefined) {
      return refused(
        'SERVICE_WITHOUT_ADDRESS',
        `requested service ${textOf(authority)} found, but has no IP addresses`
      )
    }
  }
  const tunnelPort = applicationTunnel?.port ?? 0
  return {
    kind: 'target',
    target: { ip: local.ip, port: tunnelPort === 0 ? port : tunnelPort },
    service: named ?? intendedService(view, workload, request.forwardedHost, port),
    proxyDestination
  }
}

/** The service that a connection to this port of the workload was meant for, as far as can be told. */
export function intendedService(
  view: MeshView,
  workload: Workload,
  forwardedHost: string | undefined,
  port: number
): Service | undefined {
  if (forwardedHost !== undefined) {
    for (const key of workload.services.keys()) {
      if (hostnameOf(key) === forwardedHost) return view.service(key)
    }
  }
  for (const [key, ports] of workload.services) {
    const service = view.service(key)
    if (service === undefined) continue
    for (const target of ports.values()) if (target === port) return service
    for (const target of service.ports.values()) if (target === port) return service
  }
  return undefined
}

/**
 * The authority may name this pod, anything when the pod terminates an application tunnel, or something whose
 * waypoint this pod is.
 */
function addressAllowed(view: MeshView, { local, workload, network }: InboundRequest, asked: Ip): boolean {
  if (asked === local.ip || workload.applicationTunnel !== undefined) return true
  const found =
    view.workloadByAddress(network, asked) ?? view.serviceByAddress(network, asked, workload.namespace)
  if (found === undefined) return false
  const weighted =
    'weightedWaypoints' in found ? found.weightedWaypoints.map(({ destination }) => destination) : []
  return [found.waypoint, ...weighted].some(
    waypoint => waypoint !== undefined && isUs(view, waypoint, workload, local.ip)
  )
}

function isUs(view: MeshView, { destination }: GatewayAddress, workload: Workload, local: Ip): boolean {
  if (destination.kind === 'hostname') {
    const { namespace, hostname } = destination
    const key = serviceKey({ namespace, hostname })
    if (view.service(key) !== undefined) return view.hasEndpoint(key, workload.uid)
    return view.workloadByHostname(namespace, hostname)?.addresses.includes(local) ?? false
  }
  const { network, ip } = destination
  const service = view.serviceByAddress(network, ip, workload.namespace)
  if (service !== undefined) return view.hasEndpoint(serviceKey(service), workload.uid)
  return view.workloadByAddress(network, ip)?.addresses.includes(local) ?? false
}

function targetPortOf(service: Service, workload: Workload, servicePort: number): number {
  return workload.services.get(serviceKey(service))?.get(servicePort) || (service.ports.get(servicePort) ?? 0)
}

/** A VIP of the own network first, IPv4 first. */
function vipOf(service: Service | undefined, network: string, port: number): SocketAddress | undefined {
  const rank = (vip: { network: string; ip: Ip }): number =>
    (vip.network === network ? 0 : 2) + (ipFamily(vip.ip) === 4 ? 0 : 1)
  const [first] = (service?.vips ?? []).toSorted((a, b) => rank(a) - rank(b))
  return first === undefined ? undefined : { ip: first.ip, port }
}

function textOf(authority: Authority): string {
  return authority.kind === 'hostname'
    ? `${authority.hostname}:${authority.port}`
    : formatSocketAddress(authority.address)
}

function hostnameOf(key: ServiceKey): string {
  return key.slice(key.indexOf('/') + 1)
}

function refused(code: ErrorCode, message: string): InboundTarget {
  return { kind: 'refused', code, message }
}
