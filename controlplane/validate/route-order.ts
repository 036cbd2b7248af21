/** Routes are tried in order: a route after one that takes all, or with matches that came before, is never used. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'

export function checkRouteOrder(routes: readonly Fields[], findings: Findings): void {
  const seen = new Map<string, string>()
  const prefixes: { readonly match: Fields; readonly prefix: string }[] = []
  let takesAll: string | undefined
  for (const route of routes) {
    const matches = route.list('match')
    if (takesAll !== undefined) {
      findings.warn(route.path, `is never used: ${takesAll} takes all`, 'put the route without matches last')
    } else if (matches.length === 0) takesAll = route.path
    for (const match of takesAll === undefined ? matches : []) {
      const text = matchText(match)
      const before = seen.get(text)
      if (before === undefined) {
        seen.set(text, match.path)
        const prefix = match.at('uri').text('prefix')
        const wider = prefixes.find(
          each => prefix.startsWith(each.prefix) && prefix !== each.prefix && sameBut(each.match, match)
        )
        if (prefix !== '' && wider !== undefined) unused(match, wider.match.path, findings)
        if (prefix !== '') prefixes.push({ match, prefix })
      } else unused(match, before, findings)
    }
  }
}

function unused(match: Fields, before: string, findings: Findings): void {
  findings.warn(
    match.path,
    `is never used: ${before} matches the same before`,
    'put the narrower match first'
  )
}

/** Equal for matches that take the same requests; their names say nothing. */
function matchText(match: Fields): string {
  return JSON.stringify(
    sorted(
      Object.fromEntries(
        match
          .names()
          .filter(name => name !== 'name')
          .map(name => [name, match.raw(name)])
      )
    )
  )
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, sorted(each)])
  )
}

/** Whether two matches differ in the path only. */
function sameBut(a: Fields, b: Fields): boolean {
  const rest = (match: Fields): string =>
    JSON.stringify(
      sorted(
        Object.fromEntries(
          ['port', 'method', 'authority', 'headers', 'queryParams', 'withoutHeaders'].map(name => [
            name,
            match.raw(name)
          ])
        )
      )
    )
  return rest(a) === rest(b)
}
