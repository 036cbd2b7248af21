/** A waypoint or gateway is sent what is for it, not the whole mesh. */
import type { Caller } from '../access/token.ts'
import { isProxy, type ClientNode } from './client-node.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import { recipientName } from '../desired/snapshot.ts'
import { labelledGateway } from '../translate/proxy-workload.ts'
import { recipientOf } from '../translate/recipient.ts'

/**
 * What tells the present name, as recipients have it, of the waypoint or gateway that the client is an instance of: a
 * pod that its Gateway's name is on, under the account of that pod. Undefined for clients that are neither. One that is
 * not known (yet) has all addresses, and no configuration until it is.
 */
export function waypointScope(
  view: ClusterView,
  node: ClientNode,
  caller: Caller | undefined,
  purpose: 'addresses' | 'configuration'
): (() => string | undefined) | undefined {
  if (!isProxy(node)) return undefined
  let known: string | undefined
  // Remembered: a pod that is deleted while it drains still is what it was.
  const gatewayKey = (): string | undefined => (known ??= find())
  const find = (): string | undefined => {
    const pod = view.get('Pod', `${node.namespace}/${node.pod}`)
    const name = pod?.meta.labels[gatewayNameLabel]
    if (pod === undefined || name === undefined) return undefined
    if (caller !== undefined && caller.serviceAccount !== pod.serviceAccount) return undefined
    return labelledGateway(view, node.namespace, name)
  }
  if (purpose === 'addresses' && gatewayKey() === undefined) return undefined
  return () => {
    const key = gatewayKey()
    const gateway = key === undefined ? undefined : view.get('Gateway', key)
    const recipient = gateway === undefined ? undefined : recipientOf(view, gateway)
    return recipient === undefined ? undefined : recipientName(recipient)
  }
}
