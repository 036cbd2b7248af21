/**
 * A gateway's way to services whose waypoint has its say on what comes from outside, too: to one of the waypoint's
 * pods, which is asked for the service's address. Source: Istio's label istio.io/ingress-use-waypoint, as the Workload
 * API tells it.
 */
import type { GatewayAddress, Service } from '../../shared/mesh/model.ts'
import { waypointOf } from '../../shared/mesh/route.ts'
import type { SocketAddress } from '../../shared/net/address.ts'
import { pickPod } from '../pick-pod.ts'
import type { Waypoint } from '../waypoint.ts'
import type { Target } from './tunnels.ts'

type Means = Pick<Waypoint, 'view' | 'config' | 'random'>

export interface ThroughWaypoint {
  readonly kind: 'waypoint'
  readonly service: Service
  readonly port: number
  readonly waypoint: GatewayAddress
  /** What the waypoint is asked for. */
  readonly address: SocketAddress
}

/** Undefined: straight to a pod. A service without an address cannot be asked for. */
export function throughWaypoint(
  { config, random }: Means,
  service: Service,
  port: number
): ThroughWaypoint | undefined {
  if (config.role !== 'gateway' || !service.ingressUsesWaypoint) return undefined
  const waypoint = waypointOf(service, random)
  const vip = service.vips.find(({ network }) => network === config.network)
  if (waypoint === undefined || vip === undefined) return undefined
  return { kind: 'waypoint', service, port, waypoint, address: { ip: vip.ip, port } }
}

/** Undefined: the waypoint is not known, or none of its pods is ready; then nothing goes past it. */
export function pickWaypointPod(
  means: Means,
  { waypoint: { destination, hboneMtlsPort }, address }: ThroughWaypoint,
  exclude?: ReadonlySet<string>
): Target | undefined {
  const view = means.view()
  const service =
    destination.kind === 'hostname'
      ? view.service(`${destination.namespace}/${destination.hostname}`)
      : view.serviceByAddress(destination.network, destination.ip, means.config.podNamespace)
  if (service === undefined) return undefined
  const pod = pickPod(means, service, hboneMtlsPort, exclude === undefined ? {} : { exclude })
  return pod === undefined ? undefined : { ...pod, asks: address }
}
