/** What a waypoint tells of what it carries: metrics, access log and traces, put together. */
import type { Workload } from '../../shared/mesh/model.ts'
import type { MeshView } from '../../shared/mesh/view.ts'
import { systemClock } from '../../shared/runtime/clock.ts'
import type { LogOutput } from '../../shared/telemetry/logger.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import { accessLine, accessObject, type AccessLine } from '../access-line.ts'
import type { Config } from '../config.ts'
import type { Egress } from '../egress/egress.ts'
import type { families } from '../families.ts'
import type { CurrentSettings, MeshSettings } from '../mesh-settings.ts'
import { ownWorkload } from '../own-workload.ts'
import { RequestReports } from '../request-report.ts'
import type { Clusters } from '../upstream/clusters.ts'
import type { Connections } from '../upstream/connections.ts'
import { ConnectionReports } from './connection-report.ts'
import type { Arrival } from '../waypoint.ts'
import type { TelemetryStore } from './rules/telemetry-store.ts'
import { originOf, selfInTraces } from './tracing/self.ts'
import { SpanExporter } from './tracing/span-exporter.ts'

export interface TelemetryDeps {
  readonly config: Config
  readonly metrics: Metrics<typeof families>
  readonly view: () => MeshView
  readonly settings: CurrentSettings
  readonly telemetries: TelemetryStore
  /** By which collectors are reached. */
  readonly connections: Connections
  readonly clusters: Clusters
  readonly egress: Egress
  readonly random: () => number
  /** Where the access log goes. */
  readonly writeLine: (line: string) => void
  readonly output: LogOutput
  readonly signal: AbortSignal
}

export interface Telemetry {
  readonly reports: RequestReports
  readonly connectionReports: ConnectionReports
  /** Sends what is still to be sent, for a short time. */
  close(): Promise<void>
}

export function startTelemetry(deps: TelemetryDeps): Telemetry {
  const {
    config,
    metrics,
    view,
    settings,
    telemetries,
    connections,
    clusters,
    egress,
    random,
    writeLine,
    output,
    signal
  } = deps
  const { now } = systemClock
  const own = (): Workload => ownWorkload(view(), config)
  const providers = (): MeshSettings['traceProviders'] => settings.current.traceProviders
  const exporter = new SpanExporter({
    ...{ metrics, providers, signal, log: output.logger('tracing') },
    means: { view, config, random, connections, clusters, egress },
    origin: () => originOf(config, own())
  })
  const telling = {
    ...{ metrics, now },
    write: (line: AccessLine) =>
      writeLine(settings.current.accessLogEncoding === 'JSON' ? accessObject(line) : accessLine(line)),
    rules: ({ destination }: Arrival) =>
      telemetries.rulesFor(destination.kind === 'service' ? destination.service : undefined),
    self: config.role === 'gateway' ? own : undefined
  }
  return {
    reports: new RequestReports({
      ...telling,
      tracing: {
        ...{ exporter, providers, random, now, attempts: config.traceAttempts },
        self: () => selfInTraces(config, own())
      }
    }),
    connectionReports: new ConnectionReports(telling),
    close: () => exporter.close()
  }
}
