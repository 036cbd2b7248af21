/** What a service that counts is asked, by the published field numbers, and what its answers mean. */
import t from 'tap'
import type { Ip } from '../../../shared/net/address.ts'
import { parseYaml } from '../../../shared/kube/yaml.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import {
  askService,
  encodeQuestion,
  readAnswer,
  type Question
} from '../../../waypoint/rate-limit/ask-service.ts'
import { readRateLimitProviders } from '../../../waypoint/rate-limit/providers.ts'
import { readRateLimitPolicy } from '../../../waypoint/rate-limit/read-rate-limit-policy.ts'
import { fields, readFields, within } from '../external-authorization/wire.ts'

const never = new AbortController().signal

function question(limits: string): Question {
  const spec = parseYaml(`provider: counter\nlimits: [${limits}]`) as Readonly<Record<string, unknown>>
  const policy = readRateLimitPolicy({ namespace: 'shop', name: 'few', createdMs: 0, spec }, 'istio-system')
  const headers = HeaderList.of('x-user', 'Ren\xc3\xa9')
  const http = { method: 'GET', path: '/items', authority: 'web', headers }
  const request = {
    ...{ peer: undefined, clientIp: '10.0.0.7' as Ip, destination: { port: 80 } },
    ...{ service: 'web.shop.svc.cluster.local', http }
  }
  return { policy, limits: policy.limits, request }
}

t.test('one descriptor a limit, with what requests count together by, and the limit', async t => {
  const key = 'key: [{type: Header, name: x-user}, {type: Principal}]'
  const bytes = encodeQuestion(
    question(
      `{name: each, requests: 5, per: 1m, scope: Global, ${key}}, {requests: 9, per: 24h, scope: Global}`
    ),
    'mesh'
  )
  const request = readFields(bytes)
  t.equal(String(request.get(1)?.[0]), 'mesh')
  t.equal(request.get(3)?.[0], 1, 'one request')
  const descriptors = (request.get(2) ?? []) as readonly Buffer[]
  const read = descriptors.map(descriptor => ({
    entries: ((readFields(descriptor).get(1) ?? []) as readonly Buffer[]).map(
      entry => `${String(within(entry, 1))}=${String(within(entry, 2))}`
    ),
    limit: [1, 2].map(number => readFields(within(descriptor, 2)).get(number)?.[0])
  }))
  t.strictSame(read, [
    { entries: ['policy=shop/few', 'limit=each', 'header.x-user=René', 'principal=-'], limit: [5, 2] },
    { entries: ['policy=shop/few', 'limit=1'], limit: [9, 4] }
  ])
})

t.test('answers: within, over, what is left, and what is none', async t => {
  const status = (left: number): Buffer =>
    fields([1, 1], [2, fields([1, 10], [2, 2])], [3, left], [4, fields([1, 30])])
  t.strictSame(readAnswer(fields([1, 1])), { kind: 'within', told: undefined })
  t.strictSame(readAnswer(fields([1, 2])), { kind: 'over', told: undefined })
  t.strictSame(readAnswer(fields([1, 1], [2, status(7)], [2, status(3)], [2, status(5)])), {
    kind: 'within',
    told: { limit: 10, remaining: 3, resetSeconds: 30 }
  })
  t.throws(() => readAnswer(Buffer.alloc(0)), /has the code 0/)
  t.throws(() => readAnswer(fields([1, 9])), /has the code 9/)
  t.throws(() => readAnswer(Buffer.from('no message')))
})

const service = '{service: shop/counter.shop.svc.cluster.local, port: 8081'

t.test('providers: defaults, and what makes no sense', async t => {
  const read = (entry: string): unknown => readRateLimitProviders([parseYaml(entry)]).get('c')
  t.strictSame(read(`{name: c, underpassRateLimit: ${service}, protocol: envoyRls}}`), {
    ...{ kind: 'envoyRls', name: 'c', domain: 'underpass', timeoutMs: 20 },
    service: { namespace: 'shop', hostname: 'counter.shop.svc.cluster.local', port: 8081 }
  })
  t.equal(read('{name: c, envoyExtAuthzGrpc: {}}'), undefined, 'others are none of ours')
  for (const [more, reason] of [
    ['', /underpassRateLimit\.protocol: is required/],
    [', protocol: redis', /underpassRateLimit\.protocol: expected one of envoyRls/],
    [', protocol: envoyRls, timeout: 11s', /underpassRateLimit\.timeout: expected a duration up to 10s/],
    [', protocol: envoyRls, timeout: soon', /underpassRateLimit\.timeout: expected a duration/],
    [', protocol: envoyRls, domain: ""', /underpassRateLimit\.domain: is empty/],
    [', protocol: envoyRls, color: red', /underpassRateLimit\.color: unknown field/]
  ] as const) {
    t.match(read(`{name: c, underpassRateLimit: ${service}${more}}}`), { kind: 'invalid', reason }, more)
  }
  const one = parseYaml(`{name: c, underpassRateLimit: ${service}, protocol: envoyRls}}`)
  t.match(readRateLimitProviders([one, one]).get('c'), { kind: 'invalid', reason: /twice/ })
})

t.test('whoever cannot be asked has failed, with the reason, and holds nobody up', async t => {
  const alive = setTimeout(() => undefined, 60_000) // the time of a question keeps no process alive
  t.teardown(() => clearTimeout(alive))
  const asked = question('{requests: 5, per: 1s, scope: Global}')
  const hanging = { sendGrpc: (): Promise<never> => new Promise(() => undefined) }
  const rules = (entry: string): ReturnType<typeof readRateLimitProviders> =>
    readRateLimitProviders([parseYaml(entry)])
  const good = rules(`{name: counter, underpassRateLimit: ${service}, protocol: envoyRls}}`).get('counter')
  const bad = rules('{name: counter, underpassRateLimit: {}}').get('counter')
  t.match(await askService(undefined, asked, hanging, never), {
    kind: 'failed',
    reason: /counter of few is not known/
  })
  t.match(await askService(bad, asked, hanging, never), { kind: 'failed', reason: /is required/ })
  t.match(await askService(good, asked, hanging, never), { kind: 'failed', reason: /no answer in 20 ms/ })
  const refusing = { sendGrpc: (): Promise<never> => Promise.reject(new Error('grpc-status 14')) }
  t.match(await askService(good, asked, refusing, never), { kind: 'failed', reason: /grpc-status 14/ })
  const silent = { sendGrpc: (): Promise<Uint8Array> => Promise.resolve(Buffer.alloc(0)) }
  t.match(await askService(good, asked, silent, never), { kind: 'failed', reason: /code 0/ })
  const over = { sendGrpc: (): Promise<Uint8Array> => Promise.resolve(fields([1, 2])) }
  t.match(await askService(good, asked, over, never), { kind: 'over' })
})
