/** When requests are sent again. Source: Istio's published HTTPRetry; Envoy's published `x-envoy-retry-on`. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { readDuration } from '../destination-rules/read-part.ts'
import type { Retry, RetryConditions, RouteRule } from '../routes/route.ts'
import { timerMs } from './reading.ts'

type Retries = Pick<RouteRule, 'retry' | 'backendTimeoutMs'>

const defaultTimes = 2
const maxTimes = 100
const defaultRetryOn = 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes'

/** Without `attempts` there are none, whatever else it says. */
export function readRetries(fields: Fields): Retries {
  const times = fields.integer('attempts', 0, maxTimes)
  const perTry = timerMs(readDuration(fields, 'perTryTimeout'))
  const words = readRetryOn(fields)
  fields.flag('retryRemoteLocalities', false) // pods that were tried are left for others wherever these are
  const avoidsTried = fields.flag('retryIgnorePreviousHosts', true)
  const backoffMs = readDuration(fields, 'backoff')
  return { retry: retryOf(words, { times, backoffMs, avoidsTried }), backendTimeoutMs: perTry }
}

/** Each with the statuses that it is about. */
const ofStatuses: Readonly<Record<string, readonly number[]>> = {
  '5xx': Array.from({ length: 100 }, (_, at) => 500 + at),
  'gateway-error': [502, 503, 504],
  'retriable-4xx': [409]
}

const ofGrpc: Readonly<Record<string, string>> = {
  cancelled: '1',
  'deadline-exceeded': '4',
  'resource-exhausted': '8',
  internal: '13',
  unavailable: '14'
}

/** Either nothing here can be asked for by them, or other words say it. */
const withoutMeaning = ['retriable-headers', 'envoy-ratelimited', 'http3-post-connect-failure']
const known = new Set([
  ...Object.keys(ofStatuses),
  ...Object.keys(ofGrpc),
  ...['reset', 'reset-before-request', 'connect-failure', 'refused-stream', 'retriable-status-codes'],
  ...withoutMeaning
])

function readRetryOn(fields: Fields): ReadonlySet<string> {
  const text = fields.text('retryOn', '') || defaultRetryOn
  const words = text.split(',').map(word => word.trim())
  for (const word of words) {
    if (known.has(word) || isStatus(word)) continue
    fields.problems.add(
      `${fields.path}.retryOn`,
      `${JSON.stringify(word)} is neither a status nor one of ${[...known].join(', ')}`
    )
  }
  return new Set(words)
}

function isStatus(word: string): boolean {
  return /^[1-5]\d\d$/.test(word)
}

function retryOf(
  words: ReadonlySet<string>,
  {
    times,
    backoffMs,
    avoidsTried = true
  }: { readonly times: number; readonly backoffMs?: number | undefined; readonly avoidsTried?: boolean }
): Retry {
  const all = [...words]
  const conditions: RetryConditions = {
    reset: words.has('reset') || words.has('5xx') || words.has('gateway-error'),
    resetBeforeRequest: words.has('reset-before-request'),
    connectFailure: words.has('connect-failure'),
    refusedStream: words.has('refused-stream'),
    grpcStatuses: new Set(all.flatMap(word => ofGrpc[word] ?? [])),
    avoidsTried
  }
  const statuses = all.flatMap(word => (isStatus(word) ? [Number(word)] : (ofStatuses[word] ?? [])))
  return { times, statuses: new Set(statuses), backoffMs, conditions }
}

/** Where nobody said. */
export const usualRetries: Retries = {
  retry: retryOf(new Set(defaultRetryOn.split(',')), { times: defaultTimes }),
  backendTimeoutMs: undefined
}
