/** Policies and tokens on the way of real requests: who is refused, in what words, and that nobody gets around it. */
import t, { type Test } from 'tap'
import { generateKeyPairSync, sign } from 'node:crypto'
import net from 'node:net'
import { listen, startPod, startWorld, type Answer, type Asked, type Pod, type World } from './world.ts'

const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'db', vip: '10.96.0.2', port: 5432, speaks: 'TCP' }
]
const pod = (last: number, name = 'web', port = 8080): Pod => ({
  name,
  address: `127.77.6.${last}`,
  port,
  services: [name]
})
const toWeb = 'targetRefs: [{group: "", kind: Service, name: web}]'

async function worldWith(
  t: Test,
  last: number,
  config: string
): Promise<World & { get(path: string, asked?: Asked): Promise<Answer> }> {
  const web = pod(last)
  await startPod(t, web, (sent, response) => {
    response.setHeader('x-path', sent.url ?? '')
    response.end(JSON.stringify(sent.headers))
  })
  const world = await startWorld(t, { services, pods: [web], config })
  return { ...world, get: (path, asked = {}) => world.ask('10.96.0.1:80', { ...asked, path }) }
}

t.test('ALLOW by path, method, header and caller; DENY wins; the answer tells nothing of routes', async t => {
  const world = await worldWith(
    t,
    1,
    `
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  ${toWeb}
  action: ALLOW
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]
      to: [{operation: {methods: [GET], paths: [/open/*, '/items/{*}/price']}}]
      when: [{key: 'request.headers[x-team]', values: [a, b]}]
---
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec:
  ${toWeb}
  action: DENY
  rules: [{to: [{operation: {paths: [/open/secret]}}]}]
---
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules: [{matches: [{path: {type: PathPrefix, value: /open}}], backendRefs: [{name: web, port: 80}]}]
`
  )
  const headers = { 'x-team': 'a' }
  t.match(await world.get('/open/x', { headers }), { status: 200 })
  t.match(await world.get('/items/7/price', { headers }), { status: 404 }, 'admitted, and no route')
  for (const [path, asked] of [
    ['/open/x', {}],
    ['/open/x', { headers: { 'x-team': 'c' } }],
    ['/open/x', { headers, method: 'POST' }],
    ['/open/x', { headers, namespace: 'other' }],
    ['/items/7/8/price', { headers }],
    ['/nowhere', { headers }],
    ['/open/secret', { headers }],
    // What the policy looks at is what is forwarded.
    ['/open/%73ecret', { headers }],
    ['/open/./secret', { headers }],
    ['/x/../open/secret', { headers }]
  ] as const) {
    t.match(await world.get(path, asked), { status: 403, text: 'RBAC: access denied' }, path)
  }
  const lines = world.lines.join('\n')
  t.match(lines, / 403 - rbac_access_denied_matched_policy\[ns\[shop\]-policy\[closed\]-rule\[0\]\] /)
  t.match(lines, / 403 - rbac_access_denied_matched_policy\[none\] /)
})

t.test('a connection that is carried as it is: refused without a byte', async t => {
  const db = pod(2, 'db', 5432)
  await listen(
    t,
    net.createServer(socket => void socket.end('rows')),
    db
  )
  const config = `
kind: AuthorizationPolicy
metadata: {name: db, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: db}]
  rules: [{from: [{source: {namespaces: [shop]}}]}]
`
  const world = await startWorld(t, { services, pods: [db], config })
  const read = async (namespace: string): Promise<string> => {
    const client = await world.connect('10.96.0.2:5432', { namespace })
    let text = ''
    try {
      for await (const chunk of client) text += String(chunk)
    } catch {
      return 'cut'
    }
    return text
  }
  t.equal(await read('shop'), 'rows')
  t.equal(await read('other'), 'cut')
  t.match(world.lines.join(''), /rbac_access_denied_matched_policy\[none\]/)
})

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwks = JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1', alg: 'ES256' }] })

function token(claims: object): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const text = `${encode({ alg: 'ES256', kid: 'k1' })}.${encode({ iss: 'https://login.example', sub: 'ann', ...claims })}`
  return `${text}.${sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

t.test(
  'tokens: without one no identity, a bad one is refused, a good one is what policies ask for',
  async t => {
    const world = await worldWith(
      t,
      3,
      `
kind: RequestAuthentication
metadata: {name: login, namespace: shop}
spec:
  ${toWeb}
  jwtRules:
    - issuer: https://login.example
      jwks: '${jwks}'
      outputClaimToHeaders: [{header: x-user, claim: sub}]
---
kind: AuthorizationPolicy
metadata: {name: people, namespace: shop}
spec:
  ${toWeb}
  rules:
    - to: [{operation: {paths: [/healthz]}}]
    - from: [{source: {requestPrincipals: ['https://login.example/*']}}]
      when: [{key: 'request.auth.claims[groups]', values: [staff]}]
`
    )
    const bearer = (text: string): Asked => ({
      headers: { authorization: `Bearer ${text}`, 'x-user': 'forged' }
    })
    const staff = token({ groups: ['staff', 'x'] })
    t.match(await world.get('/healthz'), { status: 200 })
    t.match(await world.get('/'), { status: 403, text: 'RBAC: access denied' })
    const good = await world.get('/', bearer(staff))
    t.match(good, { status: 200 })
    t.match(
      JSON.parse(good.text),
      { 'x-user': 'ann', authorization: undefined },
      'the token itself stays here'
    )
    t.match(await world.get(`/x?access_token=${staff}&a=b`), { status: 200, headers: { 'x-path': '/x?a=b' } })
    t.match(await world.get('/', bearer(token({ groups: ['guests'] }))), { status: 403 })
    t.match(await world.get('/', bearer(token({ exp: 1 }))), { status: 401, text: 'Jwt is expired' })
    t.match(await world.get('/healthz', bearer(`${staff}x`)), { status: 401 })
    t.match(await world.get('/', bearer(token({ iss: 'https://evil.example' }))), {
      status: 401,
      text: 'Jwt issuer is not configured',
      headers: { 'www-authenticate': /^Bearer realm="http:\/\/shop\.example\/", error="invalid_token"$/ }
    })
    t.match(world.lines.join('\n'), / 401 - jwt_authn_access_denied\{Jwt_is_expired\} /)
  }
)

t.test('the mesh configuration: another name of the trust domain, another form of paths', async t => {
  const meshConfig = `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec: {trustDomainAliases: [old.example], pathNormalization: MERGE_SLASHES}
---
`
  const policy = `
kind: AuthorizationPolicy
metadata: {name: old-names, namespace: shop}
spec:
  ${toWeb}
  rules:
    - from: [{source: {principals: [old.example/ns/shop/sa/client]}}]
      to: [{operation: {paths: [/a/b]}}]
`
  const without = await worldWith(t, 4, policy)
  t.match(await without.get('/a/b'), { status: 403 })
  for (const [last, config] of [
    [5, meshConfig + policy],
    [6, `${policy}---\n${meshConfig.replace('---\n', '')}`]
  ] as const) {
    const world = await worldWith(t, last, config)
    t.match(await world.get('/a//b'), { status: 200, headers: { 'x-path': '/a/b' } }, 'in any order')
  }
})
