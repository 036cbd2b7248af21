import t from 'tap'
import { KubeClient, formatSelector } from '../../../shared/kube/client.ts'
import { KubeError } from '../../../shared/kube/errors.ts'
import { namespaces, pods, type Pod } from '../../../shared/kube/core-api.ts'
import { gateways } from '../../../shared/kube/gateway-api.ts'
import { authorizationPolicies, serviceEntries } from '../../../shared/kube/istio-api.ts'
import { answerJson, answerStatus, scriptedServer } from './scripted-server.ts'

const pod = (name: string): Pod => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop' } })

t.test('each verb asks for the right path, method, type and body', async t => {
  const server = await scriptedServer(t, (asked, response) =>
    answerJson(response, asked.method === 'GET' && !asked.url.endsWith('/cart') ? { items: [] } : pod('cart'))
  )
  const client = new KubeClient(server.access)
  t.teardown(() => client.close())
  const requests: readonly (readonly [string, () => Promise<unknown>, string, string?, unknown?])[] = [
    [
      'get',
      () => client.get(pods, { namespace: 'shop', name: 'cart' }),
      'GET /api/v1/namespaces/shop/pods/cart'
    ],
    ['get without namespace', () => client.get(namespaces, { name: 'cart' }), 'GET /api/v1/namespaces/cart'],
    ['list everywhere', () => client.list(gateways), 'GET /apis/gateway.networking.k8s.io/v1/gateways'],
    [
      'list with selectors and paging',
      () =>
        client.list(serviceEntries, { namespace: 'shop', labelSelector: 'a=b,c', limit: 5, continue: 'x y' }),
      'GET /apis/networking.istio.io/v1/namespaces/shop/serviceentries?labelSelector=a%3Db%2Cc&continue=x+y&limit=5'
    ],
    [
      'create',
      () => client.create(pods, pod('cart')),
      'POST /api/v1/namespaces/shop/pods',
      'application/json',
      pod('cart')
    ],
    [
      'replace a status',
      () => client.replace(pods, pod('cart'), { subresource: 'status', fieldManager: 'underpass' }),
      'PUT /api/v1/namespaces/shop/pods/cart/status?fieldManager=underpass',
      'application/json',
      pod('cart')
    ],
    [
      'merge patch',
      () =>
        client.patch(
          pods,
          { namespace: 'shop', name: 'cart' },
          { metadata: { labels: { a: 'b' } } },
          { kind: 'merge' }
        ),
      'PATCH /api/v1/namespaces/shop/pods/cart',
      'application/merge-patch+json',
      { metadata: { labels: { a: 'b' } } }
    ],
    [
      'json patch',
      () =>
        client.patch(pods, { namespace: 'shop', name: 'cart' }, [{ op: 'remove', path: '/x' }], {
          kind: 'json',
          dryRun: true
        }),
      'PATCH /api/v1/namespaces/shop/pods/cart?dryRun=All',
      'application/json-patch+json',
      [{ op: 'remove', path: '/x' }]
    ],
    [
      'server-side apply',
      () =>
        client.patch(
          authorizationPolicies,
          { namespace: 'shop', name: 'p' },
          {},
          { kind: 'apply', fieldManager: 'me', force: true }
        ),
      'PATCH /apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/p?fieldManager=me&force=true',
      'application/apply-patch+yaml',
      {}
    ],
    [
      'delete with a precondition',
      () => client.delete(pods, { namespace: 'shop', name: 'cart' }, { uid: 'u1', gracePeriodSeconds: 0 }),
      'DELETE /api/v1/namespaces/shop/pods/cart',
      'application/json',
      { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, preconditions: { uid: 'u1' } }
    ]
  ]
  for (const [name, send, line, contentType, body] of requests) {
    await send()
    const asked = server.asked.at(-1)
    t.equal(`${asked?.method} ${asked?.url}`, line, name)
    t.equal(asked?.headers.authorization, 'Bearer test-token')
    t.equal(asked?.headers['content-type'], contentType, `${name}: content type`)
    if (body !== undefined) t.strictSame(JSON.parse(asked?.body ?? ''), body, `${name}: body`)
  }
})

t.test('items of a list carry their kind, which the server leaves out', async t => {
  const server = await scriptedServer(t, (_asked, response) =>
    answerJson(response, {
      metadata: { resourceVersion: '7', continue: 'more' },
      items: [{ metadata: { name: 'a' } }]
    })
  )
  const client = new KubeClient(server.access)
  t.teardown(() => client.close())
  t.strictSame(await client.list(pods), {
    items: [{ metadata: { name: 'a' }, apiVersion: 'v1', kind: 'Pod' }],
    resourceVersion: '7',
    continue: 'more'
  })
})

t.test('a refusal says what was refused, why, and which permission is missing', async t => {
  const server = await scriptedServer(t, (asked, response) => {
    if (asked.url.includes('proxy'))
      return void response.writeHead(502, { 'retry-after': '3' }).end('<html>bad gateway')
    if (asked.url.endsWith('/gone')) return answerStatus(response, 404, 'NotFound', 'pods "gone" not found')
    return answerStatus(response, 403, 'Forbidden', 'pods is forbidden')
  })
  const client = new KubeClient(server.access)
  t.teardown(() => client.close())
  await t.rejects(client.list(pods, { namespace: 'shop' }), {
    name: 'KubeError',
    status: 403,
    reason: 'Forbidden',
    message: 'pods is forbidden',
    needs: 'list pods in namespace shop'
  })
  await t.rejects(client.list(authorizationPolicies), {
    name: 'KubeError',
    needs: 'list authorizationpolicies.security.istio.io in all namespaces'
  })
  await t.rejects(client.raw('GET', '/proxy?x=1'), {
    status: 502,
    reason: '',
    message: '502: <html>bad gateway',
    needs: 'GET /proxy',
    retryAfterSeconds: 3
  })
  t.equal(await client.find(pods, { namespace: 'shop', name: 'gone' }), undefined)
  await t.rejects(client.find(pods, { namespace: 'shop', name: 'other' }), KubeError)
})

t.test('credentials that were refused are renewed and tried once', async t => {
  const server = await scriptedServer(t, (asked, response) =>
    asked.headers.authorization === 'Bearer new'
      ? answerJson(response, pod('a'))
      : answerStatus(response, 401, 'Unauthorized', 'no')
  )
  const renewals: boolean[] = []
  const client = new KubeClient({
    ...server.access,
    authorization: async refresh => {
      renewals.push(refresh)
      return refresh ? 'Bearer new' : 'Bearer old'
    }
  })
  t.teardown(() => client.close())
  t.equal((await client.get(pods, { namespace: 'shop', name: 'a' })).metadata.name, 'a')
  t.strictSame(renewals, [false, true])
})

t.test('a client certificate is presented', async t => {
  const server = await scriptedServer(t, (asked, response) => answerJson(response, { client: asked.client }))
  const { keyPem, certPem } = server.clientCertificate('alice')
  const client = new KubeClient({
    ...server.access,
    tls: { ...server.access.tls, cert: certPem, key: keyPem }
  })
  t.teardown(() => client.close())
  t.strictSame(await client.raw('GET', '/whoami'), { client: 'alice' })
})

t.test('a server that cannot be trusted or reached is named, with a remedy', async t => {
  const server = await scriptedServer(t, (_asked, response) => answerJson(response, {}))
  const stranger = new KubeClient({ ...server.access, tls: { rejectUnauthorized: true } })
  await t.rejects(stranger.raw('GET', '/'), {
    name: 'KubeUnreachableError',
    message: /cannot reach the API server https:\/\/127.*certificate-authority of the kubeconfig/
  })
  t.equal(server.asked.length, 0, 'nothing was sent to it')
  const nobody = new KubeClient({ ...server.access, server: 'http://127.0.0.1:1' })
  await t.rejects(nobody.raw('GET', '/'), { message: /ECONNREFUSED.*is it running/ })
})

t.test('a connection that breaks inside an answer is an error, not a short answer', async t => {
  const server = await scriptedServer(t, (_asked, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' })
    response.write('{"a":')
    setImmediate(() => response.destroy())
  })
  const client = new KubeClient(server.access)
  t.teardown(() => client.close())
  await t.rejects(client.raw('GET', '/'))
})

t.test(
  'a kept connection that the server just closed costs one more try, but only where that is harmless',
  async t => {
    const served = new WeakSet<object>()
    const server = await scriptedServer(t, (_asked, response) => {
      const { socket } = response
      if (socket !== null && served.has(socket)) return void socket.destroy()
      if (socket !== null) served.add(socket)
      return answerJson(response, {})
    })
    const client = new KubeClient(server.access)
    t.teardown(() => client.close())
    for (let index = 0; index < 4; index++) t.strictSame(await client.raw('GET', '/'), {})
    t.equal(server.asked.length, 7, 'each but the first was tried twice')
    await t.rejects(client.raw('POST', '/', {}), { name: 'KubeUnreachableError' })
  }
)

t.test('a signal ends a request that waits', async t => {
  const server = await scriptedServer(t, () => undefined)
  const client = new KubeClient(server.access)
  t.teardown(() => client.close())
  const stop = new AbortController()
  const request = client.raw('GET', '/', undefined, stop.signal)
  stop.abort()
  await t.rejects(request, { name: 'AbortError' })
  await t.rejects(client.raw('GET', '/', undefined, stop.signal), { name: 'AbortError' })
})

t.test('label selectors are written as the query wants them', async t => {
  t.equal(formatSelector({}), '')
  t.equal(
    formatSelector({
      matchLabels: { app: 'web', tier: 'front' },
      matchExpressions: [
        { key: 'env', operator: 'In', values: ['a', 'b'] },
        { key: 'x', operator: 'NotIn', values: ['c'] },
        { key: 'y', operator: 'Exists' },
        { key: 'z', operator: 'DoesNotExist' }
      ]
    }),
    'app=web,tier=front,env in (a,b),x notin (c),y,!z'
  )
})
