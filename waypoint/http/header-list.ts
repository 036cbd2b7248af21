/** Header fields in the order in which they came, names in lower case (RFC 9110 section 5). */

/** Looked through from end to end: messages have ten to thirty fields, for which nothing is faster. */
export class HeaderList implements Iterable<readonly [name: string, value: string]> {
  readonly #names: string[] = []
  readonly #values: string[] = []

  /** `pairs`: name, value, name, value…; names must be in lower case already. */
  static of(...pairs: readonly string[]): HeaderList {
    const list = new HeaderList()
    for (let at = 0; at + 1 < pairs.length; at += 2) list.append(pairs[at] ?? '', pairs[at + 1] ?? '')
    return list
  }

  get size(): number {
    return this.#names.length
  }

  /** The first value of that name. */
  get(name: string): string | undefined {
    const at = this.#names.indexOf(name)
    return at < 0 ? undefined : this.#values[at]
  }

  all(name: string): readonly string[] {
    return this.#values.filter((_, at) => this.#names[at] === name)
  }

  has(name: string): boolean {
    return this.#names.includes(name)
  }

  append(name: string, value: string): void {
    this.#names.push(name)
    this.#values.push(value)
  }

  /** In place of the first of that name; others of that name go. */
  set(name: string, value: string): void {
    const at = this.#names.indexOf(name)
    if (at < 0) return this.append(name, value)
    this.#values[at] = value
    this.#removeFrom(name, at + 1)
  }

  remove(name: string): void {
    this.#removeFrom(name, 0)
  }

  /** The members of a comma-separated list that may be spread over several fields (RFC 9110 section 5.6.1), trimmed. */
  members(name: string): readonly string[] {
    return this.all(name)
      .flatMap(value => value.split(','))
      .map(member => member.trim())
      .filter(member => member !== '')
  }

  copy(): HeaderList {
    const list = new HeaderList()
    for (const [name, value] of this) list.append(name, value)
    return list
  }

  *[Symbol.iterator](): IterableIterator<readonly [string, string]> {
    for (const [at, name] of this.#names.entries()) yield [name, this.#values[at] ?? '']
  }

  #removeFrom(name: string, start: number): void {
    for (let at = this.#names.indexOf(name, start); at >= 0; at = this.#names.indexOf(name, at)) {
      this.#names.splice(at, 1)
      this.#values.splice(at, 1)
    }
  }
}
