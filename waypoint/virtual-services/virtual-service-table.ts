/**
 * Which rule of a service's VirtualServices a request meets: the first that matches, in the order in which they are
 * written. Exact paths are looked up; rules with other conditions are gone through as far as the one that was found.
 */
import type { RequestHead } from '../http/exchange.ts'
import { headerOf, type Matched } from '../routes/route-table.ts'
import type { RouteRule } from '../routes/route.ts'
import { textHolds } from './string-match.ts'
import type { HttpMatch, HttpRule, NamedMatch, PathCondition } from './virtual-service.ts'

type Head = Pick<RequestHead, 'method' | 'headers' | 'authority' | 'scheme'>

interface Entry {
  readonly at: number
  readonly match: HttpMatch
  readonly rule: RouteRule
  /** In the request that is answered: an exact path or prefix. */
  readonly found: Matched
}

interface Asked extends Head {
  readonly path: string
  readonly query: string
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
    const { method, headers, authority, scheme } = head
    const asked: Asked = {
      method,
      headers,
      authority,
      ...(scheme === undefined ? {} : { scheme }),
      path,
      query
    }
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
  if (method !== undefined && !textHolds(method, asked.method)) return false
  if (scheme !== undefined && !textHolds(scheme, asked.scheme ?? 'http')) return false
  if (authority !== undefined && !textHolds(authority, asked.authority)) return false
  for (const wanted of headers) if (!headerHolds(wanted, asked)) return false
  for (const unwanted of withoutHeaders) if (headerHolds(unwanted, asked)) return false
  if (query.length === 0) return true
  const given = new URLSearchParams(asked.query)
  return query.every(({ name, text }) => textHolds(text, given.get(name) ?? undefined))
}

function headerHolds({ name, text }: NamedMatch, { headers }: Asked): boolean {
  return textHolds(text, headerOf(headers, name))
}
