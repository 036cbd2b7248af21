/**
 * Which listener of a port a request is for: the one with the most specific hostname for its host, and no other one even
 * where that has no route. Sources: Gateway API v1, Listener (isolation of listeners) and GEP-3567 (misdirected requests);
 * RFC 9110 section 15.5.20.
 */
import type { ListenerPort } from '../waypoint.ts'
import type { PortPlan } from './gateway-state.ts'
import type { Listener } from './gateway.ts'

export type ListenerChoice =
  | { readonly kind: 'listener'; readonly listener: Listener }
  | { readonly kind: 'none' }
  /** Whoever ended TLS for this connection does not answer for that host; another listener does. */
  | { readonly kind: 'misdirected' }

/** `plan`: of the port as it is now; the connection may be older. `host`: in lower case, without port. */
export function chooseListener(
  plan: PortPlan | undefined,
  { tls, serverName }: Pick<ListenerPort, 'tls' | 'serverName'>,
  host: string
): ListenerChoice {
  if (plan?.kind !== (tls ? 'tls' : 'http')) return { kind: 'none' }
  const listener = plan.listeners.find(host)
  if (listener === undefined) return { kind: 'none' }
  if (tls && listener !== plan.listeners.find(serverName)) return { kind: 'misdirected' }
  return listener.protocol === 'TLS' ? { kind: 'none' } : { kind: 'listener', listener }
}
