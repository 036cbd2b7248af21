/** Who may be chosen for a request, and where it is. */
import type { RoutingScope, Workload } from '../../shared/mesh/model.ts'

export interface Endpoint {
  readonly workload: Workload
  readonly port: number
  /** Its capacity; 0 takes nothing. */
  readonly weight: number
  /** Of its pod, as far as they are known. */
  readonly labels: ReadonlyMap<string, string>
}

/** What near and far are told by. */
export interface Place extends Pick<Workload, 'locality' | 'network' | 'node' | 'clusterId'> {
  readonly labels: ReadonlyMap<string, string>
}

export function placeOf({ workload, labels }: Endpoint): Place {
  const { locality, network, node, clusterId } = workload
  return { locality, network, node, clusterId, labels }
}

const scopes: Readonly<Record<RoutingScope, (place: Place) => string>> = {
  Region: ({ locality }) => locality.region,
  Zone: ({ locality }) => locality.zone,
  Subzone: ({ locality }) => locality.subzone,
  Node: ({ node }) => node,
  Cluster: ({ clusterId }) => clusterId,
  Network: ({ network }) => network
}

export function scopeOf(place: Place, scope: RoutingScope): string {
  return scopes[scope](place)
}

/** Labels that tell of the place rather than of the pod: Istio gives them to every endpoint. */
const labelsOfPlaces: ReadonlyMap<string, RoutingScope> = new Map([
  ['topology.kubernetes.io/region', 'Region'],
  ['topology.kubernetes.io/zone', 'Zone'],
  ['topology.istio.io/subzone', 'Subzone'],
  ['topology.istio.io/network', 'Network'],
  ['topology.istio.io/cluster', 'Cluster'],
  ['kubernetes.io/hostname', 'Node']
])

/** Empty where it has none. */
export function labelOf(place: Place, key: string): string {
  const scope = labelsOfPlaces.get(key)
  return scope === undefined ? (place.labels.get(key) ?? '') : scopeOf(place, scope)
}
