/** VirtualServices at work: which pod requests come to, how they are changed, and what comes of faults and retries. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import type http from 'node:http'
import net from 'node:net'
import { eventually } from '../../support/eventually.ts'
import {
  addressOf,
  listen,
  startPod,
  startWorld,
  type Answer,
  type Asked,
  type Pod,
  type World
} from '../world.ts'

const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'other', vip: '10.96.0.2' }
]

interface Got {
  readonly pod: string
  readonly method: string
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
}

interface Shop extends World {
  get(path: string, asked?: Asked): Promise<Answer>
  /** What pods were sent, in order. */
  readonly got: Got[]
}

const pods = [
  { name: 'web-v1', services: ['web'], labels: { version: 'v1' } },
  { name: 'web-v2', services: ['web'], labels: { version: 'v2' } },
  { name: 'other', services: ['other'], labels: { version: 'v1' } }
]

const subsets = `
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
    - {name: empty, labels: {version: v3}}
`

/** Pods that say who they are; `x-do` makes them answer statuses, cut connections or say `unavailable`, one word an attempt. */
async function shopOf(t: Test, first: number, http: string, more = ''): Promise<Shop> {
  const got: Got[] = []
  for (const [at, { name, services, labels }] of pods.entries()) {
    const pod: Pod = { name, services, labels, address: `127.77.30.${first + at}`, port: 8080 }
    await startPod(t, pod, (request, response) => {
      const { method = '', url = '', headers } = request
      got.push({ pod: name, method, url, headers })
      const words = String(headers['x-do'] ?? '200').split(' ')
      const attempt = Number(headers['x-envoy-attempt-count'] ?? 1)
      const word = words[Math.min(attempt, words.length) - 1] ?? ''
      if (word === 'cut') request.socket.destroy()
      else if (word === 'unavailable') response.writeHead(200, { 'grpc-status': '14' }).end()
      else if (word !== 'hang') response.writeHead(Number(word), { 'x-pod': name }).end(name)
    })
  }
  const config = `
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http: ${http}
---
${subsets}
${more}
`
  const all = pods.map((pod, at) => ({ ...pod, address: `127.77.30.${first + at}`, port: 8080 }))
  const world = await startWorld(t, { services, pods: all, config })
  const get = (path: string, asked: Asked = {}): Promise<Answer> =>
    world.ask('10.96.0.1:80', { ...asked, path })
  return { ...world, get, got }
}

async function times<T>(count: number, each: () => Promise<T>): Promise<readonly T[]> {
  const all: T[] = []
  for (let at = 0; at < count; at += 1) all.push(await each())
  return all
}

const to = (subset: string): string => `{destination: {host: web, subset: ${subset}}}`

t.test('the first route that matches decides, VS-02, VS-09', async t => {
  const shop = await shopOf(
    t,
    1,
    `
    - match: [{headers: {x-user: {exact: ann}}}, {uri: {prefix: /be}}]
      route: [${to('v2')}]
    - match: [{uri: {exact: /gone}}]
      directResponse: {status: 410, body: {string: it is gone}}
      headers: {response: {set: {x-why: moved}}}
    - match: [{uri: {prefix: /old}}]
      redirect: {uri: /new, authority: shop.test}
    - match: [{uri: {prefix: /moved}}]
      redirect: {prefixRewrite: /new, authority: shop.test}
    - match: [{uri: {prefix: /shop}}]
      route: [${to('v1')}]
`
  )
  for (const [path, headers, pod] of [
    ['/shop', {}, 'web-v1'],
    ['/shopping', {}, 'web-v1'],
    ['/shop', { 'x-user': 'ann' }, 'web-v2'],
    ['/beta', {}, 'web-v2']
  ] as const) {
    for (const { text } of await times(4, () => shop.get(path, { headers }))) t.equal(text, pod, path)
  }
  t.match(await shop.get('/gone'), { status: 410, text: 'it is gone', headers: { 'x-why': 'moved' } })
  const moved = await shop.get('/old?a=1')
  t.match(moved, { status: 301, headers: { location: 'http://shop.test/new?a=1' } })
  t.match(await shop.get('/moved/b?a=1'), { headers: { location: 'http://shop.test/new/b?a=1' } })
  t.match(await shop.get('/'), { status: 404 }, 'VS-04')
  await eventually('the log names the rule', () =>
    shop.lines.some(line => line.includes(' 404 NR route_not_found '))
  )
})

t.test('weights, with changes of headers on the way to one destination, VS-11, VS-13', async t => {
  const shop = await shopOf(
    t,
    11,
    `
    - headers: {request: {set: {x-all: 'yes'}, remove: [x-secret]}}
      rewrite: {uri: /v/}
      match: [{uri: {prefix: /shop/}}]
      route:
        - {destination: {host: web, subset: v1}, weight: 75}
        - {destination: {host: web, subset: v2}, weight: 25, headers: {request: {set: {host: v2.test}}, response: {add: {x-canary: 'true'}}}}
        - {destination: {host: other, port: {number: 80}}, weight: 0}
`
  )
  const answers = await times(200, () => shop.get('/shop/cart?q=1', { headers: { 'x-secret': 's' } }))
  const ofV2 = answers.filter(({ text }) => text === 'web-v2')
  t.ok(ofV2.length > 20 && ofV2.length < 90, `about a quarter: ${ofV2.length} of 200`)
  t.equal(answers.filter(({ text }) => text === 'web-v1').length, 200 - ofV2.length)
  for (const { text, headers } of answers)
    t.equal(headers['x-canary'], text === 'web-v2' ? 'true' : undefined)
  for (const { pod, url, headers } of shop.got) {
    t.match(headers, { 'x-all': 'yes', host: pod === 'web-v2' ? 'v2.test' : 'shop.example' })
    t.equal(headers['x-secret'], undefined)
    t.equal(url, '/v/cart?q=1')
  }
})

t.test('subsets that are not there, or have no pods, VS-08, VS-30', async t => {
  const shop = await shopOf(
    t,
    21,
    `
    - match: [{uri: {exact: /unknown}}]
      route: [${to('v9')}]
    - match: [{uri: {exact: /empty}}]
      route: [${to('empty')}]
    - match: [{uri: {exact: /nobody}}]
      route: [{destination: {unresolved: no Service is called nobody}}]
    - route: [{destination: {host: other}}]
`
  )
  t.match(await shop.get('/unknown'), { status: 503 })
  t.match(await shop.get('/empty'), { status: 503, text: 'no healthy upstream' })
  t.match(await shop.get('/nobody'), { status: 503 })
  t.match(await shop.get('/'), { status: 200, text: 'other' }, 'VS-07: pods of another service')
  await eventually('the log says which is which', () => {
    const all = shop.lines.join('')
    return all.includes(' 503 NC cluster_not_found ') && all.includes(' 503 UH no_healthy_upstream ')
  })
})

t.test('faults: a wait, then a failure, and the flags of both, VS-15', async t => {
  const shop = await shopOf(
    t,
    31,
    `
    - match: [{uri: {prefix: /abort}}]
      fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
      route: [${to('v1')}]
    - match: [{uri: {prefix: /slow}}]
      fault: {delay: {fixedDelay: 300ms, percentage: {value: 100}}}
      route: [${to('v1')}]
    - match: [{uri: {prefix: /both}}]
      fault: {delay: {fixedDelay: 50ms, percentage: {value: 100}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}
      route: [${to('v1')}]
    - match: [{uri: {prefix: /long}}]
      fault: {delay: {fixedDelay: 1h, percentage: {value: 100}}}
      route: [${to('v1')}]
    - match: [{uri: {prefix: /page}}]
      fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
      corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: [GET]}
      route: [${to('v1')}]
    - fault: {delay: {fixedDelay: 1h}, abort: {httpStatus: 500}}
      route: [${to('v1')}]
`,
    `---
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: DENY
  rules: [{to: [{operation: {paths: [/abort/closed]}}]}]
`
  )
  t.match(await shop.get('/abort'), { status: 418, text: 'fault filter abort' })
  t.match(await shop.get('/abort/closed'), { status: 403 }, 'PI-20: policies come first')
  const headers = { origin: 'https://page.test', 'access-control-request-method': 'GET' }
  t.match(await shop.get('/page', { method: 'OPTIONS', headers }), { status: 418 }, 'and CORS later')
  const startedAt = performance.now()
  t.match(await shop.get('/slow', { method: 'POST', body: 'abc' }), { status: 200, text: 'web-v1' })
  t.ok(performance.now() - startedAt >= 290)
  t.match(await shop.get('/both'), { status: 503, text: 'fault filter abort' })
  const grpc = await shop.get('/both', { headers: { 'content-type': 'application/grpc' } })
  t.match(grpc, { status: 200, headers: { 'grpc-status': '14', 'grpc-message': 'fault filter abort' } })
  t.match(await shop.get('/'), { status: 200 }, 'without a percentage there is none')
  t.equal(shop.got.length, 2, 'nothing else reached a pod')
  const socket = await shop.connect('10.96.0.1:80')
  socket.write('GET /long HTTP/1.1\r\nhost: shop\r\n\r\n')
  setTimeout(() => socket.destroy(), 100)
  await eventually('the log has all of them', () => {
    const all = shop.lines.join('')
    return [
      ' 418 FI fault_filter_abort ',
      ' 200 DI via_upstream ',
      ' 503 DI,FI fault_filter_abort ',
      ' 0 DI,DC '
    ].every(part => all.includes(part))
  })
})

t.test('retries as their conditions say, VS-20, VS-21', async t => {
  const shop = await shopOf(
    t,
    41,
    `
    - match: [{uri: {prefix: /status}}]
      retries: {attempts: 2, retryOn: 'gateway-error,409', backoff: 1ms}
      route: [${to('v1')}]
    - match: [{uri: {prefix: /slow}}]
      retries: {attempts: 1, retryOn: 5xx, perTryTimeout: 200ms, backoff: 1ms}
      route: [${to('v1')}]
    - match: [{uri: {prefix: /once}}]
      retries: {attempts: 0}
      route: [${to('v1')}]
    - match: [{uri: {prefix: /short}}]
      timeout: 200ms
      route: [${to('v1')}]
    - route: [${to('v1')}]
`
  )
  const attempts = async (
    path: string,
    words: string,
    asked: Asked = {}
  ): Promise<readonly [number, number]> => {
    shop.got.length = 0
    const { status } = await shop.get(path, { ...asked, headers: { ...asked.headers, 'x-do': words } })
    return [status, shop.got.length]
  }
  for (const [path, words, expected] of [
    ['/status', '503 409 200', [200, 3]],
    ['/status', '503', [503, 3]],
    ['/status', '500 200', [500, 1]],
    ['/status', 'cut 200', [200, 2]],
    ['/slow', 'hang 200', [200, 2]],
    ['/slow', 'hang', [504, 2]],
    ['/once', '503 200', [503, 1]],
    ['/once', 'cut 200', [503, 1]],
    ['/short', 'hang', [504, 1]],
    ['/', '503 200', [503, 1]],
    ['/', 'unavailable 200', [200, 2]],
    ['/once', 'unavailable 200', [200, 1]]
  ] as const) {
    t.strictSame(await attempts(path, words), expected, `${path} ${words}`)
  }
  t.strictSame(await attempts('/', 'cut 200', { method: 'POST', body: 'a' }), [503, 1])
  const grpc = { headers: { 'content-type': 'application/grpc', 'grpc-timeout': '200m' } }
  t.strictSame(await attempts('/', 'hang', grpc), [200, 1], 'the client says how long it waits, VS-19')
  const late = await shop.get('/', { headers: { ...grpc.headers, 'x-do': 'hang' } })
  t.match(late.headers, { 'grpc-status': '4', 'grpc-message': 'upstream request timeout' })
})

t.test('a mirror gets the host with a suffix, from one subset, VS-14', async t => {
  const shop = await shopOf(
    t,
    51,
    `
    - route: [${to('v1')}]
      mirrors:
        - {destination: {host: web, subset: v2}}
        - {destination: {host: other}, percentage: {value: 0}}
`
  )
  t.match(await shop.get('/a'), { status: 200, text: 'web-v1' })
  await eventually('it came', () => shop.got.some(({ pod }) => pod === 'web-v2'))
  t.match(
    shop.got.find(({ pod }) => pod === 'web-v2'),
    { url: '/a', headers: { host: 'shop.example-shadow' } }
  )
  t.notOk(shop.got.some(({ pod }) => pod === 'other'))
})

t.test('pages of other origins, and whose preflights are passed on, VS-16', async t => {
  const cors = (more = ''): string =>
    `corsPolicy: {allowOrigins: [{regex: 'https://.*\\.shop\\.test'}, {prefix: 'http://local'}], allowMethods: [GET], maxAge: 24h${more}}`
  const shop = await shopOf(
    t,
    61,
    `
    - match: [{uri: {prefix: /ignore}}]
      ${cors(', unmatchedPreflights: IGNORE')}
      route: [${to('v1')}]
    - ${cors()}
      route: [${to('v1')}]
`
  )
  const preflight = (path: string, origin: string): Promise<Answer> =>
    shop.get(path, { method: 'OPTIONS', headers: { origin, 'access-control-request-method': 'GET' } })
  t.match(await preflight('/', 'https://a.shop.test'), {
    status: 200,
    text: '',
    headers: { 'access-control-allow-origin': 'https://a.shop.test', 'access-control-max-age': '86400' }
  })
  t.match(await preflight('/', 'http://localhost:3000'), { text: '' })
  t.equal(shop.got.length, 0)
  t.match(await preflight('/ignore', 'https://evil.test'), { status: 200, text: '' })
  t.equal(shop.got.length, 0)
  t.match(
    await preflight('/', 'https://evil.test'),
    { status: 200, text: 'web-v1' },
    'the application answers'
  )
  const got = await shop.get('/', { headers: { origin: 'https://a.shop.test' } })
  t.match(got, { text: 'web-v1', headers: { 'access-control-allow-origin': 'https://a.shop.test' } })
})

t.test('what cannot be carried out fails, and says what; clients of other namespaces', async t => {
  const shop = await shopOf(
    t,
    71,
    `
    - match: [{sourceNamespace: lab}]
      route: [${to('v2')}]
    - match: [{uri: {exact: /delegated}}]
      delegate: {name: other}
    - match: [{uri: {exact: /variable}}]
      headers: {request: {set: {x-ip: '%DOWNSTREAM_REMOTE_ADDRESS%'}}}
      route: [${to('v1')}]
    - match: [{sourceLabels: {app: a}, uri: {exact: /labels}}]
      route: [${to('v2')}]
    - match: [{port: 81}]
      route: [${to('v2')}]
    - route: [${to('v1')}]
`
  )
  t.match(await shop.get('/delegated'), { status: 500, text: /delegate: is for gateways/ })
  t.match(await shop.get('/variable'), { status: 500, text: /x-ip.*variable of Envoy/ })
  t.match(await shop.get('/labels'), { text: 'web-v1' }, 'VS-05')
  t.match(await shop.get('/', { namespace: 'lab' }), { text: 'web-v2' }, 'VS-05')
})

t.test('operators are told which rule it would be, and what it does', async t => {
  const shop = await shopOf(
    t,
    84,
    `
    - name: gone
      match: [{uri: {exact: /gone}}]
      directResponse: {status: 410}
    - name: slow
      fault: {delay: {fixedDelay: 1s, percentage: {value: 10}}}
      route: [${to('v1')}]
`
  )
  const admin = `http://${addressOf(shop.app, 'admin')}`
  const explain = async (path: string): Promise<unknown> => {
    const from = 'spiffe://cluster.local/ns/shop/sa/client'
    const body = JSON.stringify({ from, to: '10.96.0.1:80', http: { path } })
    const answer = await fetch(`${admin}/v1/explain`, { method: 'POST', body })
    return ((await answer.json()) as { result: { route: unknown } }).result.route
  }
  t.match(await explain('/gone'), { kind: 'rule', route: 'shop/web', rule: 'gone', answer: { status: 410 } })
  t.match(await explain('/'), {
    rule: 'slow',
    fault: { delay: { ms: 1000, share: 0.1 } },
    backends: ['shop/web.shop.svc.cluster.local:80, subset v1, weight 1']
  })
  const dump = (await (await fetch(`${admin}/config_dump`)).json()) as { virtualServices: unknown }
  t.match(dump.virtualServices, [{ namespace: 'shop', name: 'web', hosts: ['web.shop.svc.cluster.local'] }])
})

t.test('a route of the Gateway API takes the place of a VirtualService', async t => {
  const more = `---
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules: [{backendRefs: [{name: other, port: 80}]}]
`
  const shop = await shopOf(t, 81, `[{route: [${to('v1')}]}]`, more)
  t.match(await shop.get('/'), { text: 'other' })
})

t.test('connections that are carried as they are: by port and weight, VS-06, PI-25', async t => {
  const named: Pod[] = ['a', 'b'].map((name, at) => ({
    name,
    address: `127.77.30.${91 + at}`,
    port: 8080,
    services: [name],
    labels: { version: name }
  }))
  for (const pod of named)
    await listen(
      t,
      net.createServer(socket => void socket.end(pod.name)),
      pod
    )
  const config = `
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: ['*.shop.svc.cluster.local']
  tls:
    - match: [{sniHosts: [other.test]}]
      route: [{destination: {unresolved: never used}}]
  tcp:
    - match: [{port: 81}]
      route: [{destination: {unresolved: another port}}]
    - match: [{port: 80}]
      route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 1}]
    - match: [{port: 90}]
      route: [{destination: {host: a, subset: none}}]
    - match: [{port: 91, destinationSubnets: [10.0.0.0/8]}]
      route: [{destination: {host: a}}]
`
  const world = await startWorld(t, {
    services: [
      { name: 'a', vip: '10.96.0.1', speaks: 'TCP' },
      { name: 'b', vip: '10.96.0.2', speaks: 'TLS' },
      { name: 'c', vip: '10.96.0.3', speaks: 'TCP', port: 90 },
      { name: 'd', vip: '10.96.0.4', speaks: 'TCP', port: 91 }
    ],
    pods: named,
    config
  })
  const hello = async (authority: string): Promise<string> => {
    const socket = await world.connect(authority)
    let text = ''
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk))
    await Promise.race([once(socket, 'end'), once(socket, 'close')]).catch(() => undefined) // it may be cut
    socket.destroy()
    return text
  }
  for (const vip of ['10.96.0.1:80', '10.96.0.2:80']) {
    const texts = await times(40, () => hello(vip))
    t.strictSame(new Set(texts), new Set(['a', 'b']), vip)
  }
  t.equal(await hello('10.96.0.3:90'), '')
  t.equal(await hello('10.96.0.4:91'), '')
  await eventually('the log says why', () => {
    const all = world.lines.join('')
    return all.includes('has no subset none') && all.includes('match the port alone')
  })
})
