/** The filters of a rule or a backend. Source: Gateway API v1, HTTPRouteFilter. */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { isHeaderText, isHost, isTarget, isToken } from '../http1/characters.ts'
import type { Place } from './backend-reference.ts'
import { readCors } from './cors-filter.ts'
import { readMirror } from './mirror-filter.ts'
import type { Filters, HeaderChange, PathChange, Redirect, Rewrite } from './route.ts'

export const noFilters: Filters = {
  cors: undefined,
  mirrors: [],
  requestHeaders: undefined,
  responseHeaders: undefined,
  rewrite: undefined,
  redirect: undefined,
  unsupported: undefined
}

/** What is wrong is told to the problems of `holder`; a type that we do not have is no problem of the object. */
export function readFilters(holder: Fields, place: Place): Filters {
  const { problems } = holder
  const list = holder.list('filters', (value, path) => filter(new Fields(value, path, problems), place))
  if (list.length === 0) return noFilters
  const mirrors = list.flatMap(({ mirrors = [] }) => mirrors)
  return { ...Object.assign({ ...noFilters }, ...list), mirrors }
}

function filter(fields: Fields, place: Place): Partial<Filters> {
  const type = fields.text('type')
  const inner = (name: string): Fields =>
    fields.inner(name) ?? new Fields(undefined, `${fields.path}.${name}`, fields.problems)
  switch (type) {
    case 'RequestHeaderModifier':
      return carriedOut(faults => ({ requestHeaders: headerChange(inner('requestHeaderModifier'), faults) }))
    case 'ResponseHeaderModifier':
      return carriedOut(faults => ({
        responseHeaders: headerChange(inner('responseHeaderModifier'), faults)
      }))
    case 'RequestRedirect':
      return carriedOut(faults => ({ redirect: redirect(inner('requestRedirect'), faults) }))
    case 'URLRewrite':
      return carriedOut(faults => ({ rewrite: rewrite(inner('urlRewrite'), faults) }))
    case 'RequestMirror':
      return { mirrors: [readMirror(inner('requestMirror'), place)] }
    case 'CORS':
      return carriedOut(faults => ({ cors: readCors(inner('cors'), faults) }))
    default:
      return { unsupported: `filter ${type} is not supported` }
  }
}

/** What no message can carry: the rule answers 500, as with a filter that we do not have. */
function carriedOut(make: (faults: Problems) => Partial<Filters>): Partial<Filters> {
  const faults = new Problems()
  const made = make(faults)
  return faults.found.length === 0 ? made : { unsupported: faults.found.join('; ') }
}

function headerChange(fields: Fields, faults: Problems): HeaderChange {
  const { problems } = fields
  const pair = (value: unknown, path: string): readonly [string, string] => {
    const entry = new Fields(value, path, problems)
    const name = headerName(entry.text('name'), `${path}.name`, faults)
    const text = entry.text('value')
    if (!isHeaderText(text)) faults.add(`${path}.value`, 'has characters that a header cannot carry')
    entry.end()
    return [name, text]
  }
  const made: HeaderChange = {
    set: fields.list('set', pair),
    add: fields.list('add', pair),
    remove: fields.list('remove', (value, path) => headerName(String(value), path, faults))
  }
  fields.end()
  return made
}

/** Fields that say where a message ends or goes belong to whoever forwards it (RFC 9110 section 7.6). */
const ownHeaders = new Set([
  ...['host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'proxy-connection'],
  ...['upgrade', 'te', 'trailer', 'expect']
])

/** In lower case; a name that no message can carry, or that is ours to write, is told to `faults`. */
export function headerName(name: string, path: string, faults: Problems): string {
  const lower = name.toLowerCase()
  if (!isToken(lower)) faults.add(path, `${JSON.stringify(name)} is no header name`)
  else if (ownHeaders.has(lower)) {
    faults.add(path, `${lower} is the proxy's own${lower === 'host' ? '; use URLRewrite for the host' : ''}`)
  }
  return lower
}

function redirect(fields: Fields, faults: Problems): Redirect {
  const scheme = fields.text('scheme', '')
  if (scheme !== '' && scheme !== 'http' && scheme !== 'https') {
    fields.problems.add(`${fields.path}.scheme`, `expected http or https, found ${JSON.stringify(scheme)}`)
  }
  const port = fields.integer('port', 0, 65_535)
  const made: Redirect = {
    scheme: scheme === 'http' || scheme === 'https' ? scheme : undefined,
    hostname: hostOrNone(fields, 'hostname', faults),
    path: pathChange(fields.inner('path'), faults),
    port: port === 0 ? undefined : port,
    status: fields.integer('statusCode', 302, 399)
  }
  fields.end()
  return made
}

function rewrite(fields: Fields, faults: Problems): Rewrite {
  const made = {
    hostname: hostOrNone(fields, 'hostname', faults),
    path: pathChange(fields.inner('path'), faults)
  }
  fields.end()
  return made
}

function pathChange(fields: Fields | undefined, faults: Problems): PathChange | undefined {
  if (fields === undefined) return undefined
  const type = fields.choice('type', ['ReplaceFullPath', 'ReplacePrefixMatch'])
  const full = fields.text('replaceFullPath', '')
  const prefix = fields.text('replacePrefixMatch', '')
  fields.end()
  const text = type === 'ReplaceFullPath' ? full : prefix
  if (text !== '' && !isTarget(text)) {
    faults.add(fields.path, `${JSON.stringify(text)} has characters that must be percent-encoded`)
  }
  return type === 'ReplaceFullPath' ? { kind: 'full', value: full } : { kind: 'prefix', value: prefix }
}

function hostOrNone(fields: Fields, name: string, faults: Problems): string | undefined {
  const text = fields.text(name, '')
  if (!isHost(text)) faults.add(`${fields.path}.${name}`, `${JSON.stringify(text)} is no host`)
  return text === '' ? undefined : text
}
