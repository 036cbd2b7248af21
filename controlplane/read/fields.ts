/** Checked reading of objects that others wrote: every problem names the field and what it should hold. */
import type { Labels } from '../cluster/objects.ts'

/** A field that does not hold what its kind's definition says. */
export class FieldError extends Error {
  readonly field: string
  /** What is wrong, without the field. */
  readonly problem: string

  constructor(field: string, problem: string) {
    super(`${field}: ${problem}`)
    this.name = 'FieldError'
    this.field = field
    this.problem = problem
  }
}

const noLabels: Labels = Object.freeze({})

/** A JSON object with the path that leads to it. What is absent or null reads as empty. */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>
  readonly path: string

  constructor(value: unknown, path: string) {
    if (value !== undefined && value !== null && (typeof value !== 'object' || Array.isArray(value))) {
      throw new FieldError(path, `expected an object, found ${describe(value)}`)
    }
    this.#values = (value ?? {}) as Readonly<Record<string, unknown>>
    this.path = path
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined && this.#values[name] !== null
  }

  names(): readonly string[] {
    return Object.keys(this.#values)
  }

  at(name: string): Fields {
    return new Fields(this.#values[name], this.pathOf(name))
  }

  text(name: string, fallback = ''): string {
    const value = this.#values[name]
    if (value === undefined || value === null) return fallback
    if (typeof value !== 'string') this.fail(name, `expected text, found ${describe(value)}`)
    return value
  }

  whole(name: string, { fallback = 0, min = 0, max = 0xffff_ffff } = {}): number {
    const value = this.#values[name]
    if (value === undefined || value === null) return fallback
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      this.fail(name, `expected a whole number from ${min} to ${max}, found ${describe(value)}`)
    }
    return value
  }

  /** Any number; 0 when absent. */
  number(name: string): number {
    const value = this.#values[name]
    if (value === undefined || value === null) return 0
    if (typeof value !== 'number') this.fail(name, `expected a number, found ${describe(value)}`)
    return value
  }

  /** All of it, unread. */
  json(): Readonly<Record<string, unknown>> {
    return this.#values
  }

  /** What stands there, unread. */
  raw(name: string): unknown {
    return this.#values[name]
  }

  port(name: string, fallback = 0): number {
    return this.whole(name, { fallback, min: 0, max: 65535 })
  }

  flag(name: string, fallback = false): boolean {
    const value = this.#values[name]
    if (value === undefined || value === null) return fallback
    if (typeof value !== 'boolean') this.fail(name, `expected true or false, found ${describe(value)}`)
    return value
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const text = this.text(name, fallback)
    const found = values.find(value => value === text)
    if (found === undefined) {
      this.fail(name, `expected one of ${values.join(', ')}, found ${JSON.stringify(text)}`)
    }
    return found
  }

  list(name: string): readonly Fields[] {
    return this.#items(name).map((item, index) => new Fields(item, `${this.pathOf(name)}[${index}]`))
  }

  texts(name: string): readonly string[] {
    return this.#items(name).map((item, index) => {
      if (typeof item !== 'string') this.fail(`${name}[${index}]`, `expected text, found ${describe(item)}`)
      return item
    })
  }

  labels(name: string): Labels {
    const value = this.#values[name]
    if (value === undefined || value === null) return noLabels
    const map = this.at(name)
    const names = map.names()
    for (const key of names) map.text(key)
    // As in every other place, what is null is absent.
    if (names.every(key => map.has(key))) return map.#values as Labels
    return Object.fromEntries(names.filter(key => map.has(key)).map(key => [key, map.text(key)]))
  }

  /** A port that is a number or a name. */
  numberOrText(name: string): number | string | undefined {
    const value = this.#values[name]
    if (value === undefined || value === null) return undefined
    return typeof value === 'number' ? this.port(name) : this.text(name)
  }

  fail(name: string, problem: string): never {
    throw new FieldError(this.pathOf(name), problem)
  }

  pathOf(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`
  }

  #items(name: string): readonly unknown[] {
    const value = this.#values[name]
    if (value === undefined || value === null) return []
    if (!Array.isArray(value)) this.fail(name, `expected a list, found ${describe(value)}`)
    return value
  }
}

function describe(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'an object' : JSON.stringify(value)
}
