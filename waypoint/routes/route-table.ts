/**
 * Which rule a request meets. The path decides first (exact, then the longest prefix, then expressions), so paths are
 * looked up, and only the rules that share one are looked through.
 * Source: Gateway API v1, the precedence of HTTPRoute matches.
 */
import type { RequestHead } from '../http/exchange.ts'
import type { FieldMatch, MatchingRule, PathMatch, Route, RouteMatch, RouteRule } from './route.ts'

export interface Matched {
  readonly rule: RouteRule
  /** What matched of the path; undefined: it matched in a way of which nothing is left to change. */
  readonly prefix: string | undefined
}

/** A rule by one of its matches. */
interface Entry extends Matched {
  readonly match: RouteMatch
}

export class RouteTable {
  readonly #exact = new Map<string, Entry[]>()
  readonly #prefixes = new Map<string, Entry[]>()
  readonly #expressions: Entry[] = []

  /** Of routes for the same service and port. */
  constructor(routes: readonly Route[]) {
    const entries = routes.toSorted(byAge).flatMap(({ rules }) => rules.flatMap(entriesOf))
    // A stable sort: what is equal stays in the order of age and place.
    for (const entry of entries.toSorted(byConditions)) this.#add(entry)
  }

  /** `path`: without its query. */
  find(head: Pick<RequestHead, 'method' | 'headers'>, path: string, query: string): Matched | undefined {
    const asked = { ...head, path, query }
    const exact = this.#exact.get(path)
    const found = exact === undefined ? undefined : first(exact, asked)
    return found ?? this.#byPrefix(asked) ?? this.#expressions.find(entry => holds(entry.match, asked))
  }

  /** Every prefix of whole segments that the path has, the longest first. */
  #byPrefix(asked: Asked): Matched | undefined {
    const { path } = asked
    for (let end = path.length; end >= 0; end = end === 0 ? -1 : path.lastIndexOf('/', end - 1)) {
      const entries = this.#prefixes.get(path.slice(0, end))
      const found = entries === undefined ? undefined : first(entries, asked)
      if (found !== undefined) return found
    }
    return undefined
  }

  #add(entry: Entry): void {
    const { path } = entry.match
    if (path.kind === 'regex') this.#expressions.push(entry)
    else if (path.kind === 'exact') append(this.#exact, path.value, entry)
    else append(this.#prefixes, path.value, entry)
  }
}

interface Asked extends Pick<RequestHead, 'method' | 'headers'> {
  readonly path: string
  readonly query: string
}

function first(entries: readonly Entry[], asked: Asked): Entry | undefined {
  return entries.find(({ match }) => conditionsHold(match, asked))
}

function holds(match: RouteMatch, asked: Asked): boolean {
  return pathHolds(match.path, asked.path) && conditionsHold(match, asked)
}

function pathHolds(path: PathMatch, text: string): boolean {
  return path.kind === 'regex' ? path.value.matches(text) : true
}

/** All but the path. */
function conditionsHold({ method, headers, query }: RouteMatch, asked: Asked): boolean {
  if (method !== undefined && method !== asked.method) return false
  for (const wanted of headers) if (!fieldHolds(wanted, headerOf(asked.headers, wanted.name))) return false
  if (query.length === 0) return true
  const given = new URLSearchParams(asked.query)
  return query.every(wanted => fieldHolds(wanted, given.get(wanted.name) ?? undefined))
}

/** Several fields of a name are one list: RFC 9110 section 5.3. */
export function headerOf(headers: RequestHead['headers'], name: string): string | undefined {
  const value = headers.get(name)
  if (value === undefined) return undefined
  const all = headers.all(name)
  return all.length === 1 ? value : all.join(',')
}

function fieldHolds({ text }: FieldMatch, value: string | undefined): boolean {
  if (value === undefined) return false
  return text.kind === 'exact' ? text.value === value : text.value.matches(value)
}

function entriesOf(rule: MatchingRule): readonly Entry[] {
  return rule.matches.map(match => ({
    rule,
    match,
    prefix: match.path.kind === 'prefix' ? match.path.value : undefined
  }))
}

function byAge(a: Route, b: Route): number {
  return a.createdMs - b.createdMs || byText(`${a.namespace}/${a.name}`, `${b.namespace}/${b.name}`)
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** A method, then the number of headers, then that of query parameters. */
function byConditions({ match: a }: Entry, { match: b }: Entry): number {
  return (
    Number(b.method !== undefined) - Number(a.method !== undefined) ||
    b.headers.length - a.headers.length ||
    b.query.length - a.query.length
  )
}

function append(map: Map<string, Entry[]>, key: string, entry: Entry): void {
  const entries = map.get(key)
  if (entries === undefined) map.set(key, [entry])
  else entries.push(entry)
}
