/**
 * Which rule of a service's VirtualServices a request meets: the first that matches, in the order in which they are
 * written. Exact paths are looked up; rules with other conditions are gone through as far as the one that was found.
 */
import type { RequestHead } from '../http/exchange.ts'
import { headerOf, type Matched } from '../routes/route-table.ts'
import type { RouteRule } from '../routes/route.ts'
import { textHolds } from './string-match.ts'
import type { HttpMatch, HttpRule, PathCondition } from './virtual-service.ts'

type Head = Pick<RequestHead, 'method' | 'headers' | 'authority' | 'scheme'>

interface Entry {
  readonly at: number
  readonly match: HttpMatch
  readonly rule: RouteRule
  /** In the request that is answered: an exact path or prefix. */
  readonly found: Matched
}

/** A request, of which rules ask the same again and again. */
class Asked {
  readonly head: Head
  readonly #query: string
  #parameters: ReadonlyMap<string, string> | undefined
  #headers: Map<string, string | undefined> | undefined

  constructor(head: Head, query: string) {
    this.head = head
    this.#query = query
  }

  header(name: string): string | undefined {
    const known = (this.#headers ??= new Map())
    const value = known.get(name)
    if (value !== undefined || known.has(name)) return value
    const found = headerOf(this.head.headers, name)
    known.set(name, found)
    return found
  }

  parameter(name: string): string | undefined {
    this.#parameters ??= new Map([...new URLSearchParams(this.#query)].toReversed()) // the first of a name counts
    return this.#parameters.get(name)
  }
}

export class VirtualServiceTable {
  readonly #exact = new Map<string, Entry[]>()
  readonly #others: Entry[] = []

  /** Rules for one port and one client's namespace, in their order. */
  constructor(rules: readonly HttpRule[]) {
    let at = 0
    for (const { matches, rule } of rules) {
      for (const match of matches)
        this.#add({ at: at++, match, rule, found: { rule, prefix: matchedOf(match) } })
    }
  }

  /** `path`: without its query. */
  find(head: Head, path: string, query: string): Matched | undefined {
    const asked = new Asked(head, query)
    const exact = this.#exact.get(path)?.find(({ match }) => conditionsHold(match, asked))
    const until = exact?.at ?? Infinity
    for (const entry of this.#others) {
      if (entry.at > until) break
      if (!pathHolds(entry.match.path, path) || !conditionsHold(entry.match, asked)) continue
      const isExpression = entry.match.path?.text.kind === 'regex'
      return isExpression ? { rule: entry.rule, prefix: path } : entry.found
    }
    return exact?.found
  }

  #add(entry: Entry): void {
    const { path } = entry.match
    if (path?.text.kind !== 'exact' || path.ignoresCase) {
      this.#others.push(entry)
      return
    }
    const entries = this.#exact.get(path.text.value)
    if (entries === undefined) this.#exact.set(path.text.value, [entry])
    else entries.push(entry)
  }
}

/** What a rewrite replaces: of any path its slash. */
function matchedOf({ path }: HttpMatch): string {
  return path === undefined || path.text.kind === 'regex' ? '/' : path.text.value
}

function pathHolds(condition: PathCondition | undefined, path: string): boolean {
  if (condition === undefined) return true
  return textHolds(condition.text, condition.ignoresCase ? path.toLowerCase() : path)
}

/** All but the path. */
function conditionsHold(match: HttpMatch, asked: Asked): boolean {
  const { method, scheme, authority, headers, withoutHeaders, query } = match
  const { head } = asked
  if (method !== undefined && !textHolds(method, head.method)) return false
  if (scheme !== undefined && !textHolds(scheme, head.scheme ?? 'http')) return false
  if (authority !== undefined && !textHolds(authority, head.authority)) return false
  for (const { name, text } of headers) if (!textHolds(text, asked.header(name))) return false
  for (const { name, text } of withoutHeaders) if (textHolds(text, asked.header(name))) return false
  for (const { name, text } of query) if (!textHolds(text, asked.parameter(name))) return false
  return true
}
