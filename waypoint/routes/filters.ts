/** The filters of a rule or a backend. Source: Gateway API v1, HTTPRouteFilter. */
import { Fields, type Problems } from '../../shared/mesh/yaml-fields.ts'
import { isHeaderText, isHost, isTarget, isToken } from '../http1/characters.ts'
import type { Filters, HeaderChange, PathChange, Redirect, Rewrite } from './route.ts'

export const noFilters: Filters = {
  requestHeaders: undefined,
  responseHeaders: undefined,
  rewrite: undefined,
  redirect: undefined,
  unsupported: undefined
}

/** What is wrong is told to the problems of `holder`; a type that we do not have is no problem of the object. */
export function readFilters(holder: Fields): Filters {
  const { problems } = holder
  const list = holder.list('filters', (value, path) => filter(value, path, problems))
  return list.length === 0 ? noFilters : Object.assign({ ...noFilters }, ...list)
}

function filter(value: unknown, path: string, problems: Problems): Partial<Filters> {
  const fields = new Fields(value, path, problems)
  const type = fields.text('type')
  const inner = (name: string): Fields =>
    fields.inner(name) ?? new Fields(undefined, `${path}.${name}`, problems)
  switch (type) {
    case 'RequestHeaderModifier':
      return { requestHeaders: headerChange(inner('requestHeaderModifier')) }
    case 'ResponseHeaderModifier':
      return { responseHeaders: headerChange(inner('responseHeaderModifier')) }
    case 'RequestRedirect':
      return { redirect: redirect(inner('requestRedirect')) }
    case 'URLRewrite':
      return { rewrite: rewrite(inner('urlRewrite')) }
    default:
      return { unsupported: `filter ${type} is not supported` }
  }
}

function headerChange(fields: Fields): HeaderChange {
  const { problems } = fields
  const pair = (value: unknown, path: string): readonly [string, string] => {
    const entry = new Fields(value, path, problems)
    const name = headerName(entry.text('name'), `${path}.name`, problems)
    const text = entry.text('value')
    if (!isHeaderText(text)) problems.add(`${path}.value`, 'has characters that a header cannot carry')
    entry.end()
    return [name, text]
  }
  const made: HeaderChange = {
    set: fields.list('set', pair),
    add: fields.list('add', pair),
    remove: fields.list('remove', (value, path) => headerName(String(value), path, problems))
  }
  fields.end()
  return made
}

/** Fields that say where a message ends or goes belong to whoever forwards it (RFC 9110 section 7.6). */
const ownHeaders = new Set([
  ...['host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'proxy-connection'],
  ...['upgrade', 'te', 'trailer', 'expect']
])

function headerName(name: string, path: string, problems: Problems): string {
  const lower = name.toLowerCase()
  if (!isToken(lower)) problems.add(path, `${JSON.stringify(name)} is no header name`)
  else if (ownHeaders.has(lower)) {
    problems.add(
      path,
      `${lower} is the proxy's own${lower === 'host' ? '; use URLRewrite for the host' : ''}`
    )
  }
  return lower
}

function redirect(fields: Fields): Redirect {
  const scheme = fields.text('scheme', '')
  if (scheme !== '' && scheme !== 'http' && scheme !== 'https') {
    fields.problems.add(`${fields.path}.scheme`, `expected http or https, found ${JSON.stringify(scheme)}`)
  }
  const port = fields.integer('port', 0, 65_535)
  const made: Redirect = {
    scheme: scheme === 'http' || scheme === 'https' ? scheme : undefined,
    hostname: hostOrNone(fields, 'hostname'),
    path: pathChange(fields.inner('path')),
    port: port === 0 ? undefined : port,
    status: fields.integer('statusCode', 302, 399)
  }
  fields.end()
  return made
}

function rewrite(fields: Fields): Rewrite {
  const made = { hostname: hostOrNone(fields, 'hostname'), path: pathChange(fields.inner('path')) }
  fields.end()
  return made
}

function pathChange(fields: Fields | undefined): PathChange | undefined {
  if (fields === undefined) return undefined
  const type = fields.choice('type', ['ReplaceFullPath', 'ReplacePrefixMatch'])
  const full = fields.text('replaceFullPath', '')
  const prefix = fields.text('replacePrefixMatch', '')
  fields.end()
  const text = type === 'ReplaceFullPath' ? full : prefix
  if (text !== '' && !isTarget(text)) {
    fields.problems.add(fields.path, `${JSON.stringify(text)} has characters that must be percent-encoded`)
  }
  return type === 'ReplaceFullPath' ? { kind: 'full', value: full } : { kind: 'prefix', value: prefix }
}

function hostOrNone(fields: Fields, name: string): string | undefined {
  const text = fields.text(name, '')
  if (!isHost(text)) fields.problems.add(`${fields.path}.${name}`, `${JSON.stringify(text)} is no host`)
  return text === '' ? undefined : text
}
