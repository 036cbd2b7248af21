/** TLSRoute: connections by the name of the server that their client asks for. Source: Gateway API v1, TLSRoute. */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { readBackendReference, type Place } from './backend-reference.ts'
import { readParents } from './route-parents.ts'
import type { BackendReference, ListenerParent } from './route.ts'

export interface TlsRoute {
  readonly namespace: string
  readonly name: string
  readonly createdMs: number
  readonly listeners: readonly ListenerParent[]
  readonly backends: readonly WeightedBackend[]
}

export type WeightedBackend = BackendReference & { readonly weight: number }

/**
 * `domain`: of the cluster, for names of Services. Rules have no conditions, so the first is for every connection. Throws
 * an Error that names every field that is wrong.
 */
export function readTlsRoute({ namespace, name, createdMs, spec }: ConfigResource, domain: string): TlsRoute {
  const place = { namespace, name, domain }
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const { listeners } = readParents(fields, place)
  const rules = fields.list('rules', (value, path) => backendsOf(new Fields(value, path, problems), place))
  fields.list('hostnames', () => undefined) // those that the listeners have, too, are among the parents
  fields.text('useDefaultGateways', '')
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return { namespace, name, createdMs, listeners, backends: rules[0] ?? [] }
}

/** In place of one that cannot be read and is not known from before: its connections are refused. */
export function tlsStandIn({ namespace, name, createdMs, spec }: ConfigResource, domain: string): TlsRoute {
  const fields = new Fields(spec, 'spec', new Problems())
  const { listeners } = readParents(fields, { namespace, name, domain })
  return { namespace, name, createdMs, listeners, backends: [] }
}

/** Of routes for the same name the oldest counts. */
export function oldestTlsRoute(routes: readonly TlsRoute[]): TlsRoute | undefined {
  const age = (a: TlsRoute, b: TlsRoute): number =>
    a.createdMs - b.createdMs || (nameOf(a) < nameOf(b) ? -1 : 1)
  return routes.toSorted(age)[0]
}

function nameOf({ namespace, name }: TlsRoute): string {
  return `${namespace}/${name}`
}

function backendsOf(fields: Fields, place: Place): readonly WeightedBackend[] {
  fields.text('name', '')
  const backends = fields.list('backendRefs', (value, path) => {
    const backend = new Fields(value, path, fields.problems)
    const weight = backend.integer('weight', 1, 1_000_000)
    const reference = readBackendReference(backend, place)
    backend.end()
    return { ...reference, weight }
  })
  fields.end()
  return backends
}
