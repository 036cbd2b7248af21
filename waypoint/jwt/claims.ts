/** Looking into what a token claims. */
import { isObject, own, type Claims } from './token.ts'

/** With these claims as lists where they are texts with spaces between. */
export function withLists(claims: Claims, names: readonly string[]): Claims {
  const changed = names.filter(name => typeof own(claims, name) === 'string')
  if (changed.length === 0) return claims
  const entries = changed.map(name => [name, String(own(claims, name)).split(' ').filter(Boolean)] as const)
  return { ...claims, ...Object.fromEntries(entries) }
}

/** As text for a header; undefined where there is none, or it is no text, whole number or truth value. */
export function claimText(claims: Claims, path: readonly string[]): string | undefined {
  let value: unknown = claims
  for (const name of path) value = isObject(value) ? own(value, name) : undefined
  if (typeof value === 'string') return value
  return typeof value === 'boolean' || Number.isSafeInteger(value) ? String(value) : undefined
}
