/** Waypoints that have to know a service although its traffic does not go through them. */
import type { ClusterView, HostOwner } from '../cluster/cluster.ts'
import { allWaypoints } from './mesh-config.ts'
import type { GatewayAddressMessage } from './messages.ts'
import { routedWaypoints } from './route.ts'

/** Their routes lead to it, or they ask it as an extension provider. */
export function furtherWaypoints(
  view: ClusterView,
  owner: HostOwner,
  hostname: string
): readonly GatewayAddressMessage[] {
  const routed = routedWaypoints(view, owner, hostname)
  return view.settings.providerHosts.has(hostname) ? [...routed, ...allWaypoints(view)] : routed
}
