/** JSON values as the store handles them: read-only outside, compared and copied by content. */

export interface JsonObject {
  readonly [field: string]: unknown
}

/** An object under construction. */
export interface MutableObject {
  [field: string]: unknown
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function objectOf(value: unknown): JsonObject {
  return isObject(value) ? value : {}
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Text, a number or a boolean as text; '' for anything else. */
export function scalarText(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : ''
}

export function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined
}

/** The value below `path`, or undefined. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let found = value
  for (const step of path) {
    if (!isObject(found)) return undefined
    found = found[step]
  }
  return found
}

export function clone<T>(value: T): T {
  if (Array.isArray(value)) return value.map(item => clone<unknown>(item)) as T
  if (!isObject(value)) return value
  const copy: MutableObject = {}
  for (const key of Object.keys(value)) if (value[key] !== undefined) define(copy, key, clone(value[key]))
  return copy as T
}

/** Sets a field that may be called `__proto__`. */
export function define(object: MutableObject, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
  else object[key] = value
}

export function has(object: JsonObject, key: string): boolean {
  return Object.hasOwn(object, key) && object[key] !== undefined
}

/** Equal by content; the order of fields does not matter, a field that is undefined is absent. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => equal(item, b[index]))
  }
  if (!isObject(a) || !isObject(b)) return false
  const keys = Object.keys(a).filter(key => a[key] !== undefined)
  if (keys.length !== Object.keys(b).filter(key => b[key] !== undefined).length) return false
  return keys.every(key => Object.hasOwn(b, key) && equal(a[key], b[key]))
}

export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const item of Object.values(value)) deepFreeze(item)
  return value
}

/** The name of a JSON value's type as OpenAPI spells it. */
export function typeName(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value
}
