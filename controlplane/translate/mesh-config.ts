/** What waypoints have to know of the mesh configuration, for all of them alike. */
import type { ClusterView } from '../cluster/cluster.ts'
import type { ConfigMessage } from './messages.ts'
import { allRecipients } from './recipient.ts'

/** Undefined where there is nobody to tell. */
export function meshConfigForWaypoints(view: ClusterView): ConfigMessage | undefined {
  const waypoints = allRecipients(view)
  if (waypoints.length === 0) return undefined
  const { rootNamespace: namespace, forWaypoints } = view.settings
  return {
    kind: 'MeshConfig',
    message: { namespace, name: 'mesh', createdMs: 0, spec: { ...forWaypoints } },
    waypoints
  }
}
