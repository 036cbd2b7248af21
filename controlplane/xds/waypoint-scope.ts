/** A waypoint is sent what goes through it, not the whole mesh. */
import type { Caller } from '../access/token.ts'
import type { ClientNode } from './client-node.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import { gatewayName } from '../desired/snapshot.ts'
import { gatewayAddress } from '../translate/waypoint.ts'

/**
 * What tells the present address of the waypoint that the client is an instance of: a pod that its Gateway's name is on,
 * under the account of that pod. Undefined for clients that are no waypoints. A waypoint that is not known (yet) has
 * all addresses, and no configuration until it is.
 */
export function waypointScope(
  view: ClusterView,
  node: ClientNode,
  caller: Caller | undefined,
  purpose: 'addresses' | 'configuration'
): (() => string | undefined) | undefined {
  if (node.type !== 'waypoint') return undefined
  let known: string | undefined
  // Remembered: a pod that is deleted while it drains still is what it was.
  const gatewayKey = (): string | undefined => (known ??= find())
  const find = (): string | undefined => {
    const pod = view.get('Pod', `${node.namespace}/${node.pod}`)
    const name = pod?.meta.labels[gatewayNameLabel]
    if (pod === undefined || name === undefined) return undefined
    if (caller !== undefined && caller.serviceAccount !== pod.serviceAccount) return undefined
    return `${node.namespace}/${name}`
  }
  if (purpose === 'addresses' && gatewayKey() === undefined) return undefined
  return () => {
    const key = gatewayKey()
    const gateway = key === undefined ? undefined : view.get('Gateway', key)
    const address = gateway === undefined ? undefined : gatewayAddress(view, gateway)
    return address === undefined ? undefined : gatewayName(address)
  }
}
