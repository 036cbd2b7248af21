/**
 * Telemetries for waypoints and gateways: the spec as it is written. One without targets is for those of its namespace
 * and for the waypoints of its services; in the root namespace it is for all. Source: Istio's published Telemetry.
 */
import type { ClusterView } from '../cluster/cluster.ts'
import type { TelemetryObject } from '../cluster/objects.ts'
import type { ConfigMessage, Recipient } from './messages.ts'
import { bindTarget } from './policy-target.ts'
import { allRecipients, recipientOf } from './recipient.ts'
import { waypointsOf } from './waypoint.ts'

/** Undefined when nobody carries it out. */
export function translateTelemetry(
  view: ClusterView,
  { meta, targets, spec }: TelemetryObject
): ConfigMessage | undefined {
  const waypoints =
    targets.length === 0
      ? recipientsIn(view, meta.namespace)
      : targets.flatMap(target => {
          const binding = bindTarget(view, meta, target)
          return binding.bound ? binding.waypoints : []
        })
  if (spec === undefined || waypoints.length === 0) return undefined
  const { namespace, name, createdMs } = meta
  return { kind: 'Telemetry', message: { namespace, name, createdMs, spec }, waypoints }
}

function recipientsIn(view: ClusterView, namespace: string): readonly Recipient[] {
  if (namespace === view.settings.rootNamespace) return allRecipients(view)
  const owners = [...view.inNamespace('Service', namespace), ...view.inNamespace('ServiceEntry', namespace)]
  return [
    ...[...view.inNamespace('Gateway', namespace)].flatMap(gateway => recipientOf(view, gateway) ?? []),
    ...owners.flatMap(({ meta }) => waypointsOf(view, meta))
  ]
}
