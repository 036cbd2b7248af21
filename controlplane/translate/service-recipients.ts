/** Waypoints and gateways that have to know a service although its traffic does not go through them. */
import { gatewayNameLabel, type ClusterView, type HostOwner } from '../cluster/cluster.ts'
import { keyOf } from '../cluster/objects.ts'
import { gatewayRole } from './gateway-class.ts'
import type { Recipient } from './messages.ts'
import { labelledGateway } from './proxy-workload.ts'
import { allRecipients } from './recipient.ts'
import { routedRecipients } from './route.ts'
import { virtualServiceRecipients } from './virtual-service.ts'

/** Their routes or VirtualServices lead to it, they ask it as an extension provider, or it is a waypoint that requests go on to. */
export function furtherRecipients(
  view: ClusterView,
  owner: HostOwner,
  hostname: string
): readonly Recipient[] {
  return [
    ...routedRecipients(view, owner, hostname),
    ...virtualServiceRecipients(view, owner, hostname),
    ...gatewaysSendingTo(view, owner, hostname),
    ...(view.settings.providerHosts.has(hostname) ? allRecipients(view) : [])
  ]
}

/** All gateways if the service is that of a waypoint: some service behind them may be reached through it. */
function gatewaysSendingTo(view: ClusterView, { meta }: HostOwner, hostname: string): readonly Recipient[] {
  const label = meta.labels[gatewayNameLabel]
  if (label === undefined) return []
  const waypoint = view.get('Gateway', labelledGateway(view, meta.namespace, label))
  if (waypoint === undefined || gatewayRole(view, waypoint) === 'gateway') return []
  if (!waypoint.addresses.some(({ value }) => value === hostname)) return []
  return [...view.all('Gateway')]
    .filter(gateway => gatewayRole(view, gateway) === 'gateway')
    .map(gateway => ({ gateway: keyOf(gateway.meta) }))
}
