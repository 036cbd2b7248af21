/**
 * Reads the Gateway API's routes, with the defaults that its definition gives, and ReferenceGrants. What a rule says
 * beyond its backends and filters is kept as it stands: it is for waypoints to understand.
 */
import type {
  BackendReference,
  JsonObject,
  ParentReference,
  ReferenceGrantObject,
  RouteBackend,
  RouteFilter,
  RouteObject,
  RouteRule
} from '../cluster/objects.ts'
import { ownParents, parentsText } from '../translate/route-status.ts'
import { Fields } from './fields.ts'
import { gatewayGroup } from './gateway.ts'
import { readMeta } from './meta.ts'

export function readHttpRoute(object: Fields): RouteObject & { readonly kind: 'HTTPRoute' } {
  return { kind: 'HTTPRoute', ...readRoute(object, rule => ({ matches: httpMatches(rule) })) }
}

export function readGrpcRoute(object: Fields): RouteObject & { readonly kind: 'GRPCRoute' } {
  return { kind: 'GRPCRoute', ...readRoute(object, rule => ({ matches: grpcMatches(rule) })) }
}

/** Which connections it is for, its hostnames say. */
export function readTlsRoute(object: Fields): RouteObject & { readonly kind: 'TLSRoute' } {
  return { kind: 'TLSRoute', ...readRoute(object, () => ({})) }
}

type ReadMatches = (rule: Fields) => { readonly matches?: readonly JsonObject[] }

function readRoute(object: Fields, readMatches: ReadMatches): Omit<RouteObject, 'kind'> {
  const meta = readMeta(object)
  const spec = object.at('spec')
  // A route without rules has one that matches everything.
  const rules = spec.has('rules') ? spec.list('rules') : [new Fields({}, spec.pathOf('rules[0]'))]
  return {
    meta,
    parents: spec.list('parentRefs').flatMap(parent => readParent(parent, meta.namespace)),
    hostnames: spec.texts('hostnames').map(hostname => hostname.toLowerCase()),
    rules: rules.map(rule => readRule(rule, meta.namespace, readMatches)),
    reported: parentsText(ownParents(object.at('status').raw('parents')))
  }
}

/** Parents that are told what became of them. A Service whose group was forgotten would be nobody's otherwise. */
const parentKinds: ReadonlyMap<string, readonly ParentReference['kind'][]> = new Map([
  ['', ['Service']],
  ['networking.istio.io', ['ServiceEntry']],
  [gatewayGroup, ['Gateway', 'Service']]
])

/** None when its kind is another controller's. */
function readParent(parent: Fields, namespace: string): readonly ParentReference[] {
  const group = parent.text('group', gatewayGroup)
  const written = parent.text('kind', 'Gateway')
  const kind = parentKinds.get(group)?.find(each => each === written)
  if (kind === undefined) return []
  return [
    {
      written: parent.json(),
      group,
      kind,
      namespace: parent.text('namespace') || namespace,
      name: parent.text('name'),
      port: parent.has('port') ? parent.port('port') : undefined,
      sectionName: parent.text('sectionName')
    }
  ]
}

function readRule(rule: Fields, namespace: string, readMatches: ReadMatches): RouteRule {
  const { matches: _, filters: __, backendRefs: ___, ...rest } = rule.json()
  return {
    field: rule.path,
    fields: { ...rest, ...readMatches(rule) },
    filters: rule.list('filters').map(filter => readFilter(filter, namespace)),
    backends: rule.list('backendRefs').map(backend => readBackend(backend, namespace))
  }
}

function httpMatches(rule: Fields): readonly JsonObject[] {
  const written = rule.list('matches')
  const matches = written.length > 0 ? written : [new Fields({}, `${rule.pathOf('matches')}[0]`)]
  return matches.map(match => ({
    ...match.json(),
    path: { type: 'PathPrefix', value: '/', ...match.at('path').json() },
    ...exactLists(match, 'headers', 'queryParams')
  }))
}

function grpcMatches(rule: Fields): readonly JsonObject[] {
  return rule.list('matches').map(match => ({
    ...match.json(),
    ...(match.has('method') ? { method: exact(match.at('method')) } : {}),
    ...exactLists(match, 'headers')
  }))
}

function exactLists(match: Fields, ...names: readonly string[]): JsonObject {
  return Object.fromEntries(
    names.filter(name => match.has(name)).map(name => [name, match.list(name).map(exact)])
  )
}

function exact(match: Fields): JsonObject {
  return { type: 'Exact', ...match.json() }
}

function readBackend(backend: Fields, namespace: string): RouteBackend {
  return {
    reference: readReference(backend, namespace),
    weight: backend.whole('weight', { fallback: 1, max: 1_000_000 }),
    filters: backend.list('filters').map(filter => readFilter(filter, namespace))
  }
}

function readReference(backend: Fields, namespace: string): BackendReference {
  return {
    field: backend.path,
    group: backend.text('group'),
    kind: backend.text('kind', 'Service'),
    namespace: backend.text('namespace') || namespace,
    name: backend.text('name'),
    port: backend.has('port') ? backend.port('port') : undefined
  }
}

/** Defaults of filters, by the field that holds their settings. */
const filterDefaults: Readonly<Record<string, JsonObject>> = {
  requestRedirect: { statusCode: 302 },
  cors: { maxAge: 5 }
}

function readFilter(filter: Fields, namespace: string): RouteFilter {
  const fields: Record<string, unknown> = { ...filter.json() }
  for (const [name, defaults] of Object.entries(filterDefaults)) {
    if (filter.has(name)) fields[name] = { ...defaults, ...filter.at(name).json() }
  }
  const mirror = filter.at('requestMirror')
  if (mirror.has('fraction')) {
    fields['requestMirror'] = {
      ...mirror.json(),
      fraction: { denominator: 100, ...mirror.at('fraction').json() }
    }
  }
  const holder = ['requestMirror', 'externalAuth'].find(name => filter.at(name).has('backendRef'))
  return {
    field: filter.path,
    type: filter.text('type'),
    fields,
    backend:
      holder === undefined
        ? undefined
        : { holder, reference: readReference(filter.at(holder).at('backendRef'), namespace) }
  }
}

export function readReferenceGrant(object: Fields): ReferenceGrantObject {
  const spec = object.at('spec')
  return {
    kind: 'ReferenceGrant',
    meta: readMeta(object),
    from: spec.list('from').map(from => ({
      group: from.text('group'),
      kind: from.text('kind'),
      namespace: from.text('namespace')
    })),
    to: spec.list('to').map(to => ({ group: to.text('group'), kind: to.text('kind'), name: to.text('name') }))
  }
}
