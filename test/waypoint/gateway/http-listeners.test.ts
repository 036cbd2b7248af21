/** Requests from outside the mesh: listeners by port and host, routes by host, and what pods are told of clients. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import http from 'node:http'
import http2 from 'node:http2'
import { WebSocket, WebSocketServer } from 'ws'
import { eventually } from '../../support/eventually.ts'
import { listen, request, startPod, type Pod } from '../world.ts'
import { at, freePort, connect, gateway, isClosed, httpRoute, startGateway } from './world.ts'

const services = ['one', 'two', 'three'].map((name, index) => ({ name, vip: `10.96.3.${index + 1}` }))
let last = 0
const pod = (name: string, protocol: 'HBONE' | 'TCP' = 'HBONE'): Pod => ({
  name,
  address: `127.77.30.${(last += 1)}`,
  port: 8080,
  services: [name],
  protocol
})

const told = (name: string) => (asked: IncomingMessage, answer: ServerResponse) => {
  answer.end(JSON.stringify({ pod: name, path: asked.url, headers: asked.headers }))
}

async function startPods(test: Test, ...names: readonly string[]): Promise<Pod[]> {
  const pods = names.map(name => pod(name))
  for (const each of pods) await startPod(test, each, told(each.name))
  return pods
}

t.test('a request from outside goes to a pod inside, by HBONE or plain', async t => {
  const port = await freePort()
  const pods = [pod('one'), pod('two', 'TCP')]
  for (const each of pods) await startPod(t, each, told(each.name))
  const world = await startGateway(t, {
    services,
    pods,
    objects: [
      gateway({ port }),
      httpRoute('one', [at('web', 'one.example')], 'one'),
      httpRoute('two', [at('web', 'two.example')], 'two')
    ]
  })
  t.match(JSON.parse((await world.get(port, 'one.example')).text), { pod: 'one' })
  t.match(
    JSON.parse((await world.get(port, `TWO.example:${port}`)).text),
    { pod: 'two' },
    'whatever the case and the port'
  )
  t.match(await world.get(port, 'other.example'), { status: 404 })
})

t.test('a pod is told of the client what the gateway knows, not what the client says', async t => {
  const port = await freePort()
  const pods = await startPods(t, 'one')
  const world = await startGateway(t, {
    services,
    pods,
    objects: [gateway({ port }), httpRoute('one', [at('web')], 'one')]
  })
  const headers = {
    'x-forwarded-for': '203.0.113.9',
    'x-forwarded-proto': 'https',
    'x-forwarded-client-cert': 'By=me',
    'x-envoy-internal': 'true'
  }
  const { text } = await world.get(port, 'one.example', { headers })
  const seen = (JSON.parse(text) as { headers: http.IncomingHttpHeaders }).headers
  t.match(seen, {
    'x-forwarded-for': '203.0.113.9, 127.0.0.1',
    'x-forwarded-proto': 'http',
    'x-request-id': /^[0-9a-f-]{36}$/
  })
  t.notOk(seen['x-forwarded-client-cert'])
  t.notOk(seen['x-envoy-internal'])
})

t.test('only the listener with the most specific hostname answers for a host', async t => {
  const port = await freePort()
  const pods = await startPods(t, 'one')
  const hosts = { any: '', wide: '*.example.com', narrow: '*.foo.example.com', exact: 'abc.foo.example.com' }
  const world = await startGateway(t, {
    services,
    pods,
    objects: [
      gateway(...Object.entries(hosts).map(([name, hostname]) => ({ name, port, hostname }))),
      ...Object.entries(hosts).map(([name, hostname]) =>
        httpRoute(name, [at(name, hostname)], 'one', { matches: [{ path: { value: `/${name}` } }] })
      )
    ]
  })
  const asked = {
    any: 'bar.com',
    wide: 'bar.example.com',
    narrow: 'a.bar.foo.example.com',
    exact: 'abc.foo.example.com'
  }
  for (const [name, host] of Object.entries(asked)) {
    for (const path of Object.keys(hosts)) {
      const { status } = await world.get(port, host, { path: `/${path}` })
      t.equal(status, path === name ? 200 : 404, `${host}/${path}`)
    }
  }
})

t.test('routes of one listener: the most specific of their hostnames', async t => {
  const port = await freePort()
  const pods = await startPods(t, 'one', 'two', 'three')
  const world = await startGateway(t, {
    services,
    pods,
    objects: [
      gateway({ port }),
      httpRoute('one', [at('web', 'a.example', 'b.example')], 'one'),
      httpRoute('two', [at('web', '*.example')], 'two'),
      httpRoute('three', [at('web', 'b.example')], 'three', { matches: [{ path: { value: '/three' } }] }),
      httpRoute('elsewhere', [{ ...at('web', 'a.example'), name: 'another-gateway' }], 'three')
    ]
  })
  const answeredBy = async (host: string, path = '/'): Promise<unknown> =>
    (JSON.parse((await world.get(port, host, { path })).text) as { pod: unknown }).pod
  t.equal(await answeredBy('a.example'), 'one')
  t.equal(await answeredBy('c.d.example'), 'two')
  t.equal(await answeredBy('b.example', '/three'), 'three', 'rules of one hostname are one table')
  t.equal(await answeredBy('b.example', '/'), 'one')
})

t.test('redirects name the port of the listener', async t => {
  const port = await freePort()
  const world = await startGateway(t, {
    services,
    pods: [],
    objects: [
      gateway({ port }),
      httpRoute('one', [at('web')], 'one', {
        backendRefs: [],
        filters: [
          {
            type: 'RequestRedirect',
            requestRedirect: { path: { type: 'ReplaceFullPath', replaceFullPath: '/x' } }
          }
        ]
      })
    ]
  })
  const { status, headers } = await world.get(port, 'one.example')
  t.equal(status, 302)
  t.equal(headers.location, `http://one.example:${port}/x`)
})

t.test('HTTP/2 without TLS, as gRPC clients speak it', async t => {
  const port = await freePort()
  const pods = await startPods(t, 'one')
  await startGateway(t, {
    services,
    pods,
    objects: [gateway({ port }), httpRoute('one', [at('web', 'one.example')], 'one')]
  })
  const session = http2.connect(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':path': '/h2', ':authority': 'one.example', ':scheme': 'https' })
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  const seen = JSON.parse(text) as { headers: http.IncomingHttpHeaders }
  t.match(seen, { pod: 'one', path: '/h2' })
  t.equal(seen.headers['x-forwarded-proto'], 'http', 'a client cannot say that it came by TLS')
})

t.test('gRPC through a GRPCRoute: trailers, and an answer of our own', async t => {
  const port = await freePort()
  const grpcPod = pod('one')
  const server = http2.createServer()
  server.on('stream', (stream, headers) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.end(`called ${headers[':path']}`)
  })
  await listen(t, server, grpcPod)
  t.teardown(() => server.close())
  await startGateway(t, {
    services: [{ name: 'one', vip: '10.96.3.1', speaks: 'GRPC' }],
    pods: [grpcPod],
    objects: [
      gateway({ port }),
      {
        kind: 'GRPCRoute',
        name: 'one',
        spec: {
          parentRefs: [at('web', 'grpc.example')],
          rules: [
            { matches: [{ method: { service: 'shop.Cart' } }], backendRefs: [{ name: 'one', port: 80 }] }
          ]
        }
      }
    ]
  })
  const session = http2.connect(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const call = async (path: string): Promise<{ text: string; status: unknown }> => {
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      ':authority': 'grpc.example',
      'content-type': 'application/grpc',
      te: 'trailers'
    })
    let status: unknown
    stream.on('response', headers => (status ??= headers['grpc-status']))
    stream.on('trailers', headers => (status = headers['grpc-status']))
    stream.end('x')
    let text = ''
    for await (const chunk of stream) text += String(chunk)
    return { text, status }
  }
  t.strictSame(await call('/shop.Cart/Get'), { text: 'called /shop.Cart/Get', status: '0' })
  t.match(await call('/shop.Other/Get'), { status: '12' }, 'UNIMPLEMENTED where no rule matches')
})

t.test('what is told of requests: the gateway asks, by its own name', async t => {
  const port = await freePort()
  const pods = await startPods(t, 'one')
  const world = await startGateway(t, {
    services,
    pods,
    objects: [
      gateway({ port }),
      httpRoute('one', [at('web', 'one.example')], 'one'),
      httpRoute('two', [at('web', 'two.example')], 'two')
    ]
  })
  await world.get(port, 'one.example')
  await world.get(port, 'two.example')
  await world.get(port, 'three.example')
  const counted = (await world.metrics())
    .split('\n')
    .filter(line => line.startsWith('istio_requests_total{'))
    .map(line =>
      Object.fromEntries(Array.from(line.matchAll(/(\w+)="([^"]*)"/g), ([, name, value]) => [name, value]))
    )
  const source = {
    reporter: 'source',
    source_workload_namespace: 'shop',
    connection_security_policy: 'unknown'
  }
  t.match(counted, [
    {
      ...source,
      destination_service: 'one.shop.svc.cluster.local',
      destination_workload: 'one',
      destination_principal: 'spiffe://cluster.local/ns/shop/sa/one',
      response_code: '200'
    },
    {
      ...source,
      destination_service: 'two.shop.svc.cluster.local',
      response_code: '503',
      response_flags: 'UH'
    },
    { ...source, destination_service: 'unknown', response_code: '404', response_flags: 'NR' }
  ])
  t.match(world.lines, [
    /503 UH .*outbound\|80\|\|two\.shop\.svc\.cluster\.local - 127\.0\.0\.1:\d+ 127\.0\.0\.1:\d+ - shop\/two\/0/,
    new RegExp(`404 NR .* - 127\\.0\\.0\\.1:${port} `)
  ])
})

t.test('WebSocket: messages both ways', async t => {
  const port = await freePort()
  const web = pod('one')
  const server = http.createServer()
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', socket => {
    socket.on('message', (message: Buffer) => socket.send(`heard ${message.toString()}`))
  })
  await listen(t, server, web)
  t.teardown(() => sockets.close())
  await startGateway(t, {
    services,
    pods: [web],
    objects: [gateway({ port }), httpRoute('one', [at('web')], 'one')]
  })
  const client = new WebSocket(`ws://127.0.0.1:${port}/chat`)
  await once(client, 'open')
  client.send('hello')
  const [message] = (await once(client, 'message')) as [Buffer]
  t.equal(message.toString(), 'heard hello')
  client.close()
  await once(client, 'close')
})

t.test('policies for the Gateway hold; a client has an address but no principal', async t => {
  const port = await freePort()
  const pods = await startPods(t, 'one')
  const policy = (name: string, spec: Readonly<Record<string, unknown>>) => ({
    kind: 'AuthorizationPolicy' as const,
    name,
    spec: { targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'edge' }], ...spec }
  })
  const world = await startGateway(t, {
    services,
    pods,
    objects: [
      gateway({ port }),
      httpRoute('one', [at('web')], 'one'),
      policy('members', {
        action: 'DENY',
        rules: [
          { to: [{ operation: { paths: ['/members'] } }], from: [{ source: { notPrincipals: ['*'] } }] }
        ]
      })
    ]
  })
  t.match(await world.get(port, 'one.example', { path: '/members' }), { status: 403 })
  t.match(await world.get(port, 'one.example', { path: '/' }), { status: 200 })
  await world.put(
    policy('near', { action: 'ALLOW', rules: [{ from: [{ source: { ipBlocks: ['127.0.0.0/8'] } }] }] })
  )
  t.match(await world.get(port, 'one.example', { path: '/' }), { status: 200 })
  await world.put(policy('near', { action: 'ALLOW', rules: [{ from: [{ source: { principals: ['*'] } }] }] }))
  t.match(await world.get(port, 'one.example', { path: '/' }), { status: 403 })
})

t.test('listeners come and go while requests run', async t => {
  const [first, second] = [await freePort(), await freePort()]
  const web = pod('one')
  let answer: (() => void) | undefined
  await startPod(t, web, (asked, response) => {
    if (asked.url === '/slow') {
      response.write('begun, ')
      answer = () => response.end('done')
    } else response.end('quick')
  })
  const route = httpRoute('one', [at('web'), at('more')], 'one')
  const world = await startGateway(t, { services, pods: [web], objects: [gateway({ port: first }), route] })
  const kept = await connect(first)
  t.teardown(() => kept.destroy())
  const slow = request(kept, { path: '/slow' })
  await eventually('the request is at the pod', () => answer !== undefined, { everyMs: 20 })

  await world.put(gateway({ port: first }, { name: 'more', port: second }))
  await eventually('the new port answers', async () => (await world.get(second, 'a.example')).status === 200)
  await world.put(gateway({ name: 'more', port: second }))
  await eventually('the old port is closed', () => isClosed(first))
  answer?.()
  t.match(await slow, { status: 200, text: 'begun, done' }, 'what was under way ends as it began')
  t.match(await world.get(second, 'a.example'), { status: 200 })
})

t.test('a Gateway that cannot be read changes nothing', async t => {
  const port = await freePort()
  const pods = await startPods(t, 'one')
  const world = await startGateway(t, {
    services,
    pods,
    objects: [gateway({ port }), httpRoute('one', [at('web')], 'one')]
  })
  const broken = {
    kind: 'Gateway' as const,
    name: 'edge',
    spec: { listeners: [{ name: 'web', port: 0, protocol: 'HTTP' }] }
  }
  t.match(await world.put(broken), /spec\.listeners\[0\]\.port: expected a port from 1 to 65535/)
  t.match(await world.get(port, 'one.example'), { status: 200 })
  await world.put({ ...gateway({ port: port + 1 }), name: 'another' })
  t.match(await world.get(port, 'one.example'), { status: 200 }, "somebody else's is none of ours")
})

t.test('a port that is taken is tried again until it is free', async t => {
  const port = await freePort()
  const squatter = http.createServer().listen(port, '0.0.0.0')
  await once(squatter, 'listening')
  const pods = await startPods(t, 'one')
  const world = await startGateway(t, {
    services,
    pods,
    objects: [gateway({ port }), httpRoute('one', [at('web')], 'one')]
  })
  t.match(world.log.join(''), new RegExp(`cannot be opened.*port=${port}`))
  squatter.close()
  await eventually('the port answers', async () => (await world.get(port, 'one.example')).status === 200)
})

t.test('shutdown lets requests end and takes no new ones', async t => {
  const port = await freePort()
  const web = pod('one')
  let answer: (() => void) | undefined
  await startPod(t, web, (_, response) => {
    response.write('begun, ')
    answer = () => response.end('done')
  })
  const world = await startGateway(t, {
    services,
    pods: [web],
    objects: [gateway({ port }), httpRoute('one', [at('web')], 'one')]
  })
  const slow = world.get(port, 'one.example')
  await eventually('the request is at the pod', () => answer !== undefined, { everyMs: 20 })
  const ended = world.app.shutDown()
  await eventually('the port is closed', () => isClosed(port))
  answer?.()
  t.match(await slow, { status: 200, text: 'begun, done' })
  await ended
})
