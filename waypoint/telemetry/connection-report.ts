/** What is told of each connection that is carried as it is: metrics while it lasts, and one line when it is over. */
import type { Service, Workload } from '../../shared/mesh/model.ts'
import { formatSocketAddress } from '../../shared/net/address.ts'
import type { RelayCounters } from '../../shared/net/relay.ts'
import type { Metrics, Series } from '../../shared/telemetry/metrics.ts'
import type { AccessLine } from '../access-line.ts'
import type { families } from '../families.ts'
import type { Upstream } from '../request.ts'
import type { Target } from '../upstream/tunnels.ts'
import type { Arrival } from '../waypoint.ts'
import { endsOf, securityOf } from './end-labels.ts'
import { RuledSeries } from './ruled-series.ts'
import type { TelemetryRules } from './rules/telemetry-policy.ts'

export interface ConnectionReportsOptions {
  readonly metrics: Metrics<typeof families>
  readonly rules: (arrival: Arrival) => TelemetryRules
  readonly write: (line: AccessLine) => void
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Of a gateway, which is the one who asks. */
  readonly self: (() => Workload) | undefined
}

/** How a connection came to its end. */
export interface ConnectionEnd {
  /** In Envoy's letters; `-`: it was not cut by a fault of the network. */
  readonly flag: string
  /** Why this waypoint ended it, in Envoy's words; `-`: it did not. */
  readonly details: string
  /** For an operator: what failed on the way to the pod; `-`: nothing. */
  readonly failure: string
}

export const endedWell: ConnectionEnd = { flag: '-', details: '-', failure: '-' }

/** The series of one label set. */
interface ConnectionSeries {
  readonly opened: Series
  readonly closed: Series
  readonly received: Series
  readonly sent: Series
}

export class ConnectionReports {
  readonly options: ConnectionReportsOptions
  readonly #ruled: RuledSeries
  /** By what the labels are made from. */
  readonly #series = new WeakMap<TelemetryRules, Map<string, ConnectionSeries>>()
  readonly #open = new Set<ConnectionReport>()

  constructor(options: ConnectionReportsOptions) {
    this.options = options
    this.#ruled = new RuledSeries(options.metrics)
    options.metrics.onCollect(() => {
      for (const report of this.#open) report.flush()
    })
  }

  begin(arrival: Arrival, upstream: Upstream): ConnectionReport {
    const report = new ConnectionReport(this, arrival, upstream)
    this.#open.add(report)
    return report
  }

  /** For {@link ConnectionReport} only. */
  over(report: ConnectionReport): void {
    this.#open.delete(report)
  }

  /** For {@link ConnectionReport} only. */
  seriesOf({ arrival, service, target, rules }: ConnectionReport, flag: string): ConnectionSeries {
    const { self } = this.options
    const ends = endsOf({ arrival, service, pod: target?.workload, self: self?.() })
    const values = [...ends, 'tcp', flag, securityOf(arrival)]
    const key = values.join('\0')
    let known = this.#series.get(rules)
    if (known === undefined) this.#series.set(rules, (known = new Map()))
    let series = known.get(key)
    if (series === undefined) {
      const make = (name: Parameters<RuledSeries['make']>[0]): Series =>
        this.#ruled.make(name, values, rules, noRequest)
      series = {
        opened: make('istio_tcp_connections_opened_total'),
        closed: make('istio_tcp_connections_closed_total'),
        received: make('istio_tcp_received_bytes_total'),
        sent: make('istio_tcp_sent_bytes_total')
      }
      known.set(key, series)
    }
    return series
  }
}

const noRequest = { head: undefined, status: 0 }

export class ConnectionReport {
  readonly arrival: Arrival
  readonly service: Service | undefined
  readonly rules: TelemetryRules
  /** aToB: from the client; bToA: to it. Metrics follow at each scrape. */
  readonly bytes: RelayCounters = { aToB: 0, bToA: 0 }
  target: Target | undefined
  readonly #reports: ConnectionReports
  readonly #upstream: Upstream
  readonly #startedAt = performance.now()
  readonly #told: RelayCounters = { aToB: 0, bToA: 0 }
  #series: ConnectionSeries | undefined
  #done = false

  constructor(reports: ConnectionReports, arrival: Arrival, upstream: Upstream) {
    const { destination } = arrival
    this.#reports = reports
    this.arrival = arrival
    this.rules = reports.options.rules(arrival)
    this.#upstream = upstream
    const routed = upstream.kind === 'workload' ? undefined : upstream.service
    this.service = destination.kind === 'service' ? destination.service : routed
  }

  /** The pod that it is to go to. */
  attempt(target: Target): void {
    this.target = target
  }

  /** The pod has taken it. */
  opened(): void {
    this.#series = this.#reports.seriesOf(this, '-')
    this.#series.opened.add()
  }

  /** Brings the counters of bytes up to date. */
  flush(): void {
    const { aToB, bToA } = this.bytes
    this.#series?.received.add(aToB - this.#told.aToB)
    this.#series?.sent.add(bToA - this.#told.bToA)
    this.#told.aToB = aToB
    this.#told.bToA = bToA
  }

  finish(end: ConnectionEnd): void {
    if (this.#done) return
    this.#done = true
    const { write } = this.#reports.options
    const { accessLog, logs } = this.rules
    const ended = this.#reports.seriesOf(this, end.flag)
    if (this.#series === undefined) {
      this.#series = ended
      ended.opened.add()
    }
    this.flush()
    ended.closed.add()
    this.#reports.over(this)
    const wanted = accessLog === 'all' || (accessLog === 'errors' && end !== endedWell)
    if (wanted && (logs === undefined || logs(0))) write(this.#line(end))
  }

  #line({ flag, details, failure }: ConnectionEnd): AccessLine {
    const { arrival, bytes, target } = this
    const { destination } = arrival
    const durationMs = performance.now() - this.#startedAt
    const [ip] = target?.workload.addresses ?? []
    return {
      head: undefined,
      startedAt: this.#reports.options.now() - durationMs,
      durationMs,
      status: 0,
      flag,
      details: '-',
      termination: details,
      failure,
      bytes,
      serviceTime: '-',
      upstreamHost:
        ip === undefined || target === undefined ? '-' : formatSocketAddress({ ip, port: target.port }),
      upstreamCluster: this.#cluster(),
      local: arrival.authority,
      remote: formatSocketAddress(arrival.client),
      serverName: destination.kind === 'listener' ? destination.serverName : '',
      route: '-'
    }
  }

  /** In Envoy's words. */
  #cluster(): string {
    const upstream = this.#upstream
    if (upstream.kind === 'workload') return 'direct-tcp'
    const { service, port } = upstream
    return this.arrival.destination.kind === 'listener'
      ? `outbound|${port}||${service.hostname}`
      : `inbound-vip|${port}|tcp|${service.hostname}`
  }
}
