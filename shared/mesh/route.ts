/**
 * Where a captured connection goes: a pure function of the mesh, the source and the original destination.
 * Source: the outbound behaviour of Istio's ztunnel.
 */
import { formatSocketAddress, ipFamily, type Family, type Ip, type SocketAddress } from '../net/address.ts'
import { parseSpiffeId, type SpiffeId } from '../identity/spiffe-id.ts'
import { workloadIdentity, type GatewayAddress, type Service, type Workload } from './model.ts'
import { pickEndpoint, type PickContext } from './pick.ts'
import type { MeshView } from './view.ts'

/** Port on which every pod of the mesh takes HBONE. */
export const HBONE_PORT = 15008

export interface RouteContext extends PickContext {
  /** The proxy's own network. */
  readonly network: string
  /** What happens with destinations that nobody registered; ALLOW_ANY when left out. */
  readonly outboundTrafficPolicy?: 'ALLOW_ANY' | 'REGISTRY_ONLY'
}

/** An HBONE peer: where it listens, who it must be. */
export interface Hop {
  readonly address: SocketAddress
  /** Identities of which the peer must prove one. */
  readonly expected: readonly SpiffeId[]
  readonly workload: Workload
}

/**
 * `service` is the one that the connection was meant for, for telemetry and policy texts; `destination` is the
 * workload that is dialled next (a waypoint or gateway where one is in between).
 */
export type Route =
  /** Nothing is known about the destination: plain TCP to where it was going. */
  | { readonly kind: 'passthrough'; readonly to: SocketAddress; readonly service: undefined }
  /** A known workload that does not speak HBONE. */
  | {
      readonly kind: 'plaintext'
      readonly to: SocketAddress
      readonly destination: Workload
      readonly service: Service | undefined
    }
  /** One tunnel. `target` is set when the hop is the destination itself: the application's address there. */
  | {
      readonly kind: 'hbone'
      readonly hop: Hop
      readonly authority: string
      readonly through: 'destination' | 'service-waypoint' | 'workload-waypoint'
      readonly target: SocketAddress | undefined
      readonly destination: Workload
      readonly service: Service | undefined
    }
  /** A tunnel to another network's gateway, and in it a second one to the destination or waypoint. */
  | {
      readonly kind: 'double-hbone'
      readonly gateway: Hop
      /** `hostname:port` of the service, in both CONNECTs. */
      readonly authority: string
      /** Empty when the service names nobody: then no peer will do. */
      readonly innerExpected: readonly SpiffeId[]
      readonly destination: Workload
      readonly service: Service
    }
  /** The chosen workload is known by host name only: look it up, then go on with the address. */
  | {
      readonly kind: 'resolve'
      readonly hostname: string
      readonly prefer: Family
      readonly workload: Workload
      readonly service: Service | undefined
      readonly withAddress: (ip: Ip) => Route
    }
  | { readonly kind: 'refused'; readonly reason: RefusalReason; readonly message: string }

export type RefusalReason =
  | 'unknown-waypoint'
  | 'unknown-network-gateway'
  | 'no-healthy-upstream'
  | 'no-service-for-target'
  | 'no-valid-destination'
  | 'not-registered'

export function decideRoute(view: MeshView, context: RouteContext, destination: SocketAddress): Route {
  const { network, source } = context
  // A pod's own address is never service-addressed, even where a service has the same one.
  const service =
    view.workloadByAddress(network, destination.ip) === undefined
      ? view.serviceByAddress(network, destination.ip, source.namespace)
      : undefined

  const serviceWaypoint = service === undefined ? undefined : waypointOf(service, context.random)
  if (service !== undefined && serviceWaypoint !== undefined) {
    return routeByServiceWaypoint(view, context, destination, service, serviceWaypoint)
  }

  const upstream = findUpstream(view, context, network, destination, 'standard')
  if (upstream === undefined) return withoutUpstream(context, destination, service)

  const { workload } = upstream
  if (workload.network !== source.network) {
    if (service === undefined) {
      return refused(
        'no-service-for-target',
        `no service for target address: ${formatSocketAddress(destination)}`
      )
    }
    return routeByNetworkGateway(view, context, destination, service, upstream)
  }
  if (
    service === undefined &&
    workload.waypoint !== undefined &&
    !isBehind(view, context, workload.waypoint)
  ) {
    return routeByWorkloadWaypoint(view, context, destination, upstream, workload.waypoint)
  }
  return routeDirectly(upstream, destination.ip)
}

/** What a connection is sent to: a workload's port, and the service that led there. */
interface Upstream {
  readonly workload: Workload
  readonly port: number
  readonly service: Service | undefined
}

/** A service by its address first, else a workload. Undefined also for a service that does not balance. */
function findUpstream(
  view: MeshView,
  context: RouteContext,
  network: string,
  { ip, port }: SocketAddress,
  mode: 'standard' | 'gateway'
): Upstream | undefined {
  const service = view.serviceByAddress(network, ip, context.source.namespace)
  if (service !== undefined) return pickUpstream(view, context, service, port, mode)
  const workload = view.workloadByAddress(network, ip)
  return workload === undefined ? undefined : { workload, port, service: undefined }
}

function pickUpstream(
  view: MeshView,
  context: RouteContext,
  service: Service,
  port: number,
  mode: 'standard' | 'gateway'
): Upstream | undefined {
  if (service.loadBalancer?.mode === 'Passthrough') return undefined
  const picked = pickEndpoint(view, service, port, mode, context)
  return picked === undefined ? undefined : { ...picked, service }
}

/** A service without a usable endpoint fails closed; what nobody registered passes, unless that is forbidden. */
function withoutUpstream(
  context: RouteContext,
  destination: SocketAddress,
  service: Service | undefined
): Route {
  const where = formatSocketAddress(destination)
  if (service !== undefined && service.loadBalancer?.mode !== 'Passthrough') {
    return refused('no-healthy-upstream', `no healthy upstream: ${where}`)
  }
  if (service === undefined && context.outboundTrafficPolicy === 'REGISTRY_ONLY') {
    return refused(
      'not-registered',
      `${where} is not registered in the mesh, and the outbound traffic policy is REGISTRY_ONLY; add a ServiceEntry for it`
    )
  }
  return { kind: 'passthrough', to: destination, service: undefined }
}

function routeByServiceWaypoint(
  view: MeshView,
  context: RouteContext,
  destination: SocketAddress,
  service: Service,
  reference: GatewayAddress
): Route {
  const waypoint = findGateway(view, context, reference)
  if (waypoint === undefined) return unknownWaypoint(reference)
  if (waypoint.workload.network !== context.source.network) {
    return routeByNetworkGateway(view, context, destination, service, waypoint)
  }
  return withAddressOf(waypoint, requestedIp(reference, destination.ip), ip => ({
    kind: 'hbone',
    hop: hopTo(waypoint, { ip, port: waypoint.port }),
    authority: formatSocketAddress(destination),
    through: 'service-waypoint',
    target: undefined,
    destination: waypoint.workload,
    service
  }))
}

function routeByWorkloadWaypoint(
  view: MeshView,
  context: RouteContext,
  destination: SocketAddress,
  upstream: Upstream,
  reference: GatewayAddress
): Route {
  const waypoint = findGateway(view, context, reference)
  if (waypoint === undefined) return unknownWaypoint(reference)
  return withAddressOf(waypoint, requestedIp(reference, destination.ip), ip => ({
    kind: 'hbone',
    hop: hopTo(waypoint, { ip, port: waypoint.port }),
    authority: formatSocketAddress(destination),
    through: 'workload-waypoint',
    target: undefined,
    destination: waypoint.workload,
    service: upstream.service
  }))
}

/** `upstream` (a workload, or the waypoint in front of it) is in another network, behind that network's gateway. */
function routeByNetworkGateway(
  view: MeshView,
  context: RouteContext,
  destination: SocketAddress,
  service: Service,
  upstream: Upstream
): Route {
  const reference = upstream.workload.networkGateway
  if (reference === undefined) return noValidDestination(upstream.workload)
  const gateway = findGateway(view, context, reference)
  if (gateway === undefined) {
    return refused('unknown-network-gateway', `unknown network gateway: ${formatGateway(reference)}`)
  }
  return withAddressOf(gateway, requestedIp(reference, destination.ip), ip => ({
    kind: 'double-hbone',
    gateway: hopTo(gateway, { ip, port: gateway.port }),
    authority: `${service.hostname}:${destination.port}`,
    innerExpected: serviceIdentities(upstream.service),
    destination: gateway.workload,
    service
  }))
}

function routeDirectly(upstream: Upstream, requested: Ip): Route {
  const { workload, port, service } = upstream
  return withAddressOf(upstream, requested, ip => {
    const target = { ip, port }
    if (workload.protocol === 'TCP') return { kind: 'plaintext', to: target, destination: workload, service }
    return {
      kind: 'hbone',
      hop: hopTo(upstream, { ip, port: HBONE_PORT }),
      authority: formatSocketAddress(target),
      through: 'destination',
      target,
      destination: workload,
      service
    }
  })
}

/** A waypoint of several by weight, one for each connection; else the single one. */
export function waypointOf(service: Service, random: () => number): GatewayAddress | undefined {
  const { weightedWaypoints } = service
  const total = weightedWaypoints.reduce((sum, { weight }) => sum + weight, 0)
  if (total === 0) return service.waypoint
  let rest = random() * total
  for (const { destination, weight } of weightedWaypoints) {
    rest -= weight
    if (rest < 0) return destination
  }
  return service.waypoint
}

/** The waypoint or network gateway that a reference means; its port counts as a service port. */
function findGateway(view: MeshView, context: RouteContext, reference: GatewayAddress): Upstream | undefined {
  const { destination, hboneMtlsPort: port } = reference
  if (destination.kind === 'address') {
    const { network, ip } = destination
    return findUpstream(view, context, network, { ip, port }, 'gateway')
  }
  const { namespace, hostname } = destination
  const service = view.service(`${namespace}/${hostname}`)
  if (service !== undefined) return pickUpstream(view, context, service, port, 'gateway')
  const workload = view.workloadByHostname(namespace, hostname)
  return workload === undefined ? undefined : { workload, port, service: undefined }
}

/** Whether the source itself is the waypoint, so that it does not send to itself. */
function isBehind(view: MeshView, { source, sourceIp }: RouteContext, reference: GatewayAddress): boolean {
  const isSource = (workload: Workload | undefined): boolean =>
    workload !== undefined &&
    workload.addresses.includes(sourceIp) &&
    workloadIdentity(workload) === workloadIdentity(source)
  const { destination } = reference
  if (destination.kind === 'hostname') {
    const key = `${destination.namespace}/${destination.hostname}`
    if (view.service(key) === undefined) {
      return isSource(view.workloadByHostname(destination.namespace, destination.hostname))
    }
    return view.hasEndpoint(key, source.uid) && isSource(source)
  }
  const workload = view.workloadByAddress(destination.network, destination.ip)
  if (workload !== undefined) return isSource(workload)
  const service = view.serviceByAddress(destination.network, destination.ip, source.namespace)
  if (service === undefined) return false
  return view.hasEndpoint(`${service.namespace}/${service.hostname}`, source.uid) && isSource(source)
}

/** An address that a reference gives wins over the one that the client used. */
function requestedIp({ destination }: GatewayAddress, requested: Ip): Ip {
  return destination.kind === 'address' ? destination.ip : requested
}

/**
 * Goes on with one of the workload's addresses: the requested one, else the first that the service's families
 * allow, of the requested family if there is one; else with what its host name will be found to mean.
 */
function withAddressOf(upstream: Upstream, requested: Ip, route: (ip: Ip) => Route): Route {
  const { workload, service } = upstream
  if (workload.addresses.includes(requested)) return route(requested)
  const prefer = ipFamily(requested)
  const allowed = workload.addresses.filter(ip => familyAllowed(service, ip))
  const ip = allowed.find(ip => ipFamily(ip) === prefer) ?? allowed[0]
  if (ip !== undefined) return route(ip)
  if (workload.hostname === '') return noValidDestination(workload)
  return { kind: 'resolve', hostname: workload.hostname, prefer, workload, service, withAddress: route }
}

function familyAllowed(service: Service | undefined, ip: Ip): boolean {
  const families = service?.ipFamilies
  if (families === undefined || families === 'Dual') return true
  return ipFamily(ip) === (families === 'IPv4' ? 4 : 6)
}

/** The peer must prove to be the workload, or one of those that its service names besides. */
function hopTo({ workload, service }: Upstream, address: SocketAddress): Hop {
  return { address, expected: [...serviceIdentities(service), workloadIdentity(workload)], workload }
}

/** What is no identity is left out: nobody can prove it. */
function serviceIdentities(service: Service | undefined): readonly SpiffeId[] {
  return (service?.subjectAltNames ?? []).map(parseSpiffeId).filter(id => id !== undefined)
}

function refused(reason: RefusalReason, message: string): Route {
  return { kind: 'refused', reason, message }
}

function unknownWaypoint(reference: GatewayAddress): Route {
  return refused('unknown-waypoint', `unknown waypoint: ${formatGateway(reference)}`)
}

function noValidDestination(workload: Workload): Route {
  return refused('no-valid-destination', `no valid routing destination for workload: ${workload.uid}`)
}

function formatGateway({ destination, hboneMtlsPort }: GatewayAddress): string {
  return destination.kind === 'address'
    ? `${destination.network}/${formatSocketAddress({ ip: destination.ip, port: hboneMtlsPort })}`
    : `${destination.namespace}/${destination.hostname}:${hboneMtlsPort}`
}
