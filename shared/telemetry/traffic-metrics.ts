/**
 * The metrics of TCP connections: families, labels, and the labels of one connection.
 * Source: Istio standard metrics, as Istio's ztunnel exports them.
 */
import type { Baggage } from '../hbone/connect.ts'
import type { SpiffeId } from '../identity/spiffe-id.ts'
import { workloadIdentity, type Service, type Workload } from '../mesh/model.ts'
import type { ResponseFlag } from '../runtime/errors.ts'
import type { MetricFamily, Metrics, Series } from './metrics.ts'

export type Reporter = 'source' | 'destination'

/** One end of a connection, as far as it is known. */
export interface Party {
  /** Its record in the mesh. */
  readonly workload: Workload | undefined
  /** What mutual TLS proved. */
  readonly identity: SpiffeId | undefined
  /** What it said about itself; used where there is no record. */
  readonly baggage: Baggage | undefined
}

export const nobody: Party = { workload: undefined, identity: undefined, baggage: undefined }

/** What the labels of a connection are made from. */
export interface TrafficFacts {
  readonly reporter: Reporter
  readonly source: Party
  readonly destination: Party
  /** The service that the client asked for. */
  readonly service: Pick<Service, 'hostname' | 'namespace' | 'name'> | undefined
  readonly mutualTls: boolean
  /** The destination's own words win over its record: behind a network gateway the record is a stand-in. */
  readonly trustDestinationBaggage?: boolean
}

/** Who reports, and both ends. */
export const endLabels = [
  'reporter',
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
  'destination_service',
  'destination_service_namespace',
  'destination_service_name',
  'destination_workload',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_cluster'
] as const

/** In the order of the exposition; the last four are left out when neither end is known. */
export const trafficLabels = [
  ...endLabels,
  'request_protocol',
  'response_flags',
  'connection_security_policy',
  'source_region',
  'source_zone',
  'destination_region',
  'destination_zone'
] as const

const counter = (help: string): MetricFamily => ({ type: 'counter', help, labels: trafficLabels })

export const trafficFamilies = {
  istio_tcp_connections_opened_total: counter('The total number of TCP connections opened.'),
  istio_tcp_connections_closed_total: counter('The total number of TCP connections closed.'),
  istio_tcp_received_bytes_total: counter(
    'The size of total bytes received during request in case of a TCP connection.'
  ),
  istio_tcp_sent_bytes_total: counter(
    'The size of total bytes sent during response in case of a TCP connection.'
  ),
  istio_tcp_connections_failed_total: counter(
    'The total number of TCP connections that failed to establish (unstable).'
  ),
  istio_tcp_sockets_open: {
    type: 'gauge',
    help: 'The current number of open TCP sockets (unstable).',
    labels: ['reporter']
  }
} as const satisfies Record<string, MetricFamily>

/** The series of one label set, made at their first use: most label sets never fail. */
export class TrafficSeries {
  readonly #metrics: Metrics<typeof trafficFamilies>
  readonly #labels: readonly string[]
  #opened: Series | undefined
  #closed: Series | undefined
  #failed: Series | undefined
  #received: Series | undefined
  #sent: Series | undefined

  constructor(metrics: Metrics<typeof trafficFamilies>, labels: readonly string[]) {
    this.#metrics = metrics
    this.#labels = labels
  }

  get opened(): Series {
    return (this.#opened ??= this.#make('istio_tcp_connections_opened_total'))
  }

  get closed(): Series {
    return (this.#closed ??= this.#make('istio_tcp_connections_closed_total'))
  }

  get failed(): Series {
    return (this.#failed ??= this.#make('istio_tcp_connections_failed_total'))
  }

  get received(): Series {
    return (this.#received ??= this.#make('istio_tcp_received_bytes_total'))
  }

  get sent(): Series {
    return (this.#sent ??= this.#make('istio_tcp_sent_bytes_total'))
  }

  #make(name: keyof typeof trafficFamilies): Series {
    return this.#metrics.series(name, ...this.#labels)
  }
}

export function trafficLabelValues(facts: TrafficFacts, flag: ResponseFlag): readonly string[] {
  const source = labelsOf(facts.source, false)
  const destination = labelsOf(facts.destination, facts.trustDestinationBaggage === true)
  const labels = [...endLabelValues(facts), 'tcp', flag, facts.mutualTls ? 'mutual_tls' : unknown]
  if (source !== nothing || destination !== nothing) {
    labels.push(source.region, source.zone, destination.region, destination.zone)
  }
  return labels
}

/** In the order of {@link endLabels}. */
export function endLabelValues(
  facts: Omit<TrafficFacts, 'mutualTls' | 'reporter'> & { readonly reporter: Reporter | 'waypoint' }
): string[] {
  const { reporter, service } = facts
  const source = labelsOf(facts.source, false)
  const destination = labelsOf(facts.destination, facts.trustDestinationBaggage === true)
  return [
    reporter,
    source.workload,
    source.canonicalName,
    source.canonicalRevision,
    source.namespace,
    facts.source.identity ?? unknown,
    source.app,
    source.version,
    source.cluster,
    known(service?.hostname),
    known(service?.namespace),
    known(service?.name),
    destination.workload,
    destination.canonicalName,
    destination.canonicalRevision,
    destination.namespace,
    destination.principal,
    destination.app,
    destination.version,
    destination.cluster
  ]
}

/** source_workload to source_cluster, for metrics that only know who asks. */
export function sourceLabelValues(source: Workload): readonly string[] {
  const labels = labelsOf({ ...nobody, workload: source }, false)
  const { workload, canonicalName, canonicalRevision, namespace, principal, app, version, cluster } = labels
  return [workload, canonicalName, canonicalRevision, namespace, principal, app, version, cluster]
}

interface PartyLabels {
  readonly workload: string
  readonly canonicalName: string
  readonly canonicalRevision: string
  readonly namespace: string
  readonly principal: string
  readonly app: string
  readonly version: string
  readonly cluster: string
  readonly region: string
  readonly zone: string
}

const unknown = 'unknown'

const nothing: PartyLabels = {
  workload: unknown,
  canonicalName: unknown,
  canonicalRevision: unknown,
  namespace: unknown,
  principal: unknown,
  app: unknown,
  version: unknown,
  cluster: unknown,
  region: unknown,
  zone: unknown
}

/** Records do not change, so neither do their labels. */
const ofWorkload = new WeakMap<Workload, PartyLabels>()

function labelsOf({ workload, identity, baggage }: Party, trustBaggage: boolean): PartyLabels {
  if (workload !== undefined && !(trustBaggage && baggage !== undefined)) {
    let labels = ofWorkload.get(workload)
    if (labels === undefined) ofWorkload.set(workload, (labels = workloadLabels(workload)))
    return labels
  }
  return baggage === undefined ? nothing : baggageLabels(baggage, identity)
}

function workloadLabels(workload: Workload): PartyLabels {
  return {
    workload: known(workload.workloadName),
    canonicalName: known(workload.canonicalName),
    canonicalRevision: known(workload.canonicalRevision),
    namespace: known(workload.namespace),
    principal: workload.trustDomain === '' ? unknown : workloadIdentity(workload),
    app: known(workload.canonicalName),
    version: known(workload.canonicalRevision),
    cluster: known(workload.clusterId),
    region: known(workload.locality.region),
    zone: known(workload.locality.zone)
  }
}

function baggageLabels(baggage: Baggage, identity: SpiffeId | undefined): PartyLabels {
  return {
    workload: known(baggage.workloadName),
    canonicalName: known(baggage.service),
    canonicalRevision: known(baggage.version),
    namespace: known(baggage.namespace),
    principal: identity ?? unknown,
    app: known(baggage.workloadName),
    version: known(baggage.version),
    cluster: known(baggage.cluster),
    region: known(baggage.region),
    zone: known(baggage.zone)
  }
}

function known(text: string | undefined): string {
  return text === undefined || text === '' ? unknown : text
}
