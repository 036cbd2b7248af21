/**
 * GRPCRoute: methods of services are paths of POST requests. Source: Gateway API v1, GRPCRoute; the gRPC protocol over
 * HTTP/2.
 */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { readFilters } from './filters.ts'
import {
  backend,
  expression,
  fieldMatch,
  firstOfEach,
  readRoute,
  ruleName,
  type Place
} from './route-parts.ts'
import type { PathMatch, Route, RouteMatch, RouteRule } from './route.ts'

/** As for HTTPRoute. */
export function readGrpcRoute(resource: ConfigResource, domain: string): Route {
  return readRoute(resource, domain, rule)
}

function rule(fields: Fields, place: Place): RouteRule {
  const { problems } = fields
  const matches = fields.list('matches', (value, path) => match(new Fields(value, path, problems)))
  const made: RouteRule = {
    route: `${place.namespace}/${place.name}`,
    name: ruleName(fields),
    matches: matches.length > 0 ? matches : [everything],
    filters: readFilters(fields),
    statusWithoutBackend: 503, // which is UNAVAILABLE in gRPC
    backends: fields.list('backendRefs', (value, path) => backend(new Fields(value, path, problems), place)),
    requestTimeoutMs: undefined,
    backendTimeoutMs: undefined,
    retry: undefined
  }
  fields.end()
  return made
}

const everything: RouteMatch = {
  path: { kind: 'prefix', value: '' },
  method: 'POST',
  headers: [],
  query: []
}

function match(fields: Fields): RouteMatch {
  const { problems } = fields
  const method = fields.inner('method')
  const headers = firstOfEach(
    fields.list('headers', (value, path) => fieldMatch(new Fields(value, path, problems), true))
  )
  const path = method === undefined ? everything.path : pathOf(method)
  fields.end()
  return { ...everything, path, headers }
}

/** Of a whole name a path, of a service alone its prefix; a method of any service has to be looked for. */
function pathOf(fields: Fields): PathMatch {
  const type = fields.choice('type', ['Exact', 'RegularExpression'], 'Exact')
  const service = fields.text('service', '')
  const method = fields.text('method', '')
  fields.end()
  if (type === 'Exact' && service !== '') {
    return method === ''
      ? { kind: 'prefix', value: `/${service}` }
      : { kind: 'exact', value: `/${service}/${method}` }
  }
  if (service === '' && method === '') return everything.path
  const literal = (text: string): string => text.replaceAll(/[^A-Za-z0-9_]/g, character => `\\${character}`)
  const part = (text: string): string =>
    text === '' ? '[^/]+' : type === 'Exact' ? literal(text) : `(?:${text})`
  const text = expression(fields, `/${part(service)}/${part(method)}`)
  return text.kind === 'regex' ? text : everything.path
}
