/**
 * VirtualService as the control plane sends it: hosts in full, destinations that were looked up.
 * Source: Istio's published networking/v1alpha3/virtual_service.proto.
 */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { readDuration, readInner, readText } from '../destination-rules/read-part.ts'
import type { Place } from '../routes/backend-reference.ts'
import { noFilters } from '../routes/filters.ts'
import type { Backend, RouteRule } from '../routes/route.ts'
import { readConnectionRules } from './read-connections.ts'
import { fullHost, readDestination, readWeighted } from './read-destination.ts'
import { readFault } from './read-fault.ts'
import { readDestinationFilters, readRuleFilters } from './read-filters.ts'
import { everyRequest, readHttpMatch, readMeshGateway } from './read-match.ts'
import { readRetries, usualRetries } from './read-retries.ts'
import { readingAt, timerMs, type Reading } from './reading.ts'
import type { HttpRule, VirtualService } from './virtual-service.ts'

/** `domain`: of the cluster, for short names of Services. Throws an Error that names every field that is wrong. */
export function readVirtualService(
  { namespace, name, createdMs, spec }: ConfigResource,
  domain: string
): VirtualService {
  const place = { namespace, name, domain }
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const hosts = readHosts(fields, place)
  fields.list('exportTo', (value, path) => readText(value, path, problems)) // whom it is for was decided before
  const ofMesh = readMeshGateway(fields)
  const made: VirtualService = {
    namespace,
    name,
    createdMs,
    hosts: ofMesh ? hosts : [],
    http: fields.list('http', (value, path) => readRule(new Fields(value, path, problems), place)),
    tls: readConnectionRules(fields, 'tls', place),
    tcp: readConnectionRules(fields, 'tcp', place)
  }
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return made
}

/**
 * In place of one that cannot be read and is not known from before: its hosts answer 500, where without it they would let
 * through what it may have kept back. Undefined where nobody can tell its hosts.
 */
export function unreadableVirtualService(
  { namespace, name, createdMs, spec }: ConfigResource,
  domain: string
): VirtualService | undefined {
  const place = { namespace, name, domain }
  const fields = new Fields(spec, 'spec', new Problems()) // they are told already
  const hosts = readHosts(fields, place)
  if (!readMeshGateway(fields) || hosts.length === 0) return undefined
  const unsupported = 'it was not understood; the log of the waypoint says why'
  const rule: RouteRule = {
    ...nothingYet(place, 'unreadable'),
    filters: { ...noFilters, unsupported },
    backends: []
  }
  return {
    ...{ namespace, name, createdMs, hosts },
    http: [{ matches: [everyRequest], rule }],
    tls: [],
    tcp: [{ matches: [{ port: undefined, serverNames: undefined }], backends: [], unsupported }]
  }
}

function readHosts(fields: Fields, place: Place): readonly string[] {
  const read = (value: unknown, path: string): string | undefined => {
    const text = readText(value, path, fields.problems)
    return text === undefined || text === '' ? undefined : fullHost(text, place).toLowerCase()
  }
  return fields.list('hosts', read, true)
}

function nothingYet({ namespace, name }: Place, rule: string): Omit<RouteRule, 'filters' | 'backends'> {
  return {
    route: `${namespace}/${name}`,
    name: rule,
    statusWithoutBackend: 503,
    requestTimeoutMs: undefined,
    heedsGrpcTimeout: true,
    persistence: undefined,
    ...usualRetries
  }
}

function readRule(fields: Fields, place: Place): HttpRule {
  const reading = readingAt(place)
  const { unsupported } = reading
  let written = 0
  const matches = fields.list('match', (value, path) => {
    written += 1
    return readHttpMatch(new Fields(value, path, fields.problems))
  })
  const name = fields.text('name', '') || (/\d+/.exec(fields.path)?.[0] ?? '')
  if (fields.inner('delegate') !== undefined) {
    unsupported.add(`${fields.path}.delegate`, 'is for gateways; write its routes here')
  }
  const backends = readBackends(fields, reading)
  const filters = readRuleFilters(fields, reading)
  const rule: RouteRule = {
    ...nothingYet(place, name),
    fault: readInner(fields, 'fault', inner => readFault(inner, reading)),
    requestTimeoutMs: timerMs(readDuration(fields, 'timeout', 0)) || undefined,
    ...readInner(fields, 'retries', readRetries),
    backends,
    filters: {
      ...filters,
      unsupported: unsupported.found.length === 0 ? undefined : unsupported.found.join('; ')
    }
  }
  fields.end()
  const ways = Number(backends.length > 0) + Number(filters.ownAnswer !== undefined)
  if (ways !== 1 && unsupported.found.length === 0) {
    const path = fields.path
    fields.problems.add(path, 'needs one of route, redirect and directResponse, and not more than one')
  }
  return { matches: written === 0 ? [everyRequest] : matches, rule }
}

function readBackends(fields: Fields, reading: Reading): readonly Backend[] {
  return readWeighted(fields, 'route', (entry, weight) => ({
    ...readDestination(entry, reading.place),
    weight,
    filters: readDestinationFilters(entry, reading)
  }))
}
