/** Leave to refer to what is in another namespace. Source: Gateway API, `ReferenceGrant`. */
import type { ClusterView } from '../cluster/cluster.ts'
import { gatewayGroup } from '../read/gateway.ts'

/** `to` is of the core group, as all that is referred to here. */
export function isGranted(
  view: ClusterView,
  from: { readonly kind: string; readonly namespace: string },
  to: { readonly kind: string; readonly namespace: string; readonly name: string }
): boolean {
  if (from.namespace === to.namespace) return true
  for (const grant of view.inNamespace('ReferenceGrant', to.namespace)) {
    const names = grant.to.some(
      each => each.group === '' && each.kind === to.kind && (each.name === '' || each.name === to.name)
    )
    const trusts = grant.from.some(
      each => each.group === gatewayGroup && each.kind === from.kind && each.namespace === from.namespace
    )
    if (names && trusts) return true
  }
  return false
}
