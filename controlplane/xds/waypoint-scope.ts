/** A waypoint is sent what goes through it, not the whole mesh. */
import type { Caller } from '../access/token.ts'
import type { ClientNode } from './client-node.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import { gatewayName } from '../desired/snapshot.ts'
import { gatewayAddress } from '../translate/waypoint.ts'

/**
 * What tells the present address of the waypoint that the client is an instance of; undefined for other clients, for
 * one that has the account of another pod, and for a pod that is not known (yet). These get all addresses, and no
 * configuration.
 */
export function waypointScope(
  view: ClusterView,
  node: ClientNode,
  caller: Caller | undefined
): (() => string | undefined) | undefined {
  if (node.type !== 'waypoint') return undefined
  const pod = view.get('Pod', `${node.namespace}/${node.pod}`)
  const name = pod?.meta.labels[gatewayNameLabel]
  if (pod === undefined || name === undefined) return undefined
  if (caller !== undefined && caller.serviceAccount !== pod.serviceAccount) return undefined
  return () => {
    const gateway = view.get('Gateway', `${node.namespace}/${name}`)
    const address = gateway === undefined ? undefined : gatewayAddress(view, gateway)
    return address === undefined ? undefined : gatewayName(address)
  }
}
