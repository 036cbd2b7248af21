/**
 * Whether a request that may be asked comes too often. Where this stands among the steps of a request is where users of
 * Envoy put it: after authorization, so that who is refused uses nothing up, and before faults and the route's backend.
 * The limits of this process come first: what they refuse costs no question.
 */
import { requestFacts, type Admission } from '../admission.ts'
import { withEditedAnswer } from '../http/edited-answer.ts'
import type { Exchange } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import type { LocalReply } from '../local-reply.ts'
import type { Arrival, Waypoint } from '../waypoint.ts'
import { askService, type Question, type Remaining } from './ask-service.ts'
import { applies, count, type Counted } from './count.ts'
import type { CountedRequest, PolicyInForce, RateLimitPolicy, Scope } from './rate-limit.ts'
import { noLimits } from './rate-limit-store.ts'

export type Limited =
  /** `exchange`: with what its answer tells of limits. */
  | { readonly kind: 'passes'; readonly exchange: Exchange }
  | { readonly kind: 'limited'; readonly reply: LocalReply }

/** At once, unless somebody else counts. */
export function limitRequest(
  waypoint: Waypoint,
  arrival: Arrival,
  { exchange, target, claims }: Extract<Admission, { kind: 'admitted' }>
): Limited | Promise<Limited> {
  const service = arrival.destination.kind === 'service' ? arrival.destination.service : undefined
  const policies = waypoint.rateLimits.limitsFor(service)
  if (policies === noLimits) return { kind: 'passes', exchange }
  const request = { ...requestFacts(arrival, exchange.head, target, claims), service: service?.hostname }
  const { refusedBy, overInShadow, told } = count(policies, request, performance.now())
  for (const { policy } of overInShadow) excess(waypoint, policy, 'Local')
  if (refusedBy !== undefined) {
    excess(waypoint, refusedBy.policy, 'Local')
    return { kind: 'limited', reply: localReply(refusedBy) }
  }
  const passes: Limited = {
    kind: 'passes',
    exchange: told === undefined ? exchange : telling(exchange, remainingOf(told))
  }
  const questions = questionsOf(policies, request)
  return questions.length === 0 ? passes : askAll(waypoint, questions, passes)
}

function questionsOf(policies: readonly PolicyInForce[], request: CountedRequest): readonly Question[] {
  return policies.flatMap(({ policy }) => {
    const limits = policy.limits.filter(limit => limit.scope === 'Global' && applies(limit, request))
    return limits.length === 0 ? [] : [{ policy, limits, request }]
  })
}

async function askAll(
  waypoint: Waypoint,
  questions: readonly Question[],
  passes: Extract<Limited, { kind: 'passes' }>
): Promise<Limited> {
  const asked = questions.map(question => askOne(waypoint, question))
  let { exchange } = passes
  for (const answer of asked) {
    const { reply, told } = await answer
    if (reply !== undefined) return { kind: 'limited', reply }
    if (told !== undefined) exchange = telling(exchange, told)
  }
  return { kind: 'passes', exchange }
}

async function askOne(
  waypoint: Waypoint,
  question: Question
): Promise<{ readonly reply?: LocalReply; readonly told?: Remaining | undefined }> {
  const { settings, authorizers, ending, log, metrics } = waypoint
  const { policy } = question
  const provider = settings.current.rateLimitProviders.get(policy.provider)
  const answer = await askService(provider, question, authorizers, ending)
  switch (answer.kind) {
    case 'within':
      return policy.headers && !policy.shadow ? { told: answer.told } : {}
    case 'over':
      excess(waypoint, policy, 'Global')
      return policy.shadow ? {} : { reply: globalReply(policy, answer.told) }
    default:
      metrics.series('underpass_rate_limit_failures_total', idOf(policy)).add()
      log.debug('a service that counts requests could not be asked', {
        policy: idOf(policy),
        error: answer.reason
      })
      return policy.failOpen || policy.shadow ? {} : { reply: failure }
  }
}

function excess({ metrics }: Waypoint, policy: RateLimitPolicy, scope: Scope): void {
  metrics.series('underpass_rate_limited_total', idOf(policy), scope, String(policy.shadow)).add()
}

function idOf({ namespace, name }: RateLimitPolicy): string {
  return `${namespace}/${name}`
}

/** Source: Envoy's reply where its rate limit service cannot be asked. */
const failure: LocalReply = { status: 500, body: '', flag: 'RLSE', details: 'rate_limiter_error' }

/** Source: Envoy's local reply of its local rate limit. */
function localReply(refusedBy: Counted): LocalReply {
  const headers = new HeaderList()
  if (refusedBy.policy.headers) {
    addHeaders(headers, remainingOf(refusedBy))
    headers.set('retry-after', String(seconds(refusedBy.level.waitMs)))
  }
  return { status: 429, body: 'local_rate_limited', flag: 'RL', details: 'local_rate_limited', headers }
}

/** Source: Envoy's local reply where its rate limit service says that it is enough. */
function globalReply({ headers: tells }: RateLimitPolicy, told: Remaining | undefined): LocalReply {
  const headers = HeaderList.of('x-envoy-ratelimited', 'true')
  if (tells && told !== undefined) addHeaders(headers, told)
  return { status: 429, body: '', flag: 'RL', details: 'request_rate_limited', headers }
}

function telling(exchange: Exchange, told: Remaining): Exchange {
  return withEditedAnswer(exchange, headers => addHeaders(headers, told))
}

/** Source: the headers that Envoy's rate limits add: the limit, what is left, and seconds until all of it is there again. */
function addHeaders(headers: HeaderList, { limit, remaining, resetSeconds }: Remaining): void {
  headers.set('x-ratelimit-limit', String(limit))
  headers.set('x-ratelimit-remaining', String(remaining))
  headers.set('x-ratelimit-reset', String(resetSeconds))
}

function remainingOf({ limit, level }: Counted): Remaining {
  return { limit: limit.rate.burst, remaining: level.remaining, resetSeconds: seconds(level.fullMs) }
}

function seconds(ms: number): number {
  return Math.ceil(ms / 1000)
}
