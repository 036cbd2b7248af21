/** The policies that a workload lists by name; those of its namespace and of the mesh ztunnel finds by scope. */
import type { ClusterView } from '../cluster/cluster.ts'
import { keyOf, type AuthorizationPolicyObject, type GatewayObject, type Labels } from '../cluster/objects.ts'
import type { AuthorizationMessage } from './messages.ts'
import { peerAuthenticationPolicies } from './peer-authentication.ts'
import { isSent, policySelector } from './policy.ts'
import { selects } from './selector.ts'
import { serviceWaypoint, waypointAccounts } from './waypoint.ts'
import type { ServiceOfWorkload } from './membership.ts'

export interface Attaching {
  readonly namespace: string
  readonly labels: Labels
  /** `namespace/name` of the workload's own waypoint. */
  readonly waypoint: string | undefined
  readonly services: readonly ServiceOfWorkload[]
}

/** Sorted selector policies, then what PeerAuthentications ask for, then leave for its waypoints. */
export function attachedPolicies(view: ClusterView, workload: Attaching): readonly string[] {
  const { namespace, labels } = workload
  const names: string[] = []
  let allows = false
  for (const policy of policiesFor(view, namespace)) {
    const selector = policySelector(policy)
    if (selector !== undefined && !selects(selector, labels)) continue
    if (selector !== undefined) names.push(keyOf(policy.meta))
    allows ||= policy.action === 'ALLOW'
  }
  names.sort()
  names.push(...peerAuthenticationPolicies(view, namespace, labels))
  // Without an ALLOW policy everything is allowed, and one for the waypoint alone would shut the others out.
  if (allows && view.settings.allowWaypoints) names.push(...waypointPolicies(view, workload))
  return names
}

/** Policies of the namespace and of the root namespace that ztunnel gets. */
function* policiesFor(view: ClusterView, namespace: string): Generator<AuthorizationPolicyObject> {
  const { rootNamespace } = view.settings
  const namespaces = namespace === rootNamespace ? [namespace] : [namespace, rootNamespace]
  for (const each of namespaces) {
    for (const policy of view.inNamespace('AuthorizationPolicy', each)) {
      if (view.discovers(each) && isSent(policy, view.settings)) yield policy
    }
  }
}

function waypointPolicies(view: ClusterView, workload: Attaching): readonly string[] {
  const keys = new Set<string>()
  if (workload.waypoint !== undefined) keys.add(workload.waypoint)
  for (const { owner } of workload.services) {
    const binding = serviceWaypoint(view, owner.meta)
    if (binding.kind === 'bound') keys.add(binding.waypoint.key)
  }
  const gateways = [...keys].toSorted().map(key => view.get('Gateway', key))
  return gateways
    .filter(gateway => gateway !== undefined)
    .filter(gateway => waypointAccounts(view, gateway).length > 0)
    .map(gateway => `${gateway.meta.namespace}/${allowWaypointName(gateway)}`)
}

function allowWaypointName({ meta }: GatewayObject): string {
  return `istio_allow_waypoint_${meta.namespace}_${meta.name}`
}

/** Lets a waypoint reach the workloads that it serves; undefined while it has no pods. */
export function allowWaypoint(view: ClusterView, gateway: GatewayObject): AuthorizationMessage | undefined {
  if (!view.settings.allowWaypoints || gateway.addresses.length === 0) return undefined
  const { namespace } = gateway.meta
  const principals = waypointAccounts(view, gateway).map(account => ({
    exact: `${view.settings.trustDomain}/ns/${namespace}/sa/${account}`
  }))
  if (principals.length === 0) return undefined
  return {
    name: allowWaypointName(gateway),
    namespace,
    scope: 'WORKLOAD_SELECTOR',
    rules: [{ clauses: [{ matches: [{ principals }] }] }]
  }
}
