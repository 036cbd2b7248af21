/** A waypoint or gateway is sent what is for it, not the whole mesh. */
import type { Caller } from '../access/token.ts'
import { isProxy, type ClientNode } from './client-node.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import { recipientName } from '../desired/snapshot.ts'
import { gatewayWorkloadName } from '../translate/gateway-workload.ts'
import { labelledGateway } from '../translate/proxy-workload.ts'
import { recipientOf } from '../translate/recipient.ts'

/**
 * What tells the present name, as recipients have it, of the waypoint or gateway that the client is an instance of: a
 * pod that its Gateway's name is on, under the account of that pod. For a gateway, which is sent private keys, that has
 * to be the account that was made for it. Undefined for clients that are neither. One that is not known (yet) has all
 * addresses, and no configuration until it is.
 */
export function waypointScope(
  view: ClusterView,
  node: ClientNode,
  caller: Caller | undefined,
  purpose: 'addresses' | 'configuration'
): (() => string | undefined) | undefined {
  if (!isProxy(node)) return undefined
  let known: Instance | undefined
  // Remembered: a pod that is deleted while it drains still is what it was.
  const instance = (): Instance | undefined => (known ??= instanceOf(view, node, caller))
  if (purpose === 'addresses' && instance() === undefined) return undefined
  return () => {
    const { gateway: key = '', account } = instance() ?? {}
    const gateway = view.get('Gateway', key)
    const recipient = gateway === undefined ? undefined : recipientOf(view, gateway)
    if (gateway === undefined || recipient === undefined) return undefined
    if ('gateway' in recipient && account !== gatewayWorkloadName(gateway)) return undefined
    return recipientName(recipient)
  }
}

interface Instance {
  /** `namespace/name`. */
  readonly gateway: string
  readonly account: string
}

function instanceOf(view: ClusterView, node: ClientNode, caller: Caller | undefined): Instance | undefined {
  const pod = view.get('Pod', `${node.namespace}/${node.pod}`)
  const name = pod?.meta.labels[gatewayNameLabel]
  if (pod === undefined || name === undefined) return undefined
  const { serviceAccount: account } = pod
  if (caller !== undefined && caller.serviceAccount !== account) return undefined
  return { gateway: labelledGateway(view, node.namespace, name), account }
}
