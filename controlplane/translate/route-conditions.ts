/** What the status of a route should say, parent by parent. Source: Gateway API v1; Istio's published `ResolvedWaypoints`. */
import { backendsOf, routeTarget, type ClusterView } from '../cluster/cluster.ts'
import type { GatewayObject, ParentReference, RouteObject } from '../cluster/objects.ts'
import { resolveBackend } from './backend-ref.ts'
import type { Condition } from './condition.ts'
import {
  gatewayController,
  istiodRuns,
  runsAs,
  waypointController,
  type GatewayRole,
  type IstioClasses
} from './gateway-class.ts'
import { attachParent, type Attachment } from './route-parents.ts'
import type { ParentReport } from './route-status.ts'
import { isCarriedOut, supportedRule } from './route-support.ts'
import { serviceWaypoint, type Binding } from './waypoint.ts'

/** Reports for those parents that are ours to speak for: not where another implementation runs the waypoint or gateway. */
export function routeReports(
  view: ClusterView,
  route: RouteObject,
  istioClasses: IstioClasses
): readonly ParentReport[] {
  if (route.parents.length === 0 || !view.discovers(route.meta.namespace)) return []
  const resolvedRefs = backendsCondition(view, route)
  return route.parents.flatMap(reference => {
    const attachment = attachParent(view, route, reference)
    const binding: Binding =
      attachment.kind === 'attached' ? serviceWaypoint(view, attachment.owner.meta) : { kind: 'none' }
    const role = ourRole(view, reference, binding, istioClasses)
    if (role === undefined) return []
    const conditions = {
      ...acceptance(route, attachment),
      ResolvedRefs: resolvedRefs,
      ...(role === 'waypoint' ? { ResolvedWaypoints: waypointsCondition(attachment, binding) } : {})
    }
    const controller = role === 'waypoint' ? waypointController : gatewayController
    return [{ parentRef: reference.written, controller, conditions }]
  })
}

/** As what the parent is ours; undefined when it is not. */
function ourRole(
  view: ClusterView,
  { kind, namespace, name }: ParentReference,
  binding: Binding,
  istioClasses: IstioClasses
): GatewayRole | undefined {
  if (kind !== 'Gateway' && binding.kind !== 'bound') return istiodRuns(view) ? undefined : 'waypoint'
  const key = binding.kind === 'bound' ? binding.waypoint.key : `${namespace}/${name}`
  const gateway = view.get('Gateway', key)
  return gateway === undefined ? undefined : runsAs(view, gateway, istioClasses)
}

/**
 * How many routes each listener of a Gateway has, by its name: all that attach and are carried out, whatever becomes of
 * the listener. One without any is left out.
 */
export function attachedRoutes(view: ClusterView, gateway: GatewayObject): ReadonlyMap<string, number> {
  const target = routeTarget({ kind: 'Gateway', ...gateway.meta })
  const counts = new Map<string, number>()
  for (const route of view.routesNaming(target)) {
    if (!view.discovers(route.meta.namespace) || !isCarriedOut(route)) continue
    const names = route.parents
      .filter(reference => routeTarget(reference) === target)
      .map(reference => attachParent(view, route, reference))
      .flatMap(attachment => (attachment.kind === 'at-gateway' ? attachment.listeners : []))
      .map(({ name }) => name)
    for (const name of new Set(names)) counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return counts
}

function acceptance(route: RouteObject, attachment: Attachment): Record<string, Condition> {
  if (attachment.kind === 'refused') {
    const { reason, message } = attachment
    return { Accepted: { status: 'False', reason, message } }
  }
  const message = notCarriedOut(route)
  if (!isCarriedOut(route)) return { Accepted: { status: 'False', reason: 'UnsupportedValue', message } }
  const applies = {
    Accepted: { status: 'True', reason: 'Accepted', message: 'the route applies to its parent' }
  }
  if (message === '') return applies
  return { ...applies, PartiallyInvalid: { status: 'True', reason: 'UnsupportedValue', message } }
}

/** In words, what of the route is not carried out. */
function notCarriedOut({ kind, rules }: RouteObject): string {
  return listed(rules.flatMap(rule => supportedRule(kind, rule).problems))
}

/** The first problem gives the reason; the message tells of all. */
function backendsCondition(view: ClusterView, route: RouteObject): Condition {
  const failed = [...backendsOf(route)]
    .map(reference => resolveBackend(view, route, reference))
    .filter(found => found.kind === 'unresolved')
  const [first] = failed
  if (first === undefined) {
    return { status: 'True', reason: 'ResolvedRefs', message: 'all backends were found' }
  }
  return { status: 'False', reason: first.reason, message: listed(failed.map(({ message }) => message)) }
}

const mostListed = 10

/** A message of a condition has its limit in the API, and a reader another one. */
function listed(messages: readonly string[]): string {
  const rest = messages.length - mostListed
  const shown = messages.slice(0, mostListed).map(message => message.slice(0, 1000))
  return [...shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join('; ')
}

function waypointsCondition(attachment: Attachment, binding: Binding): Condition {
  if (attachment.kind !== 'attached') {
    const message = attachment.kind === 'refused' ? attachment.message : ''
    return { status: 'False', reason: 'NoMatchingParent', message }
  }
  switch (binding.kind) {
    case 'bound':
      return {
        status: 'True',
        reason: 'ResolvedWaypoints',
        message: `enforced by waypoint ${binding.waypoint.key}`
      }
    case 'refused':
      return { status: 'False', reason: binding.reason, message: binding.message }
    default: {
      const { kind, meta } = attachment.owner
      const message = `${kind} ${meta.namespace}/${meta.name} has no waypoint, so the route has no effect: set label istio.io/use-waypoint on it or on its namespace`
      return { status: 'False', reason: 'MissingUseWaypointLabel', message }
    }
  }
}
