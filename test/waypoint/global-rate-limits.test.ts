/** Global limits of real requests: a service in a pod counts for the waypoint, by Envoy's protocol. */
import t, { type Test } from 'tap'
import * as grpc from '@grpc/grpc-js'
import { fields, readFields, within } from './external-authorization/wire.ts'
import { startPod, startWorld, type Pod, type ServiceOptions, type World } from './world.ts'

const services: readonly ServiceOptions[] = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'counter', vip: '10.96.0.4', port: 8081, speaks: 'GRPC', waypoint: '' }
]
const pod = (last: number, name: string, port: number): Pod => ({
  name,
  address: `127.77.37.${last}`,
  port,
  services: [name]
})

/** Counts by the whole descriptor, and lets as many pass as it is told to. */
async function startCounter(t: Test, last: number): Promise<{ pod: Pod; domains: Set<string> }> {
  const at: Pod = { ...pod(last, 'counter', 8081), protocol: 'TCP' }
  const domains = new Set<string>()
  const counts = new Map<string, number>()
  const raw = (bytes: Buffer): Buffer => bytes
  const shouldRateLimit = {
    ...{ path: '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit' },
    ...{ requestStream: false, responseStream: false },
    ...{ requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw }
  } as const
  const server = new grpc.Server()
  server.addService(
    { shouldRateLimit },
    {
      shouldRateLimit: (
        { request }: grpc.ServerUnaryCall<Buffer, Buffer>,
        done: grpc.sendUnaryData<Buffer>
      ) => {
        domains.add(String(within(request, 1)))
        const statuses = ((readFields(request).get(2) ?? []) as readonly Buffer[]).map(descriptor => {
          const key = ((readFields(descriptor).get(1) ?? []) as readonly Buffer[]).join('|')
          if (key.includes('broken')) return undefined
          const limit = Number(readFields(within(descriptor, 2)).get(1)?.[0])
          const count = (counts.get(key) ?? 0) + 1
          counts.set(key, count)
          const left = Math.max(0, limit - count)
          return {
            over: count > limit,
            bytes: fields(
              [1, count > limit ? 2 : 1],
              [2, fields([1, limit], [2, 3])],
              [3, left],
              [4, fields([1, 60])]
            )
          }
        })
        if (statuses.includes(undefined)) return done({ code: grpc.status.UNAVAILABLE, details: 'not now' })
        const over = statuses.some(status => status?.over)
        done(null, fields([1, over ? 2 : 1], ...statuses.map(status => [2, status?.bytes ?? ''] as const)))
      }
    }
  )
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`${at.address}:${at.port}`, grpc.ServerCredentials.createInsecure(), error =>
      error === null ? resolve() : reject(error)
    )
  )
  t.teardown(() => server.forceShutdown())
  return { pod: at, domains }
}

const key = 'key: [{type: Header, name: x-user}]'

async function worldWith(
  t: Test,
  last: number,
  more: string
): Promise<{ world: World; domains: Set<string> }> {
  const web = pod(last, 'web', 8080)
  await startPod(t, web, (_, response) => void response.end('served'))
  const counter = await startCounter(t, last + 1)
  const world = await startWorld(t, {
    services,
    pods: [web, counter.pod],
    config: `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  extensionProviders:
    - name: counter
      underpassRateLimit: {service: shop/counter.shop.svc.cluster.local, port: 8081, protocol: envoyRls, domain: shop, timeout: 5s}
---
kind: RateLimitPolicy
metadata: {name: few, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  provider: counter
  limits: [{name: each, requests: 2, per: 1h, scope: Global, ${key}}]
  ${more}`
  })
  return { world, domains: counter.domains }
}

const as = (user: string): { readonly headers: Readonly<Record<string, string>> } => ({
  headers: { 'x-user': user }
})

t.test('the service decides, and what it tells of what is left is passed on', async t => {
  const { world, domains } = await worldWith(t, 1, 'headers: true')
  const get = (user: string): ReturnType<World['ask']> => world.ask('10.96.0.1:80', as(user))
  t.match(await get('ann'), {
    status: 200,
    headers: { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '1', 'x-ratelimit-reset': '60' }
  })
  t.match(await get('ann'), { status: 200, headers: { 'x-ratelimit-remaining': '0' } })
  t.match(await get('ann'), {
    status: 429,
    text: '',
    headers: { 'x-envoy-ratelimited': 'true', 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '0' }
  })
  t.match(await get('ben'), { status: 200 }, 'who counts apart')
  t.strictSame([...domains], ['shop'])
  t.match(world.lines.join('\n'), / 429 RL request_rate_limited /)
  const metrics = await world.metrics()
  t.match(metrics, /underpass_rate_limited_total\{policy="shop\/few",scope="Global",shadow="false"\} 1\n/)
})

t.test('a service that fails lets requests pass, or not, as the policy says; in shadow all pass', async t => {
  for (const [more, last, failed] of [
    ['', 3, 200],
    ['onFailure: Deny', 5, 500],
    ['onFailure: Deny\n  shadow: true', 7, 200]
  ] as const) {
    const { world } = await worldWith(t, last, more)
    const statuses: number[] = []
    for (const user of ['broken', 'ann', 'ann', 'ann']) {
      statuses.push((await world.ask('10.96.0.1:80', as(user))).status)
    }
    t.strictSame(statuses, [failed, 200, 200, more.includes('shadow') ? 200 : 429], more)
    t.match(await world.metrics(), /underpass_rate_limit_failures_total\{policy="shop\/few"\} 1\n/)
    if (failed === 500) t.match(world.lines.join('\n'), / 500 RLSE rate_limiter_error /)
  }
})
