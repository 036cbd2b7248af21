/** One token by one rule: what costs nothing first, its signature last. */
import type { JwtRule, KeyLocation } from './jwt-rule.ts'
import type { KeySet } from './key-set.ts'
import { refusals, type Refusal } from './refusals.ts'
import { parseToken, type Token } from './token.ts'
import { isSigned } from './verify.ts'

export interface KeySource {
  /** Undefined: they could not be fetched. */
  keys(location: KeyLocation): KeySet | undefined | Promise<KeySet | undefined>
  /** After a token named a key that is not in `known`: the newest that can be had now, maybe the same. */
  newer(location: KeyLocation, known: KeySet): KeySet | Promise<KeySet>
}

export type Checked = Token | Refusal

/** By which clocks may differ, in seconds. */
const skew = 60

/** At once where the token is known already, or needs no key to be refused. */
export function checkToken(
  text: string,
  rule: JwtRule,
  keys: KeySource,
  nowMs: number
): Checked | Promise<Checked> {
  const set = keys.keys(rule.keys)
  if (set === undefined || set instanceof Promise) return checkNewToken(text, rule, { set, keys, nowMs })
  const known = set.remembered(text)
  if (known === undefined) return checkNewToken(text, rule, { set, keys, nowMs })
  const refusal = refusalOfClaims(known, rule, nowMs)
  if (refusal === refusals.expired) set.forget(known)
  return refusal ?? known
}

interface Checking {
  readonly set: KeySet | undefined | Promise<KeySet | undefined>
  readonly keys: KeySource
  readonly nowMs: number
}

function checkNewToken(
  text: string,
  rule: JwtRule,
  { set, keys, nowMs }: Checking
): Checked | Promise<Checked> {
  const token = parseToken(text)
  if (typeof token === 'string') return token
  return refusalOfClaims(token, rule, nowMs) ?? checkSignature(token, rule, keys, set)
}

function refusalOfClaims(token: Token, rule: JwtRule, nowMs: number): Refusal | undefined {
  if (token.issuer !== rule.issuer) return refusals.issuer
  const now = nowMs / 1000
  if (token.notBefore !== undefined && token.notBefore > now + skew) return refusals.notYetValid
  if (token.expires !== undefined && token.expires < now - skew) return refusals.expired
  const { audiences } = rule
  const meant = audiences.length === 0 || token.audiences.some(name => audiences.includes(audienceForm(name)))
  return meant ? undefined : refusals.audience
}

async function checkSignature(
  token: Token,
  rule: JwtRule,
  keys: KeySource,
  fetched: Checking['set']
): Promise<Checked> {
  let set = await fetched
  if (set === undefined) return refusals.fetch
  let candidates = set.candidates(token)
  if (candidates.length === 0) {
    set = await keys.newer(rule.keys, set)
    candidates = set.candidates(token)
  }
  if (candidates.length === 0) return refusals.noKey
  if (!(await isSigned(token, candidates))) return refusals.signature
  set.remember(token)
  return token
}

/** Audiences that differ only in scheme and last slash are the same, as in Envoy. */
export function audienceForm(audience: string): string {
  return audience.replace(/^https?:\/\//, '').replace(/\/$/, '')
}
