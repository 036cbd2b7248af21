/**
 * Bearer tokens of service accounts, checked by the API server (TokenReview) and remembered for at most a
 * minute under a hash of the token. Tokens are in no log and in no error.
 */
import { hash } from 'node:crypto'
import type { Clock } from '../../shared/runtime/clock.ts'
import type { TokenReview } from '../../shared/kube/review-api.ts'

/** Who made a request. */
export interface Caller {
  readonly namespace: string
  readonly serviceAccount: string
  /** The pod that the token is bound to; '' when it is bound to none. */
  readonly podName: string
  readonly podUid: string
}

export type Authentication =
  | { readonly kind: 'caller'; readonly caller: Caller }
  | { readonly kind: 'refused'; readonly reason: string }
  /** Nobody can say now; the client shall try again. */
  | { readonly kind: 'unavailable'; readonly reason: string }

export interface TokenOptions {
  /** Asks the API server; rejects when it cannot be asked. */
  readonly review: (token: string, audiences: readonly string[]) => Promise<TokenReview['status']>
  /** The token must be for one of these. */
  readonly audiences: readonly string[]
  readonly clock: Clock
  readonly cacheMs?: number
}

const defaultCacheMs = 60_000
/** A node agent has one token; tens of thousands would be an attack. */
const maxCached = 10_000
/** Longest token taken, in characters. */
const maxTokenLength = 16_384

interface Remembered {
  readonly caller: Caller
  /** Counts between these two only: a clock that is set back must not make a revoked token good for longer. */
  readonly from: number
  readonly until: number
}

export class TokenAuthenticator {
  readonly #options: TokenOptions
  readonly #known = new Map<string, Remembered>()
  /** One question to the API server per token, however many calls wait for it. */
  readonly #asking = new Map<string, Promise<Authentication>>()

  constructor(options: TokenOptions) {
    this.#options = options
  }

  /** `header` is the value of `authorization`. */
  async authenticate(header: string | undefined): Promise<Authentication> {
    const token = /^Bearer +(\S+)$/i.exec(header ?? '')?.[1]
    if (token === undefined || token.length > maxTokenLength) {
      return { kind: 'refused', reason: 'no bearer token in the metadata `authorization`' }
    }
    const key = hash('sha256', token, 'base64')
    const known = this.#known.get(key)
    const now = this.#options.clock.now()
    if (known !== undefined && known.from <= now && known.until > now) {
      return { kind: 'caller', caller: known.caller }
    }
    const asking = this.#asking.get(key) ?? this.#ask(key, token)
    return asking
  }

  #ask(key: string, token: string): Promise<Authentication> {
    const asking = this.#review(token)
      .then(answer => {
        if (answer.kind === 'caller') this.#remember(key, token, answer.caller)
        return answer
      })
      .finally(() => this.#asking.delete(key))
    this.#asking.set(key, asking)
    return asking
  }

  async #review(token: string): Promise<Authentication> {
    const { review, audiences } = this.#options
    let status: TokenReview['status']
    try {
      status = await review(token, audiences)
    } catch {
      // The cause may quote the request, and that holds the token.
      return { kind: 'unavailable', reason: 'the API server could not be asked about the token' }
    }
    return callerOf(status, audiences)
  }

  #remember(key: string, token: string, caller: Caller): void {
    const { clock, cacheMs = defaultCacheMs } = this.#options
    const now = clock.now()
    if (this.#known.size >= maxCached) this.#forgetOld(now)
    this.#known.set(key, { caller, from: now, until: Math.min(now + cacheMs, expiryOf(token) ?? Infinity) })
  }

  #forgetOld(now: number): void {
    for (const [key, { until }] of this.#known) if (until <= now) this.#known.delete(key)
    if (this.#known.size >= maxCached) this.#known.clear()
  }
}

function callerOf(status: TokenReview['status'], audiences: readonly string[]): Authentication {
  const refused = (reason: string): Authentication => ({ kind: 'refused', reason })
  if (status?.authenticated !== true)
    return refused(`the API server does not accept the token: ${status?.error ?? ''}`)
  if (!(status.audiences ?? []).some(audience => audiences.includes(audience))) {
    return refused(`the token is not for audience ${audiences.join(' or ')}`)
  }
  const { username = '', groups = [], extra = {} } = status.user ?? {}
  const [, namespace, serviceAccount] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username) ?? []
  if (!groups.includes('system:serviceaccounts') || namespace === undefined || serviceAccount === undefined) {
    return refused('the token is not that of a service account')
  }
  return {
    kind: 'caller',
    caller: {
      namespace,
      serviceAccount,
      podName: extra['authentication.kubernetes.io/pod-name']?.[0] ?? '',
      podUid: extra['authentication.kubernetes.io/pod-uid']?.[0] ?? ''
    }
  }
}

/** `exp` of a JSON Web Token, in milliseconds; undefined when the token does not say. Only ever shortens what the API server said. */
function expiryOf(token: string): number | undefined {
  try {
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
      exp?: unknown
    }
    return typeof claims.exp === 'number' ? claims.exp * 1000 : undefined
  } catch {
    return undefined // an opaque token: the cache time alone decides
  }
}
