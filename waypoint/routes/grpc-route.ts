/**
 * GRPCRoute: methods of services are paths of POST requests. Source: Gateway API v1, GRPCRoute; the gRPC protocol over
 * HTTP/2.
 */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { everyRequest, expression, fieldMatches, noLimits, readRoute, type RuleForm } from './route-parts.ts'
import type { PathMatch, Route, RouteMatch } from './route.ts'

/** As for HTTPRoute. */
export function readGrpcRoute(resource: ConfigResource, domain: string): Route {
  return readRoute(resource, domain, form)
}

const everything: RouteMatch = { ...everyRequest, method: 'POST' }

const form: RuleForm = {
  match,
  everything,
  statusWithoutBackend: 503, // which is UNAVAILABLE in gRPC
  limits: () => noLimits
}

function match(fields: Fields): RouteMatch {
  const method = fields.inner('method')
  const headers = fieldMatches(fields, 'headers')
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
