/** The queue of spans has a bound. */
import t from 'tap'
import { silent } from '../../../shared/telemetry/logger.ts'
import { Metrics } from '../../../shared/telemetry/metrics.ts'
import { families } from '../../../waypoint/families.ts'
import type { Means } from '../../../waypoint/own-request.ts'
import type { Span } from '../../../waypoint/telemetry/tracing/span.ts'
import { SpanExporter } from '../../../waypoint/telemetry/tracing/span-exporter.ts'

const span: Span = {
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  spanId: '00f067aa0ba902b7',
  parentId: '',
  state: '',
  kind: 'server',
  name: 'web/*',
  startMs: 1,
  endMs: 2,
  failed: false,
  attributes: []
}

t.test('more than may wait are dropped and counted; those of unknown providers fail', async t => {
  const metrics = new Metrics(families)
  const ending = new AbortController()
  const exporter = new SpanExporter({
    ...{ metrics, log: silent, signal: ending.signal },
    means: {} as Means,
    origin: () => ({ attributes: [], version: '1' }),
    providers: () => new Map()
  })
  for (let at = 0; at < 3000; at += 1) exporter.add('gone', span)
  const counted = (outcome: string): number => metrics.series('underpass_spans_total', 'gone', outcome).value
  t.equal(counted('overflow'), 3000 - 512 - 2048, 'one batch is on its way, the rest waits')
  ending.abort()
  await exporter.close()
  exporter.add('gone', span)
  t.equal(counted('overflow'), 3000 - 512 - 2048 + 1, 'and none after the end')
  t.ok(counted('failed') >= 2048)
})
