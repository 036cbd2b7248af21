/** On-demand discovery: before a route is decided, what it reads of the mesh is asked for by name. */
import { serviceKey, type GatewayAddress, type Service, type Workload } from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import type { Ip } from '../shared/net/address.ts'
import type { Pod } from './pod.ts'

/** An address leads to a service or workload, that to a waypoint or gateway, that to its workloads. */
const MOST_ROUNDS = 4

/** Resolves when all is there that the control plane has, or when waiting for it has lasted long enough. */
export async function discover(pod: Pod, source: Workload, destination: Ip): Promise<void> {
  const asked = new Set<string>()
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const needed = pod.mesh.read(view => missing(view, pod.config.network, source, destination))
    const names = needed.filter(name => !asked.has(name))
    if (names.length === 0) return
    for (const name of names) asked.add(name)
    await Promise.all(names.map(name => pod.addresses.find(name)))
  }
}

/** Names of what a connection to the address needs and the mesh does not hold: `network/ip` or `namespace/hostname`. */
export function missing(
  view: MeshView,
  network: string,
  source: Workload,
  destination: Ip
): readonly string[] {
  const service = view.serviceByAddress(network, destination, source.namespace)
  const workload = view.workloadByAddress(network, destination)
  if (service === undefined && workload === undefined) return [`${network}/${destination}`]
  const names = new Set<string>()
  const need = (gateway: GatewayAddress | undefined): void => {
    if (gateway !== undefined && !isKnown(view, gateway, source.namespace)) names.add(nameOf(gateway))
  }
  if (service !== undefined) {
    need(service.waypoint)
    for (const { destination: waypoint } of service.weightedWaypoints) need(waypoint)
    for (const gateway of networkGateways(view, service, network)) need(gateway)
  }
  if (workload !== undefined) {
    need(workload.waypoint)
    if (workload.network !== network) need(workload.networkGateway)
    for (const key of workload.services.keys()) if (view.service(key) === undefined) names.add(key)
  }
  return [...names]
}

function isKnown(view: MeshView, { destination }: GatewayAddress, clientNamespace: string): boolean {
  if (destination.kind === 'address') {
    const { network, ip } = destination
    return (
      view.workloadByAddress(network, ip) !== undefined ||
      view.serviceByAddress(network, ip, clientNamespace) !== undefined
    )
  }
  const { namespace, hostname } = destination
  return (
    view.service(serviceKey({ namespace, hostname })) !== undefined ||
    view.workloadByHostname(namespace, hostname) !== undefined
  )
}

function nameOf({ destination }: GatewayAddress): string {
  return destination.kind === 'address'
    ? `${destination.network}/${destination.ip}`
    : `${destination.namespace}/${destination.hostname}`
}

/** Of the service's endpoints in other networks; found once as long as the endpoints stay as they are. */
function networkGateways(view: MeshView, service: Service, network: string): readonly GatewayAddress[] {
  const table = view.endpointTable(serviceKey(service))
  return table.derived(`network gateways outside ${network}`, () => {
    const found = new Map<string, GatewayAddress>()
    for (let row = 0; row < table.length; row++) {
      if (!table.hasGateway(row)) continue
      const { network: home, networkGateway } = table.workload(row)
      if (home !== network && networkGateway !== undefined) found.set(nameOf(networkGateway), networkGateway)
    }
    return [...found.values()]
  })
}
