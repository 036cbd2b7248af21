/** Reads the fields of a YAML mapping strictly: every problem with its path, all of them together. */

export class Problems {
  readonly found: string[] = []

  add(path: string, problem: string): void {
    this.found.push(path === '' ? problem : `${path}: ${problem}`)
  }
}

export class Fields {
  readonly path: string
  readonly problems: Problems
  readonly #values: ReadonlyMap<string, unknown>
  readonly #known = new Set<string>()

  constructor(value: unknown, path: string, problems: Problems) {
    this.path = path
    this.problems = problems
    const isMapping = typeof value === 'object' && value !== null && !Array.isArray(value)
    if (!isMapping) problems.add(path, `expected a mapping, found ${described(value)}`)
    this.#values = new Map(isMapping ? Object.entries(value) : [])
  }

  /** The field's text, or the fallback when it is not there; without a fallback it has to be. */
  text(name: string, fallback?: string): string {
    return this.#typed(name, fallback, 'text', value => (typeof value === 'string' ? value : undefined)) ?? ''
  }

  flag(name: string, fallback?: boolean): boolean {
    const parse = (value: unknown): boolean | undefined => (typeof value === 'boolean' ? value : undefined)
    return this.#typed(name, fallback, 'true or false', parse) ?? false
  }

  /** Undefined where nothing is said. */
  optionalFlag(name: string): boolean | undefined {
    return this.#values.has(name) ? this.flag(name) : this.#nothing(name)
  }

  integer(name: string, fallback: number, max: number): number {
    const parse = (value: unknown): number | undefined =>
      typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max ? value : undefined
    return this.#typed(name, fallback, `a whole number up to ${max}`, parse) ?? 0
  }

  /** With or without a fraction. */
  number(name: string, fallback: number, max: number): number {
    const parse = (value: unknown): number | undefined =>
      typeof value === 'number' && value >= 0 && value <= max ? value : undefined
    return this.#typed(name, fallback, `a number up to ${max}`, parse) ?? 0
  }

  /** One of these words, whatever their case. */
  choice<T extends string>(name: string, values: readonly T[], fallback?: T): T {
    const parse = (value: unknown): T | undefined =>
      typeof value === 'string' ? values.find(word => word.toLowerCase() === value.toLowerCase()) : undefined
    return this.#typed(name, fallback, `one of ${values.join(', ')}`, parse) ?? (values[0] as T)
  }

  /** Each item of a list by `read`, which is told the item's path. Empty when the field is not there. */
  list<T>(name: string, read: (value: unknown, path: string) => T | undefined, required = false): T[] {
    const value = this.#take(name, required)
    if (value === undefined) return []
    const path = this.#pathOf(name)
    if (!Array.isArray(value)) {
      this.problems.add(path, `expected a list, found ${described(value)}`)
      return []
    }
    return value.flatMap((item: unknown, index) => {
      const made = read(item, `${path}[${index}]`)
      return made === undefined ? [] : [made]
    })
  }

  /** The entries of a mapping by `read`. */
  map<T>(
    name: string,
    read: (key: string, value: unknown, path: string) => T | undefined,
    required = false
  ): T[] {
    const value = this.#take(name, required)
    if (value === undefined) return []
    const path = this.#pathOf(name)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.problems.add(path, `expected a mapping, found ${described(value)}`)
      return []
    }
    return Object.entries(value).flatMap(([key, entry]) => {
      const made = read(key, entry, `${path}[${JSON.stringify(key)}]`)
      return made === undefined ? [] : [made]
    })
  }

  /** A mapping inside; undefined when the field is not there. */
  inner(name: string): Fields | undefined {
    const value = this.#take(name, false)
    return value === undefined ? undefined : new Fields(value, this.#pathOf(name), this.problems)
  }

  /** Call after the last read: what was not asked for is unknown. */
  end(): void {
    for (const name of this.#values.keys()) {
      if (this.#known.has(name)) continue
      this.problems.add(
        this.#pathOf(name),
        `unknown field; known are ${[...this.#known].toSorted().join(', ')}`
      )
    }
  }

  #typed<T>(
    name: string,
    fallback: T | undefined,
    kind: string,
    parse: (value: unknown) => T | undefined
  ): T | undefined {
    const value = this.#take(name, fallback === undefined)
    if (value === undefined) return fallback
    const parsed = parse(value)
    if (parsed === undefined)
      this.problems.add(this.#pathOf(name), `expected ${kind}, found ${described(value)}`)
    return parsed
  }

  #nothing(name: string): undefined {
    this.#known.add(name)
  }

  #take(name: string, required: boolean): unknown {
    this.#known.add(name)
    const value = this.#values.get(name) ?? undefined // an empty YAML value is null: as if it were not there
    if (value === undefined && required) this.problems.add(this.#pathOf(name), 'is required')
    return value
  }

  #pathOf(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`
  }
}

export function described(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
