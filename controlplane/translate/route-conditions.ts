/** What the status of a route should say, parent by parent. Source: Gateway API v1; Istio's published `ResolvedWaypoints`. */
import { backendsOf, type ClusterView } from '../cluster/cluster.ts'
import type { ParentReference, RouteObject } from '../cluster/objects.ts'
import { resolveBackend } from './backend-ref.ts'
import type { Condition } from './condition.ts'
import { attachParent, type Attachment } from './route-parents.ts'
import type { ParentReport } from './route-status.ts'
import { supportedRule } from './route-support.ts'
import { istiodRuns, runsWaypoint, type IstioClasses } from './waypoint-workload.ts'
import { serviceWaypoint, type Binding } from './waypoint.ts'

/** Reports for those parents that are ours to speak for: not where another implementation runs the waypoint. */
export function routeReports(
  view: ClusterView,
  route: RouteObject,
  istioClasses: IstioClasses
): readonly ParentReport[] {
  if (route.parents.length === 0 || !view.discovers(route.meta.namespace)) return []
  const resolvedRefs = backendsCondition(view, route)
  return route.parents.flatMap(reference => {
    const attachment = attachParent(view, reference)
    const binding: Binding =
      attachment.kind === 'attached' ? serviceWaypoint(view, attachment.owner.meta) : { kind: 'none' }
    if (!isOurs(view, reference, binding, istioClasses)) return []
    const conditions = {
      ...acceptance(route, attachment),
      ResolvedRefs: resolvedRefs,
      ResolvedWaypoints: waypointsCondition(attachment, binding)
    }
    return [{ parentRef: reference.written, conditions }]
  })
}

function isOurs(
  view: ClusterView,
  { kind, namespace, name }: ParentReference,
  binding: Binding,
  istioClasses: IstioClasses
): boolean {
  if (kind !== 'Gateway' && binding.kind !== 'bound') return !istiodRuns(view)
  const key = binding.kind === 'bound' ? binding.waypoint.key : `${namespace}/${name}`
  const gateway = view.get('Gateway', key)
  return gateway !== undefined && runsWaypoint(view, gateway, istioClasses)
}

function acceptance(route: RouteObject, attachment: Attachment): Record<string, Condition> {
  if (attachment.kind === 'refused') {
    const { reason, message } = attachment
    return { Accepted: { status: 'False', reason, message } }
  }
  const rules = route.rules.map(rule => supportedRule(route.kind, rule))
  const message = listed(rules.flatMap(({ problems }) => problems))
  if (rules.length > 0 && rules.every(({ fields, fails }) => fails || fields === undefined)) {
    return { Accepted: { status: 'False', reason: 'UnsupportedValue', message } }
  }
  const accepted = {
    Accepted: { status: 'True', reason: 'Accepted', message: 'the route applies to its parent' }
  }
  if (message === '') return accepted
  return { ...accepted, PartiallyInvalid: { status: 'True', reason: 'UnsupportedValue', message } }
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
  if (attachment.kind === 'refused') {
    return { status: 'False', reason: 'NoMatchingParent', message: attachment.message }
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
