import t from 'tap'
import { exposition } from '../../../shared/telemetry/exposition.ts'
import { Metrics, sumSnapshots } from '../../../shared/telemetry/metrics.ts'

const families = {
  things_total: { type: 'counter', help: 'Things.', labels: ['kind', 'place', 'extra'] },
  open: { type: 'gauge', help: 'Open ones.', labels: ['kind'] },
  wait_seconds: { type: 'histogram', help: 'Waits.', labels: ['kind'], buckets: [0.1, 1] },
  never_total: { type: 'counter', help: 'Not counted yet.', labels: [] }
} as const

t.test('prints OpenMetrics with labels in the order of the table', async t => {
  const metrics = new Metrics(families)
  metrics.series('things_total', 'a', 'b').add(2)
  metrics.series('things_total', 'a', 'b').add()
  metrics.series('things_total', 'quote " slash \\ line \n', 'b', 'c').add()
  metrics.series('open', 'x').set(4)
  for (const seconds of [0.05, 0.1, 0.5, 7]) metrics.series('wait_seconds', 'x').observe(seconds)
  t.equal(
    await exposition(families, metrics.snapshot()),
    `# HELP things Things.
# TYPE things counter
things_total{kind="a",place="b"} 3
things_total{kind="quote \\" slash \\\\ line \\n",place="b",extra="c"} 1
# HELP open Open ones.
# TYPE open gauge
open{kind="x"} 4
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
wait_seconds_bucket{kind="x",le="0.1"} 2
wait_seconds_bucket{kind="x",le="1"} 3
wait_seconds_bucket{kind="x",le="+Inf"} 4
wait_seconds_sum{kind="x"} 7.65
wait_seconds_count{kind="x"} 4
# HELP never Not counted yet.
# TYPE never counter
# EOF
`
  )
})

t.test('threads are added up by label set', async t => {
  const [a, b] = [new Metrics(families), new Metrics(families)]
  a.series('things_total', 'x').add(1)
  b.series('things_total', 'x').add(2)
  b.series('things_total', 'y').add(5)
  a.series('wait_seconds', 'x').observe(0.5)
  b.series('wait_seconds', 'x').observe(2)
  const sum = sumSnapshots([a.snapshot(), b.snapshot(), structuredClone(a.snapshot())])
  const rows = (name: string): unknown => sum.find(family => family.name === name)?.rows
  t.strictSame(rows('things_total'), [
    { labels: ['x'], value: 4, counts: undefined },
    { labels: ['y'], value: 5, counts: undefined }
  ])
  t.strictSame(rows('wait_seconds'), [{ labels: ['x'], value: 3, counts: [0, 2, 1] }])
})

t.test('collectors run before each snapshot', async t => {
  const metrics = new Metrics(families)
  let calls = 0
  metrics.onCollect(() => metrics.series('open', 'x').set(++calls))
  metrics.snapshot()
  t.match(metrics.snapshot(), [
    { name: 'things_total', rows: [] },
    { name: 'open', rows: [{ value: 2 }] }
  ])
})

t.test('too many labels are a mistake in the program', async t => {
  const metrics = new Metrics(families)
  t.throws(() => metrics.series('open', 'a', 'b'), { message: 'open has 1 labels' })
})
