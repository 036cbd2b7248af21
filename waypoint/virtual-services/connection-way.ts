/** Where a connection that is carried as it is goes: as the `tls` and `tcp` routes of VirtualServices say, or straight on. */
import { chooseBackend, type Upstream } from '../request.ts'
import type { ConnectionEnd } from '../telemetry/connection-report.ts'
import type { Arrival, Waypoint } from '../waypoint.ts'

type Means = Pick<Waypoint, 'view' | 'virtualServices' | 'clusters' | 'random'>

interface Refused {
  readonly kind: 'refused'
  readonly end: ConnectionEnd
}

export function connectionWay(
  { view, virtualServices, clusters, random }: Means,
  { destination }: Arrival,
  addressed: Upstream
): Upstream | Refused {
  if (destination.kind !== 'service') return addressed // routes of gateways have had their say
  const { service, port } = destination
  const tls = service.protocols.get(port) !== 'TCP'
  const rule = virtualServices.connectionRule(service, port, { tls })
  if (rule === undefined) return addressed
  const { unsupported } = rule
  if (unsupported !== undefined) {
    return refused('route_not_supported', `the VirtualService cannot be carried out: ${unsupported}`)
  }
  const backend = chooseBackend(rule.backends, random)
  if (backend === undefined) return noCluster('the route has no destination')
  if (backend.kind === 'unresolved') return noCluster(backend.reason)
  const { hostname, namespace, subset } = backend
  const to = view().service(`${namespace}/${hostname}`)
  if (to === undefined) return noCluster(`nothing is known of the destination ${hostname}`)
  if (subset !== undefined && !clusters.has(to, subset)) {
    return noCluster(`${hostname} has no subset ${subset}`)
  }
  return { kind: 'service', service: to, port: backend.port, subset }
}

function noCluster(failure: string): Refused {
  return refused('cluster_not_found', failure)
}

function refused(details: string, failure: string): Refused {
  return { kind: 'refused', end: { flag: details === 'cluster_not_found' ? 'NC' : '-', details, failure } }
}
