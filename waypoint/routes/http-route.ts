/**
 * HTTPRoute as the control plane sends it: parents that were accepted, backends that were looked up. What is not
 * understood is refused as a whole, since a route without one of its conditions would let more through.
 * Source: Gateway API v1, HTTPRoute.
 */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { readFilters, noFilters } from './filters.ts'
import { regularExpression } from './regular-expression.ts'
import type {
  Backend,
  FieldMatch,
  PathMatch,
  Route,
  RouteMatch,
  RouteParent,
  RouteRule,
  TextMatch
} from './route.ts'

/** `domain`: of the cluster, for parents that are Services. Throws an Error that names every field that is wrong. */
export function readHttpRoute({ namespace, name, createdMs, spec }: ConfigResource, domain: string): Route {
  const place = { namespace, name, domain }
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const route: Route = {
    namespace,
    name,
    createdMs,
    parents: fields.list('parentRefs', (value, path) => parent(new Fields(value, path, problems), place)),
    rules: fields.list('rules', (value, path) => rule(new Fields(value, path, problems), place))
  }
  fields.list('hostnames', () => undefined) // a service's address says already who is meant
  fields.text('useDefaultGateways', '')
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return route
}

function parent(fields: Fields, { domain, ...place }: Place): RouteParent {
  const kind = fields.choice('kind', ['Service', 'ServiceEntry', 'Hostname'], 'Service')
  fields.text('group', '')
  const namespace = fields.text('namespace', place.namespace)
  const name = fields.text('name')
  const port = fields.integer('port', 0, 65_535)
  const hostname = fields.text('hostname', kind === 'Service' ? `${name}.${namespace}.svc.${domain}` : name)
  fields.text('sectionName', '')
  fields.end()
  return { namespace, hostname, port: port === 0 ? undefined : port }
}

/** What names inside of a route are relative to. */
interface Place {
  readonly namespace: string
  readonly name: string
  readonly domain: string
}

function rule(fields: Fields, place: Place): RouteRule {
  const { problems } = fields
  const matches = fields.list('matches', (value, path) => match(new Fields(value, path, problems)))
  const timeouts = fields.inner('timeouts')
  const made: RouteRule = {
    route: `${place.namespace}/${place.name}`,
    name: fields.text('name', /\d+/.exec(fields.path)?.[0] ?? ''),
    matches: matches.length > 0 ? matches : [everything],
    filters: readFilters(fields),
    backends: fields.list('backendRefs', (value, path) => backend(new Fields(value, path, problems), place)),
    requestTimeoutMs: timeouts === undefined ? undefined : duration(timeouts, 'request'),
    backendTimeoutMs: timeouts === undefined ? undefined : duration(timeouts, 'backendRequest')
  }
  timeouts?.end()
  fields.end()
  return made
}

const everything: RouteMatch = {
  path: { kind: 'prefix', value: '' },
  method: undefined,
  headers: [],
  query: []
}

function match(fields: Fields): RouteMatch {
  const { problems } = fields
  const path = fields.inner('path')
  const method = fields.text('method', '')
  const made: RouteMatch = {
    path: path === undefined ? everything.path : pathMatch(path),
    method: method === '' ? undefined : method,
    headers: firstOfEach(
      fields.list('headers', (value, path) => fieldMatch(new Fields(value, path, problems), true))
    ),
    query: firstOfEach(
      fields.list('queryParams', (value, path) => fieldMatch(new Fields(value, path, problems), false))
    )
  }
  fields.end()
  return made
}

function pathMatch(fields: Fields): PathMatch {
  const type = fields.choice('type', ['Exact', 'PathPrefix', 'RegularExpression'], 'PathPrefix')
  const value = fields.text('value', '/')
  fields.end()
  if (type === 'Exact') return { kind: 'exact', value }
  if (type === 'PathPrefix') return { kind: 'prefix', value: value.replace(/\/+$/, '') }
  const text = expression(fields, value)
  return text.kind === 'regex' ? text : { kind: 'exact', value }
}

function fieldMatch(fields: Fields, header: boolean): FieldMatch {
  const type = fields.choice('type', ['Exact', 'RegularExpression'], 'Exact')
  const name = fields.text('name')
  const value = fields.text('value')
  fields.end()
  const text: TextMatch = type === 'Exact' ? { kind: 'exact', value } : expression(fields, value)
  return { name: header ? name.toLowerCase() : name, text }
}

function expression(fields: Fields, source: string): TextMatch {
  try {
    return { kind: 'regex', value: regularExpression(source) }
  } catch (error) {
    fields.problems.add(`${fields.path}.value`, messageOf(error))
    return { kind: 'exact', value: source }
  }
}

/** Of entries with the same name only the first counts. */
function firstOfEach(matches: readonly FieldMatch[]): readonly FieldMatch[] {
  return matches.filter(({ name }, at) => matches.findIndex(other => other.name === name) === at)
}

function backend(fields: Fields, place: Place): Backend {
  const weight = fields.integer('weight', 1, 1_000_000)
  const filters = readFilters(fields)
  const unresolved = fields.text('unresolved', '')
  const namespace = fields.text('namespace', place.namespace)
  const name = fields.text('name', '')
  const hostname = fields.text('hostname', name === '' ? '' : `${name}.${namespace}.svc.${place.domain}`)
  const port = fields.integer('port', 0, 65_535)
  fields.text('group', '')
  fields.text('kind', '')
  fields.end()
  if (unresolved !== '') return { kind: 'unresolved', weight, filters, reason: unresolved }
  if (hostname === '' || port === 0) {
    return {
      kind: 'unresolved',
      weight,
      filters: noFilters,
      reason: 'the backend has no hostname or no port'
    }
  }
  return { kind: 'service', weight, filters, hostname, namespace, port }
}

/** Milliseconds; an absent one and `0s` are no limit. */
function duration(fields: Fields, name: string): number | undefined {
  const text = fields.text(name, '')
  if (text === '') return undefined
  const ms = parseDuration(text)
  if (ms === undefined)
    fields.problems.add(`${fields.path}.${name}`, `${JSON.stringify(text)} is no duration`)
  return ms === 0 ? undefined : ms
}
