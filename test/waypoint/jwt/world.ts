/** Rules as a RequestAuthentication gives them, requests, and what becomes of both. */
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { authenticate, type AuthResult, type JwtRequest } from '../../../waypoint/jwt/authenticate.ts'
import type { KeySource } from '../../../waypoint/jwt/check-token.ts'
import type { JwtRule } from '../../../waypoint/jwt/jwt-rule.ts'
import { readRequestAuthentication } from '../../../waypoint/jwt/read-request-authentication.ts'
import { applyChanges } from '../../../waypoint/jwt/request-changes.ts'

export const now = Date.UTC(2026, 0, 1)
/** The same in seconds, as claims have it. */
export const nowS = now / 1000

export function rulesOf(...jwtRules: readonly object[]): readonly JwtRule[] {
  const spec = { targetRefs: [{ kind: 'Service', group: '', name: 'web' }], jwtRules }
  return readRequestAuthentication({ namespace: 'shop', name: 'tokens', createdMs: 0, spec }, 'istio-system')
    .rules
}

/** For rules whose keys are all in them. */
export const inlineKeys: KeySource = {
  keys: location => (location.kind === 'inline' ? location.keys : undefined),
  newer: (_, known) => known
}

export function request(headers: Readonly<Record<string, string>>, target = '/', method = 'GET'): JwtRequest {
  const list = HeaderList.of(...Object.entries(headers).flat())
  return { method, target, authority: 'web.shop', scheme: 'http', headers: list }
}

export function bearer(token: string): JwtRequest {
  return request({ authorization: `Bearer ${token}` })
}

export interface Seen {
  /** `none`, the principal, or the status and text of the refusal. */
  readonly verdict: string
  readonly result: AuthResult
  /** What the service gets. */
  readonly headers: Readonly<Record<string, string>>
  readonly target: string
}

export async function see(
  rules: readonly JwtRule[],
  asked: JwtRequest,
  keys: KeySource = inlineKeys,
  nowMs = now
): Promise<Seen> {
  const result = await authenticate(rules, asked, keys, nowMs)
  if (result.kind === 'refused') {
    const { status, body } = result.reply
    return { verdict: `${status} ${body}`, result, headers: {}, target: '' }
  }
  const headers = asked.headers.copy()
  const target = applyChanges(result.changes, headers, asked.target)
  const verdict = result.kind === 'none' ? 'none' : result.principal
  return { verdict, result, headers: Object.fromEntries(headers), target }
}
