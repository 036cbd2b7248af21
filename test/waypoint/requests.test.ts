/** Requests through a waypoint, from a client's tunnel to a pod and back. */
import t from 'tap'
import { once } from 'node:events'
import type http from 'node:http'
import net from 'node:net'
import { listen, startPod, startWorld, type Answer, type Pod } from './world.ts'

const v1: Pod = { name: 'web-v1', address: '127.77.1.1', port: 8080, services: ['web', 'web-v1'] }
const v2: Pod = {
  name: 'web-v2',
  address: '127.77.1.2',
  port: 8080,
  services: ['web', 'web-v2'],
  protocol: 'TCP'
}
const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'web-v1', vip: '10.96.0.2' },
  { name: 'web-v2', vip: '10.96.0.3' },
  { name: 'elsewhere', vip: '10.96.0.4', waypoint: '' }
]

function says(name: string): http.RequestListener {
  return (request, response) => {
    let body = ''
    request.setEncoding('latin1').on('data', (chunk: string) => (body += chunk))
    request.on('end', () => {
      response.setHeader('x-pod', name)
      response.end(JSON.stringify({ pod: name, url: request.url, headers: request.headers, body }))
    })
  }
}

t.test('a service without routes: requests go to its pods, by tunnel or plain', async t => {
  await startPod(t, v1, says('v1'))
  await startPod(t, v2, says('v2'))
  const world = await startWorld(t, { services, pods: [v1, v2], env: { UNDERPASS_ACCESS_LOG: 'all' } })
  const seen = new Set<unknown>()
  for (let round = 0; round < 30; round += 1) {
    const { status, headers, text } = await world.ask('10.96.0.1:80', {
      path: '/a/../b?c=%2e',
      method: 'POST',
      body: 'hi'
    })
    t.equal(status, 200)
    seen.add(headers['x-pod'])
    t.match(headers['x-envoy-upstream-service-time'], /^\d+$/)
    const got = JSON.parse(text) as { url: string; headers: http.IncomingHttpHeaders; body: string }
    t.match(got, { url: '/b?c=%2e', body: 'hi' })
    t.match(got.headers, {
      host: 'shop.example',
      'x-request-id': /^[0-9a-f-]{36}$/,
      'x-forwarded-proto': 'http',
      'x-envoy-attempt-count': '1'
    })
  }
  t.strictSame(
    [...seen].map(String).toSorted((a, b) => a.localeCompare(b)),
    ['v1', 'v2']
  )
  t.match(
    world.lines[0],
    /^\[\d{4}-.*Z\] "POST \/a\/\.\.\/b\?c=%2e HTTP\/1\.1" 200 - via_upstream - "-" 2 \d+ \d+ \d+ "-" "-" "[0-9a-f-]{36}" "shop\.example" "127\.77\.1\.[12]:8080" inbound-vip\|80\|http\|web\.shop\.svc\.cluster\.local - 10\.96\.0\.1:80 127\.0\.0\.1:\d+ - default$/
  )
  const metrics = await world.metrics()
  t.match(
    metrics,
    /istio_requests_total\{reporter="waypoint".*source_principal="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/client".*destination_service="web\.shop\.svc\.cluster\.local".*destination_workload="web-v1".*destination_principal="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web-v1".*request_protocol="http",response_code="200",grpc_response_status="",response_flags="-",connection_security_policy="mutual_tls"\} \d+/
  )
})

t.test('tunnels for others are refused, and the client learns it', async t => {
  const world = await startWorld(t, { services, pods: [] })
  for (const authority of ['10.96.0.4:80', '10.96.0.1:81', '10.96.0.9:80', '127.0.0.1:15000', 'nowhere:80']) {
    await t.rejects(world.connect(authority), /400/, authority)
  }
  t.match(world.log.join(''), /elsewhere\.shop\.svc\.cluster\.local does not use this waypoint/)
  t.match(world.log.join(''), /has no port 81/)
  t.match(await world.metrics(), /underpass_tunnels_refused_total 5/)
})

t.test('no pod, a pod that is gone, and a pod of another identity', async t => {
  const gone: Pod = { name: 'gone', address: '127.77.1.3', port: 8080, services: ['web'], protocol: 'TCP' }
  const world = await startWorld(t, { services, pods: [gone] })
  t.match(await world.ask('10.96.0.1:80'), { status: 503, text: /connection failure/ })
  t.match(await world.ask('10.96.0.2:80'), { status: 503, text: 'no healthy upstream' })
  t.match(
    await world.ask('10.96.0.2:80', { headers: { 'content-type': 'application/grpc' }, method: 'POST' }),
    {
      status: 200,
      headers: { 'grpc-status': '14', 'grpc-message': 'no healthy upstream' }
    }
  )
  t.match(
    world.lines.join('\n'),
    / 503 UF upstream_reset_before_response_started\{connection_failure\} - "connection failed: 127\.77\.1\.3:8080/
  )
  t.match(world.lines.join('\n'), / 503 UH no_healthy_upstream /)
  const impostor: Pod = { name: 'impostor', address: '127.77.1.4', port: 8080, services: ['web'] }
  await startPod(t, impostor, says('impostor'))
  const other = await startWorld(t, { services, pods: [{ ...impostor, name: 'web-v1' }] })
  t.match(await other.ask('10.96.0.1:80'), { status: 503 })
  t.match(other.lines.join('\n'), /expected identity|not match|impostor/)
})

t.test('a pod that is addressed itself: there is no other one', async t => {
  const own: Pod = { name: 'own', address: '127.77.1.5', port: 8080, services: ['web'], waypoint: true }
  const gone: Pod = { ...own, name: 'gone', address: '127.77.1.6', protocol: 'TCP' }
  await startPod(t, own, says('own'))
  const world = await startWorld(t, { services, pods: [own, gone] })
  t.match(await world.ask('127.77.1.5:8080'), { status: 200, text: /own/ })
  t.match(await world.ask('127.77.1.6:8080'), { status: 503, text: /connection failure/ })
  t.match(world.lines.join('\n'), / 503 UF /)
})

t.test('a dial that fails is tried with the next pod', async t => {
  await startPod(t, v1, says('v1'))
  const dead = [1, 2].map(at => ({ ...v2, name: `dead-${at}`, address: `127.77.2.${at}` }))
  const world = await startWorld(t, { services, pods: [v1, ...dead] })
  for (let round = 0; round < 10; round += 1) t.match(await world.ask('10.96.0.1:80'), { status: 200 })
})

const routes = `
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /v2}, headers: [{name: X-Canary, value: '1'}]}]
      backendRefs: [{name: web-v2, port: 80}]
      filters:
        - type: URLRewrite
          urlRewrite: {hostname: two.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: X-Set, value: s}], add: [{name: X-Add, value: a}], remove: [X-Gone]}
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: X-Pod, value: changed}]}
    - matches: [{path: {type: Exact, value: /moved}}]
      filters:
        - type: RequestRedirect
          requestRedirect: {scheme: https, hostname: new.example, statusCode: 301}
    - matches: [{path: {type: PathPrefix, value: /split}}]
      backendRefs: [{name: web-v1, port: 80, weight: 9}, {name: web-v2, port: 80, weight: 1}]
    - matches: [{path: {type: PathPrefix, value: /broken}}]
      backendRefs: [{unresolved: BackendNotFound}]
    - matches: [{path: {type: PathPrefix, value: /mirrored}}]
      backendRefs: [{name: web-v1, port: 80}]
      filters: [{type: SomethingNew}]
    - matches: [{path: {type: PathPrefix, value: /slow}}]
      backendRefs: [{name: web-v1, port: 80}]
      timeouts: {request: 100ms}
`

t.test('routes decide', async t => {
  await startPod(t, v1, (request, response) => {
    if (request.url !== '/slow') says('v1')(request, response)
  })
  await startPod(t, v2, says('v2'))
  const world = await startWorld(t, { services, pods: [v1, v2], config: routes })
  const ask = (path: string, headers = {}): ReturnType<typeof world.ask> =>
    world.ask('10.96.0.1:80', { path, headers })
  const canary = await ask('/v2/things?q=1', { 'x-canary': '1', 'x-gone': 'x', 'x-set': 'old' })
  t.equal(canary.headers['x-pod'], 'changed')
  t.match(JSON.parse(canary.text), {
    pod: 'v2',
    url: '/things?q=1',
    headers: {
      host: 'two.example',
      'x-set': 's',
      'x-add': 'a',
      'x-gone': undefined,
      'x-envoy-original-path': '/v2/things?q=1'
    }
  })
  t.match(await ask('/v2/things'), { status: 404 })
  t.match(await ask('/moved?a=b'), { status: 301, headers: { location: 'https://new.example/moved?a=b' } })
  t.match(await ask('/broken/x'), { status: 500 })
  t.match(await ask('/mirrored'), { status: 500, text: /SomethingNew/ })
  t.match(await ask('/slow'), { status: 504, text: 'upstream request timeout' })
  const counts = { v1: 0, v2: 0 }
  for (let round = 0; round < 200; round += 1) {
    const { headers } = await ask('/split')
    counts[headers['x-pod'] as 'v1' | 'v2'] += 1
  }
  t.ok(counts.v2 > 3 && counts.v2 < 50, `${counts.v2} of 200 to a tenth`)
  t.match(world.lines.join('\n'), / 404 NR route_not_found /)
  t.match(world.lines.join('\n'), / 504 UT upstream_response_timeout .* shop\/web\/5$/m)
})

t.test('what a client must not say: CONNECT, and headers that are ours', async t => {
  await startPod(t, { ...v1, address: '127.77.1.9' }, says('v1'))
  const world = await startWorld(t, { services, pods: [{ ...v1, address: '127.77.1.9' }] })
  const client = await world.connect('10.96.0.1:80')
  client.write('CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1:22\r\n\r\n')
  const [first] = (await once(client, 'data')) as [Buffer]
  t.match(first.toString(), /^HTTP\/1\.1 501 /)
  const forged = {
    'x-forwarded-client-cert': 'By=me',
    'x-envoy-original-path': '/x',
    'x-envoy-attempt-count': '9'
  }
  const { text } = await world.ask('10.96.0.1:80', { headers: forged })
  t.match((JSON.parse(text) as { headers: object }).headers, {
    'x-forwarded-client-cert': undefined,
    'x-envoy-original-path': undefined,
    'x-envoy-attempt-count': '1'
  })
})

t.test(
  'a kept connection that the pod lets go: a request that does no harm is sent again, another one is not',
  async t => {
    const place: Pod = {
      name: 'web-v1',
      address: '127.77.1.8',
      port: 8080,
      services: ['web'],
      protocol: 'TCP'
    }
    let requests = 0
    const server = net.createServer(socket => {
      let first = true
      socket.on('data', () => {
        requests += 1
        if (first) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi')
        else socket.destroy()
        first = false
      })
    })
    await listen(t, server, place)
    const world = await startWorld(t, { services, pods: [place] })
    const ask = (method: string): Promise<Answer> => world.ask('10.96.0.1:80', { method })
    t.match(await ask('GET'), { status: 200 })
    t.match(await ask('GET'), { status: 200 })
    t.equal(requests, 3, 'on the kept connection, and again on another one')
    t.match(await ask('POST'), { status: 503, text: /connection termination/ })
    t.equal(requests, 4)
  }
)
