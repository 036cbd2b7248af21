/** Whose routes a request meets: of the service that its tunnel was opened to, or of a gateway's listener. */
import { serviceKey, type Service } from '../shared/mesh/model.ts'
import { chooseListener } from './gateway/choose-listener.ts'
import { hostOf } from './gateway/hostname.ts'
import { replies, type LocalReply } from './local-reply.ts'
import type { Upstream } from './request.ts'
import type { RequestHead } from './http/exchange.ts'
import type { Matched } from './routes/route-table.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

/** Rules, of which a request meets one or none. */
export interface Rules {
  /** `path`: without its query. */
  find(
    head: Pick<RequestHead, 'method' | 'headers' | 'authority' | 'scheme'>,
    path: string,
    query: string
  ): Matched | undefined
}

export type Way =
  /** No route applies. */
  | { readonly kind: 'straight'; readonly upstream: Upstream }
  | { readonly kind: 'routes'; readonly table: Rules }
  | { readonly kind: 'refused'; readonly reply: LocalReply }

type State = Pick<Waypoint, 'view' | 'routes' | 'virtualServices' | 'gateway'>

/** As it is now: a connection may be older than the last change. */
export function wayOf(state: State, { destination, peerNamespace }: Arrival, authority: string): Way {
  const { view, routes, gateway } = state
  switch (destination.kind) {
    case 'workload':
      return { kind: 'straight', upstream: destination }
    case 'service': {
      const { port } = destination
      const service = view().service(serviceKey(destination.service))
      if (service === undefined) return { kind: 'refused', reply: replies.noHealthyUpstream }
      const table = rulesFor(state, service, port, peerNamespace)
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

/** Routes of the Gateway API take the place of VirtualServices. Undefined: neither says anything of the service. */
export function rulesFor(
  { routes, virtualServices }: Pick<State, 'routes' | 'virtualServices'>,
  service: Service,
  port: number,
  clientNamespace: string
): Rules | undefined {
  return routes.table(service, port, clientNamespace) ?? virtualServices.table(service, port, clientNamespace)
}
