/** What HTTPRoute and GRPCRoute have in common. Source: Gateway API v1. */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { readBackendReference, type Place } from './backend-reference.ts'
import { noFilters, readFilters } from './filters.ts'
import { regularExpression } from './regular-expression.ts'
import { readParents } from './route-parents.ts'
import type { Backend, FieldMatch, MatchingRule, Route, RouteMatch, RouteRule, TextMatch } from './route.ts'
import { readSessionPersistence } from './session-persistence.ts'

/** What rules of one kind of route say in their own way. */
export interface RuleForm {
  readonly match: (fields: Fields) => RouteMatch
  /** In place of matches where there are none. */
  readonly everything: RouteMatch
  readonly statusWithoutBackend: RouteRule['statusWithoutBackend']
  readonly limits: (fields: Fields) => RuleLimits
}

export type RuleLimits = Pick<RouteRule, 'requestTimeoutMs' | 'backendTimeoutMs' | 'retry'>

export const everyRequest: RouteMatch = {
  path: { kind: 'prefix', value: '' },
  method: undefined,
  headers: [],
  query: []
}

export const noLimits: RuleLimits = {
  requestTimeoutMs: undefined,
  backendTimeoutMs: undefined,
  retry: undefined
}

/**
 * A route whose rules have this form. Throws an Error that names every field that is wrong: what is not understood is
 * refused as a whole, since a route without one of its conditions would let more through.
 */
export function readRoute(
  { namespace, name, createdMs, spec }: ConfigResource,
  domain: string,
  form: RuleForm
): Route {
  const place = { namespace, name, domain }
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const route: Route = {
    namespace,
    name,
    createdMs,
    ...readParents(fields, place),
    rules: fields.list('rules', (value, path) => rule(new Fields(value, path, problems), place, form))
  }
  fields.list('hostnames', () => undefined) // parents say already who is meant
  fields.text('useDefaultGateways', '')
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return route
}

/**
 * In place of a route that cannot be read and is not known from before: its services answer 500, where without it they
 * would let through what it may have kept back.
 */
export function standIn({ namespace, name, createdMs, spec }: ConfigResource, domain: string): Route {
  const place = { namespace, name, domain }
  const fields = new Fields(spec, 'spec', new Problems()) // they are told already
  return {
    namespace,
    name,
    createdMs,
    ...readParents(fields, place),
    rules: [
      {
        route: `${namespace}/${name}`,
        name: 'unreadable',
        matches: [everyRequest],
        filters: { ...noFilters, unsupported: 'it was not understood; the log of the waypoint says why' },
        statusWithoutBackend: 500,
        backends: [],
        persistence: undefined,
        ...noLimits
      }
    ]
  }
}

function rule(fields: Fields, place: Place, form: RuleForm): MatchingRule {
  const { problems } = fields
  const matches = fields.list('matches', (value, path) => form.match(new Fields(value, path, problems)))
  const route = `${place.namespace}/${place.name}`
  const name = ruleName(fields)
  const persistence = fields.inner('sessionPersistence')
  const made: MatchingRule = {
    route,
    name,
    matches: matches.length > 0 ? matches : [form.everything],
    filters: readFilters(fields, place),
    statusWithoutBackend: form.statusWithoutBackend,
    backends: fields.list('backendRefs', (value, path) => backend(new Fields(value, path, problems), place)),
    persistence: persistence && readSessionPersistence(persistence, `${route}/${name}`),
    ...form.limits(fields)
  }
  fields.end()
  return made
}

/** As logs call a rule that has no name: its place. */
function ruleName(fields: Fields): string {
  return fields.text('name', /\d+/.exec(fields.path)?.[0] ?? '')
}

/** Of entries with the same name only the first counts. */
export function fieldMatches(fields: Fields, list: 'headers' | 'queryParams'): readonly FieldMatch[] {
  const matches = fields.list(list, (value, path) =>
    fieldMatch(new Fields(value, path, fields.problems), list === 'headers')
  )
  return matches.filter(({ name }, at) => matches.findIndex(other => other.name === name) === at)
}

function fieldMatch(fields: Fields, header: boolean): FieldMatch {
  const type = fields.choice('type', ['Exact', 'RegularExpression'], 'Exact')
  const name = fields.text('name')
  const value = fields.text('value')
  fields.end()
  const text: TextMatch = type === 'Exact' ? { kind: 'exact', value } : expression(fields, value)
  return { name: header ? name.toLowerCase() : name, text }
}

export function expression(fields: Fields, source: string): TextMatch {
  try {
    return { kind: 'regex', value: regularExpression(source) }
  } catch (error) {
    fields.problems.add(`${fields.path}.value`, messageOf(error))
    return { kind: 'exact', value: source }
  }
}

function backend(fields: Fields, place: Place): Backend {
  const weight = fields.integer('weight', 1, 1_000_000)
  const filters = readFilters(fields, place)
  const reference = readBackendReference(fields, place)
  fields.end()
  return { ...reference, weight, filters }
}
