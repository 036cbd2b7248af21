/** What the status of a BackendTLSPolicy should say, for each Gateway that its services are reached through. */
import { routeTarget, type ClusterView } from '../cluster/cluster.ts'
import {
  keyOf,
  type BackendTlsPolicyObject,
  type GatewayObject,
  type PolicyTargetReference
} from '../cluster/objects.ts'
import { gatewayGroup } from '../read/gateway.ts'
import { authoritiesState, targetState, type AuthoritiesState } from './backend-tls.ts'
import type { AncestorReport } from './backend-tls-status.ts'
import type { Condition } from './condition.ts'
import { gatewayController, runsAs, waypointController, type IstioClasses } from './gateway-class.ts'
import { attachParent } from './route-parents.ts'
import { serviceWaypoint } from './waypoint.ts'

/** In the order of the Gateways' names; those that others run are theirs to speak for. */
export function backendTlsReports(
  view: ClusterView,
  policy: BackendTlsPolicyObject,
  istioClasses: IstioClasses
): readonly AncestorReport[] {
  if (!view.discovers(policy.meta.namespace)) return []
  const targets = new Map<string, PolicyTargetReference[]>()
  for (const target of policy.targets) {
    for (const key of gatewaysUsing(view, policy.meta.namespace, target)) {
      targets.set(key, [...(targets.get(key) ?? []), target])
    }
  }
  const authorities = authoritiesState(view, policy)
  return [...targets.keys()].toSorted().flatMap(key => {
    const gateway = view.get('Gateway', key)
    const role = gateway === undefined ? undefined : runsAs(view, gateway, istioClasses)
    if (gateway === undefined || role === undefined) return []
    return {
      parentRef: referenceTo(gateway),
      controller: role === 'waypoint' ? waypointController : gatewayController,
      conditions: {
        Accepted: accepted(view, policy, targets.get(key) ?? [], authorities),
        ResolvedRefs: resolvedRefs(authorities)
      }
    }
  })
}

function referenceTo({ meta: { namespace, name } }: GatewayObject): AncestorReport['parentRef'] {
  return { group: gatewayGroup, kind: 'Gateway', namespace, name }
}

/** Waypoints of the service, and what its routes are attached to, whether or not the service is there. */
function* gatewaysUsing(
  view: ClusterView,
  namespace: string,
  { kind, name }: PolicyTargetReference
): Generator<string> {
  if (kind !== 'Service' && kind !== 'ServiceEntry') return
  const owner = view.get(kind, `${namespace}/${name}`)
  const own = owner === undefined ? undefined : waypointKey(view, owner.meta)
  if (own !== undefined) yield own
  const names = [
    routeTarget({ kind, namespace, name }),
    ...(owner?.kind === 'ServiceEntry'
      ? owner.hosts.map(host => routeTarget({ kind: 'Hostname', namespace: '', name: host }))
      : [])
  ]
  for (const route of names.flatMap(target => [...view.routesNaming(target)])) {
    for (const parent of route.parents) {
      const attachment = attachParent(view, route, parent)
      if (attachment.kind === 'at-gateway') yield keyOf(attachment.gateway.meta)
      if (attachment.kind !== 'attached') continue
      const waypoint = waypointKey(view, attachment.owner.meta)
      if (waypoint !== undefined) yield waypoint
    }
  }
}

function waypointKey(view: ClusterView, meta: GatewayObject['meta']): string | undefined {
  const binding = serviceWaypoint(view, meta)
  return binding.kind === 'bound' ? binding.waypoint.key : undefined
}

function accepted(
  view: ClusterView,
  policy: BackendTlsPolicyObject,
  targets: readonly PolicyTargetReference[],
  { pem, problems }: AuthoritiesState
): Condition {
  const refused = targets
    .map(target => targetState(view, policy, target))
    .filter(state => state.kind === 'refused')
  const [first] = refused
  if (first !== undefined) return failed(first.reason, refused)
  if (pem === undefined) {
    const invalid = problems.some(({ reason }) => reason === 'Invalid')
    return failed(invalid ? 'Invalid' : 'NoValidCACertificate', problems)
  }
  return { status: 'True', reason: 'Accepted', message: 'the policy applies to what is reached through it' }
}

function resolvedRefs({ problems }: AuthoritiesState): Condition {
  const broken = problems.filter(({ reason }) => reason !== 'Invalid')
  const [first] = broken
  if (first !== undefined) return failed(first.reason, broken)
  return { status: 'True', reason: 'ResolvedRefs', message: 'all certificate authorities were found' }
}

function failed(reason: string, problems: readonly { readonly message: string }[]): Condition {
  return { status: 'False', reason, message: problems.map(({ message }) => message).join('; ') }
}
