/** Who reports, and both ends of a request or connection: the labels that all metrics of a waypoint begin with. */
import { workloadIdentity, type Service, type Workload } from '../../shared/mesh/model.ts'
import { endLabelValues, nobody, type Party } from '../../shared/telemetry/traffic-metrics.ts'
import type { Arrival } from '../waypoint.ts'

export interface Ends {
  readonly arrival: Arrival
  /** That was chosen; undefined where it did not come to that. */
  readonly pod: Workload | undefined
  /** That the client asked for. */
  readonly service: Service | undefined
  /** Of a gateway: to its clients, of whom nothing is known, it is the one who asks. */
  readonly self: Workload | undefined
}

/** In the order of `endLabels`. */
export function endsOf({ arrival, pod, service, self }: Ends): string[] {
  const { source: workload, peer: identity, baggage } = arrival
  return endLabelValues({
    reporter: self === undefined ? 'waypoint' : 'source',
    source: self === undefined ? { workload, identity, baggage } : partyOf(self),
    destination: pod === undefined ? nobody : partyOf(pod),
    service
  })
}

/** Of the client's side. */
export function securityOf({ peer }: Arrival): 'mutual_tls' | 'unknown' {
  return peer === undefined ? 'unknown' : 'mutual_tls'
}

function partyOf(workload: Workload): Party {
  return { workload, identity: workloadIdentity(workload), baggage: undefined }
}
