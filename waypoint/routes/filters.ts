/** The filters of a rule or a backend. Source: Gateway API v1, HTTPRouteFilter. */
import { Fields, type Problems } from '../../shared/mesh/yaml-fields.ts'
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
    const made = [entry.text('name').toLowerCase(), entry.text('value')] as const
    entry.end()
    return made
  }
  const made: HeaderChange = {
    set: fields.list('set', pair),
    add: fields.list('add', pair),
    remove: fields.list('remove', value => (typeof value === 'string' ? value.toLowerCase() : undefined))
  }
  fields.end()
  return made
}

function redirect(fields: Fields): Redirect {
  const scheme = fields.text('scheme', '')
  if (scheme !== '' && scheme !== 'http' && scheme !== 'https') {
    fields.problems.add(`${fields.path}.scheme`, `expected http or https, found ${JSON.stringify(scheme)}`)
  }
  const port = fields.integer('port', 0, 65_535)
  const made: Redirect = {
    scheme: scheme === 'http' || scheme === 'https' ? scheme : undefined,
    hostname: textOrNone(fields, 'hostname'),
    path: pathChange(fields.inner('path')),
    port: port === 0 ? undefined : port,
    status: fields.integer('statusCode', 302, 399)
  }
  fields.end()
  return made
}

function rewrite(fields: Fields): Rewrite {
  const made = { hostname: textOrNone(fields, 'hostname'), path: pathChange(fields.inner('path')) }
  fields.end()
  return made
}

function pathChange(fields: Fields | undefined): PathChange | undefined {
  if (fields === undefined) return undefined
  const type = fields.choice('type', ['ReplaceFullPath', 'ReplacePrefixMatch'])
  const full = fields.text('replaceFullPath', '')
  const prefix = fields.text('replacePrefixMatch', '')
  fields.end()
  return type === 'ReplaceFullPath' ? { kind: 'full', value: full } : { kind: 'prefix', value: prefix }
}

function textOrNone(fields: Fields, name: string): string | undefined {
  const text = fields.text(name, '')
  return text === '' ? undefined : text
}
