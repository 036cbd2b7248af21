/** Asks a service that counts for all. Source: Envoy's published envoy.service.ratelimit.v3.RateLimitService. */
import { messageOf } from '../../shared/runtime/errors.ts'
import { message, type Message } from '../../shared/xds/schema.ts'
import type { Sender } from '../external-authorization/check.ts'
import { within } from '../within.ts'
import type { RateLimitProvider } from './providers.ts'
import type { CountedRequest, RateLimit, RateLimitPolicy } from './rate-limit.ts'
import { globalUnitsMs } from './read-rate-limit-policy.ts'

const path = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit'
const withinLimit = 1
const overLimit = 2

export interface Remaining {
  readonly limit: number
  readonly remaining: number
  readonly resetSeconds: number
}

export type ServiceAnswer =
  /** `told`: of the limits the one with the least left, where the service says it. */
  | { readonly kind: 'within' | 'over'; readonly told: Remaining | undefined }
  | { readonly kind: 'failed'; readonly reason: string }

interface RateLimitRequest {
  readonly domain: string
  readonly hitsAddend: number
  readonly descriptors: readonly {
    readonly entries: readonly { readonly key: string; readonly value: string }[]
    readonly limit: { readonly requestsPerUnit: number; readonly unit: number }
  }[]
}

interface RateLimitResponse {
  readonly overallCode?: number
  readonly statuses: readonly {
    readonly code?: number
    readonly currentLimit?: { readonly requestsPerUnit?: number }
    readonly limitRemaining?: number
    readonly durationUntilReset?: { readonly seconds?: number }
  }[]
}

const rateLimitRequest: Message<RateLimitRequest> = message('envoy.service.ratelimit.v3.RateLimitRequest')
const rateLimitResponse: Message<RateLimitResponse> = message('envoy.service.ratelimit.v3.RateLimitResponse')

export interface Question {
  readonly policy: RateLimitPolicy
  /** Those that the request counts towards; not empty. */
  readonly limits: readonly RateLimit[]
  readonly request: CountedRequest
}

/** Never throws. Undefined for a provider that is not known. */
export async function askService(
  provider: RateLimitProvider | undefined,
  question: Question,
  { sendGrpc }: Pick<Sender, 'sendGrpc'>,
  signal: AbortSignal
): Promise<ServiceAnswer> {
  const { name } = question.policy
  if (provider === undefined)
    return { kind: 'failed', reason: `provider ${question.policy.provider} of ${name} is not known` }
  if (provider.kind === 'invalid')
    return { kind: 'failed', reason: `provider ${provider.name}: ${provider.reason}` }
  try {
    const { service, domain, timeoutMs } = provider
    const asked = encodeQuestion(question, domain)
    return readAnswer(await within(timeoutMs, signal, ending => sendGrpc(service, path, asked, ending)))
  } catch (error) {
    return { kind: 'failed', reason: `provider ${provider.name}: ${messageOf(error)}` }
  }
}

/** One descriptor a limit: which one it is, then its key. Services take no empty values. */
export function encodeQuestion({ policy, limits, request }: Question, domain: string): Buffer {
  const { namespace, name } = policy
  return rateLimitRequest.encode({
    domain,
    hitsAddend: 1,
    descriptors: limits.map(({ name: limitName, key, rate: { requests, perMs } }) => ({
      entries: [
        { key: 'policy', value: `${namespace}/${name}` },
        { key: 'limit', value: limitName },
        ...key.map(part => ({ key: part.name, value: utf8(part.value(request) ?? '') || '-' }))
      ],
      limit: { requestsPerUnit: requests, unit: globalUnitsMs.indexOf(perMs) + 1 }
    }))
  })
}

/** Throws an Error for what says neither yes nor no. */
export function readAnswer(bytes: Uint8Array): ServiceAnswer {
  const { overallCode = 0, statuses } = rateLimitResponse.decode(bytes)
  if (overallCode !== withinLimit && overallCode !== overLimit) {
    throw new Error(`its answer has the code ${overallCode}`)
  }
  let told: Remaining | undefined
  for (const { currentLimit, limitRemaining = 0, durationUntilReset } of statuses) {
    if (currentLimit === undefined || (told !== undefined && told.remaining <= limitRemaining)) continue
    const resetSeconds = durationUntilReset?.seconds ?? 0
    told = { limit: currentLimit.requestsPerUnit ?? 0, remaining: limitRemaining, resetSeconds }
  }
  return { kind: overallCode === overLimit ? 'over' : 'within', told }
}

/** Header values are bytes, one a character; texts of messages are UTF-8. */
function utf8(value: string): string {
  return Buffer.from(value, 'latin1').toString()
}
