/** What is told about each connection, exactly once: metrics, access log, and live events for `tap`. */
import { formatSocketAddress } from '../net/address.ts'
import type { RelayCounters } from '../net/relay.ts'
import { MeshError, messageOf, type ResponseFlag } from '../runtime/errors.ts'
import type { AccessLog, LoggedConnection, RefusedConnection } from './access-log.ts'
import type { Metrics, Series } from './metrics.ts'
import type { ConnectionEvent, EventSink } from './connection-events.ts'
import { endpointOf } from './connection-events.ts'
import { TrafficSeries, trafficLabelValues, type trafficFamilies } from './traffic-metrics.ts'

export interface ReportsDeps {
  readonly metrics: Metrics<typeof trafficFamilies>
  readonly accessLog: AccessLog
  readonly events: EventSink
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Milliseconds of a clock that only goes forward. */
  readonly elapsed: () => number
}

/** The reports of one thread. */
export class Reports {
  readonly #deps: ReportsDeps
  readonly #series = new Map<string, TrafficSeries>()
  readonly #live = new Set<ConnectionReport>()
  readonly #socketsOpen: { readonly source: Series; readonly destination: Series }

  constructor(deps: ReportsDeps) {
    this.#deps = deps
    this.#socketsOpen = {
      source: deps.metrics.series('istio_tcp_sockets_open', 'source'),
      destination: deps.metrics.series('istio_tcp_sockets_open', 'destination')
    }
    deps.metrics.onCollect(() => {
      for (const report of this.#live) report.flush()
    })
  }

  /** Starts the report of one connection; `open`, then `finish` or `fail` complete it. `bytes` may be shared. */
  begin(connection: LoggedConnection, bytes: RelayCounters = { aToB: 0, bToA: 0 }): ConnectionReport {
    return new ConnectionReport(this, this.#deps, connection, bytes)
  }

  /** A connection that was turned away before it was known whose it is: a log line, no metrics. */
  refused(connection: RefusedConnection, error: unknown): void {
    const { accessLog, events, now } = this.#deps
    const message = messageOf(error)
    accessLog.refused(connection, message)
    if (events.active) {
      const { direction, sourceAddress, destinationAddress } = connection
      const source = { address: formatSocketAddress(sourceAddress) }
      const destination = { address: formatSocketAddress(destinationAddress) }
      events.emit({ kind: 'refused', time: now(), direction, source, destination, error: message })
    }
  }

  /** For {@link ConnectionReport} only. */
  opened(report: ConnectionReport): void {
    this.#live.add(report)
    this.#socketsOpen[report.connection.reporter].add(1)
  }

  /** For {@link ConnectionReport} only. */
  closed(report: ConnectionReport): void {
    this.#live.delete(report)
    this.#socketsOpen[report.connection.reporter].add(-1)
  }

  /** For {@link ConnectionReport} only. */
  seriesOf(connection: LoggedConnection, flag: ResponseFlag): TrafficSeries {
    const labels = trafficLabelValues(connection, flag)
    const key = labels.join('\0')
    let series = this.#series.get(key)
    if (series === undefined) this.#series.set(key, (series = new TrafficSeries(this.#deps.metrics, labels)))
    return series
  }
}

export class ConnectionReport {
  /** The relay counts here; metrics follow at each scrape. */
  readonly bytes: RelayCounters
  readonly #reports: Reports
  readonly #deps: ReportsDeps
  readonly #startedAt: number
  #connection: LoggedConnection
  #series: TrafficSeries | undefined
  #flushedAToB = 0
  #flushedBToA = 0
  #done = false

  constructor(reports: Reports, deps: ReportsDeps, connection: LoggedConnection, bytes: RelayCounters) {
    this.bytes = bytes
    this.#reports = reports
    this.#deps = deps
    this.#connection = connection
    this.#startedAt = deps.elapsed()
  }

  get connection(): LoggedConnection {
    return this.#connection
  }

  /** The connection stands; `changes` corrects what was assumed before: another endpoint, a peer that said more. */
  open(changes?: Partial<LoggedConnection>): void {
    if (this.#series !== undefined || this.#done) return
    if (changes !== undefined) this.#connection = { ...this.#connection, ...changes }
    this.#count()
    if (this.#deps.events.active) this.#emit('opened', '-')
  }

  /** It ended well. */
  finish(): void {
    this.#end('-', undefined, 'closed')
  }

  /** It was refused, broke, or was cut. */
  fail(error: unknown): void {
    const flag = error instanceof MeshError ? error.responseFlag : 'CONNECT'
    this.#end(flag, messageOf(error), this.#series === undefined ? 'refused' : 'closed')
  }

  /** Brings the byte counters up to date. */
  flush(): void {
    const { aToB, bToA } = this.bytes
    this.#series?.received.add(aToB - this.#flushedAToB)
    this.#series?.sent.add(bToA - this.#flushedBToA)
    this.#flushedAToB = aToB
    this.#flushedBToA = bToA
  }

  #count(): void {
    this.#series = this.#reports.seriesOf(this.#connection, '-')
    this.#series.opened.add()
    this.#reports.opened(this)
    this.#deps.accessLog.opened(this.#connection)
  }

  #end(flag: ResponseFlag, error: string | undefined, kind: 'closed' | 'refused'): void {
    if (this.#done) return
    this.#done = true
    if (this.#series === undefined) this.#count()
    this.flush()
    const series = flag === '-' ? this.#series : this.#reports.seriesOf(this.#connection, flag)
    series?.closed.add()
    if (flag !== '-') series?.failed.add()
    this.#reports.closed(this)
    this.#deps.accessLog.closed(this.#connection, this.bytes, this.#deps.elapsed() - this.#startedAt, error)
    if (this.#deps.events.active) this.#emit(kind, flag, error)
  }

  #emit(kind: ConnectionEvent['kind'], responseFlags: ResponseFlag, error?: string): void {
    const { reporter, source, destination, service, authority, mutualTls } = this.#connection
    const { now, elapsed, events } = this.#deps
    events.emit({
      kind,
      time: now(),
      direction: reporter === 'source' ? 'outbound' : 'inbound',
      source: endpointOf(source, this.#connection.sourceAddress, true),
      destination: endpointOf(destination, this.#connection.destinationAddress, false),
      ...(service !== undefined && { service: service.hostname }),
      ...(authority !== undefined && { authority }),
      mutualTls,
      responseFlags,
      ...(kind === 'opened'
        ? {}
        : {
            bytesFromClient: this.bytes.aToB,
            bytesToClient: this.bytes.bToA,
            durationMs: Math.round(elapsed() - this.#startedAt)
          }),
      ...(error !== undefined && { error })
    })
  }
}
