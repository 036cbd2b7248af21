/**
 * A route as waypoints are told it: its parents and backends explicit and checked, what cannot be reached marked, so
 * that its share of requests fails instead of going elsewhere. Everything else is as its author wrote it.
 */
import { backendsOf, hostsOf, routeTarget, type ClusterView, type HostOwner } from '../cluster/cluster.ts'
import type { BackendReference, JsonObject, RouteFilter, RouteObject, RouteRule } from '../cluster/objects.ts'
import { resolveBackend } from './backend-ref.ts'
import type { ConfigMessage, GatewayAddressMessage } from './messages.ts'
import { attachParent, routeWaypoints } from './route-parents.ts'
import { supportedRule } from './route-support.ts'

/** Undefined when it applies to nothing. */
export function translateRoute(view: ClusterView, route: RouteObject): ConfigMessage | undefined {
  const parentRefs = route.parents.flatMap(reference => {
    const attachment = attachParent(view, reference)
    if (attachment.kind === 'refused') return []
    const { owner, port } = attachment
    const { group, kind, namespace, name } = reference
    return hostsOf(owner, view.settings.domain).map(hostname => ({
      group,
      kind,
      namespace,
      name,
      ...(port === undefined ? {} : { port }),
      hostname
    }))
  })
  if (parentRefs.length === 0) return undefined
  const { namespace, name, createdMs } = route.meta
  const rules = route.rules.flatMap(rule => ruleOf(view, route, rule))
  return {
    kind: route.kind,
    message: { namespace, name, createdMs, spec: { parentRefs, rules } },
    waypoints: routeWaypoints(view, route)
  }
}

/** Waypoints that need this service, though it is not theirs: their routes lead to it. */
export function routedWaypoints(
  view: ClusterView,
  owner: HostOwner,
  hostname: string
): readonly GatewayAddressMessage[] {
  const leadsHere = (route: RouteObject, reference: BackendReference): boolean => {
    const found = resolveBackend(view, route, reference)
    return (
      found.kind === 'resolved' && found.hostname === hostname && found.namespace === owner.meta.namespace
    )
  }
  const { kind, meta } = owner
  const targets = [
    routeTarget({ kind, ...meta }),
    routeTarget({ kind: 'Hostname', namespace: '', name: hostname })
  ]
  return targets.flatMap(target =>
    [...view.routesNaming(target)]
      .filter(route =>
        [...backendsOf(route)].some(each => routeTarget(each) === target && leadsHere(route, each))
      )
      .flatMap(route => routeWaypoints(view, route))
  )
}

/** None when it matches nothing any more. */
function ruleOf(view: ClusterView, route: RouteObject, rule: RouteRule): readonly JsonObject[] {
  const { fields } = supportedRule(route.kind, rule)
  if (fields === undefined) return []
  const filters = filtersOf(view, route, rule.filters)
  const backendRefs = rule.backends.map(({ reference, weight, filters }) => ({
    ...backendOf(view, route, reference, weight),
    ...filtersOf(view, route, filters)
  }))
  return [{ ...fields, ...filters, ...(backendRefs.length === 0 ? {} : { backendRefs }) }]
}

function filtersOf(view: ClusterView, route: RouteObject, filters: readonly RouteFilter[]): JsonObject {
  if (filters.length === 0) return {}
  return {
    filters: filters.map(({ fields, backend }) => {
      if (backend === undefined) return fields
      const { holder, reference } = backend
      const settings = fields[holder] as JsonObject
      return { ...fields, [holder]: { ...settings, backendRef: backendOf(view, route, reference, 1) } }
    })
  }
}

function backendOf(
  view: ClusterView,
  route: RouteObject,
  reference: BackendReference,
  weight: number
): JsonObject {
  const found = resolveBackend(view, route, reference)
  if (found.kind === 'unresolved') return { weight, unresolved: found.reason }
  const { group, kind, name, port } = reference
  const { namespace, hostname } = found
  return { group, kind, namespace, name, port, weight, hostname }
}
