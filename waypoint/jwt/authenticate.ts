/**
 * Who a request is for, by its tokens. Source: Istio's published RequestAuthentication: a request without a token goes on
 * without an identity, one with a token that no rule accepts is refused.
 */
import type { RequestHead } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import type { LocalReply } from '../local-reply.ts'
import { checkToken, type Checked, type KeySource } from './check-token.ts'
import { withLists, type Claims } from './claims.ts'
import type { JwtRule } from './jwt-rule.ts'
import { refusalReply, refusals, type Refusal } from './refusals.ts'
import { outputHeaders, type RequestChanges } from './request-changes.ts'
import type { Token } from './token.ts'
import { findTokens } from './token-places.ts'

export type AuthResult =
  /** There is no token. */
  | { readonly kind: 'none'; readonly changes: RequestChanges }
  | {
      readonly kind: 'valid'
      /** Of the last token where there are several; those that are lists in a text are lists. */
      readonly claims: Claims
      /** `<iss>/<sub>`. */
      readonly principal: string
      readonly issuer: string
      readonly changes: RequestChanges
    }
  | { readonly kind: 'refused'; readonly reply: LocalReply }

/** Of a request: `target` in the form in which it is forwarded. */
export type JwtRequest = Pick<RequestHead, 'method' | 'target' | 'authority' | 'scheme' | 'headers'>

/**
 * The first rule with tokens at its places that accepts all of these decides. Without tokens at any place there is none
 * to refuse. At once where every token is known, by promise where a signature or keys have to be waited for. Never
 * throws or rejects.
 */
export function authenticate(
  rules: readonly JwtRule[],
  request: JwtRequest,
  keys: KeySource,
  nowMs: number
): AuthResult | Promise<AuthResult> {
  if (rules.length === 0 || isPreflight(request)) return without(rules)
  const attempts = rules.flatMap(rule => {
    const texts = findTokens(rule.places, request)
    return texts.length === 0 ? [] : [{ rule, texts }]
  })
  if (attempts.length === 0) return without(rules)
  const decided = firstAccepted(attempts, 0, undefined, { keys, nowMs })
  return after(decided, decision =>
    typeof decision === 'string' ? refused(decision, request) : valid(decision, rules)
  )
}

interface Attempt {
  readonly rule: JwtRule
  readonly texts: readonly string[]
}

interface Accepted extends Attempt {
  /** The last of its tokens. */
  readonly token: Token
}

interface Means {
  readonly keys: KeySource
  readonly nowMs: number
}

function firstAccepted(
  attempts: readonly Attempt[],
  at: number,
  refusal: Refusal | undefined,
  means: Means
): Accepted | Refusal | Promise<Accepted | Refusal> {
  const attempt = attempts[at]
  if (attempt === undefined) return refusal ?? refusals.issuer
  return after(checkAll(attempt, 0, means), checked => {
    if (typeof checked !== 'string') return { ...attempt, token: checked }
    // The rule of another issuer has nothing to say of a token; the rule of its own has.
    const telling = refusal === undefined || refusal === refusals.issuer ? checked : refusal
    return firstAccepted(attempts, at + 1, telling, means)
  })
}

function checkAll(attempt: Attempt, at: number, means: Means): Checked | Promise<Checked> {
  const text = attempt.texts[at] ?? ''
  return after(checkToken(text, attempt.rule, means.keys, means.nowMs), checked =>
    typeof checked === 'string' || at === attempt.texts.length - 1
      ? checked
      : checkAll(attempt, at + 1, means)
  )
}

/** Without a turn of the event loop where there is nothing to wait for. */
function after<T, R>(value: T | Promise<T>, next: (value: T) => R | Promise<R>): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value)
}

function without(rules: readonly JwtRule[]): AuthResult {
  return { kind: 'none', changes: { rules, keep: [], add: [] } }
}

function valid({ rule, texts, token }: Accepted, rules: readonly JwtRule[]): AuthResult {
  return {
    kind: 'valid',
    claims: withLists(token.claims, rule.spaceDelimitedClaims),
    principal: `${token.issuer}/${token.subject}`,
    issuer: token.issuer,
    changes: { rules, keep: rule.forward ? texts : [], add: outputHeaders(rule, token) }
  }
}

function refused(refusal: Refusal, request: JwtRequest): AuthResult {
  const reply = refusalReply(refusal)
  if (reply.status !== 401) return { kind: 'refused', reply }
  const challenge = `Bearer realm="${realmOf(request)}", error="invalid_token"`
  return { kind: 'refused', reply: { ...reply, headers: HeaderList.of('www-authenticate', challenge) } }
}

/** The request's address without its query, which may hold a token; only what may stand between quotes. */
function realmOf({ scheme = 'http', authority, target }: JwtRequest): string {
  const [path = ''] = target.split(/[?#]/, 1)
  return `${scheme}://${authority}${path.slice(0, 256)}`.replaceAll(/["\\]/g, encodeURIComponent)
}

/** Browsers ask without credentials whether they may ask. Source: the Fetch standard, section 3.2.2. */
function isPreflight({ method, headers }: JwtRequest): boolean {
  return method === 'OPTIONS' && headers.has('origin') && headers.has('access-control-request-method')
}
