/** Which Gateways we run, and as what: by the controller of their class. Source: Gateway API v1; Istio's published classes. */
import type { ClusterView } from '../cluster/cluster.ts'
import type { GatewayObject } from '../cluster/objects.ts'

export const gatewayClass = 'underpass'
export const gatewayController = 'underpass.dev/gateway-controller'
export const waypointClass = 'underpass-waypoint'
export const waypointController = 'underpass.dev/waypoint-controller'

/** Whether Gateways of Istio's classes are run too; `auto`: where no istiod does. */
export type IstioClasses = 'auto' | 'on' | 'off'

export type GatewayRole = 'waypoint' | 'gateway'

const roles: ReadonlyMap<string, { readonly role: GatewayRole; readonly istios: boolean }> = new Map([
  [gatewayController, { role: 'gateway', istios: false }],
  [waypointController, { role: 'waypoint', istios: false }],
  ['istio.io/gateway-controller', { role: 'gateway', istios: true }],
  ['istio.io/mesh-controller', { role: 'waypoint', istios: true }]
])

/** Of classes that are known without an object of their name. */
const controllers: ReadonlyMap<string, string> = new Map([
  [gatewayClass, gatewayController],
  [waypointClass, waypointController],
  ['istio', 'istio.io/gateway-controller'],
  ['istio-waypoint', 'istio.io/mesh-controller']
])

/** What it is meant to be; undefined when its class is another implementation's. */
export function gatewayRole(
  view: ClusterView,
  { className }: Pick<GatewayObject, 'className'>
): GatewayRole | undefined {
  return roles.get(controllerOf(view, className))?.role
}

/** As what we run it; undefined when we do not: it is another's, or that of an istiod which runs. */
export function runsAs(
  view: ClusterView,
  gateway: GatewayObject,
  istioClasses: IstioClasses
): GatewayRole | undefined {
  if (!view.discovers(gateway.meta.namespace)) return undefined
  const known = roles.get(controllerOf(view, gateway.className))
  if (known === undefined || !known.istios) return known?.role
  if (istioClasses === 'off' || (istioClasses === 'auto' && istiodRuns(view))) return undefined
  return known.role
}

export function istiodRuns(view: ClusterView): boolean {
  for (const { phase, terminating } of view.istiodPods()) if (phase === 'Running' && !terminating) return true
  return false
}

function controllerOf(view: ClusterView, className: string): string {
  return view.get('GatewayClass', className)?.controller ?? controllers.get(className) ?? ''
}
