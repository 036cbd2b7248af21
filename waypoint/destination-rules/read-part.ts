/** How the parts of a trafficPolicy are read: strictly, and with a list of what is not carried out. */
import { Problems, type Fields } from '../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import type { Part } from './destination-rule.ts'

export interface PartsHolder {
  readonly fields: Fields
  /** As messages call the rule. */
  readonly rule: string
}

/** Takes what is valid but is not carried out: requests fail rather than go without it. */
export type Unsupported = Pick<Problems, 'add'>

/** Undefined where nothing is said; an empty part means its defaults. */
export function readPart<T extends object>(
  { fields: holder, rule }: PartsHolder,
  name: string,
  read: (fields: Fields, unsupported: Unsupported) => T
): Part<T> | undefined {
  const fields = holder.inner(name)
  if (fields === undefined) return undefined
  const unsupported = new Problems()
  const made = read(fields, unsupported)
  fields.end()
  return { ...made, unsupported: unsupported.found.map(problem => `${rule}: ${problem}`) }
}

/** For mappings that are read in one go. */
export function readInner<T>(fields: Fields, name: string, read: (inner: Fields) => T): T | undefined {
  const inner = fields.inner(name)
  if (inner === undefined) return undefined
  const made = read(inner)
  inner.end()
  return made
}

/** Milliseconds; undefined where it is absent or wrong. */
export function readDuration(fields: Fields, name: string, leastMs = 1): number | undefined {
  const text = fields.text(name, '')
  if (text === '') return undefined
  const ms = parseDuration(text)
  if (ms !== undefined && ms >= leastMs) return ms
  const kind = leastMs === 0 ? 'a duration such as 30s' : 'a duration of 1ms or more'
  fields.problems.add(`${fields.path}.${name}`, `expected ${kind}, found ${JSON.stringify(text)}`)
  return undefined
}

export function readText(value: unknown, path: string, problems: Problems): string | undefined {
  if (typeof value === 'string') return value
  problems.add(path, 'expected text')
  return undefined
}
