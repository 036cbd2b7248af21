/** What a waypoint says would become of a request, and that the request itself meets the same end. AZ-40. */
import t from 'tap'
import { addressOf, startPod, startWorld, type Pod } from './world.ts'

const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'bare', vip: '10.96.0.2' },
  { name: 'away', vip: '10.96.0.3', waypoint: '' }
]
const config = `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec: {extensionProviders: [{name: login, envoyExtAuthzHttp: {service: login.example, port: 80}}]}
---
kind: AuthorizationPolicy
metadata: {name: ask, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  action: CUSTOM
  provider: {name: login}
  rules: [{to: [{operation: {paths: [/private]}}]}]
---
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  action: DENY
  rules:
    - to: [{operation: {paths: [/closed]}}]
    - to: [{operation: {paths: [/staff]}}]
      when: [{key: 'request.auth.claims[role]', notValues: [staff]}]
---
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - name: open
      matches: [{path: {value: /open}, headers: [{name: x-a, value: '1'}]}, {path: {value: /staff}}, {path: {value: /closed}}]
      filters:
        - {type: CORS, cors: {allowOrigins: ['https://*.example']}}
        - {type: RequestMirror, requestMirror: {percent: 35, backendRef: {name: bare, port: 80}}}
        - {type: RequestMirror, requestMirror: {backendRef: {unresolved: RefNotPermitted}}}
      backendRefs: [{name: web, port: 80, weight: 3}, {unresolved: BackendNotFound, weight: 1}]
`
const from = 'spiffe://cluster.local/ns/shop/sa/client'
const none = { kind: 'none' }
const closed = 'ns[shop]-policy[closed]-rule[0]'

t.test('each end that a request can meet', async t => {
  const pods: Pod[] = ['web', 'bare'].map((name, at) => ({
    ...{ name, address: `127.77.11.${1 + at}`, port: 8080 },
    services: [name]
  }))
  for (const pod of pods) await startPod(t, pod, (_, response) => response.end())
  const world = await startWorld(t, { services, pods, config })
  const explain = async (body: unknown): Promise<{ status: number; text: string; json: unknown }> => {
    const answer = await fetch(`http://${addressOf(world.app, 'admin')}/v1/explain`, {
      method: 'POST',
      body: JSON.stringify(body)
    })
    const text = await answer.text()
    return {
      status: answer.status,
      text,
      json: answer.ok ? (JSON.parse(text) as { result: unknown }).result : undefined
    }
  }
  const web = { from, to: '10.96.0.1:80' }
  const backends = ['shop/web.shop.svc.cluster.local:80, weight 3', 'unusable: BackendNotFound, weight 1']
  const mirrors = ['shop/bare.shop.svc.cluster.local:80, 35 %', 'unusable: RefNotPermitted, 100 %']
  const open = { kind: 'rule', route: 'shop/web', rule: 'open', backends, mirrors, cors: 'not shared' }

  for (const [http, status, expected] of [
    [
      { path: '/%6fpen/./x?q=1', headers: { 'X-A': '1' } },
      undefined, // by chance: 200, or 500 for the backend that is not there
      {
        outcome: 'allowed',
        target: '/open/x?q=1',
        destination: 'shop/web.shop.svc.cluster.local:80',
        route: open
      }
    ],
    [
      { path: '/open', headers: { 'x-a': '1', origin: 'https://page.example' } },
      undefined,
      { outcome: 'allowed', route: { ...open, cors: 'shared' } }
    ],
    [
      {
        ...{ method: 'OPTIONS', path: '/open' },
        headers: { 'x-a': '1', origin: 'https://page.example', 'access-control-request-method': 'GET' }
      },
      undefined,
      { outcome: 'allowed', route: { ...open, cors: 'preflight' } }
    ],
    [{ path: '/open' }, 404, { outcome: 'allowed', route: { kind: 'no match' } }],
    [
      { path: '/closed' },
      403,
      { outcome: 'refused', policies: { allowed: false, policyId: closed }, route: open }
    ],
    [{ path: '/staff' }, 403, { outcome: 'refused' }],
    [{ path: '/staff', claims: { role: 'staff' } }, undefined, { outcome: 'allowed', route: open }],
    [{ path: '/private' }, 403, { outcome: 'depends', authorizer: { ask: 'login', dryRun: false } }],
    [{ path: '/%00' }, 400, { kind: 'refused', reason: /path/ }]
  ] as const) {
    t.match(await explain({ ...web, http }), { status: 200, json: expected }, http.path)
    if (status !== undefined) t.match(await world.ask('10.96.0.1:80', { path: http.path }), { status })
  }
  t.match(await explain({ from, to: '10.96.0.2:80', http: {} }), {
    json: { outcome: 'allowed', route: none }
  })
  t.match(await explain({ from, to: '10.96.0.2:80' }), { json: { outcome: 'allowed', route: none } })
  t.match(await explain({ from, to: '10.96.0.3:80' }), {
    json: { kind: 'refused', reason: /does not use this waypoint/ }
  })

  for (const [body, message] of [
    [{}, /from: expected a?n? ?.*; to: expected/],
    [{ from: 'client', to: '10.96.0.1:80' }, /from: expected an identity spiffe:/],
    [{ ...web, clientIp: '10.0.0' }, /clientIp: expected an IP address/],
    [{ ...web, http: { headers: { 'a b': 'c' } } }, /http\.headers\["a b"\]: expected the text of a header/],
    [{ ...web, port: 1 }, /port: unknown field; known are clientIp, from, http, to/],
    [[], /expected a mapping/]
  ] as const) {
    t.match(await explain(body), { status: 400, text: message }, String(message))
  }
})
