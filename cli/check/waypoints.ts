/** Waypoints whose policies a client can avoid by calling the pods themselves. */
import type { Namespace } from '../../shared/kube/core-api.ts'
import type { Gateway } from '../../shared/kube/gateway-api.ts'
import type { AuthorizationPolicy } from '../../shared/kube/istio-api.ts'
import { finding, type Finding } from './findings.ts'

const useWaypoint = 'istio.io/use-waypoint'
const waypointFor = 'istio.io/waypoint-for'

/**
 * A waypoint for Services sees only what is sent to a Service; whoever knows a pod's address goes past it, unless a policy
 * at the pods themselves lets nobody in but the waypoint.
 */
export function findBypassableWaypoints(
  namespaces: readonly Namespace[],
  gateways: readonly Gateway[],
  policies: readonly AuthorizationPolicy[]
): readonly Finding[] {
  return namespaces.flatMap(({ metadata }) => {
    const name = metadata.labels?.[useWaypoint]
    if (name === undefined || name === 'none') return []
    const home = metadata.labels?.['istio.io/use-waypoint-namespace'] ?? metadata.name
    const gateway = gateways.find(found => found.metadata.name === name && found.metadata.namespace === home)
    const kind = gateway?.metadata.labels?.[waypointFor] ?? 'service'
    if (gateway === undefined || kind === 'all' || kind === 'workload' || kind === 'none') return []
    const here = policies.filter(policy => policy.metadata.namespace === metadata.name)
    const enforced = here.filter(hasTarget)
    if (enforced.length === 0 || here.some(policy => letsWaypointIn(policy, home, name))) return []
    const names = enforced.map(policy => policy.metadata.name).join(', ')
    return [
      finding(
        'UP0021',
        `gateway ${home}/${name}`,
        `${names} in namespace ${metadata.name} can be bypassed by calling its pods directly`
      )
    ]
  })
}

function hasTarget({ spec }: AuthorizationPolicy): boolean {
  return spec?.targetRef !== undefined || (spec?.targetRefs ?? []).length > 0
}

/** A policy at the pods with a rule for the waypoint: ALLOW refuses whoever fits no rule. */
function letsWaypointIn(policy: AuthorizationPolicy, namespace: string, waypoint: string): boolean {
  const { spec } = policy
  if (hasTarget(policy) || (spec?.action ?? 'ALLOW') !== 'ALLOW') return false
  const suffix = `/ns/${namespace}/sa/${waypoint}`
  return (spec?.rules ?? []).some(({ from = [] }) =>
    from.some(({ source }) => source?.principals?.some(principal => principal.endsWith(suffix)))
  )
}
