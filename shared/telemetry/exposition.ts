/**
 * Metrics as text: OpenMetrics 1.0, ending `# EOF`, whatever the client asked for; the content type follows
 * the client's Accept header, as Istio's ztunnel answers. The only file that imports prom-client.
 */
import prom, { type MetricValue } from 'prom-client'
import type { MetricFamilies, MetricFamily, MetricsSnapshot, SeriesSnapshot } from './metrics.ts'
import type { AdminRequest, Answer } from '../runtime/admin-http.ts'

const OPEN_METRICS = 'application/openmetrics-text;charset=utf-8;version=1.0.0'
const PLAIN_TEXT = 'text/plain; charset=utf-8'

/** The families of the table in its order, also those that nothing was counted in yet. */
export async function exposition(families: MetricFamilies, snapshot: MetricsSnapshot): Promise<string> {
  const registry = new prom.Registry<prom.OpenMetricsContentType>()
  registry.setContentType(prom.Registry.OPENMETRICS_CONTENT_TYPE)
  const rows = new Map(snapshot.map(({ name, rows }) => [name, rows]))
  for (const [name, family] of Object.entries(families)) {
    registry.registerMetric(printed(name, family, rows.get(name) ?? []))
  }
  return registry.metrics()
}

/** The answer of `/metrics` and `/stats/prometheus`. */
export async function metricsAnswer(
  request: AdminRequest,
  families: MetricFamilies,
  snapshot: MetricsSnapshot
): Promise<Answer> {
  const wantsOpenMetrics = request.headers.accept?.includes('application/openmetrics-text') ?? false
  return {
    contentType: wantsOpenMetrics ? OPEN_METRICS : PLAIN_TEXT,
    body: await exposition(families, snapshot),
    compress: true
  }
}

/** What prom-client's registry prints, without a second copy of the numbers in its own counters. */
function printed(fullName: string, family: MetricFamily, rows: readonly SeriesSnapshot[]): prom.Metric {
  const name = family.type === 'counter' ? fullName.replace(/_total$/, '') : fullName
  const get = async (): Promise<object> => ({
    name,
    help: family.help,
    type: family.type,
    values: rows.flatMap(row =>
      family.type === 'histogram' ? histogram(name, family, row) : value(family, row)
    )
  })
  return { name, get, reset: () => undefined } as unknown as prom.Metric
}

function value(family: MetricFamily, row: SeriesSnapshot): MetricValue<string>[] {
  return [{ labels: labelled(family, row), value: row.value }]
}

function histogram(name: string, family: MetricFamily, row: SeriesSnapshot): object[] {
  const labels = labelled(family, row)
  const bounds: (number | string)[] = [...(family.buckets ?? []), '+Inf']
  let total = 0
  const buckets = bounds.map((le, index) => {
    total += row.counts?.[index] ?? 0
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total }
  })
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: row.value },
    { metricName: `${name}_count`, labels, value: total }
  ]
}

function labelled(family: MetricFamily, row: SeriesSnapshot): Record<string, string> {
  return Object.fromEntries(row.labels.map((text, index) => [family.labels[index] ?? '', text]))
}
