/** What a token claims, and how to look into it. */

/** Parsed JSON whose names come from outside: look members up by {@link own}. */
export type Claims = Readonly<Record<string, unknown>>

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Not what every object inherits. */
export function own(object: Claims, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined
}

/** The claim below these names; undefined where one of them is missing, or is no mapping on the way. */
export function claimAt(claims: Claims | undefined, path: readonly string[]): unknown {
  let value: unknown = claims
  for (const name of path) value = isObject(value) ? own(value, name) : undefined
  return value
}

/** As text for a header; undefined where there is none, or it is no text, whole number or truth value. */
export function claimText(claims: Claims, path: readonly string[]): string | undefined {
  const value = claimAt(claims, path)
  if (typeof value === 'string') return value
  return typeof value === 'boolean' || Number.isSafeInteger(value) ? String(value) : undefined
}

/** With these claims as lists where they are texts with spaces between. */
export function withLists(claims: Claims, names: readonly string[]): Claims {
  const changed = names.filter(name => typeof own(claims, name) === 'string')
  if (changed.length === 0) return claims
  const entries = changed.map(name => [name, String(own(claims, name)).split(' ').filter(Boolean)] as const)
  return { ...claims, ...Object.fromEntries(entries) }
}
