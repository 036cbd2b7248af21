/**
 * EnvoyFilter, as far as it can be judged without Envoy's own definitions: that each patch is whole and that
 * its place, its match and its operation belong together. Source: Istio's published definition.
 */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { regularExpression } from './regular-expression.ts'
import { checkWorkloadSelector } from './selection.ts'

const ofListeners = ['LISTENER', 'FILTER_CHAIN', 'NETWORK_FILTER', 'HTTP_FILTER']
const ofRoutes = ['ROUTE_CONFIGURATION', 'VIRTUAL_HOST', 'HTTP_ROUTE']
const matches = ['listener', 'routeConfiguration', 'cluster', 'waypoint']
const connectionManagers = ['envoy.filters.network.http_connection_manager', 'envoy.http_connection_manager']
const longestVersion = 1024

export function validateEnvoyFilter(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  findings.warn(
    spec.pathOf('configPatches'),
    'changes the inside of Envoy, which differs between versions',
    'use another API where there is one'
  )
  if (!checkWorkloadSelector(spec, findings)) return
  for (const patch of spec.list('configPatches')) checkPatch(patch, findings)
}

function checkPatch(entry: Fields, findings: Findings): void {
  const [match, patch] = [entry.at('match'), entry.at('patch')]
  if (match.text('context') === 'WAYPOINT') return
  const place = entry.text('applyTo', 'INVALID')
  if (place === 'INVALID') {
    findings.error(entry.pathOf('applyTo'), 'is missing', 'say what to patch, such as HTTP_FILTER')
    return
  }
  const operation = patch.text('operation', 'INVALID')
  if (operation === 'INVALID') {
    findings.error(patch.pathOf('operation'), 'is missing', 'say what to do, such as MERGE')
    return
  }
  if (operation !== 'REMOVE' && !patch.has('value')) {
    findings.error(patch.pathOf('value'), 'is missing', `operation ${operation} takes one`)
    return
  }
  if (!checkVersion(match.at('proxy'), findings)) return
  const kind = matches.find(name => match.has(name))
  const wanted = ofListeners.includes(place)
    ? 'listener'
    : ofRoutes.includes(place)
      ? 'routeConfiguration'
      : place === 'CLUSTER'
        ? 'cluster'
        : undefined
  if (wanted !== undefined && kind !== undefined && kind !== wanted) {
    findings.error(match.pathOf(kind), `does not go with applyTo ${place}`, `match by ${wanted}`)
  } else if (kind === 'listener' && wanted === 'listener')
    checkListener(match.at('listener'), place, findings)
}

function checkVersion(proxy: Fields, findings: Findings): boolean {
  const version = proxy.text('proxyVersion')
  const field = proxy.pathOf('proxyVersion')
  if (version.length > longestVersion) {
    findings.warn(field, `is longer than ${longestVersion} characters and ignored`, 'shorten it')
    return true
  }
  const problem = regularExpression(version)
  findings.check(field, problem)
  return problem === undefined
}

function checkListener(listener: Fields, place: string, findings: Findings): void {
  const chain = listener.at('filterChain')
  if (!chain.has('filter')) return
  const filter = chain.at('filter')
  if (place === 'LISTENER' || place === 'FILTER_CHAIN') {
    findings.warn(filter.path, `has no effect with applyTo ${place}`, 'leave it out')
  }
  if (filter.text('name') === '') {
    findings.error(filter.pathOf('name'), 'is missing', 'name the filter')
    return
  }
  if (!filter.has('subFilter')) return
  const inner = filter.at('subFilter')
  if (place !== 'HTTP_FILTER') findings.error(inner.path, 'is for applyTo HTTP_FILTER', 'leave it out')
  else if (!connectionManagers.includes(filter.text('name'))) {
    findings.error(filter.pathOf('name'), 'has no filters inside', `name ${connectionManagers[0]}`)
  } else if (inner.text('name') === '') findings.error(inner.pathOf('name'), 'is missing', 'name the filter')
}
