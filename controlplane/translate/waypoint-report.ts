/** What the status of a waypoint should say. Source: Gateway API v1; Istio's published conditions. */
import type { GatewayObject } from '../cluster/objects.ts'
import { deploymentCondition, type GatewayReport, type Programmed, type Said } from './gateway-status.ts'

export function waypointReport(gateway: GatewayObject, programmed: Programmed): GatewayReport {
  const said: readonly Said[] = [
    { type: 'Accepted', status: 'True', reason: 'Accepted', message: 'the control plane runs this waypoint' },
    deploymentCondition(programmed)
  ]
  const resolved: Said = {
    type: 'ResolvedRefs',
    status: 'True',
    reason: 'ResolvedRefs',
    message: 'nothing is missing'
  }
  return {
    conditions: said,
    listeners: gateway.listeners.map(({ name }) => ({
      name,
      attachedRoutes: 0,
      supportedKinds: [],
      conditions: [...said, resolved]
    })),
    // Once given it stays: traffic is refused rather than sent past a waypoint that is away.
    addresses:
      programmed.kind === 'available' ? [{ type: 'Hostname', value: programmed.hostname }] : undefined
  }
}
