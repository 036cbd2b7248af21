/** Requests and connections about which a real authorizer in a pod is asked: AZ-41 to AZ-49, PI-17. */
import t, { type Test } from 'tap'
import * as grpc from '@grpc/grpc-js'
import type http from 'node:http'
import net from 'node:net'
import { eventually } from '../support/eventually.ts'
import { fields, readFields, within } from './external-authorization/wire.ts'
import {
  listen,
  startPod,
  startWorld,
  type Answer,
  type Asked,
  type Pod,
  type ServiceOptions,
  type World
} from './world.ts'

const services: readonly ServiceOptions[] = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'db', vip: '10.96.0.2', port: 5432, speaks: 'TCP' },
  { name: 'login', vip: '10.96.0.3', waypoint: '' },
  { name: 'judge', vip: '10.96.0.4', port: 9000, speaks: 'GRPC', waypoint: '' }
]
const pod = (last: number, name: string, port = 8080): Pod => ({
  name,
  address: `127.77.8.${last}`,
  port,
  services: [name]
})

const login = 'login.shop.svc.cluster.local'
const mesh = `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  extensionProviders:
    - name: login
      envoyExtAuthzHttp:
        {service: shop/${login}, port: 80, timeout: 300ms, statusOnError: "503", pathPrefix: /check,
         includeRequestHeadersInCheck: [x-ask], headersToUpstreamOnAllow: [x-user],
         headersToDownstreamOnAllow: [x-decision]}
    - name: lenient
      envoyExtAuthzHttp: {service: ${login}, port: 80, timeout: 300ms, failOpen: true}
    - name: elsewhere
      envoyExtAuthzHttp: {service: other/${login}, port: 80}
    - name: broken
      envoyExtAuthzHttp: {service: ${login}, port: 80, timeout: soon}
    - name: judge
      envoyExtAuthzGrpc: {service: judge.shop.svc.cluster.local, port: 9000}
`

const custom = (provider: string, path: string, target = 'web', annotations = ''): string => `
---
kind: AuthorizationPolicy
metadata: {name: ask-${provider}, namespace: shop, annotations: {${annotations}}}
spec:
  targetRefs: [{group: "", kind: Service, name: ${target}}]
  action: CUSTOM
  provider: {name: ${provider}}
  rules: [${path === '' ? '{}' : `{to: [{operation: {paths: ["${path}"]}}]}`}]
`

/** The service's pod tells what it got. */
async function startWeb(t: Test, last: number): Promise<Pod> {
  const web = pod(last, 'web')
  await startPod(t, web, (sent, response) =>
    response.end(JSON.stringify({ path: sent.url, ...sent.headers }))
  )
  return web
}

interface Asking {
  readonly path: string
  readonly method: string
  readonly headers: http.IncomingHttpHeaders
}

async function startLogin(t: Test, last: number): Promise<{ pod: Pod; asked: Asking[]; gone: string[] }> {
  const at = pod(last, 'login')
  const asked: Asking[] = []
  const gone: string[] = []
  await startPod(t, at, (sent, response) => {
    const { url = '', method = '', headers } = sent
    asked.push({ path: url, method, headers })
    response.on('close', () => void (response.writableFinished || gone.push(url)))
    if (url.includes('hang')) return
    const good = { 'x-user': 'ann', 'x-decision': 'yes', 'x-secret': 's' }
    const html = { 'www-authenticate': 'Basic', 'content-type': 'text/html' }
    if (url.includes('broken')) response.writeHead(500).end()
    else if (headers.authorization === 'Bearer good') response.writeHead(200, good).end()
    else response.writeHead(401, html).end(url.includes('long') ? 'x'.repeat(300_000) : '<p>who?</p>')
  })
  return { pod: at, asked, gone }
}

type Get = (path: string, asked?: Asked) => Promise<Answer>

const getter =
  (world: World): Get =>
  (path, asked = {}) =>
    world.ask('10.96.0.1:80', { ...asked, path })

t.test('an authorizer by HTTP decides, and what it says goes both ways', async t => {
  const web = await startWeb(t, 1)
  const { pod: at, asked } = await startLogin(t, 2)
  const config = `${mesh}${custom('login', '/private/*')}
---
kind: AuthorizationPolicy
metadata: {name: no-ann, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  action: DENY
  rules: [{to: [{operation: {paths: [/private/deny]}}], when: [{key: 'request.headers[x-user]', values: [ann]}]}]
---
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - matches: [{path: {value: /private/mine}}, {path: {value: /private/deny}}, {path: {value: /open}}]
      backendRefs: [{name: web, port: 80}]
`
  const world = await startWorld(t, { services, pods: [web, at], config })
  const get = getter(world)

  t.match(await get('/open'), { status: 200 })
  t.equal(asked.length, 0, 'what no rule matches is not asked about')

  const headers = { authorization: 'Bearer good', 'x-user': 'mallory', 'x-ask': '1', 'x-other': '2' }
  const passed = await get('/private/mine?a=b', { headers, method: 'POST', body: 'not for the authorizer' })
  t.match(passed, { status: 200, headers: { 'x-decision': 'yes' } })
  t.notOk('x-secret' in passed.headers)
  t.match(JSON.parse(passed.text), { path: '/private/mine?a=b', 'x-user': 'ann', 'x-other': '2' })
  t.match(asked, [
    {
      path: '/check/private/mine?a=b',
      method: 'POST',
      headers: { host: 'shop.example', authorization: 'Bearer good', 'x-ask': '1', 'content-length': '0' }
    }
  ])
  t.notOk('x-other' in (asked[0]?.headers ?? {}))

  t.match(
    await get('/private/deny', { headers }),
    { status: 403, text: 'RBAC: access denied' },
    'then policies'
  )
  const nowhere = await get('/private/nowhere', { headers })
  t.match(nowhere, { status: 404, headers: { 'x-decision': 'yes' } }, 'then routes')

  const refused = await get('/private/%6dine')
  const who = { 'www-authenticate': 'Basic', 'content-type': 'text/html' }
  t.match(refused, { status: 401, headers: who, text: '<p>who?</p>' })
  await eventually('the log says who refused', () =>
    world.lines.some(line => line.includes(' 401 UAEX ext_authz_denied '))
  )
  t.equal(asked.at(-1)?.path, '/check/private/mine', 'asked is about what would be forwarded')
  const claims = { 'x-envoy-auth-failure-mode-allowed': 'true' }
  t.notMatch(
    (await get('/open', { headers: claims })).text,
    'failure-mode',
    'only we say that nobody was asked'
  )
  const call = { 'content-type': 'application/grpc' }
  const told = await get('/private/long', { headers: call, method: 'POST' })
  t.match(told, { status: 200, headers: { 'grpc-status': '16', 'grpc-message': /^x{1024}$/ } })
  const long = await get('/private/long')
  t.equal(long.status, 401)
  t.equal(long.text.length, 64 * 1024, 'of a long answer only that much')
  t.match(await get('/private/mine', { headers }), { status: 200 }, 'again, over a connection that is kept')
})

t.test('an authorizer that does not answer: closed, or open where that is configured', async t => {
  const web = await startWeb(t, 3)
  const { pod: at, gone } = await startLogin(t, 4)
  const config = `${mesh}${custom('login', '/closed/*')}`
  const world = await startWorld(t, { services, pods: [web, at], config })
  const get = getter(world)
  for (const path of ['/closed/hang', '/closed/broken'])
    t.match(await get(path), { status: 503, text: '' }, path)
  await eventually('nothing goes on', () => gone.includes('/check/closed/hang'), { everyMs: 10 })
  t.ok(world.lines.some(line => line.includes(' 503 UAEX ext_authz_error ')))
  t.ok(world.log.some(line => /could not be asked.*authorizer login: no answer in 300 ms/.test(line)))
  t.ok(world.log.some(line => /could not be asked.*authorizer login: answered 500/.test(line)))

  const client = await world.connect('10.96.0.1:80')
  client.write('GET /closed/hang-left HTTP/1.1\r\nHost: x\r\n\r\n')
  await new Promise(resolve => setTimeout(resolve, 100))
  client.destroy()
  await eventually('a client that leaves ends the question', () => gone.includes('/check/closed/hang-left'))
  t.ok(world.lines.some(line => / DC downstream_remote_disconnect /.test(line)))

  const lenient = await startWorld(t, {
    services,
    pods: [web, at],
    config: `${mesh}${custom('lenient', '/x/*')}`
  })
  const headers = { 'x-envoy-auth-failure-mode-allowed': 'false' }
  const passed = await getter(lenient)('/x/hang', { headers })
  t.match(passed, { status: 200 })
  t.match(JSON.parse(passed.text), { 'x-envoy-auth-failure-mode-allowed': 'true' })
  t.match(await getter(lenient)('/x/denied'), { status: 401 }, 'but a denial is one')
})

t.test('nobody to ask: refused, and the log says why', async t => {
  const web = await startWeb(t, 5)
  const bad = { status: 403, text: 'RBAC: access denied' }
  const of = async (config: string): Promise<World> =>
    startWorld(t, { services, pods: [web], config: mesh + config })

  const unknown = await of(custom('nobody', '/x/*'))
  t.match(await getter(unknown)('/x/1'), bad)
  t.match(await getter(unknown)('/y'), { status: 200 })
  t.ok(unknown.lines.some(line => line.includes('ask-nobody]-rule[0]-deny-due-to-bad-CUSTOM-action]')))

  const broken = await of(custom('broken', '/x/*'))
  t.match(await getter(broken)('/x/1'), bad)
  t.ok(broken.log.some(line => /extension provider cannot be used.*broken.*timeout/.test(line)))

  t.match(await getter(await of(custom('login', '/x/*') + custom('judge', '/y')))('/x/1'), bad, 'two of them')

  const elsewhere = await of(custom('elsewhere', '/x/*'))
  t.match(await getter(elsewhere)('/x/1'), { status: 403, text: '' })
  t.ok(elsewhere.log.some(line => /service .* in namespace other is not known to this waypoint/.test(line)))
  const without = await of(custom('login', '/x/*'))
  t.match(await getter(without)('/x/1'), { status: 503 })
  t.ok(without.log.some(line => /has no ready endpoint for port 80/.test(line)))
})

t.test('a dry run asks and decides nothing', async t => {
  const web = await startWeb(t, 6)
  const { pod: at, asked } = await startLogin(t, 7)
  const config = `${mesh}${custom('login', '/x/*', 'web', '"istio.io/dry-run": "true"')}`
  const world = await startWorld(t, { services, pods: [web, at], config })
  t.match(await getter(world)('/x/denied'), { status: 200 })
  t.match(await getter(world)('/x/hang'), { status: 200 })
  await eventually('it was asked', () => asked.length === 2)
})

/** Says yes to `ann`, and to connections where the test says so. */
async function startJudge(
  t: Test,
  last: number
): Promise<{ pod: Pod; asked: Buffer[]; allow: { connections: boolean } }> {
  const at: Pod = { ...pod(last, 'judge', 9000), protocol: 'TCP' }
  const asked: Buffer[] = []
  const allow = { connections: false }
  const raw = (value: Buffer): Buffer => value
  const path = '/envoy.service.auth.v3.Authorization/Check'
  const serialize = {
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw
  }
  const server = new grpc.Server()
  server.addService(
    { Check: { path, requestStream: false, responseStream: false, ...serialize } },
    {
      Check: ({ request }: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        asked.push(request)
        const ok = fields([1, fields([1, 0])])
        if (!readFields(within(request, 1, 4)).has(2)) {
          return done(null, allow.connections ? ok : fields([1, fields([1, 7])]))
        }
        const whole = within(request, 1, 4, 2).toString('latin1')
        if (whole.includes('/late')) return done({ code: grpc.status.UNAVAILABLE, details: 'not now' })
        const header = fields([1, fields([1, 'x-user'], [2, 'ann'])])
        if (whole.includes('ann')) return done(null, fields([1, fields([1, 0])], [3, fields([2, header])]))
        const denial = fields([1, fields([1, 418])], [3, 'no tea'])
        done(null, fields([1, fields([1, 7])], [2, denial]))
      }
    }
  )
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`${at.address}:${at.port}`, grpc.ServerCredentials.createInsecure(), error =>
      error === null ? resolve() : reject(error)
    )
  )
  t.teardown(() => server.forceShutdown())
  return { pod: at, asked, allow }
}

t.test('an authorizer by gRPC decides about requests', async t => {
  const web = await startWeb(t, 8)
  const { pod: at, asked } = await startJudge(t, 9)
  const world = await startWorld(t, {
    services,
    pods: [web, at],
    config: `${mesh}${custom('judge', '/x/*')}`
  })
  const get = getter(world)
  const passed = await get('/x/1', { headers: { 'x-who': 'ann' } })
  t.match(passed, { status: 200 })
  t.match(JSON.parse(passed.text), { 'x-user': 'ann' })
  t.equal(String(within(asked[0] ?? Buffer.alloc(0), 1, 1, 4)), 'spiffe://cluster.local/ns/shop/sa/client')
  t.match(await get('/x/1'), { status: 418, text: 'no tea' })
  t.match(await get('/x/late'), { status: 403, text: '' })
  t.ok(world.log.some(line => /could not be asked.*grpc-status 14 not now/.test(line)))
  const all = await Promise.all(
    Array.from({ length: 50 }, async () => get('/x/1', { headers: { 'x-who': 'ann' } }))
  )
  t.ok(
    all.every(({ status }) => status === 200),
    'many at once'
  )
})

t.test('an authorizer by gRPC decides about connections; one by HTTP cannot be asked', async t => {
  const db = pod(10, 'db', 5432)
  await listen(
    t,
    net.createServer(socket => socket.end('hello')),
    db
  )
  const { pod: at, allow } = await startJudge(t, 11)
  const read = async (world: World): Promise<string> => {
    let heard = ''
    const client = await world.connect('10.96.0.2:5432')
    await new Promise<void>(resolve => {
      client.on('data', (bytes: Buffer) => (heard += bytes.toString()))
      client.on('close', resolve).on('end', resolve)
    })
    client.destroy()
    return heard
  }
  const judged = await startWorld(t, {
    services,
    pods: [db, at],
    config: `${mesh}${custom('judge', '', 'db')}`
  })
  t.equal(await read(judged), '')
  t.ok(judged.lines.some(line => line.includes('ext_authz_denied')))
  allow.connections = true
  t.equal(await read(judged), 'hello')
  const skipped = await startWorld(t, { services, pods: [db], config: `${mesh}${custom('login', '', 'db')}` })
  t.equal(await read(skipped), 'hello')
})
