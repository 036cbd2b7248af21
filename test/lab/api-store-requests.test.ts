/** Requests that are wrong or hostile get an answer that says why, and change nothing. */
import t from 'tap'
import { configMap } from '../contract/context.ts'
import { startStore } from './api-store-start.ts'

const path = '/api/v1/namespaces/default/configmaps'

t.test('without credentials nothing but health and version is answered', async t => {
  const { api } = await startStore(t)
  for (const [method, where] of [
    ['GET', '/api'],
    ['GET', '/api/v1/secrets'],
    ['POST', path],
    ['GET', '/openapi/v2'],
    ['DELETE', '/api/v1/namespaces/default'],
    ['GET', '/nothing'],
    ['GET', '/healthzz']
  ] as const) {
    for (const token of ['', 'wrong', 'a.b.c'])
      t.equal((await api.request(method, where, undefined, { token })).status, 401, `${method} ${where}`)
  }
  t.equal((await api.get('/readyz', { token: '' })).status, 200)
})

t.test('bad bodies are refused and named', async t => {
  const { api } = await startStore(t)
  const bad: readonly [string, string | Buffer, number, RegExp][] = [
    ['nothing', '', 400, /the body is empty/],
    ['no JSON', '{', 400, /the body is not JSON/],
    ['a list', '[]', 400, /the body is not an object/],
    ['null', 'null', 400, /the body is not an object/],
    [
      'metadata that is a text',
      '{"apiVersion":"v1","kind":"ConfigMap","metadata":"x"}',
      400,
      /metadata: expected an object/
    ],
    [
      'labels that are numbers',
      '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","labels":{"a":1}}}',
      400,
      /metadata\.labels\.a: expected a string/
    ],
    [
      'more than is taken',
      `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"${'x'.repeat(4 << 20)}"}}`,
      413,
      /longer than/
    ]
  ]
  for (const [name, body, status, message] of bad) {
    const answer = await api.post(path, Buffer.from(body))
    t.match(answer, { status, body: { kind: 'Status', status: 'Failure', message } }, name)
  }
  t.match(
    await api.request('POST', path, Buffer.from('a=b'), {
      headers: { 'content-type': 'application/x-www-form-urlencoded' }
    }),
    { status: 415 }
  )
  t.strictSame((await api.get(path)).body['items'], [])
})

t.test('fields called like parts of JavaScript are fields like others', async t => {
  const { api } = await startStore(t)
  const body =
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","labels":{"constructor":"a"}},"data":{"__proto__":"b","toString":"c"}}'
  const made = await api.post(path, Buffer.from(body))
  t.equal(made.status, 201)
  t.match(made.text, /"__proto__":"b"/)
  const patched = await api.patch(
    `${path}/x`,
    'merge',
    Buffer.from('{"data":{"__proto__":"d","hasOwnProperty":"e"}}')
  )
  t.match(patched.text, /"__proto__":"d"/)
  t.equal(({} as { polluted?: unknown }).polluted, undefined)
  t.match((await api.get(path, { query: { labelSelector: 'constructor=a' } })).body['items'], [
    { metadata: { name: 'x' } }
  ])
  t.strictSame((await api.get(path, { query: { labelSelector: 'toString' } })).body['items'], [])
  t.match(await api.patch(`${path}/x`, 'json', [{ op: 'add', path: '/data/__proto__/y', value: 'z' }]), {
    status: 422
  })
  t.match(
    await api.post(
      '/api/v1/namespaces/default/pods',
      Buffer.from(
        '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"__proto__":{"a":1},"containers":[]}}'
      ),
      { query: { fieldValidation: 'Strict' } }
    ),
    { status: 400, body: { message: /unknown field "spec\.__proto__"/ } }
  )
})

t.test('paths, methods and parameters that make no sense are refused', async t => {
  const { api } = await startStore(t)
  await api.post(path, configMap('x', {}))
  const wrong: readonly [string, string, number][] = [
    ['GET', '/api/v1/pods/%zz', 400],
    ['GET', '/api/v1/nothing', 404],
    ['GET', '/apis/apps/v9/deployments', 404],
    ['GET', `${path}/x/status`, 404],
    ['GET', '/api/v1/namespaces/default/nodes', 404],
    ['POST', '/api/v1/configmaps', 405],
    ['PUT', path, 405],
    ['POST', `${path}/x`, 405],
    ['OPTIONS', path, 405],
    ['DELETE', '/api/v1/namespaces', 405],
    ['GET', `${path}?limit=-1`, 400],
    ['GET', `${path}?limit=many`, 400],
    ['GET', `${path}?continue=%00`, 400],
    ['GET', `${path}?resourceVersionMatch=Exact`, 400],
    ['GET', `${path}?labelSelector=a%20in%20(`, 400],
    ['DELETE', `${path}/x?propagationPolicy=Never`, 400],
    ['GET', '/api/v1/namespaces/default/pods/none/log', 404]
  ]
  for (const [method, where, status] of wrong) {
    const answer = await api.request(
      method,
      where,
      method === 'PUT' || method === 'POST' ? configMap('y', {}) : undefined
    )
    t.match(
      answer,
      { status, body: { kind: 'Status', status: 'Failure', code: status, message: /./ } },
      `${method} ${where}`
    )
  }
  t.equal((await api.get(`${path}/x`)).status, 200)
})

t.test('Kubernetes protobuf that is broken is refused, whatever is broken', async t => {
  const { api } = await startStore(t)
  const headers = { 'content-type': 'application/vnd.kubernetes.protobuf' }
  const field = (number: number, bytes: Buffer | string): Buffer => {
    const value = Buffer.from(bytes)
    return Buffer.concat([Buffer.of(number * 8 + 2, value.length), value])
  }
  const metadata = Buffer.concat([
    field(1, 'proto'),
    field(11, Buffer.concat([field(1, 'app'), field(2, 'x')]))
  ])
  const map = Buffer.concat([
    field(1, metadata),
    field(2, Buffer.concat([field(1, 'key'), field(2, 'value')])),
    field(3, Buffer.concat([field(1, 'bin'), field(2, Buffer.of(1, 2))]))
  ])
  const envelope = (kind: string): Buffer =>
    Buffer.concat([
      Buffer.from('k8s\0'),
      field(1, Buffer.concat([field(1, 'v1'), field(2, kind)])),
      field(2, map)
    ])
  const made = await api.post(path, envelope('ConfigMap'), { headers })
  t.match(made, {
    status: 201,
    body: {
      metadata: { name: 'proto', labels: { app: 'x' } },
      data: { key: 'value' },
      binaryData: { bin: 'AQI=' }
    }
  })
  t.match(await api.post(path, envelope('Unheard'), { headers }), {
    status: 400,
    body: { message: /not understood for Unheard/ }
  })
  t.match(await api.post(path, Buffer.from('other'), { headers }), { status: 400 })

  const seed = Date.now() % 1_000_000
  let state = seed
  const random = (below: number): number => {
    state = (state * 1103515245 + 12345) & 0x7fffffff
    return state % below
  }
  const statuses = new Set<number>()
  for (let round = 0; round < 300; round += 1) {
    const bytes = Buffer.from(envelope('ConfigMap'))
    for (let change = 0; change <= random(4); change += 1) bytes[4 + random(bytes.length - 4)] = random(256)
    statuses.add(
      (
        await api.post(path, bytes.subarray(0, 4 + random(bytes.length)), {
          headers,
          query: { dryRun: 'All' }
        })
      ).status
    )
  }
  t.ok(
    [...statuses].every(status => [201, 400, 409, 422].includes(status)),
    `seed ${seed}: ${[...statuses].join()}`
  )
})
