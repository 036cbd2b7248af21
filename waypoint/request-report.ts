/** What is told of each request, exactly once: metrics, and a line of the access log in Istio's form. */
import type { Service, Workload } from '../shared/mesh/model.ts'
import { formatSocketAddress } from '../shared/net/address.ts'
import type { RelayCounters } from '../shared/net/relay.ts'
import type { Metrics, Series } from '../shared/telemetry/metrics.ts'
import type { AccessLine } from './access-line.ts'
import type { families } from './families.ts'
import type { BodySink } from './http/body.ts'
import type { RequestHead, ResponseHead } from './http/exchange.ts'
import type { HeaderList } from './http/header-list.ts'
import type { RouteRule } from './routes/route.ts'
import { endsOf, securityOf } from './telemetry/end-labels.ts'
import { RuledSeries } from './telemetry/ruled-series.ts'
import type { TelemetryRules } from './telemetry/rules/telemetry-policy.ts'
import { RequestSpans, type TracingOptions } from './telemetry/tracing/request-spans.ts'
import type { Target } from './upstream/tunnels.ts'
import type { Arrival } from './waypoint.ts'

export interface RequestReportsOptions {
  readonly metrics: Metrics<typeof families>
  readonly write: (line: AccessLine) => void
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Of a gateway: to its clients, of whom nothing is known, it is the one who asks. */
  readonly self: (() => Workload) | undefined
  readonly rules: (arrival: Arrival) => TelemetryRules
  readonly tracing: TracingOptions
}

export interface Outcome {
  /** 0: the client was gone before there was any. */
  readonly status: number
  readonly flag: string
  readonly details: string
  /** Bytes of a body of our own. */
  readonly sent?: number
}

export const clientGone: Outcome = { status: 0, flag: 'DC', details: 'downstream_remote_disconnect' }

/** The series of one label set. */
interface RequestSeries {
  readonly requests: Series
  readonly duration: Series
  readonly received: Series
  readonly sent: Series
}

/** By what came of the requests, as long as the same rules apply. */
interface SeriesOfArrival {
  readonly rules: TelemetryRules
  readonly byResult: Map<string, RequestSeries>
}

export class RequestReports {
  readonly options: RequestReportsOptions
  readonly #series = new WeakMap<Arrival, SeriesOfArrival>()
  readonly #ruled: RuledSeries

  constructor(options: RequestReportsOptions) {
    this.options = options
    this.#ruled = new RuledSeries(options.metrics)
  }

  begin(arrival: Arrival, head: RequestHead): RequestReport {
    return new RequestReport(this, arrival, head)
  }

  /** For {@link RequestReport} only. */
  count(report: RequestReport, labels: ResultLabels, durationMs: number): void {
    const { rules } = report
    let ofArrival = this.#series.get(report.arrival)
    if (ofArrival?.rules !== rules) {
      ofArrival = { rules, byResult: new Map() }
      this.#series.set(report.arrival, ofArrival)
    }
    const known = ofArrival.byResult
    const { protocol, code, grpc, flag } = labels
    const result = `${report.target?.workload.uid ?? ''} ${report.service?.hostname ?? ''} ${protocol} ${code} ${grpc} ${flag}`
    const key =
      rules.metrics.size === 0
        ? result
        : result + this.#ruled.keyOf(rules, { head: report.head, status: code })
    let series = known.get(key)
    if (series === undefined) known.set(key, (series = this.#make(report, labels)))
    series.requests.add()
    series.duration.observe(durationMs)
    series.received.observe(report.bytes.aToB)
    series.sent.observe(report.bytes.bToA)
  }

  #make(report: RequestReport, { protocol, code, grpc, flag }: ResultLabels): RequestSeries {
    const { arrival, target, service } = report
    const { self } = this.options
    const values = [
      ...endsOf({ arrival, pod: target?.workload, service, self: self?.() }),
      protocol,
      String(code),
      grpc,
      flag,
      securityOf(arrival)
    ]
    const facts = { head: report.head, status: code }
    const make = (name: Parameters<RuledSeries['make']>[0]): Series =>
      this.#ruled.make(name, values, report.rules, facts)
    return {
      requests: make('istio_requests_total'),
      duration: make('istio_request_duration_milliseconds'),
      received: make('istio_request_bytes'),
      sent: make('istio_response_bytes')
    }
  }
}

interface ResultLabels {
  readonly protocol: 'http' | 'grpc'
  readonly code: number
  readonly grpc: string
  readonly flag: string
}

export class RequestReport {
  readonly arrival: Arrival
  /** aToB: of the request's body; bToA: of the answer's. */
  readonly bytes: RelayCounters = { aToB: 0, bToA: 0 }
  target: Target | undefined
  readonly #reports: RequestReports
  readonly head: RequestHead
  readonly rules: TelemetryRules
  readonly #startedAt = performance.now()
  #rule: RouteRule | undefined
  #upstream: { readonly service: Service; readonly port: number } | undefined
  #failure = '-'
  #serviceTime = '-'
  #exhausted = false
  #delayed = false
  #done = false
  readonly #spans: RequestSpans | undefined

  constructor(reports: RequestReports, arrival: Arrival, head: RequestHead) {
    this.#reports = reports
    this.arrival = arrival
    this.head = head
    const { rules, tracing } = reports.options
    this.rules = rules(arrival)
    const terms = this.rules.tracing
    this.#spans = terms && RequestSpans.begin(tracing, terms, head)
  }

  routed(rule: RouteRule): void {
    this.#rule = rule
  }

  /** Where its route leads. */
  towards(service: Service, port: number): void {
    this.#upstream = { service, port }
  }

  /** That the client asked for; of a gateway that its route chose. */
  get service(): Service | undefined {
    const { destination } = this.arrival
    if (destination.kind === 'service') return destination.service
    return destination.kind === 'listener' ? this.#upstream?.service : undefined
  }

  /** `headers`: that the pod gets. */
  attempt(target: Target, headers: HeaderList): void {
    this.target = target
    this.#spans?.attempt(this.#operation(), headers)
  }

  attemptAnswered(status: number): void {
    this.#spans?.attemptAnswered(status)
  }

  attemptFailed(text: string): void {
    this.#failure = text
    this.#spans?.attemptFailed(this.#operation(), text)
  }

  /** On purpose. */
  delayed(): void {
    this.#delayed = true
  }

  /** The answer would have been tried again, had there been another try. */
  exhausted(): void {
    this.#exhausted = true
  }

  answered({ headers }: ResponseHead): void {
    this.#serviceTime = headers.get('x-envoy-upstream-service-time') ?? '-'
  }

  /** Counts what goes into a sink. */
  counting(sink: BodySink): BodySink {
    const { bytes } = this
    return {
      data: chunk => {
        bytes.aToB += chunk.length
        return sink.data(chunk)
      },
      end: trailers => sink.end(trailers),
      fail: error => sink.fail(error)
    }
  }

  /** The answer of a pod came to its end. */
  end({ status, headers }: ResponseHead, trailers?: HeaderList): void {
    const grpc = trailers?.get('grpc-status') ?? headers.get('grpc-status') ?? ''
    this.#finish({ status, flag: this.#exhausted ? 'URX' : '-', details: 'via_upstream' }, grpc)
  }

  finish(outcome: Outcome): void {
    this.bytes.bToA += outcome.sent ?? 0
    this.#finish(outcome, '')
  }

  #finish(end: Outcome, grpcStatus: string): void {
    if (this.#done) return
    const outcome = this.#delayed ? { ...end, flag: end.flag === '-' ? 'DI' : `DI,${end.flag}` } : end
    this.#done = true
    const durationMs = performance.now() - this.#startedAt
    const isGrpc = this.head.headers.get('content-type')?.startsWith('application/grpc') === true
    const { status: code, flag } = outcome
    const labels = { protocol: isGrpc ? 'grpc' : 'http', code, grpc: isGrpc ? grpcStatus : '', flag } as const
    this.#reports.count(this, labels, durationMs)
    const { write, now } = this.#reports.options
    const { accessLog, logs: test } = this.rules
    const wanted = accessLog === 'all' || (accessLog === 'errors' && !isWell(outcome))
    const logs = wanted && (test === undefined || test(code))
    if (!logs && this.#spans === undefined) return
    const line = this.#line(outcome, now() - durationMs, durationMs)
    if (logs) write(line)
    const { source } = this.arrival
    this.#spans?.finish(this.#operation(), {
      line,
      grpcStatus: labels.grpc,
      source,
      destination: this.target?.workload
    })
  }

  /** By which the traces of a service are found. Source: Istio's names of operations. */
  #operation(): string {
    const { destination, authority } = this.arrival
    const port = destination.kind === 'listener' ? this.#upstream?.port : destination.port
    const host = this.service === undefined ? authority : `${this.service.hostname}:${port}`
    return `${host}/*`
  }

  #line({ status, flag, details }: Outcome, startedAt: number, durationMs: number): AccessLine {
    const { arrival, target } = this
    const [address] = target?.workload.addresses ?? []
    return {
      head: this.head,
      startedAt,
      durationMs,
      status,
      flag,
      details,
      termination: '-',
      failure: this.#failure,
      bytes: this.bytes,
      serviceTime: this.#serviceTime,
      upstreamHost:
        address === undefined || target === undefined
          ? '-'
          : formatSocketAddress({ ip: address, port: target.port }),
      upstreamCluster: this.#cluster(),
      local: arrival.authority,
      remote: formatSocketAddress(arrival.client),
      serverName: arrival.destination.kind === 'listener' ? arrival.destination.serverName : '',
      route: this.#rule === undefined ? 'default' : `${this.#rule.route}/${this.#rule.name}`
    }
  }

  /** In Envoy's words. */
  #cluster(): string {
    const { destination } = this.arrival
    switch (destination.kind) {
      case 'service':
        return `inbound-vip|${destination.port}|http|${destination.service.hostname}`
      case 'workload':
        return 'direct-http'
      case 'listener': {
        const upstream = this.#upstream
        return upstream === undefined ? '-' : `outbound|${upstream.port}||${upstream.service.hostname}`
      }
      default:
        return destination satisfies never
    }
  }
}

/** Answered by a pod, moved by a route, or told who may ask from a page. */
const well = new Set(['via_upstream', 'direct_response', 'cors_response'])

function isWell({ status, flag, details }: Outcome): boolean {
  return status < 500 && flag === '-' && well.has(details)
}
