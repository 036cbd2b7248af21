/** Telemetries at work: TM-17 to TM-21. */
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.ts'
import { startPod, startWorld, type Pod, type ServiceOptions, type World } from '../world.ts'
import { startGrpcCollector, type Collector } from './collector.ts'

const services: readonly ServiceOptions[] = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'otel', vip: '10.96.0.2', port: 4317, speaks: 'GRPC', waypoint: '' },
  { name: 'side', vip: '10.96.0.3' }
]

let last = 0
const podOf = (name: string, port = 8080): Pod => ({
  name,
  address: `127.77.43.${(last += 1)}`,
  port,
  services: [name]
})

const telemetry = (name: string, namespace: string, spec: string): string => `
---
kind: Telemetry
metadata: {name: ${name}, namespace: ${namespace}}
spec: ${spec}
`

interface Shop extends World {
  readonly collector: Collector
}

async function shopOf(t: Test, config: string): Promise<Shop> {
  const pods = [podOf('web'), podOf('side')]
  for (const pod of pods) {
    await startPod(t, pod, (request, response) =>
      response.writeHead(request.url === '/no' ? 404 : 200).end('x')
    )
  }
  const otel = podOf('otel', 4317)
  const collector = await startGrpcCollector(t, otel)
  const world = await startWorld(t, {
    services,
    pods: [...pods, otel],
    config: `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  extensionProviders:
    - name: otel
      opentelemetry: {service: otel.shop.svc.cluster.local, port: 4317}
${config}`
  })
  return { ...world, collector }
}

const toWeb = 'targetRefs: [{group: "", kind: Service, name: web}]'

t.test('accessLogging: on, filtered, and off for one service', async t => {
  const all = 'accessLogging: [{providers: [{name: envoy}], filter: {expression: "response.code >= 400"}}]'
  const shop = await shopOf(
    t,
    telemetry('mesh', 'istio-system', `{${all}}`) +
      telemetry(
        'quiet',
        'shop',
        '{targetRefs: [{group: "", kind: Service, name: side}], accessLogging: [{disabled: true}]}'
      )
  )
  await shop.ask('10.96.0.1:80', { path: '/yes' })
  await shop.ask('10.96.0.3:80', { path: '/no' })
  await shop.ask('10.96.0.1:80', { path: '/no' })
  await eventually('logged', () => shop.lines.length > 0)
  t.equal(shop.lines.length, 1)
  t.match(shop.lines[0], /"GET \/no HTTP\/1\.1" 404/)
})

t.test('TM-23, TM-25: the mesh configuration switches the log on, as text or as JSON', async t => {
  const web = podOf('web')
  await startPod(t, web, (_, response) => response.end('x'))
  const config = (more: string): string => `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec: {accessLogFile: /dev/stdout${more}}
`
  const text = await startWorld(t, { services, pods: [web], config: config('') })
  await text.ask('10.96.0.1:80')
  t.match(text.lines, [/"GET \/ HTTP\/1\.1" 200/])
  const json = await startWorld(t, { services, pods: [web], config: config(', accessLogEncoding: JSON') })
  await json.ask('10.96.0.1:80', {
    path: '/a"b\\',
    headers: { 'user-agent': 'test', 'x-request-id': 'id', 'x-forwarded-for': '10.1.1.1' }
  })
  t.strictSame(Object.keys(JSON.parse(json.lines[0] ?? '') as object), [
    ...[
      'start_time',
      'method',
      'path',
      'protocol',
      'response_code',
      'response_flags',
      'response_code_details'
    ],
    ...[
      'connection_termination_details',
      'upstream_transport_failure_reason',
      'bytes_received',
      'bytes_sent'
    ],
    ...['duration', 'upstream_service_time', 'x_forwarded_for', 'user_agent', 'request_id', 'authority'],
    ...['upstream_host', 'upstream_cluster', 'upstream_local_address', 'downstream_local_address'],
    ...['downstream_remote_address', 'requested_server_name', 'route_name']
  ])
  t.match(JSON.parse(json.lines[0] ?? ''), {
    ...{ method: 'GET', path: '/a"b\\', protocol: 'HTTP/1.1', response_code: 200, response_flags: '-' },
    ...{ response_code_details: 'via_upstream', connection_termination_details: null, bytes_sent: 1 },
    ...{ user_agent: 'test', request_id: 'id', x_forwarded_for: '10.1.1.1', authority: 'shop.example' },
    ...{ upstream_cluster: 'inbound-vip|80|http|web.shop.svc.cluster.local', requested_server_name: null },
    downstream_local_address: '10.96.0.1:80'
  })
})

t.test('metrics: one is not counted, labels go or are set, others stay as they are', async t => {
  const shop = await shopOf(
    t,
    telemetry(
      'web',
      'shop',
      `
  ${toWeb}
  metrics:
    - providers: [{name: prometheus}]
      overrides:
        - {match: {metric: REQUEST_SIZE}, disabled: true}
        - match: {metric: REQUEST_COUNT, mode: CLIENT_AND_SERVER}
          tagOverrides:
            source_principal: {operation: REMOVE}
            destination_app: {value: "'shop'"}
            destination_version: {value: request.host}
            source_version: {value: 'request.headers["x-user"]'}`
    )
  )
  for (const user of ['ann', 'ann', 'bob']) {
    await shop.ask('10.96.0.1:80', { headers: { host: 'a.example', 'x-user': user } })
  }
  await shop.ask('10.96.0.3:80')
  const lines = (await shop.metrics()).split('\n')
  const of = (name: string, service: string): readonly string[] =>
    lines.filter(
      line => line.startsWith(`${name}{`) && line.includes(`destination_service_name="${service}"`)
    )
  const counted = of('istio_requests_total', 'web')
  t.equal(counted.length, 2, 'one series of each user')
  t.match(
    counted.find(line => line.includes('source_version="ann"')),
    /source_principal="".*destination_app="shop".*destination_version="a\.example".* 2$/
  )
  t.strictSame(of('istio_request_bytes_count', 'web'), [])
  t.equal(of('istio_response_bytes_count', 'web').length, 1)
  t.match(of('istio_requests_total', 'side')[0], /source_principal="spiffe:.*destination_app="side"/)
  t.equal(of('istio_request_bytes_count', 'side').length, 1)
})

t.test('values that clients choose do not become series without end', async t => {
  const shop = await shopOf(
    t,
    telemetry(
      'web',
      'shop',
      `
  ${toWeb}
  metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {source_version: {value: request.url_path}}}]}]`
    )
  )
  const socket = await shop.connect('10.96.0.1:80')
  let answers = 0
  socket.on('data', (chunk: Buffer) => (answers += chunk.toString().split('HTTP/1.1 200').length - 1))
  for (let at = 0; at < 1100; at += 1) {
    socket.write(`GET /${at} HTTP/1.1\r\nhost: a\r\n\r\n`)
    if (at % 50 === 49) await eventually('answered', () => answers === at + 1)
  }
  socket.destroy()
  const series = (await shop.metrics()).split('\n').filter(line => line.startsWith('istio_requests_total{'))
  t.equal(series.length, 1001)
  t.match(
    series.find(line => line.includes('source_version="other"')),
    / 100$/
  )
})

t.test('tracing: from the mesh to the service, field by field; tags as a whole', async t => {
  const shop = await shopOf(
    t,
    telemetry(
      'mesh',
      'istio-system',
      `
  tracing: [{providers: [{name: otel}], randomSamplingPercentage: 0, customTags: {mesh: {literal: {value: a}}}}]`
    ) +
      telemetry('own', 'shop', '{tracing: [{randomSamplingPercentage: 100, enableIstioTags: false}]}') +
      telemetry(
        'web',
        'shop',
        `
  ${toWeb}
  tracing: [{customTags: {user: {header: {name: x-user}}, web: {literal: {value: b}}}}]`
      )
  )
  await shop.ask('10.96.0.1:80', { headers: { 'x-user': 'ann' } })
  await shop.ask('10.96.0.3:80')
  await eventually('both arrive', () => shop.collector.spans.length === 2)
  const of = (service: string): Readonly<Record<string, string>> | undefined =>
    shop.collector.spans.find(({ name }) => name.startsWith(`${service}.`))?.attributes
  t.match(of('web'), { user: 'ann', web: 'b', mesh: undefined, 'istio.namespace': undefined })
  t.match(of('side'), { mesh: 'a', user: undefined, 'http.method': 'GET' })
})

t.test('tracing: headers without spans, and spans without headers', async t => {
  const got: unknown[] = []
  const web = podOf('web')
  await startPod(t, web, (request, response) => {
    got.push(request.headers['traceparent'])
    response.end()
  })
  const otel = podOf('otel', 4317)
  const collector = await startGrpcCollector(t, otel)
  const config = (more: string): string => `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec: {extensionProviders: [{name: otel, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4317}}]}
${telemetry('own', 'shop', `{tracing: [{providers: [{name: otel}], randomSamplingPercentage: 100, ${more}}]}`)}`
  const pods = [web, otel]
  const silent = await startWorld(t, { services, pods, config: config('disableSpanReporting: true') })
  await silent.ask('10.96.0.1:80')
  t.match(got[0], /-01$/)
  const hidden = await startWorld(t, { services, pods, config: config('disableContextPropagation: true') })
  await hidden.ask('10.96.0.1:80')
  t.equal(got[1], undefined)
  await eventually('one span', () => collector.spans.length === 1)
})

t.test('what is not carried out is told', async t => {
  const shop = await shopOf(
    t,
    telemetry('own', 'shop', '{accessLogging: [{filter: {expression: connection.mtls}}]}')
  )
  t.ok(shop.log.some(line => line.includes('not carried out in full') && line.includes('shop/own')))
})
