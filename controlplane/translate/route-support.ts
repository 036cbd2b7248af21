/**
 * What of a route waypoints carry out, and what becomes of the rest. With a filter missing a rule would let through
 * what its author wanted changed or stopped, so it answers 500; a match that cannot be evaluated is dropped, as the
 * API allows; a setting that changes no request's way has no effect. The status of the route tells each.
 */
import type { JsonObject, RouteFilter, RouteKind, RouteObject, RouteRule } from '../cluster/objects.ts'
import { regularExpression } from '../validate/regular-expression.ts'

interface Supported {
  readonly filters: ReadonlySet<string>
  readonly settings: ReadonlySet<string>
}

const supported: Readonly<Record<RouteKind, Supported>> = {
  HTTPRoute: {
    filters: new Set([
      ...['RequestHeaderModifier', 'ResponseHeaderModifier', 'RequestRedirect', 'URLRewrite'],
      ...['RequestMirror', 'CORS']
    ]),
    settings: new Set(['name', 'matches', 'timeouts', 'retry', 'sessionPersistence'])
  },
  TLSRoute: { filters: new Set(), settings: new Set(['name', 'matches']) },
  GRPCRoute: {
    filters: new Set(['RequestHeaderModifier', 'ResponseHeaderModifier', 'RequestMirror']),
    settings: new Set(['name', 'matches', 'sessionPersistence'])
  }
}

export interface SupportedRule {
  /** What is sent of the rule; undefined when no match is left. */
  readonly fields: JsonObject | undefined
  /** Whether requests that it matches fail. */
  readonly fails: boolean
  /** What is not carried out, each with its field and what follows. */
  readonly problems: readonly string[]
}

/** Whether any rule is carried out; one without rules is whole as it is. */
export function isCarriedOut({ kind, rules }: Pick<RouteObject, 'kind' | 'rules'>): boolean {
  const supported = rules.map(rule => supportedRule(kind, rule))
  return supported.length === 0 || supported.some(({ fields, fails }) => !fails && fields !== undefined)
}

export function supportedRule(kind: RouteKind, rule: RouteRule): SupportedRule {
  const filters = unsupportedFilters(
    kind,
    [rule.filters, ...rule.backends.map(({ filters }) => filters)].flat()
  )
  const settings = Object.keys(rule.fields).filter(name => !supported[kind].settings.has(name))
  // A TLSRoute has none: its hostnames alone say which connections it is for.
  const written = (rule.fields['matches'] ?? []) as readonly JsonObject[]
  const faults = written.map((match, index) => [
    ...expressionFaults(match, `${rule.field}.matches[${index}]`)
  ])
  const session = rule.fields['sessionPersistence'] as JsonObject | undefined
  const matches = written.filter((_, index) => faults[index]?.length === 0)
  const kept = Object.entries(rule.fields).filter(([name]) => !settings.includes(name))
  return {
    fields:
      written.length > 0 && matches.length === 0
        ? undefined
        : { ...Object.fromEntries(kept), ...('matches' in rule.fields ? { matches } : {}) },
    fails: filters.length > 0,
    problems: [
      ...filters.map(filter => `${filter}: requests that match the rule get status 500`),
      ...faults.flat().map(fault => `${fault}: the match is dropped`),
      ...settings.map(name => `${rule.field}.${name} is not supported: it has no effect`),
      ...(session?.['idleTimeout'] === undefined
        ? []
        : [`${rule.field}.sessionPersistence.idleTimeout has no effect; absoluteTimeout has`])
    ]
  }
}

function unsupportedFilters(kind: RouteKind, filters: readonly RouteFilter[]): readonly string[] {
  return filters
    .filter(({ type }) => !supported[kind].filters.has(type))
    .map(({ type, field }) => `${field} of type ${JSON.stringify(type)} is not supported`)
}

/** Expressions stand beside `type: RegularExpression`, wherever in the match. */
function* expressionFaults(value: unknown, field: string): Generator<string> {
  if (typeof value !== 'object' || value === null) return
  if (Array.isArray(value)) {
    for (const [index, each] of value.entries()) yield* expressionFaults(each, `${field}[${index}]`)
    return
  }
  const match = value as JsonObject
  if (match['type'] !== 'RegularExpression') {
    for (const [name, each] of Object.entries(match)) yield* expressionFaults(each, `${field}.${name}`)
    return
  }
  for (const name of ['value', 'service', 'method']) {
    const text = match[name]
    const problem = typeof text === 'string' ? regularExpression(text) : undefined
    if (problem !== undefined) yield `${field}.${name} ${problem.message}; ${problem.remedy}`
  }
}
