/** Under which name the proxies of a Gateway are told what is for them. */
import type { ClusterView } from '../cluster/cluster.ts'
import { keyOf, type GatewayObject } from '../cluster/objects.ts'
import { gatewayRole } from './gateway-class.ts'
import type { Recipient } from './messages.ts'
import { gatewayAddress } from './waypoint.ts'

/** Undefined for a waypoint that nobody has been sent to yet. */
export function recipientOf(view: ClusterView, gateway: GatewayObject): Recipient | undefined {
  return gatewayRole(view, gateway) === 'gateway'
    ? { gateway: keyOf(gateway.meta) }
    : gatewayAddress(view, gateway)
}

/** Every waypoint there is, and every gateway. */
export function allRecipients(view: ClusterView): readonly Recipient[] {
  return [...view.all('Gateway')].flatMap(gateway => recipientOf(view, gateway) ?? [])
}
