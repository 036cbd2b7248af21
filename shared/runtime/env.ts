/**
 * Typed readers of environment variables. All problems of a program's configuration are found in one
 * pass and reported together; no program reads `process.env` outside its main.ts.
 */

export type Env = Readonly<Record<string, string | undefined>>

export class ConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(`the configuration is not valid:\n  ${problems.join('\n  ')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** What a reader documents of one variable; `docs/reference` is made from these. */
export interface EnvVariable {
  readonly name: string
  readonly kind: string
  readonly fallback: string
  readonly meaning: string
}

export class EnvReader {
  readonly #env: Env
  readonly #problems: string[] = []
  readonly variables: EnvVariable[] = []

  constructor(env: Env) {
    this.#env = env
  }

  text(name: string, fallback: string, meaning: string): string {
    return this.#read(name, 'text', fallback, meaning, text => text) ?? fallback
  }

  /** As text, but undefined when the variable is not set; an empty value is a value. */
  optional(name: string, meaning: string): string | undefined {
    return this.#read(name, 'text', 'not set', meaning, text => text)
  }

  flag(name: string, fallback: boolean, meaning: string): boolean {
    const parse = (text: string): boolean | undefined =>
      ({ true: true, '1': true, false: false, '0': false })[text.toLowerCase()]
    return this.#read(name, 'true or false', String(fallback), meaning, parse) ?? fallback
  }

  integer(
    name: string,
    fallback: number,
    meaning: string,
    { min = 0, max = Number.MAX_SAFE_INTEGER } = {}
  ): number {
    const parse = (text: string): number | undefined => {
      const value = /^\d+$/.test(text) ? Number(text) : NaN
      return value >= min && value <= max ? value : undefined
    }
    const range = max === Number.MAX_SAFE_INTEGER ? `a whole number from ${min}` : `${min} to ${max}`
    return this.#read(name, range, String(fallback), meaning, parse) ?? fallback
  }

  port(name: string, fallback: number, meaning: string): number {
    return this.integer(name, fallback, meaning, { max: 65535 })
  }

  /** A duration such as `5m`, `180s`, `250ms`; the result is in milliseconds. */
  duration(name: string, fallback: string, meaning: string): number {
    const value = this.#read(name, 'a duration such as 250ms, 10s, 5m, 24h', fallback, meaning, parseDuration)
    return value ?? parseDuration(fallback) ?? 0
  }

  choice<T extends string>(name: string, values: readonly T[], fallback: T, meaning: string): T {
    const parse = (text: string): T | undefined => values.find(value => value === text)
    return this.#read(name, values.join(' | '), fallback, meaning, parse) ?? fallback
  }

  /** The variables whose names start with `prefix`, keyed by the rest of the name. */
  withPrefix(prefix: string): ReadonlyMap<string, string> {
    const found = new Map<string, string>()
    for (const [name, value] of Object.entries(this.#env)) {
      if (name.startsWith(prefix) && value !== undefined) found.set(name.slice(prefix.length), value)
    }
    return found
  }

  problem(text: string): void {
    this.#problems.push(text)
  }

  /** Call once, after the last read. Throws a {@link ConfigError} that lists every problem. */
  finish(): void {
    if (this.#problems.length > 0) throw new ConfigError(this.#problems)
  }

  #read<T>(
    name: string,
    kind: string,
    fallback: string,
    meaning: string,
    parse: (text: string) => T | undefined
  ): T | undefined {
    this.variables.push({ name, kind, fallback, meaning })
    const text = this.#env[name]
    if (text === undefined) return undefined
    const value = parse(text)
    if (value === undefined) this.#problems.push(`${name}=${JSON.stringify(text)}: expected ${kind}`)
    return value
  }
}

/** `1h30m`, `10s`, `250ms`, or `0`, in milliseconds; undefined when it is no duration. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0
  const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(text)) return undefined
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (units[unit ?? ''] ?? 0)
  }
  return total
}
