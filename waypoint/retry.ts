/**
 * Whether a request is sent again, and when. Source: Gateway API v1, HTTPRouteRetry; Istio's default for requests that
 * nothing has acted on.
 */
import type { ResponseHead } from './http/exchange.ts'
import type { Retry, RetryConditions } from './routes/route.ts'

/** How one attempt ended without an answer that is passed on. */
export type AttemptEnd =
  /** `grpcStatus`: that its head tells. */
  | { readonly kind: 'answer'; readonly status: number; readonly grpcStatus?: string | undefined }
  /** `untouched`: no pod can have acted on it; `connecting`: there was no connection. */
  | { readonly kind: 'failure'; readonly untouched: boolean; readonly connecting?: boolean }
  /** It took longer than one attempt may. */
  | { readonly kind: 'timeout' }

/** For routes that say nothing of it. */
const timesByDefault = 2

/** Istio's, for routes that name no pause. */
const defaultBackoffMs = 25
/** Of the shortest one; where the pauses stop growing. */
const longestBackoff = 10

/** `attempts`: that were made. `replayable`: it can be sent as it came. Undefined: the route says nothing of retries. */
export function mayTryAgain(
  retry: Retry | undefined,
  end: AttemptEnd,
  { attempts, replayable }: { readonly attempts: number; readonly replayable: boolean }
): boolean {
  if (!replayable || attempts > (retry?.times ?? timesByDefault)) return false
  if (end.kind === 'answer') return mayReplace(retry, end)
  if (retry?.conditions !== undefined) return isAskedFor(retry.conditions, end)
  return end.kind === 'failure' && end.untouched ? true : retry !== undefined
}

export function endOf({ status, headers }: ResponseHead): AttemptEnd & { kind: 'answer' } {
  return { kind: 'answer', status, grpcStatus: headers.get('grpc-status') }
}

/** Whether another answer would be better, as long as there are tries. */
export function mayReplace(
  retry: Retry | undefined,
  { status, grpcStatus }: AttemptEnd & { kind: 'answer' }
): boolean {
  if (retry === undefined) return false
  return retry.statuses.has(status) || retry.conditions?.grpcStatuses.has(grpcStatus ?? '') === true
}

function isAskedFor(
  { reset, resetBeforeRequest, connectFailure, refusedStream }: RetryConditions,
  end: Exclude<AttemptEnd, { kind: 'answer' }>
): boolean {
  if (reset || end.kind === 'timeout' || !end.untouched) return reset
  return resetBeforeRequest || (end.connecting === true ? connectFailure : refusedStream || connectFailure)
}

/** Milliseconds before the next attempt: longer with each, spread by chance, never below what a Gateway API route asks for. */
export function backoffMs(retry: Retry, attempts: number, random: () => number): number {
  const base = retry.backoffMs ?? defaultBackoffMs
  const longest = Math.min(base * longestBackoff, base * (2 ** attempts - 1))
  const shortest = retry.conditions === undefined ? (retry.backoffMs ?? 0) : 0
  return Math.round(shortest + random() * (longest - shortest))
}
