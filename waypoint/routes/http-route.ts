/**
 * HTTPRoute as the control plane sends it: parents that were accepted, backends that were looked up.
 * Source: Gateway API v1, HTTPRoute.
 */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import {
  everyRequest,
  expression,
  fieldMatches,
  readRoute,
  type RuleForm,
  type RuleLimits
} from './route-parts.ts'
import type { PathMatch, Retry, Route, RouteMatch } from './route.ts'

/** `domain`: of the cluster, for names of Services. Throws an Error that names every field that is wrong. */
export function readHttpRoute(resource: ConfigResource, domain: string): Route {
  return readRoute(resource, domain, form)
}

const form: RuleForm = { match, everything: everyRequest, statusWithoutBackend: 500, limits }

function limits(fields: Fields): RuleLimits {
  const timeouts = fields.inner('timeouts')
  const made = {
    requestTimeoutMs: timeouts === undefined ? undefined : duration(timeouts, 'request'),
    backendTimeoutMs: timeouts === undefined ? undefined : duration(timeouts, 'backendRequest'),
    retry: retryOf(fields.inner('retry'))
  }
  timeouts?.end()
  return made
}

/** Of tries that a route does not count: Istio's. */
const retries = 2
const maxRetries = 100

function retryOf(fields: Fields | undefined): Retry | undefined {
  if (fields === undefined) return undefined
  const statuses = fields.list('codes', (value, path) => {
    if (Number.isInteger(value) && (value as number) >= 400 && (value as number) <= 599)
      return value as number
    fields.problems.add(path, 'expected a status from 400 to 599')
    return undefined
  })
  const made = {
    times: fields.integer('attempts', retries, maxRetries),
    statuses: new Set(statuses),
    backoffMs: duration(fields, 'backoff')
  }
  fields.end()
  return made
}

function match(fields: Fields): RouteMatch {
  const path = fields.inner('path')
  const method = fields.text('method', '')
  const made: RouteMatch = {
    path: path === undefined ? everyRequest.path : pathMatch(path),
    method: method === '' ? undefined : method,
    headers: fieldMatches(fields, 'headers'),
    query: fieldMatches(fields, 'queryParams')
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

/** Milliseconds; an absent one and `0s` are no limit. */
function duration(fields: Fields, name: string): number | undefined {
  const text = fields.text(name, '')
  if (text === '') return undefined
  const ms = parseDuration(text)
  if (ms === undefined)
    fields.problems.add(`${fields.path}.${name}`, `${JSON.stringify(text)} is no duration`)
  return ms === 0 ? undefined : ms
}
