/**
 * Whether a request is sent again, and when. Source: Gateway API v1, HTTPRouteRetry; Istio's default for requests that
 * nothing has acted on.
 */
import type { Retry } from './routes/route.ts'

/** How one attempt ended without an answer that is passed on. */
export type AttemptEnd =
  | { readonly kind: 'answer'; readonly status: number }
  /** `untouched`: no pod can have acted on it. */
  | { readonly kind: 'failure'; readonly untouched: boolean }
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
  if (end.kind === 'answer') return retry?.statuses.has(end.status) === true
  return end.kind === 'failure' && end.untouched ? true : retry !== undefined
}

/** Milliseconds before the next attempt: longer with each, spread by chance, never below what the route asks for. */
export function backoffMs(retry: Retry, attempts: number, random: () => number): number {
  const base = retry.backoffMs ?? defaultBackoffMs
  const longest = Math.min(base * longestBackoff, base * (2 ** attempts - 1))
  const shortest = retry.backoffMs ?? 0
  return Math.round(shortest + random() * (longest - shortest))
}
