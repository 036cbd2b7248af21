/** Which pages of other origins may read an answer: GA-29, and the cases of the Gateway API's suite (HTTPRouteCORS). */
import t from 'tap'
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { decideCors, parseOrigin, shareAnswer } from '../../waypoint/cors.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import { readCors } from '../../waypoint/routes/cors-filter.ts'
import type { CorsPolicy } from '../../waypoint/routes/route.ts'
import { startPod, startWorld, type Pod } from './world.ts'

function policyOf(written: object): CorsPolicy {
  const problems = new Problems()
  const policy = readCors(new Fields(written, 'cors', problems), problems)
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return policy
}

const several = {
  allowOrigins: ['https://www.foo.com', 'https://*.bar.com'],
  allowMethods: ['GET', 'OPTIONS'],
  allowHeaders: ['x-header-1', 'x-header-2'],
  exposeHeaders: ['x-header-3', 'x-header-4'],
  allowCredentials: true,
  maxAge: 3600
}
const everything = { allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'] }
const asks = (origin: string, method = 'GET', headers?: string): HeaderList => {
  const list = HeaderList.of('origin', origin, 'access-control-request-method', method)
  if (headers !== undefined) list.append('access-control-request-headers', headers)
  return list
}
const told = (headers: HeaderList): Record<string, string> =>
  Object.fromEntries(
    [...headers].map(([name, value]) => [name.replace('access-control-', ''), value] as const)
  )
const sharedWithBar = (origin: string): Record<string, string> => ({
  'allow-origin': origin,
  'allow-credentials': 'true',
  'allow-methods': 'GET, OPTIONS',
  'allow-headers': 'x-header-1, x-header-2',
  'expose-headers': 'x-header-3, x-header-4',
  'max-age': '3600',
  vary: 'origin'
})

const preflights: readonly (readonly [
  name: string,
  policy: object,
  headers: HeaderList,
  answer: Record<string, string>
])[] = [
  ['an origin of the list', several, asks('https://www.foo.com'), sharedWithBar('https://www.foo.com')],
  ['one below a wildcard', several, asks('https://www.bar.com'), sharedWithBar('https://www.bar.com')],
  ['far below it', several, asks('https://xpto.www.bar.com'), sharedWithBar('https://xpto.www.bar.com')],
  ['another one', several, asks('https://foobar.com'), { vary: 'origin' }],
  [
    'any method, no credentials',
    { allowOrigins: ['https://www.foo.com'], allowMethods: ['*'] },
    asks('https://www.foo.com', 'POST'),
    { 'allow-origin': 'https://www.foo.com', 'allow-methods': 'POST', 'max-age': '5', vary: 'origin' }
  ],
  [
    'any origin, with its port',
    { allowOrigins: ['*'], allowMethods: ['PUT'], allowCredentials: false },
    asks('https://foobar.com:12345', 'PUT'),
    { 'allow-origin': 'https://foobar.com:12345', 'allow-methods': 'PUT', 'max-age': '5', vary: 'origin' }
  ],
  [
    'everything, with credentials: never a wildcard',
    { ...everything, exposeHeaders: ['*'], allowCredentials: true },
    asks('https://other.foo.com', 'PUT', 'x-header-1,x-header-2'),
    {
      'allow-origin': 'https://other.foo.com',
      'allow-credentials': 'true',
      'allow-methods': 'PUT',
      'allow-headers': 'x-header-1, x-header-2',
      'max-age': '5',
      vary: 'origin'
    }
  ],
  [
    'everything, without them',
    { ...everything, exposeHeaders: ['*'] },
    asks('https://other.foo.com', 'PUT', 'authorization'),
    {
      'allow-origin': 'https://other.foo.com',
      'allow-methods': 'PUT',
      'allow-headers': 'authorization',
      'expose-headers': '*',
      'max-age': '5',
      vary: 'origin'
    }
  ],
  [
    'no headers are asked for',
    { ...everything, allowCredentials: true },
    asks('null', 'GET'),
    {
      'allow-origin': 'null',
      'allow-credentials': 'true',
      'allow-methods': 'GET',
      'max-age': '5',
      vary: 'origin'
    }
  ],
  [
    'nothing but the origin',
    { allowOrigins: ['http://a.example'] },
    asks('http://a.example', 'PUT', 'x-a'),
    { 'allow-origin': 'http://a.example', 'max-age': '5', vary: 'origin' }
  ],
  ['a policy without origins', {}, asks('http://a.example'), { vary: 'origin' }]
]

for (const [name, policy, headers, answer] of preflights) {
  t.test(`preflight: ${name}`, async t => {
    const decision = decideCors(policyOf(policy), 'OPTIONS', headers)
    t.equal(decision.kind, 'preflight')
    t.strictSame(decision.kind === 'preflight' && told(decision.headers), answer)
  })
}

t.test('what is no preflight', async t => {
  const policy = policyOf(several)
  const foo = 'https://www.foo.com'
  const kinds = [
    decideCors(policy, 'GET', asks(foo)),
    decideCors(policy, 'OPTIONS', HeaderList.of('origin', foo)),
    decideCors(policy, 'OPTIONS', HeaderList.of('access-control-request-method', 'GET')),
    decideCors(policy, 'GET', HeaderList.of('origin', foo, 'origin', foo))
  ]
  t.strictSame(kinds, [
    { kind: 'request', origin: foo },
    { kind: 'request', origin: foo },
    { kind: 'request', origin: undefined },
    { kind: 'request', origin: undefined }
  ])
})

t.test('which origins a pattern means', async t => {
  const rows: readonly (readonly [pattern: string, origin: string, allowed: boolean])[] = [
    ['https://a.example', 'https://a.example', true],
    ['https://a.example', 'http://a.example', false],
    ['https://a.example', 'https://a.example:443', true],
    ['https://a.example', 'https://a.example:8443', false],
    ['https://a.example:8443', 'https://a.example:8443', true],
    ['http://a.example:80', 'http://a.example', true],
    ['https://A.Example', 'HTTPS://a.EXAMPLE', true],
    ['https://a.example', 'https://a.example.evil.example', false],
    ['https://a.example', 'https://evil.example/https://a.example', false],
    ['https://a.example', 'https://evil.example#.a.example', false],
    ['https://*.a.example', 'https://b.a.example', true],
    ['https://*.a.example', 'https://c.b.a.example', true],
    ['https://*.a.example', 'https://a.example', false],
    ['https://*.a.example', 'https://.a.example', false],
    ['https://*.a.example', 'https://eviLa.example', false],
    ['https://*.a.example', 'https://evil.example/.a.example', false],
    ['https://*.a.example', 'https://evil.example:1.a.example', false],
    ['https://*.a.example', 'https://user@b.a.example', false],
    ['https://*.a.example:8443', 'https://b.a.example:8443', true],
    ['https://*.a.example:8443', 'https://b.a.example', false],
    ['https://*', 'https://anything.example', true],
    ['https://*', 'http://anything.example', false],
    ['https://*', 'https://anything.example:8443', false],
    ['https://*', 'https://[::1]', true],
    ['https://*', 'null', false],
    ['*', 'null', true],
    ['*', 'app://native', true],
    ['http://10.0.0.1:3000', 'http://10.0.0.1:3000', true]
  ]
  for (const [pattern, origin, allowed] of rows) {
    const decision = decideCors(policyOf({ allowOrigins: [pattern] }), 'GET', HeaderList.of('origin', origin))
    const expected = { kind: 'request', origin: allowed ? origin : undefined }
    t.strictSame(decision, expected, `${pattern} ${allowed ? 'is' : 'is not'} ${origin}`)
  }
  for (const text of [
    'https://a:0',
    'https://a:65536',
    'https://a:123456',
    'https://',
    'ftp://a',
    'https://a b'
  ])
    t.equal(parseOrigin(text), undefined, text)
})

t.test('an answer says whom it may be shared with, whatever the application says', async t => {
  const foo = 'https://www.foo.com'
  const ofApplication = ['access-control-allow-origin', '*', 'access-control-allow-credentials', 'true']
  const rows = [
    {
      name: 'allowed',
      policy: several,
      origin: foo,
      before: [...ofApplication, 'vary', 'Accept'],
      after: {
        'access-control-allow-origin': foo,
        'access-control-allow-credentials': 'true',
        'access-control-expose-headers': 'x-header-3, x-header-4'
      }
    },
    {
      name: 'allowed without credentials',
      policy: { allowOrigins: [foo] },
      origin: foo,
      before: ofApplication,
      after: { 'access-control-allow-origin': foo }
    },
    { name: 'not allowed', policy: several, origin: undefined, before: ofApplication, after: {} },
    {
      name: 'every header, with credentials: their names',
      policy: { ...several, exposeHeaders: ['*'] },
      origin: foo,
      before: ['content-type', 'text/plain', 'x-a', '1', 'x-a', '2', ...ofApplication],
      after: {
        'content-type': 'text/plain',
        'x-a': '2',
        'access-control-allow-origin': foo,
        'access-control-allow-credentials': 'true',
        'access-control-expose-headers': 'content-type, x-a'
      }
    }
  ]
  for (const { name, policy, origin, before, after } of rows) {
    const headers = HeaderList.of(...before)
    shareAnswer(policyOf(policy), origin, headers)
    const varies = headers.members('vary')
    t.ok(varies.includes('origin'), `${name}: it depends on the origin`)
    t.strictSame(Object.fromEntries(headers), { ...after, vary: 'origin' }, name)
  }
  for (const vary of ['*', 'accept, Origin']) {
    const headers = HeaderList.of('vary', vary)
    shareAnswer(policyOf(several), undefined, headers)
    t.strictSame(headers.all('vary'), [vary], `vary: ${vary} says it already`)
  }
})

t.test('what a policy may say', async t => {
  const faulty = (written: object): string => {
    const problems = new Problems()
    readCors(new Fields(written, 'cors', problems), problems)
    return problems.found.join('; ')
  }
  const rows: readonly (readonly [written: object, complaint: RegExp])[] = [
    [{ allowOrigins: ['a.example'] }, /cors\.allowOrigins\[0\]: "a\.example" is no origin such as/],
    [{ allowOrigins: ['*', 'https://a.*.example'] }, /allowOrigins\[1\]: .* is no origin/],
    [{ allowOrigins: ['https://*a.example'] }, /is no origin/],
    [{ allowOrigins: ['https://*.*.example'] }, /is no origin/],
    [{ allowOrigins: ['https://a.example/path'] }, /is no origin/],
    [{ allowOrigins: [7] }, /allowOrigins\[0\]: expected text/],
    [{ allowMethods: ['G T'] }, /allowMethods\[0\]: "G T" is no name/],
    [{ allowHeaders: ['a\r\nb'] }, /allowHeaders\[0\]/],
    [{ exposeHeaders: ['a,b'] }, /exposeHeaders\[0\]/],
    [{ maxAge: -1 }, /maxAge: expected a whole number/],
    [{ allowCredentials: 'yes' }, /allowCredentials: expected true or false/],
    [{ allowOrigin: ['*'] }, /allowOrigin: unknown field/]
  ]
  for (const [written, complaint] of rows) t.match(faulty(written), complaint, JSON.stringify(written))
})

const config = `
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - matches: [{path: {value: /shared}}]
      filters:
        - type: CORS
          cors: {allowOrigins: ['https://*.example'], allowMethods: [GET, PUT], allowCredentials: true}
        - type: RequestHeaderModifier
          requestHeaderModifier: {remove: [origin]}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {value: /moved}}]
      filters:
        - {type: CORS, cors: {allowOrigins: ['*']}}
        - {type: RequestRedirect, requestRedirect: {hostname: other.example}}
    - matches: [{path: {value: /away}}]
      filters: [{type: CORS, cors: {allowOrigins: ['*']}}]
      backendRefs: [{unresolved: BackendNotFound}]
    - matches: [{path: {value: /by-backend}}]
      backendRefs:
        - {name: web, port: 80, filters: [{type: CORS, cors: {allowOrigins: ['*']}}]}
    - matches: [{path: {value: /broken}}]
      filters: [{type: CORS, cors: {allowOrigins: [example]}}]
      backendRefs: [{name: web, port: 80}]
    - backendRefs: [{name: web, port: 80}]
---
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: guarded}]
  rules: [{to: [{operation: {methods: [GET], paths: [/only-get]}}]}, {to: [{operation: {paths: [/all]}}]}]
---
kind: HTTPRoute
metadata: {name: guarded, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: guarded}]
  rules:
    - filters: [{type: CORS, cors: {allowOrigins: ['*']}}]
      backendRefs: [{name: guarded, port: 80}]
`
const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'guarded', vip: '10.96.0.2' }
]

t.test('through the waypoint', async t => {
  const pod: Pod = { name: 'web', address: '127.77.12.1', port: 8080, services: ['web'] }
  const asked: string[] = []
  await startPod(t, pod, (request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.origin ?? '-'}`)
    response.writeHead(200, { 'access-control-allow-origin': '*', 'x-pod': 'yes' }).end('pod')
  })
  const world = await startWorld(t, { services, pods: [pod], config })
  const ask = (method: string, path: string, origin: string): ReturnType<typeof world.ask> => {
    const headers = { origin, ...(method === 'OPTIONS' ? { 'access-control-request-method': 'PUT' } : {}) }
    return world.ask('10.96.0.1:80', { method, path, headers })
  }
  const page = 'https://page.example'
  const shared = { 'access-control-allow-origin': page, 'access-control-allow-credentials': 'true' }
  const preflight = await ask('OPTIONS', '/shared', page)
  t.match(preflight, {
    status: 200,
    text: '',
    headers: { ...shared, 'access-control-allow-methods': 'GET, PUT' }
  })
  t.strictSame(asked, [], 'the pod is not asked')
  const denied = await ask('OPTIONS', '/shared', 'https://example.evil')
  t.match(denied, { status: 200, text: '' })
  t.notOk('access-control-allow-origin' in denied.headers)

  t.match(await ask('PUT', '/shared', page), { status: 200, text: 'pod', headers: shared })
  t.strictSame(asked.splice(0), ['PUT /shared -'], 'decided before headers are changed')
  const hidden = await ask('GET', '/shared', 'https://example.evil')
  t.match(hidden, { status: 200, text: 'pod', headers: { vary: 'origin' } }, 'it is passed on all the same')
  t.notOk('access-control-allow-origin' in hidden.headers, 'what the pod says gives way')

  const any = { 'access-control-allow-origin': page }
  t.match(await ask('GET', '/moved', page), { status: 302, headers: any }, 'a redirect is shared')
  t.match(await ask('GET', '/away', page), { status: 500, headers: any }, 'and so is a failure')
  t.match(await ask('GET', '/by-backend', page), { status: 200, headers: any })
  asked.length = 0
  t.match(await ask('OPTIONS', '/by-backend', page), { status: 200, text: '', headers: any })
  t.strictSame(asked, [], 'a policy of the backend answers preflights, too')
  t.match(await ask('OPTIONS', '/broken', page), { status: 500 }, 'never carried out by halves')
  t.match(await ask('OPTIONS', '/', page), { text: 'pod', headers: { 'access-control-allow-origin': '*' } })
  t.notMatch(world.lines.join('\n'), / cors_response /, 'a preflight is no failure')
})

t.test('policies come first, for preflights too: PI-18', async t => {
  const pod: Pod = { name: 'guarded', address: '127.77.12.2', port: 8080, services: ['guarded'] }
  await startPod(t, pod, (_, response) => response.end('pod'))
  const world = await startWorld(t, { services, pods: [pod], config })
  const headers = { origin: 'https://page.example', 'access-control-request-method': 'GET' }
  const ask = (method: string, path: string): ReturnType<typeof world.ask> =>
    world.ask('10.96.0.2:80', { method, path, headers })
  t.match(await ask('GET', '/only-get'), { status: 200, text: 'pod' })
  const refused = await ask('OPTIONS', '/only-get')
  t.match(refused, { status: 403 })
  t.notOk('access-control-allow-origin' in refused.headers)
  t.match(await ask('OPTIONS', '/all'), { status: 200, text: '' })
})
