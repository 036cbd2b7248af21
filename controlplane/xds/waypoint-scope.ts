/** A waypoint is sent what goes through it, not the whole mesh. */
import type { ClientNode } from './client-node.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import { gatewayName } from '../desired/snapshot.ts'
import { gatewayAddress } from '../translate/waypoint.ts'

/**
 * What tells the present address of the waypoint that the client is an instance of; undefined for other
 * clients, and for a pod that is not known (yet), which gets everything.
 */
export function waypointScope(view: ClusterView, node: ClientNode): (() => string | undefined) | undefined {
  if (node.type !== 'waypoint') return undefined
  const name = view.get('Pod', `${node.namespace}/${node.pod}`)?.meta.labels[gatewayNameLabel]
  if (name === undefined) return undefined
  return () => {
    const gateway = view.get('Gateway', `${node.namespace}/${name}`)
    const address = gateway === undefined ? undefined : gatewayAddress(view, gateway)
    return address === undefined ? undefined : gatewayName(address)
  }
}
