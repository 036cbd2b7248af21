/** Whose routes a request meets: of the service that its tunnel was opened to, or of a gateway's listener. */
import { serviceKey } from '../shared/mesh/model.ts'
import { chooseListener } from './gateway/choose-listener.ts'
import { hostOf } from './gateway/hostname.ts'
import { replies, type LocalReply } from './local-reply.ts'
import type { Upstream } from './request.ts'
import type { RouteTable } from './routes/route-table.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

export type Way =
  /** No route applies. */
  | { readonly kind: 'straight'; readonly upstream: Upstream }
  | { readonly kind: 'routes'; readonly table: RouteTable }
  | { readonly kind: 'refused'; readonly reply: LocalReply }

type State = Pick<Waypoint, 'view' | 'routes' | 'gateway'>

/** As it is now: a connection may be older than the last change. */
export function wayOf(
  { view, routes, gateway }: State,
  { destination, peerNamespace }: Arrival,
  authority: string
): Way {
  switch (destination.kind) {
    case 'workload':
      return { kind: 'straight', upstream: destination }
    case 'service': {
      const { port } = destination
      const service = view().service(serviceKey(destination.service))
      if (service === undefined) return { kind: 'refused', reply: replies.noHealthyUpstream }
      const table = routes.table(service, port, peerNamespace)
      if (table !== undefined) return { kind: 'routes', table }
      return { kind: 'straight', upstream: { kind: 'service', service, port } }
    }
    case 'listener': {
      const host = hostOf(authority)
      const choice = chooseListener(gateway.ports.get(destination.port), destination, host)
      if (choice.kind === 'misdirected') return { kind: 'refused', reply: replies.misdirected }
      const table = choice.kind === 'listener' ? routes.tablesAt(choice.listener.id).find(host) : undefined
      if (table === undefined) return { kind: 'refused', reply: replies.noRoute }
      return { kind: 'routes', table }
    }
    default:
      return destination satisfies never
  }
}
