/** What becomes of a request after its tokens were looked at. */
import type { HeaderList } from '../http/header-list.ts'
import { claimText } from './claims.ts'
import type { JwtRule } from './jwt-rule.ts'
import type { Token } from './token.ts'
import { stripTokens } from './token-places.ts'

export interface RequestChanges {
  /** Their places and headers are cleared: what arrives there comes from a token that was verified, or not at all. */
  readonly rules: readonly JwtRule[]
  /** Tokens that stay where they are. */
  readonly keep: readonly string[]
  readonly add: readonly (readonly [name: string, value: string])[]
}

/** Changes `headers` in place; returns the target. */
export function applyChanges(
  { rules, keep, add }: RequestChanges,
  headers: HeaderList,
  target: string
): string {
  let left = target
  for (const { places, payloadHeader, claimHeaders } of rules) {
    left = stripTokens(places, headers, left, keep)
    if (payloadHeader !== undefined) headers.remove(payloadHeader)
    for (const { header } of claimHeaders) headers.remove(header)
  }
  for (const [name, value] of add) headers.set(name, value)
  return left
}

/** A claim that cannot stand in a header is left out: its text may have been chosen by whom it is about. */
export function outputHeaders(
  { payloadHeader, claimHeaders }: JwtRule,
  { claims, encodedPayload }: Token
): readonly (readonly [name: string, value: string])[] {
  const made: (readonly [string, string])[] = []
  if (payloadHeader !== undefined) made.push([payloadHeader, encodedPayload])
  for (const { header, claim } of claimHeaders) {
    const text = claimText(claims, claim)
    if (text === undefined || !/^[^\p{Cc}]*$/u.test(text)) continue
    made.push([header, Buffer.from(text).toString('latin1')])
  }
  return made
}
