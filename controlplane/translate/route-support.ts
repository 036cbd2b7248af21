/**
 * What of a route waypoints cannot carry out. They answer 500 where such a rule matches: doing without a filter would
 * let through what its author wanted changed or stopped.
 */
import type { JsonObject, RouteFilter, RouteKind, RouteObject, RouteRule } from '../cluster/objects.ts'
import { regularExpression } from '../validate/regular-expression.ts'

const filters: Readonly<Record<RouteKind, ReadonlySet<string>>> = {
  HTTPRoute: new Set([
    'RequestHeaderModifier',
    'ResponseHeaderModifier',
    'RequestRedirect',
    'URLRewrite',
    'RequestMirror'
  ]),
  GRPCRoute: new Set(['RequestHeaderModifier', 'ResponseHeaderModifier', 'RequestMirror'])
}

/** Rules that fail, each with a text that names the field. */
export function unsupported(
  route: RouteObject
): readonly { readonly rule: RouteRule; readonly message: string }[] {
  return route.rules.flatMap(rule => {
    const message = [...problems(route.kind, rule)].join('; ')
    return message === '' ? [] : [{ rule, message }]
  })
}

function* problems(kind: RouteKind, rule: RouteRule): Generator<string> {
  yield* ofFilters(kind, rule.filters)
  for (const { filters } of rule.backends) yield* ofFilters(kind, filters)
  for (const [index, match] of (rule.fields['matches'] as readonly JsonObject[]).entries()) {
    yield* ofMatch(match, `${rule.field}.matches[${index}]`)
  }
}

function* ofFilters(kind: RouteKind, among: readonly RouteFilter[]): Generator<string> {
  for (const { type, field } of among) {
    if (!filters[kind].has(type))
      yield `${field}: filter ${type === '' ? 'without a type' : type} is not supported`
  }
}

/** Expressions stand beside `type: RegularExpression`, wherever in the match. */
function* ofMatch(value: unknown, field: string): Generator<string> {
  if (typeof value !== 'object' || value === null) return
  if (Array.isArray(value)) {
    for (const [index, each] of value.entries()) yield* ofMatch(each, `${field}[${index}]`)
    return
  }
  const match = value as JsonObject
  if (match['type'] !== 'RegularExpression') {
    for (const [name, each] of Object.entries(match)) yield* ofMatch(each, `${field}.${name}`)
    return
  }
  for (const name of ['value', 'service', 'method']) {
    const text = match[name]
    const problem = typeof text === 'string' ? regularExpression(text) : undefined
    if (problem !== undefined) yield `${field}.${name}: ${problem.message}; ${problem.remedy}`
  }
}
