/** Whom a listener admits. Source: Gateway API v1, `allowedRoutes.namespaces`; Istio asks it for the services of a waypoint. */
import type { ClusterView } from '../cluster/cluster.ts'
import type { GatewayListener, GatewayObject } from '../cluster/objects.ts'
import { matches } from '../../shared/kube/label-selector.ts'

/** Without a listener it is the Gateway's own namespace. */
export function admitsNamespace(
  view: ClusterView,
  gateway: GatewayObject,
  listener: GatewayListener | undefined,
  namespace: string
): boolean {
  switch (listener?.from) {
    case 'All':
      return true
    case 'Selector': {
      const labels = view.get('Namespace', namespace)?.meta.labels
      return labels !== undefined && listener.selector !== undefined && matches(listener.selector, labels)
    }
    case 'None':
      return false
    default:
      return gateway.meta.namespace === namespace
  }
}
