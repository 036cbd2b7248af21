/** RateLimitPolicies on the way of real requests: who is told 429, in what words, and that others are not held up. */
import t, { type Test } from 'tap'
import { generateKeyPairSync, sign } from 'node:crypto'
import { startPod, startWorld, type Answer, type Asked, type Pod, type World } from './world.ts'

const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'api', vip: '10.96.0.2' }
]
const pod = (last: number, name: string): Pod => ({
  name,
  address: `127.77.36.${last}`,
  port: 8080,
  services: [name]
})

interface Limited extends World {
  get(asked?: Asked & { readonly service?: 'web' | 'api' }): Promise<Answer>
}

async function worldWith(t: Test, last: number, spec: string, more = ''): Promise<Limited> {
  const pods = [pod(last, 'web'), pod(last + 1, 'api')]
  for (const one of pods) await startPod(t, one, (_, response) => void response.end('served'))
  const config = `
kind: RateLimitPolicy
metadata: {name: few, namespace: shop}
spec:
${spec.replaceAll(/^/gm, '  ')}
${more}`
  const world = await startWorld(t, { services, pods, config })
  const get: Limited['get'] = ({ service = 'web', ...asked } = {}) =>
    world.ask(service === 'web' ? '10.96.0.1:80' : '10.96.0.2:80', asked)
  return { ...world, get }
}

const onWeb = 'targetRefs: [{group: "", kind: Service, name: web}]'

t.test('what is above the limit is told 429, and what is left is in the headers', async t => {
  const world = await worldWith(
    t,
    1,
    `
${onWeb}
limits: [{requests: 2, per: 1h}]
headers: true`
  )
  t.match(await world.get(), {
    status: 200,
    headers: { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '1', 'x-ratelimit-reset': '1800' }
  })
  t.match(await world.get({ path: '/other' }), { status: 200, headers: { 'x-ratelimit-remaining': '0' } })
  const refused = await world.get()
  t.match(refused, {
    status: 429,
    text: 'local_rate_limited',
    headers: { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '0' }
  })
  const wait = Number(refused.headers['retry-after'])
  t.ok(wait > 1700 && wait <= 1800, `one is free again after half of the time: ${wait}`)
  t.match(await world.get({ service: 'api' }), { status: 200 }, 'nobody said anything of the other service')

  const grpc = await world.get({ method: 'POST', headers: { 'content-type': 'application/grpc' } })
  t.match(grpc, { status: 200, headers: { 'grpc-status': '14', 'grpc-message': 'local_rate_limited' } })

  t.match(world.lines.join('\n'), / 429 RL local_rate_limited /)
  const metrics = await world.metrics()
  t.match(metrics, /underpass_rate_limited_total\{policy="shop\/few",scope="Local",shadow="false"\} 2\n/)
  t.match(metrics, /istio_requests_total\{[^}]*response_code="429"[^}]*response_flags="RL"/)
})

t.test('each client has its own, also by what its token claims', async t => {
  const byNamespace = await worldWith(
    t,
    3,
    `
${onWeb}
limits: [{requests: 1, per: 1h, key: [{type: Principal}]}]`
  )
  const ask = async (namespace: string): Promise<number> => (await byNamespace.get({ namespace })).status
  t.equal(await ask('shop'), 200)
  t.equal(await ask('shop'), 429)
  t.equal(await ask('other'), 200, 'its own')
  t.equal(await ask('other'), 429)

  const byClaim = await worldWith(
    t,
    5,
    `
${onWeb}
limits: [{requests: 1, per: 1h, key: [{type: Claim, name: sub}]}]`,
    `
---
kind: RequestAuthentication
metadata: {name: login, namespace: shop}
spec:
  ${onWeb}
  jwtRules: [{issuer: 'https://login.example', jwks: '${jwks}'}]`
  )
  const askAs = async (sub: string): Promise<number> =>
    (await byClaim.get({ headers: { authorization: `Bearer ${token(sub)}` } })).status
  t.equal(await askAs('ann'), 200)
  t.equal(await askAs('ann'), 429)
  t.equal(await askAs('ben'), 200)
  t.match(await byClaim.get(), { status: 200 }, 'those without a token')
  t.match(await byClaim.get(), { status: 429 }, 'share one')
})

t.test('what is not matched is not counted, nor what may not be asked', async t => {
  const world = await worldWith(
    t,
    7,
    `
${onWeb}
limits: [{requests: 1, per: 1h, match: {paths: [/orders*], methods: [POST]}}]`,
    `
---
kind: AuthorizationPolicy
metadata: {name: own, namespace: shop}
spec:
  ${onWeb}
  rules: [{from: [{source: {namespaces: [shop]}}]}]`
  )
  const post = (path: string, namespace = 'shop'): Promise<Answer> =>
    world.get({ method: 'POST', path, namespace })
  t.match(await post('/orders/1', 'other'), { status: 403 })
  t.match(await world.get({ path: '/orders/1' }), { status: 200 })
  t.match(await post('/items/1'), { status: 200 })
  t.match(await post('/orders/1'), { status: 200 }, 'the first that counts')
  t.match(await post('/orders/2'), { status: 429 })
  t.match(await post('/x/../orders/2'), { status: 429 }, 'the path is looked at in its form')
})

t.test('a policy in shadow lets everything pass, and counts', async t => {
  const world = await worldWith(
    t,
    9,
    `
targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]
limits: [{requests: 1, per: 1h}]
shadow: true
headers: true`
  )
  t.match(await world.get(), { status: 200 })
  const second = await world.get({ service: 'api' })
  t.match(second, { status: 200 }, 'services of one policy count together')
  t.notOk('x-ratelimit-limit' in second.headers, 'clients are told nothing')
  t.match(
    await world.metrics(),
    /underpass_rate_limited_total\{policy="shop\/few",scope="Local",shadow="true"\} 1\n/
  )
})

t.test('tokens come back with time', async t => {
  const world = await worldWith(
    t,
    11,
    `
${onWeb}
limits: [{requests: 1, per: 100ms}]`
  )
  for (let tries = 0; ; tries++) {
    if ((await world.get()).status === 429 || tries === 50) break
  }
  let status = 429
  for (let tries = 0; status === 429 && tries < 200; tries++) {
    await new Promise(resolve => setTimeout(resolve, 20))
    status = (await world.get()).status
  }
  t.equal(status, 200)
})

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwks = JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1', alg: 'ES256' }] })

function token(sub: string): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const text = `${encode({ alg: 'ES256', kid: 'k1' })}.${encode({ iss: 'https://login.example', sub })}`
  return `${text}.${sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}
