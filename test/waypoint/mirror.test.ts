/** Requests that mirrors get too, through a real waypoint: GA-28. What becomes of a mirror never shows in the request. */
import t, { type Test } from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { eventually } from '../support/eventually.ts'
import { families } from '../../waypoint/families.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import { Mirrors } from '../../waypoint/mirror.ts'
import type { Mirror } from '../../waypoint/routes/route.ts'
import { Metrics } from '../../shared/telemetry/metrics.ts'
import { listen, startPod, startWorld, type Pod, type World } from './world.ts'

const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'copy', vip: '10.96.0.2', waypoint: '' },
  { name: 'other', vip: '10.96.0.3', waypoint: '' },
  { name: 'h2', vip: '10.96.0.4', waypoint: '', speaks: 'HTTP2' },
  { name: 'empty', vip: '10.96.0.5', waypoint: '' },
  { name: 'calls', vip: '10.96.0.6', speaks: 'GRPC' }
]
const to = (...names: readonly string[]): string =>
  `[${names.map(name => `{type: RequestMirror, requestMirror: {backendRef: {name: ${name}, port: 80}}}`).join(', ')}]`

const config = `
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - matches: [{path: {value: /changed}}]
      filters:
        - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}
        - {type: RequestMirror, requestMirror: {percent: 0, backendRef: {name: other, port: 80}}}
        - {type: RequestMirror, requestMirror: {backendRef: {unresolved: BackendNotFound}}}
        - type: RequestHeaderModifier
          requestHeaderModifier:
            {set: [{name: x-set, value: rule}], add: [{name: x-add, value: b}], remove: [x-remove]}
        - type: URLRewrite
          urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
      backendRefs:
        - name: web
          port: 80
          filters:
            - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: backend}]}}
            - {type: RequestMirror, requestMirror: {backendRef: {name: other, port: 80}}}
    - matches: [{path: {value: /both}}]
      filters: ${to('copy', 'other')}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {value: /quick}}]
      timeouts: {request: 2s}
      filters: ${to('copy')}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {value: /h2}}]
      filters: ${to('h2')}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {value: /empty}}]
      filters: ${to('empty')}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {value: /lost}}]
      filters: ${to('copy')}
      backendRefs: [{name: empty, port: 80}]
    - filters: ${to('copy')}
      backendRefs: [{name: web, port: 80}]
---
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: calls}]
  rules:
    - matches: [{method: {service: shop.Cart, method: Talk}}]
      filters: ${to('h2')}
      backendRefs: [{name: calls, port: 80}]
`

/** What a pod got; a body by its length and hash. */
interface Got {
  readonly line: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
  readonly trailers: NodeJS.Dict<string>
}

const digest = (body: Buffer): string =>
  `${body.length} ${createHash('sha256').update(body).digest('hex').slice(0, 12)}`

interface Recorder {
  readonly got: Got[]
  /** Requests that ended in the middle. */
  cut: number
  /** Requests of which the head has come. */
  heads: number
  readonly listener: http.RequestListener
}

function recorder(answer: (response: http.ServerResponse, request: http.IncomingMessage) => void): Recorder {
  const made: Recorder = {
    got: [],
    cut: 0,
    heads: 0,
    listener: (request, response) => {
      made.heads += 1
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('error', () => undefined)
      request.on('close', () => (made.cut += request.complete ? 0 : 1))
      request.on('end', () => {
        const { method, url, headers, trailers } = request
        made.got.push({ line: `${method} ${url}`, headers, body: digest(Buffer.concat(parts)), trailers })
        answer(response, request)
      })
    }
  }
  return made
}

const pod = (last: number, name: string, more: Partial<Pod> = {}): Pod => ({
  ...{ name, address: `127.77.13.${last}`, port: 8080, services: [name] },
  ...more
})

interface Mirrored {
  readonly world: World
  readonly web: Recorder
  readonly copy: Recorder
}

/** A web that answers with its name, and a mirror that does what the test says. */
async function worldOf(
  t: Test,
  first: number,
  answer: Parameters<typeof recorder>[0] = response => response.end('copy')
): Promise<Mirrored> {
  const web = recorder(response => response.end('web'))
  const copy = recorder(answer)
  const pods = [pod(first, 'web'), pod(first + 1, 'copy')]
  await startPod(t, pods[0] as Pod, web.listener)
  await startPod(t, pods[1] as Pod, copy.listener)
  return { world: await startWorld(t, { services, pods, config }), web, copy }
}

async function outcomes(world: World): Promise<Record<string, number>> {
  const found = (await world.metrics()).matchAll(
    /^underpass_mirrored_requests_total\{outcome="(\w+)"\} (\d+)$/gm
  )
  return Object.fromEntries([...found].map(([, outcome, count]) => [outcome ?? '', Number(count)]))
}

const became = (world: World, expected: Record<string, number>): Promise<void> =>
  eventually(
    `mirrors became ${JSON.stringify(expected)}`,
    async () => isDeepStrictEqual(await outcomes(world), expected),
    { everyMs: 20 }
  )

const vip = '10.96.0.1:80'

t.test('a mirror gets what its rule or its backend makes of the request', async t => {
  const [web, copy, other] = [0, 1, 2].map(() => recorder(response => response.end('pod'))) as [
    Recorder,
    Recorder,
    Recorder
  ]
  const pods = [pod(1, 'web'), pod(2, 'copy'), pod(3, 'other', { protocol: 'TCP' })]
  for (const [at, { listener }] of [web, copy, other].entries()) await startPod(t, pods[at] as Pod, listener)
  const world = await startWorld(t, { services, pods, config })
  const headers = { 'x-add': 'a', 'x-remove': '1', 'x-set': 'client' }
  const answer = await world.ask(vip, { method: 'POST', path: '/changed/a?q=1', body: 'body', headers })
  t.match(answer, { status: 200, text: 'pod' })
  await became(world, { answered: 2 })
  const same = { line: 'POST /new/a?q=1', body: digest(Buffer.from('body')) }
  const named = { host: 'new.example', 'x-add': 'a, b', 'x-envoy-original-path': '/changed/a?q=1' }
  t.match(
    [web.got, other.got],
    [
      [{ ...same, headers: { ...named, 'x-set': 'backend', 'x-envoy-attempt-count': '1' } }],
      [{ ...same, headers: { ...named, 'x-set': 'backend' } }]
    ]
  )
  t.match(copy.got, [{ ...same, headers: { ...named, 'x-set': 'rule' } }])
  const mirrored = copy.got[0]?.headers
  t.equal(mirrored?.['x-request-id'], web.got[0]?.headers['x-request-id'], 'the same request')
  t.equal(mirrored?.['x-remove'], undefined)

  await world.ask(vip, { path: '/both' })
  await became(world, { answered: 4 })
  t.strictSame(
    [web, copy, other].map(({ got }) => got.at(-1)?.line),
    ['GET /both', 'GET /both', 'GET /both'],
    'several mirrors of one rule'
  )
  t.equal(world.lines.length, 0, 'mirrors are nothing for the access log')
})

t.test('bodies of any kind come whole', async t => {
  const { world, web, copy } = await worldOf(t, 10)
  const megabyte = randomBytes(1_000_000)
  const [all, nothing] = [digest(megabyte), digest(Buffer.alloc(0))]
  const put = (path: string, body: Buffer | string, headers = {}): Promise<unknown> =>
    world.ask(vip, { method: 'PUT', path, body, headers })
  await put('/length', megabyte, { 'content-length': megabyte.length })
  await put('/chunked', megabyte, { 'transfer-encoding': 'chunked' })
  await put('/empty-body', '')
  await world.ask(vip, { method: 'HEAD', path: '/none' })
  await became(world, { answered: 4 })
  const bodies = { '/length': all, '/chunked': all, '/empty-body': nothing, '/none': nothing }
  for (const { got } of [web, copy]) {
    t.strictSame(Object.fromEntries(got.map(({ line, body }) => [line.split(' ')[1], body])), bodies)
  }
  const measured = copy.got.find(({ line }) => line === 'PUT /length')
  t.equal(measured?.headers['content-length'], String(megabyte.length))

  const socket = await world.connect(vip)
  const trailing = http.request({
    ...{ method: 'POST', path: '/', createConnection: () => socket },
    headers: { host: 'shop.example', trailer: 'x-sum', 'transfer-encoding': 'chunked' }
  })
  trailing.addTrailers({ 'x-sum': '1' })
  trailing.end('ab')
  const [response] = (await once(trailing, 'response')) as [http.IncomingMessage]
  response.resume()
  await became(world, { answered: 5 })
  socket.destroy()
  t.match(copy.got.at(-1), { body: digest(Buffer.from('ab')), trailers: { 'x-sum': '1' } })
})

t.test('one that speaks HTTP/2 gets HTTP/2', async t => {
  const heard: string[] = []
  const server = http2.createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      heard.push(`${request.httpVersion} ${request.method} ${request.url} ${Buffer.concat(parts).toString()}`)
      response.end('h2')
    })
  })
  const web = recorder(response => response.end('web'))
  const pods = [pod(20, 'web'), pod(21, 'h2')]
  await startPod(t, pods[0] as Pod, web.listener)
  await listen(t, server, pods[1] as Pod)
  const world = await startWorld(t, { services, pods, config })
  t.match(await world.ask(vip, { method: 'POST', path: '/h2', body: 'ab' }), { status: 200, text: 'web' })
  t.match(await world.ask(vip, { path: '/h2' }), { status: 200, text: 'web' })
  await became(world, { answered: 2 })
  t.strictSame(heard, ['2.0 POST /h2 ab', '2.0 GET /h2 '])
})

t.test('calls of gRPC, by GRPCRoute', async t => {
  const served = async (at: Pod): Promise<string[]> => {
    const heard: string[] = []
    const server = http2.createServer((request, response) => {
      request.on('data', (part: Buffer) => heard.push(part.toString()))
      request.on('end', () => {
        heard.push(`${request.url} ${String(request.headers['content-type'])}`)
        response.addTrailers({ 'grpc-status': '0' })
        response.end(`from ${at.name}`)
      })
    })
    await listen(t, server, at)
    return heard
  }
  const pods = [pod(120, 'calls'), pod(121, 'h2')]
  const [main, mirror] = [await served(pods[0] as Pod), await served(pods[1] as Pod)]
  const world = await startWorld(t, { services, pods, config })
  const socket = await world.connect('10.96.0.6:80')
  const client = http2.connect('http://shop.example', { createConnection: () => socket })
  const headers = {
    ':method': 'POST',
    ':path': '/shop.Cart/Talk',
    'content-type': 'application/grpc',
    te: 'trailers'
  }
  const call = client.request(headers, { endStream: false })
  call.write('one')
  await eventually('both hear it while it goes on', () => main.length === 1 && mirror.length === 1, {
    everyMs: 10
  })
  call.end('two')
  let text = ''
  let trailers: http2.IncomingHttpHeaders = {}
  call.on('trailers', got => (trailers = got))
  for await (const part of call) text += String(part)
  t.equal(text, 'from calls')
  t.equal(trailers['grpc-status'], '0')
  await became(world, { answered: 1 })
  t.strictSame(main, ['one', 'two', '/shop.Cart/Talk application/grpc'])
  t.strictSame(mirror, main)
  client.destroy()
})

t.test('a mirror that reads nothing holds nobody up, and is left behind', async t => {
  const open: net.Socket[] = []
  const deaf = net.createServer({ pauseOnConnect: true }, socket => open.push(socket))
  t.teardown(() => open.forEach(socket => socket.destroy()))
  const web = recorder(response => response.end('web'))
  const pods = [pod(30, 'web'), pod(31, 'copy', { protocol: 'TCP' })]
  await startPod(t, pods[0] as Pod, web.listener)
  await listen(t, deaf, pods[1] as Pod)
  const world = await startWorld(t, { services, pods, config })
  const body = randomBytes(16 << 20)
  t.match(await world.ask(vip, { method: 'PUT', body }), { status: 200, text: 'web' })
  t.equal(web.got[0]?.body, digest(body))
  await became(world, { overflow: 1 })
})

t.test('one that fails, is not there, or answers what nobody wants to read', async t => {
  const { world, web } = await worldOf(t, 40, (response, { url }) => {
    if (url === '/cut') return response.destroy()
    return response.writeHead(503).end(url === '/much' ? Buffer.alloc(8 << 20) : 'no')
  })
  const good = { status: 200, text: 'web' }
  t.match(await world.ask(vip, { path: '/cut' }), good)
  await became(world, { failed: 1 })
  t.match(await world.ask(vip, { path: '/empty' }), good)
  await became(world, { failed: 2 })
  t.match(await world.ask(vip, { path: '/refused' }), good)
  await became(world, { failed: 2, answered: 1 })
  t.match(await world.ask(vip, { path: '/much' }), good)
  await became(world, { failed: 2, answered: 2 })
  t.equal(web.got.length, 4)
  t.equal(world.lines.length, 0)
})

t.test('one that says nothing has the time that the route has for requests', async t => {
  const { world, copy } = await worldOf(t, 50, () => undefined)
  t.match(await world.ask(vip, { path: '/quick' }), { status: 200, text: 'web' })
  await became(world, { timeout: 1 })
  t.equal(copy.got.length, 1)
})

t.test('what a DestinationRule says of its service holds for mirrors', async t => {
  const rule = (name: string, policy: string): string =>
    `---\nkind: DestinationRule\nmetadata: {name: ${name}, namespace: shop}\nspec: {host: ${name}, trafficPolicy: ${policy}}\n`
  const answers: http.ServerResponse[] = []
  const web = recorder(response => response.end('web'))
  const copy = recorder(response => answers.push(response))
  const other = recorder(response => response.end('other'))
  const pods = [pod(110, 'web'), pod(111, 'copy'), pod(112, 'other')]
  for (const [at, { listener }] of [web, copy, other].entries()) await startPod(t, pods[at] as Pod, listener)
  const rules =
    rule('copy', '{connectionPool: {http: {http2MaxRequests: 1}}}') + rule('other', '{tls: {mode: SIMPLE}}')
  const world = await startWorld(t, { services, pods, config: config + rules })
  t.match(await world.ask(vip, { path: '/both' }), { status: 200, text: 'web' })
  await became(world, { failed: 1 })
  t.strictSame(other.got, [], 'never without the TLS that was asked for')
  await eventually('one is under way', () => answers.length === 1, { everyMs: 10 })
  t.match(await world.ask(vip), { status: 200, text: 'web' })
  await became(world, { failed: 1, overflow: 1 })
  answers.shift()?.end('late')
  await became(world, { failed: 1, overflow: 1, answered: 1 })
  t.match(await world.ask(vip), { status: 200, text: 'web' })
  await eventually('there is room again', () => answers.length === 1, { everyMs: 10 })
  answers.shift()?.end()
})

t.test('a mirror is asked though the backend has nobody', async t => {
  const { world, copy } = await worldOf(t, 60)
  t.match(await world.ask(vip, { path: '/lost' }), { status: 503 })
  await became(world, { answered: 1 })
  t.equal(copy.got[0]?.line, 'GET /lost')
})

t.test('a client that goes in the middle of its body: nobody takes that for the whole', async t => {
  const { world, web, copy } = await worldOf(t, 70)
  const socket = await world.connect(vip)
  socket.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf')
  await eventually('both have begun', () => web.heads === 1 && copy.heads === 1, { everyMs: 10 })
  socket.destroy()
  await became(world, { incomplete: 1 })
  await eventually('both see it', () => web.cut === 1 && copy.cut === 1, { everyMs: 10 })
  t.strictSame([web.got, copy.got], [[], []])
})

t.test('a client that goes once all is said: the mirror keeps it', async t => {
  let answer: (() => void) | undefined
  const { world, copy } = await worldOf(t, 80, response => {
    answer = () => response.end('late')
  })
  const socket = await world.connect(vip)
  socket.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody')
  await eventually('the mirror has it', () => answer !== undefined, { everyMs: 10 })
  socket.destroy()
  answer?.()
  await became(world, { answered: 1 })
  t.equal(copy.got[0]?.body, digest(Buffer.from('body')))
})

t.test('an answer before the end of the request ends its mirrors, too', async t => {
  const copy = recorder(response => response.end('copy'))
  const pods = [pod(90, 'web'), pod(91, 'copy')]
  await startPod(t, pods[0] as Pod, (_, response) => response.writeHead(413).end('too much'))
  await startPod(t, pods[1] as Pod, copy.listener)
  const world = await startWorld(t, { services, pods, config })
  const socket = await world.connect(vip)
  socket.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf')
  const [answer] = (await once(socket, 'data')) as [Buffer]
  t.match(answer.toString(), /^HTTP\/1\.1 413 /)
  await became(world, { incomplete: 1 })
  t.strictSame(copy.got, [])
  socket.destroy()
})

t.test('protocols that are switched to are not mirrored', async t => {
  const web = http.createServer()
  web.on('upgrade', (_, socket) => {
    socket.end('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello')
  })
  const copy = recorder(response => response.end('copy'))
  const pods = [pod(100, 'web'), pod(101, 'copy')]
  await listen(t, web, pods[0] as Pod)
  await startPod(t, pods[1] as Pod, copy.listener)
  const world = await startWorld(t, { services, pods, config })
  const socket = await world.connect(vip)
  const key = 'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13'
  socket.write(`GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n${key}\r\n\r\n`)
  const [answer] = (await once(socket, 'data')) as [Buffer]
  t.match(answer.toString(), /^HTTP\/1\.1 101 /)
  t.strictSame(await outcomes(world), {})
  t.equal(copy.heads, 0)
  socket.destroy()
})

const nobody: ConstructorParameters<typeof Mirrors>[0] = {
  view: () => {
    throw new Error('nothing is sent')
  },
  metrics: new Metrics(families)
} as never

const head = {
  ...{ method: 'GET', target: '/', authority: 'a', version: 'HTTP/1.1' as const },
  ...{ headers: new HeaderList(), framing: { kind: 'none' as const } }
}
const toCopy = (share: number): Mirror => ({
  backend: { kind: 'service', hostname: 'copy.example', namespace: 'shop', port: 80 },
  share
})

t.test('a share is a share of requests, each mirror for itself', async t => {
  const rows = [
    { shares: [0.2], chances: [0.1999], count: 1 },
    { shares: [0.2], chances: [0.2], count: 0 },
    { shares: [1 / 1_000_000], chances: [0.000_000_9], count: 1 },
    { shares: [1 / 1_000_000], chances: [0.000_001], count: 0 },
    { shares: [0], chances: [0], count: 0 },
    { shares: [1], chances: [], count: 1 },
    { shares: [0.5, 0.5], chances: [0.1, 0.9], count: 1 },
    { shares: [0.5, 1], chances: [0.9], count: 1 }
  ]
  for (const { shares, chances, count } of rows) {
    const left = [...chances]
    const mirrors = new Mirrors({ ...nobody, random: () => left.shift() ?? NaN })
    t.equal(mirrors.of(shares.map(toCopy), head, head).length, count, JSON.stringify({ shares, chances }))
    t.equal(left.length, 0)
  }
})

t.test('only so many are under way at once', async t => {
  const metrics = new Metrics(families)
  const mirrors = new Mirrors({ ...nobody, metrics })
  const made = Array.from({ length: 1025 }, () => mirrors.of([toCopy(1)], head, head)).flat()
  const overflow = metrics.series('underpass_mirrored_requests_total', 'overflow')
  t.equal(overflow.value, 1)
  made.at(-1)?.start()
  t.equal(mirrors.active, 1024, 'the last one is not sent')
  made[0]?.fail(new Error('over'))
  t.equal(mirrors.active, 1023)
  mirrors.of([toCopy(1)], head, head)
  t.equal(overflow.value, 1, 'there is room again')
})
