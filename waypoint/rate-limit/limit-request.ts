/**
 * Whether a request that may be asked comes too often. Where this stands among the steps of a request is where users of
 * Envoy put it: after authorization, so that who is refused uses nothing up, and before faults and the route's backend.
 */
import { requestFacts, type Admission } from '../admission.ts'
import { withEditedAnswer } from '../http/edited-answer.ts'
import type { Exchange } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import type { LocalReply } from '../local-reply.ts'
import type { Arrival, Waypoint } from '../waypoint.ts'
import { count, type Counted } from './count.ts'
import { noLimits } from './rate-limit-store.ts'

export type Limited =
  /** `exchange`: with what its answer tells of limits. */
  | { readonly kind: 'passes'; readonly exchange: Exchange }
  | { readonly kind: 'limited'; readonly reply: LocalReply }

export function limitRequest(
  waypoint: Waypoint,
  arrival: Arrival,
  { exchange, target, claims }: Extract<Admission, { kind: 'admitted' }>
): Limited {
  const service = arrival.destination.kind === 'service' ? arrival.destination.service : undefined
  const policies = waypoint.rateLimits.limitsFor(service)
  if (policies === noLimits) return { kind: 'passes', exchange }
  const facts = requestFacts(arrival, exchange.head, target, claims)
  const counted = { ...facts, service: service?.hostname }
  const { refusedBy, overInShadow, told } = count(policies, counted, performance.now())
  for (const over of overInShadow) tell(waypoint, over)
  if (refusedBy !== undefined) {
    tell(waypoint, refusedBy)
    return { kind: 'limited', reply: localReply(refusedBy) }
  }
  if (told === undefined) return { kind: 'passes', exchange }
  return { kind: 'passes', exchange: withEditedAnswer(exchange, headers => addHeaders(headers, told)) }
}

function tell({ metrics }: Waypoint, { policy, limit }: Pick<Counted, 'policy' | 'limit'>): void {
  const labels = [`${policy.namespace}/${policy.name}`, limit.scope, String(policy.shadow)] as const
  metrics.series('underpass_rate_limited_total', ...labels).add()
}

/** Source: Envoy's local reply of its local rate limit. */
function localReply(refusedBy: Counted): LocalReply {
  const headers = new HeaderList()
  if (refusedBy.policy.headers) {
    addHeaders(headers, refusedBy)
    headers.set('retry-after', seconds(refusedBy.level.waitMs))
  }
  return { status: 429, body: 'local_rate_limited', flag: 'RL', details: 'local_rate_limited', headers }
}

/** Source: the headers that Envoy's rate limits add: the limit, what is left, and seconds until all of it is there again. */
function addHeaders(headers: HeaderList, { limit, level }: Counted): void {
  headers.set('x-ratelimit-limit', String(limit.rate.burst))
  headers.set('x-ratelimit-remaining', String(level.remaining))
  headers.set('x-ratelimit-reset', seconds(level.fullMs))
}

function seconds(ms: number): string {
  return String(Math.ceil(ms / 1000))
}
