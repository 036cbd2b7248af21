/** Traces of requests: which become spans, what these tell, what the pod is told, and the way to the collector. */
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.ts'
import { field, fields } from '../external-authorization/wire.ts'
import { startPod, startWorld, type Pod, type ServiceOptions, type World } from '../world.ts'
import { startGrpcCollector, startHttpCollector, type Collector } from './collector.ts'

const services: readonly ServiceOptions[] = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'otel', vip: '10.96.0.2', port: 4317, speaks: 'GRPC', waypoint: '' }
]
const pod = (last: number, name: string, port = 8080): Pod => ({
  name,
  address: `127.77.42.${last}`,
  port,
  services: [name]
})

const meshConfig = (settings: string, sampling = 100): string => `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  defaultProviders: {tracing: [otel]}
  defaultConfig: {tracing: {sampling: ${sampling}}}
  extensionProviders:
    - name: otel
      opentelemetry: {service: shop/otel.shop.svc.cluster.local, port: 4317${settings}}
`

interface Shop extends World {
  readonly collector: Collector
  /** Headers of the requests that pods got. */
  readonly got: Record<string, string | undefined>[]
}

let last = 0

async function shopOf(
  t: Test,
  {
    settings = '',
    sampling = 100,
    config = '',
    env = {},
    start = startGrpcCollector
  }: {
    settings?: string
    sampling?: number
    config?: string
    env?: Record<string, string>
    start?: typeof startGrpcCollector
  } = {}
): Promise<Shop> {
  const got: Record<string, string | undefined>[] = []
  const web = pod((last += 1), 'web')
  const otel = pod((last += 1), 'otel', 4317)
  const fails = new Set<string>()
  await startPod(t, web, (request, response) => {
    got.push(request.headers as Record<string, string | undefined>)
    const name = request.url ?? ''
    const once = name.startsWith('/once') && !fails.has(name)
    fails.add(name)
    response.writeHead(once || name === '/broken' ? 503 : 200).end('hello')
  })
  const collector = await start(t, otel)
  const world = await startWorld(t, {
    services,
    pods: [web, otel],
    env,
    config: `${meshConfig(settings, sampling)}\n---\n${config}`
  })
  return { ...world, collector, got }
}

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const caller = '00f067aa0ba902b7'

t.test('TM-34 to TM-38: one span of a request, below its caller, as the published schema has it', async t => {
  const shop = await shopOf(t)
  const before = Date.now()
  await shop.ask('10.96.0.1:80', {
    method: 'POST',
    path: '/cart?a=1',
    body: 'four',
    headers: {
      ...{ traceparent: `00-${traceId}-${caller}-01`, tracestate: 'x=y', 'user-agent': 'test/1' },
      ...{ host: 'shop.example', 'x-request-id': 'the-request' }
    }
  })
  await eventually('the span arrives', () => shop.collector.spans.length === 1)
  const [span] = shop.collector.spans
  t.match(span, {
    ...{ service: 'waypoint.shop', traceId, parentId: caller, state: 'x=y', kind: 2, status: 0 },
    name: 'web.shop.svc.cluster.local:80/*',
    attributes: {
      component: 'proxy',
      node_id: /^waypoint~127\.0\.0\.1~waypoint-1\.shop~shop\.svc\.cluster\.local$/,
      'guid:x-request-id': 'the-request',
      'http.method': 'POST',
      'http.url': 'http://shop.example/cart?a=1',
      'http.protocol': 'HTTP/1.1',
      'http.status_code': '200',
      user_agent: 'test/1',
      'peer.address': '127.0.0.1',
      upstream_address: /^127\.77\.42\.\d+:8080$/,
      upstream_cluster: 'inbound-vip|80|http|web.shop.svc.cluster.local',
      request_size: '4',
      response_size: '5',
      response_flags: '-',
      'istio.canonical_service': 'waypoint',
      'istio.mesh_id': 'cluster.local',
      'istio.namespace': 'shop',
      'istio.destination_workload': 'web',
      'istio.destination_namespace': 'shop',
      'istio.destination_canonical_revision': 'v1',
      'istio.destination_instance_name': 'web'
    }
  })
  t.notOk(span?.attributes['error'])
  t.ok((span?.start ?? 0) / 1e6 >= before - 1 && (span?.end ?? 0) >= (span?.start ?? 0))
  t.strictSame(
    { traceparent: shop.got[0]?.['traceparent'], tracestate: shop.got[0]?.['tracestate'] },
    { traceparent: `00-${traceId}-${span?.spanId}-01`, tracestate: 'x=y' },
    'the pod is below our span'
  )
  t.match(await shop.metrics(), /^underpass_spans_total\{provider="otel",outcome="exported"\} 1$/m)
})

t.test('TM-31: a caller that has decided is followed, whatever the percentage', async t => {
  const all = await shopOf(t)
  const refused = `00-${traceId}-${caller}-00`
  await all.ask('10.96.0.1:80', { headers: { traceparent: refused } })
  t.equal(all.got[0]?.['traceparent'], refused, 'it passes as it came')
  await all.ask('10.96.0.1:80', { headers: { b3: '0' } })
  t.match(all.got[1], { b3: '0', traceparent: undefined })
  await all.ask('10.96.0.1:80', { path: '/sampled' })
  await eventually('only the last one is told', () => all.collector.spans.length > 0)
  t.strictSame(
    all.collector.spans.map(({ attributes }) => attributes['http.url']),
    ['http://shop.example/sampled']
  )

  const none = await shopOf(t, { sampling: 0 })
  await none.ask('10.96.0.1:80', { path: '/ours' })
  t.match(
    none.got[0]?.['traceparent'],
    /^00-[\da-f]{32}-[\da-f]{16}-00$/,
    'those behind us need not throw dice'
  )
  await none.ask('10.96.0.1:80', { path: '/theirs', headers: { b3: `${traceId}-${caller}-1` } })
  await eventually('it arrives', () => none.collector.spans.length > 0)
  const [span, ...more] = none.collector.spans
  t.match(span, { traceId, parentId: caller, attributes: { 'http.url': /theirs/ } })
  t.equal(more.length, 0)
  t.match(none.got[1], {
    b3: `${traceId}-${span?.spanId}-1-${caller}`,
    traceparent: `00-${traceId}-${span?.spanId}-01`
  })
})

t.test('where nothing is to be traced headers pass as they came', async t => {
  const web = pod((last += 1), 'web')
  const got: unknown[] = []
  await startPod(t, web, (request, response) => {
    got.push(request.headers['traceparent'])
    response.end()
  })
  const world = await startWorld(t, { services, pods: [web] })
  const traceparent = `00-${traceId}-${caller}-01`
  await world.ask('10.96.0.1:80', { headers: { traceparent } })
  await world.ask('10.96.0.1:80')
  t.strictSame(got, [traceparent, undefined])
})

t.test('a failure is marked, also one of our own', async t => {
  const shop = await shopOf(t)
  await shop.ask('10.96.0.1:80', { path: '/broken' })
  await eventually('it arrives', () => shop.collector.spans.length === 1)
  t.match(shop.collector.spans[0], { status: 2, attributes: { error: 'true', 'http.status_code': '503' } })
})

t.test('each attempt is a span of its own where that is wanted', async t => {
  const shop = await shopOf(t, {
    env: { UNDERPASS_TRACE_ATTEMPTS: 'true' },
    config: `
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web, namespace: shop}]
  rules:
    - retry: {attempts: 1, codes: [503], backoff: 1ms}
      backendRefs: [{kind: Service, namespace: shop, hostname: web.shop.svc.cluster.local, port: 80}]
`
  })
  const answer = await shop.ask('10.96.0.1:80', { path: '/once' })
  t.equal(answer.status, 200)
  await eventually('all arrive', () => shop.collector.spans.length === 3)
  const { spans } = shop.collector
  const whole = spans.find(({ kind }) => kind === 2)
  const attempts = spans.filter(({ kind }) => kind === 3)
  t.equal(attempts.length, 2)
  t.ok(attempts.every(({ parentId, traceId }) => parentId === whole?.spanId && traceId === whole.traceId))
  t.strictSame(
    shop.got.map(({ traceparent }) => traceparent?.slice(36, 52)),
    attempts.map(({ spanId }) => spanId),
    'to the pod the attempt is the caller'
  )
  t.strictSame(
    attempts.map(({ attributes, status }) => [attributes['attempt'], attributes['http.status_code'], status]),
    [
      ['1', '503', 2],
      ['2', '200', 0]
    ]
  )
})

t.test('OTLP by HTTP, with its path and headers; long values are cut', async t => {
  const shop = await shopOf(t, {
    settings: ', maxTagLength: 25, http: {path: /v1/traces, headers: [{name: x-token, value: secret}]}',
    start: startHttpCollector
  })
  await shop.ask('10.96.0.1:80', { path: `/${'x'.repeat(300)}` })
  await eventually('it arrives', () => shop.collector.spans.length === 1)
  t.match(shop.collector.headers, {
    ...{ path: '/v1/traces', 'content-type': 'application/x-protobuf', 'x-token': 'secret' }
  })
  t.equal(shop.collector.spans[0]?.attributes['http.url'], 'http://shop.example/xxxxx')
})

t.test('a collector that is away costs no request anything, and gets its spans when it is back', async t => {
  const shop = await shopOf(t)
  shop.collector.fail = true
  t.equal((await shop.ask('10.96.0.1:80')).status, 200)
  await eventually('the log says so, once', () =>
    shop.log.some(line => line.includes('spans could not be sent'))
  )
  t.match(
    shop.log.find(line => line.includes('spans could not be sent')),
    /otel.*not now/
  )
  shop.collector.fail = false
  await eventually('it is sent again', () => shop.collector.spans.length === 1)
  await eventually('and the log says that, too', () =>
    shop.log.some(line => line.includes('spans are sent again'))
  )
})

t.test('what still waits at the end is sent', async t => {
  const shop = await shopOf(t)
  await shop.ask('10.96.0.1:80')
  await shop.app[Symbol.asyncDispose]()
  t.equal(shop.collector.spans.length, 1)
})

t.test('what the collector refuses is counted', async t => {
  const shop = await shopOf(t)
  shop.collector.answer = field(1, fields([1, 1], [2, 'too old']))
  await shop.ask('10.96.0.1:80')
  await eventually('counted', async () =>
    (await shop.metrics()).includes('underpass_spans_total{provider="otel",outcome="rejected"} 1')
  )
  t.ok(shop.log.some(line => line.includes('too old')))
})
