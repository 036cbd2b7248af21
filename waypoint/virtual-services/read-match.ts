/** Which requests a route of a VirtualService is for. Source: Istio's published HTTPMatchRequest. */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { StringMatch } from '../routes/route.ts'
import { readText } from '../destination-rules/read-part.ts'
import { readStringMatch } from './string-match.ts'
import type { HttpMatch, NamedMatch, PathCondition } from './virtual-service.ts'

/** What a rule without matches has. */
export const everyRequest: HttpMatch = {
  path: undefined,
  scheme: undefined,
  method: undefined,
  authority: undefined,
  headers: [],
  withoutHeaders: [],
  query: [],
  port: undefined,
  sourceNamespace: undefined
}

/** Undefined: it never holds here, since it is for gateways or for sidecars by their labels. */
export function readHttpMatch(fields: Fields): HttpMatch | undefined {
  fields.text('name', '')
  fields.text('statPrefix', '')
  const text = (name: string): StringMatch | undefined => {
    const inner = fields.inner(name)
    return inner && readStringMatch(inner)
  }
  const uri = text('uri')
  const ignoresCase = fields.flag('ignoreUriCase', false)
  const made: HttpMatch = {
    path: uri && pathCondition(uri, ignoresCase),
    scheme: text('scheme'),
    method: text('method'),
    authority: text('authority'),
    headers: headersOf(fields, 'headers'),
    withoutHeaders: headersOf(fields, 'withoutHeaders'),
    query: namedMatches(fields, 'queryParams'),
    port: readPort(fields),
    sourceNamespace: fields.text('sourceNamespace', '') || undefined
  }
  const applies = readApplies(fields)
  fields.end()
  return applies ? made : undefined
}

/** 0 is none. */
export function readPort(fields: Fields): number | undefined {
  return fields.integer('port', 0, 65_535) || undefined
}

/** Whether it is for clients in the mesh, whatever labels they have: a waypoint does not know them. */
export function readApplies(fields: Fields): boolean {
  const labels = fields.map('sourceLabels', (_key, value, path) => readText(value, path, fields.problems))
  return readMeshGateway(fields) && labels.length === 0
}

/** Whether `gateways` has the mesh among them. */
export function readMeshGateway(fields: Fields): boolean {
  const gateways = fields.list('gateways', (value, path) => readText(value, path, fields.problems))
  return gateways.length === 0 || gateways.includes('mesh')
}

function pathCondition(text: StringMatch, ignoresCase: boolean): PathCondition | undefined {
  if (text.kind === 'present') return undefined
  if (!ignoresCase || text.kind === 'regex') return { text, ignoresCase: false }
  return { text: { kind: text.kind, value: text.value.toLowerCase() }, ignoresCase }
}

/** They have fields of their own. */
const notHeaders = new Set(['uri', 'scheme', 'method', 'authority'])

function headersOf(fields: Fields, name: string): readonly NamedMatch[] {
  const all = namedMatches(fields, name).map(match => ({ ...match, name: match.name.toLowerCase() }))
  return all.filter(match => !notHeaders.has(match.name))
}

function namedMatches(fields: Fields, list: string): readonly NamedMatch[] {
  return fields.map(list, (name, value, path) => ({
    name,
    text: readStringMatch(new Fields(value ?? {}, path, fields.problems))
  }))
}
