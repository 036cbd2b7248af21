/** DestinationRules at work: limits, pods that are left out, and which pod a request goes to. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import type http from 'node:http'
import net from 'node:net'
import { eventually } from '../support/eventually.ts'
import { listen, startPod, startWorld, type Answer, type Asked, type Pod, type World } from './world.ts'

const services = [{ name: 'web', vip: '10.96.0.1' }]

interface Shop extends World {
  get(path: string, asked?: Asked): Promise<Answer>
  /** Who answered, in order. */
  readonly served: string[]
  /** Requests that pods hold, by the path `/hold`; answering is up to the test. */
  readonly held: http.ServerResponse[]
}

/** Pods that say who they are; `/hold` waits, `/fail-NAME` fails at that pod. */
async function shopOf(t: Test, first: number, names: readonly string[], policy: string): Promise<Shop> {
  const served: string[] = []
  const held: http.ServerResponse[] = []
  const pods: Pod[] = names.map((name, at) => ({
    name,
    address: `127.77.20.${first + at}`,
    port: 8080,
    services: ['web']
  }))
  for (const pod of pods) {
    await startPod(t, pod, (request, response) => {
      served.push(pod.name)
      if (request.url === '/hold') held.push(response)
      else if (request.url === `/fail-${pod.name}`) response.writeHead(500).end(pod.name)
      else response.end(pod.name)
    })
  }
  const config = `
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: ${policy}}
`
  const world = await startWorld(t, { services, pods, config })
  const get = (path: string, asked: Asked = {}): Promise<Answer> =>
    world.ask('10.96.0.1:80', { ...asked, path })
  return { ...world, get, served, held }
}

const times = async <T>(count: number, each: (at: number) => Promise<T>): Promise<readonly T[]> => {
  const all: T[] = []
  for (let at = 0; at < count; at += 1) all.push(await each(at))
  return all
}

t.test('ROUND_ROBIN gives each pod its turn, request by request', async t => {
  const shop = await shopOf(t, 1, ['a', 'b', 'c'], '{loadBalancer: {simple: ROUND_ROBIN}}')
  await times(9, () => shop.get('/'))
  for (const name of ['a', 'b', 'c']) t.equal(shop.served.filter(each => each === name).length, 3)
})

t.test('a client that has a key comes back to its pod', async t => {
  const policy = '{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}'
  const shop = await shopOf(t, 11, ['a', 'b', 'c'], policy)
  for (const user of ['ann', 'bob', 'eve']) {
    const answers = await times(4, () => shop.get('/', { headers: { 'x-user': user } }))
    t.equal(new Set(answers.map(({ text }) => text)).size, 1, user)
  }
  const users = await times(20, at => shop.get('/', { headers: { 'x-user': `user-${at}` } }))
  t.ok(new Set(users.map(({ text }) => text)).size > 1, 'and others go elsewhere')
})

t.test('a client without the cookie gets one, which leads it back', async t => {
  const policy = '{loadBalancer: {consistentHash: {httpCookie: {name: shop, path: /, ttl: 60s}}}}'
  const shop = await shopOf(t, 21, ['a', 'b', 'c'], policy)
  const first = await shop.get('/')
  const [field = ''] = first.headers['set-cookie'] ?? []
  t.match(field, /^shop=[\w-]{20,}; Path=\/; Max-Age=60; HttpOnly$/)
  const cookie = field.split(';')[0] ?? ''
  const again = await times(6, () => shop.get('/', { headers: { cookie } }))
  for (const { text, headers } of again) {
    t.equal(text, first.text)
    t.equal(headers['set-cookie'], undefined)
  }
})

t.test('beyond the requests that there may be they are refused at once', async t => {
  const policy = '{connectionPool: {http: {http2MaxRequests: 1}}}'
  const shop = await shopOf(t, 31, ['a'], policy)
  const first = shop.get('/hold')
  await eventually('the pod has it', () => shop.held.length === 1)
  const refused = await shop.get('/')
  t.match(refused, { status: 503, text: /overflow/, headers: { 'x-envoy-overloaded': 'true' } })
  await eventually('the log says so', () => shop.lines.some(line => line.includes(' 503 UO ')))
  shop.held[0]?.end('late')
  t.match(await first, { status: 200, text: 'late' })
  t.match(await shop.get('/'), { status: 200 }, 'there is room again')
})

t.test('beyond the connections that there may be requests wait, as many as may', async t => {
  const policy = '{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}'
  const shop = await shopOf(t, 41, ['a'], policy)
  const first = shop.get('/hold')
  await eventually('the pod has it', () => shop.held.length === 1)
  const second = shop.get('/')
  const third = await Promise.race([second, shop.get('/')])
  t.match(third, { status: 503, text: /overflow/ })
  shop.held[0]?.end('late')
  for (const { status } of await Promise.all([first, second])) t.equal(status, 200)
})

t.test('a pod that fails again and again is left out for a while', async t => {
  const policy =
    '{outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 50}}'
  const shop = await shopOf(t, 51, ['a', 'b'], policy)
  await eventually('it is out', async () => {
    await shop.get('/fail-a')
    return shop.log.some(line => line.includes('a pod is left out'))
  })
  t.match(shop.log.join('\n'), /shop\/a.*consecutive-5xx/)
  t.match(await shop.metrics(), /underpass_ejections_total\{[^}]*reason="consecutive-5xx"[^}]*\} 1/)
  shop.served.length = 0
  await times(5, () => shop.get('/'))
  t.strictSame(new Set(shop.served), new Set(['b']))
  await eventually('it is back', async () => {
    await shop.get('/')
    return shop.served.includes('a')
  })
})

t.test('what of a rule cannot be carried out fails requests, and says what', async t => {
  const shop = await shopOf(t, 61, ['a'], '{tls: {mode: MUTUAL}}')
  t.match(await shop.get('/'), { status: 500, text: /traffic policy cannot be carried out.*tls/ })
  t.strictSame(shop.served, [])
})

t.test('connections that are carried as they are have limits and turns too', async t => {
  const policy = '{loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: {maxConnections: 2}}}'
  const world = await tcpWorld(t, 71, policy)
  const first = await world.hello()
  const second = await world.hello()
  t.strictSame(new Set([first.text, second.text]), new Set(['a', 'b']), 'one each')
  await t.rejects(world.hello(), 'a third one is closed')
  await eventually('the log says so', () =>
    world.lines.some(line => line.includes('as many connections are open as the DestinationRule allows'))
  )
  first.socket.destroy()
  await eventually('there is room again', () =>
    world.hello().then(
      () => true,
      () => false
    )
  )
})

/** Pods that say their name and keep the connection. */
async function tcpWorld(t: Test, first: number, policy: string) {
  const pods: Pod[] = ['a', 'b'].map((name, at) => ({
    name,
    address: `127.77.20.${first + at}`,
    port: 8080,
    services: ['raw']
  }))
  for (const pod of pods)
    await listen(
      t,
      net.createServer(socket => void socket.write(pod.name)),
      pod
    )
  const config = `
kind: DestinationRule
metadata: {name: raw, namespace: shop}
spec: {host: raw, trafficPolicy: ${policy}}
`
  const services = [{ name: 'raw', vip: '10.96.0.9', speaks: 'TCP' }]
  const world = await startWorld(t, { services, pods, config })
  return {
    lines: world.lines,
    async hello() {
      const socket = await world.connect('10.96.0.9:80')
      const gone = once(socket, 'close').then(() => Promise.reject(new Error('closed')))
      gone.catch(() => undefined)
      const [text] = (await Promise.race([once(socket, 'data'), gone])) as [Buffer]
      return { socket, text: String(text) }
    }
  }
}
