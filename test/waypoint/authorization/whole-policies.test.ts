/**
 * Whole policies, after the situations of Istio's own tests of what it makes of a policy (authz/builder/testdata: full
 * rules, aliases, TCP, dry runs, providers that are missing).
 */
import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import type { HttpFacts, RequestFacts } from '../../../waypoint/authorization/facts.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { connection, decide, http, matches, mesh, peer, policy, request, type Json } from './support.ts'

/** Every field and key that there is, each with what must fit and what must not. */
const source: Json = {
  principals: ['td/ns/a/sa/x', 'cluster.local/ns/front*'],
  notPrincipals: ['*/sa/root'],
  requestPrincipals: ['https://issuer.example/ann', 'https://issuer.example/b*'],
  notRequestPrincipals: ['*/eve', 'https://issuer.example/bob'],
  namespaces: ['front*', 'back'],
  notNamespaces: ['*-test'],
  trustDomains: ['cluster.local', '*.example'],
  notTrustDomains: ['bad*'],
  ipBlocks: ['10.1.0.0/16', '1.2.3.4'],
  notIpBlocks: ['10.1.9.0/24'],
  remoteIpBlocks: ['10.0.0.0/8'],
  notRemoteIpBlocks: ['10.1.8.8']
}
const operation: Json = {
  hosts: ['web.example', '*.web.example'],
  notHosts: ['old.web.example'],
  methods: ['GET', 'P*'],
  notMethods: ['PATCH'],
  paths: ['/cart/{*}', '/list*'],
  notPaths: ['*/secret'],
  ports: ['80', '8080'],
  notPorts: ['8080']
}
const when: readonly Json[] = [
  { key: 'request.headers[X-Team]', values: ['blue*'], notValues: ['*-out'] },
  { key: 'request.auth.principal', values: ['*'], notValues: ['*/mallory'] },
  { key: 'request.auth.audiences', values: ['web'], notValues: ['all'] },
  { key: 'request.auth.presenter', values: ['app-*'], notValues: ['app-0'] },
  { key: 'request.auth.claims[iss]', values: ['https*'], notValues: ['http://*'] },
  { key: 'request.auth.claims[org][unit]', values: ['sales'], notValues: ['guests'] },
  { key: 'source.ip', values: ['10.1.0.0/17'], notValues: ['10.1.7.7'] },
  { key: 'remote.ip', values: ['10.1.0.0/17'], notValues: ['10.1.6.6'] },
  { key: 'source.namespace', values: ['*'], notValues: ['front-9'] },
  { key: 'source.principal', values: ['*/sa/*', '*'], notValues: ['cluster.local/ns/front-8/sa/site'] },
  { key: 'source.serviceAccount', values: ['front/site', 'front-2/site'], notValues: ['front-2/site'] },
  { key: 'source.trustDomain', values: ['*'], notValues: ['nowhere'] },
  { key: 'destination.ip', values: ['10.96.0.0/12'], notValues: ['10.96.0.1'] },
  { key: 'destination.port', values: ['80', '81'], notValues: ['9001'] },
  { key: 'connection.sni', values: ['*.web.example'], notValues: ['x.web.example'] }
]
const rule = { from: [{ source }], to: [{ operation }], when }

const claims = {
  iss: 'https://issuer.example',
  sub: 'ann',
  aud: ['web', 'shop'],
  azp: 'app-1',
  org: { unit: ['sales', 'north'] }
}
const fitting: HttpFacts = {
  method: 'GET',
  path: '/cart/1',
  authority: 'WEB.example',
  headers: HeaderList.of('x-team', 'blue-1'),
  claims
}
const facts: RequestFacts = { ...connection, sni: 'a.web.example', http: fitting }

const changes: Readonly<Record<string, RequestFacts>> = {
  'another trust domain': { ...facts, peer: peer('bad.example', 'front', 'site') },
  'another namespace': { ...facts, peer: peer('cluster.local', 'back', 'site') },
  'an excluded namespace': { ...facts, peer: peer('cluster.local', 'front-test', 'site') },
  'an excluded account': { ...facts, peer: peer('cluster.local', 'front', 'root') },
  'an account that a condition excludes': { ...facts, peer: peer('cluster.local', 'front-2', 'site') },
  'another address': { ...facts, clientIp: ip('10.2.2.3') },
  'an excluded block': { ...facts, clientIp: ip('10.1.9.1') },
  'an excluded remote address': { ...facts, clientIp: ip('10.1.8.8') },
  'a block that a condition lacks': { ...facts, clientIp: ip('10.1.200.1') },
  'an address that a condition excludes': { ...facts, clientIp: ip('10.1.7.7') },
  'another port': { ...facts, destination: { ip: ip('10.96.0.7'), port: 81 } },
  'an excluded port': { ...facts, destination: { ip: ip('10.96.0.7'), port: 8080 } },
  'another destination': { ...facts, destination: { ip: ip('10.1.0.7'), port: 80 } },
  'an excluded destination': { ...facts, destination: { ip: ip('10.96.0.1'), port: 80 } },
  'no destination address': { ...facts, destination: { port: 80 } },
  'no server name': { ...facts, sni: undefined },
  'an excluded server name': { ...facts, sni: 'x.web.example' },
  'another method': changed({ method: 'DELETE' }),
  'an excluded method': changed({ method: 'PATCH' }),
  'another path': changed({ path: '/cart' }),
  'an excluded path': changed({ path: '/cart/secret' }),
  'another host': changed({ authority: 'web.example:80' }),
  'an excluded host': changed({ authority: 'Old.web.example' }),
  'no header': changed({ headers: HeaderList.of('x-teams', 'blue') }),
  'an excluded header': changed({ headers: HeaderList.of('x-team', 'blue-out') }),
  'no token': changed({ claims: undefined }),
  'another issuer': changed({ claims: { ...claims, iss: 'https://else.example' } }),
  'an excluded subject': changed({ claims: { ...claims, sub: 'bob' } }),
  'another audience': changed({ claims: { ...claims, aud: 'shop' } }),
  'an excluded audience': changed({ claims: { ...claims, aud: ['web', 'all'] } }),
  'another presenter': changed({ claims: { ...claims, azp: 'app-0' } }),
  'another unit': changed({ claims: { ...claims, org: { unit: 'north' } } }),
  'an excluded unit': changed({ claims: { ...claims, org: { unit: ['sales', 'guests'] } } })
}

function changed(more: Partial<HttpFacts>): RequestFacts {
  return { ...facts, http: { ...fitting, ...more } }
}

t.test('a full rule matches what fits it in every field, and nothing that does not in one', async t => {
  t.ok(matches(rule, facts))
  for (const [name, other] of Object.entries(changes)) t.notOk(matches(rule, other), name)
})

t.test('of a full rule a connection sees what connections have', async t => {
  const { http: _, ...plain } = facts
  t.equal(decide([policy({ rules: [rule] })], plain).allowed, false, 'it allows none')
  t.equal(decide([policy({ action: 'DENY', rules: [rule] })], plain).allowed, false)
  t.equal(decide([policy({ action: 'AUDIT', rules: [rule] })], plain).audit.length, 1)
  for (const [name, { http, ...other }] of Object.entries(changes)) {
    const refuses = !decide([policy({ action: 'DENY', rules: [rule] })], other).allowed
    t.equal(
      refuses,
      http === undefined || http !== fitting,
      `${name}: what only requests have does not count`
    )
  }
})

const fromToken = { source: { requestPrincipals: ['id-1'] } }
const fromNamespace = { source: { namespaces: ['ns-1'] } }
const toMethod = { operation: { methods: ['GET'] } }
const toPort = { operation: { ports: ['80'] } }
const toBoth = { operation: { ports: ['8080'], methods: ['GET'] } }

/** A rule of DENY on a connection: what is left of it. */
const denials: readonly (readonly [
  rule: Json,
  left: 'all' | 'ns-1' | '80' | '8080' | 'ns-1 80' | 'ns-2 8080'
])[] = [
  [{ from: [fromToken], to: [toMethod] }, 'all'],
  [{ to: [toMethod] }, 'all'],
  [{ from: [fromToken] }, 'all'],
  [{ from: [fromNamespace], to: [toMethod] }, 'ns-1'],
  [{ from: [fromToken], to: [toPort] }, '80'],
  [{ from: [fromToken], to: [toBoth] }, '8080'],
  [{ from: [{ source: { namespaces: ['ns-2'], requestPrincipals: ['id-1'] } }], to: [toBoth] }, 'ns-2 8080'],
  [{ from: [fromNamespace], to: [toPort] }, 'ns-1 80'],
  [{ when: [{ key: 'request.headers[:method]', values: ['GET'] }] }, 'all'],
  [{ when: [{ key: 'destination.port', values: ['80'] }] }, '80']
]

t.test('AZ-32: what is left of a DENY on connections', async t => {
  for (const [rule, left] of denials) {
    const denying = policy({ action: 'DENY', rules: [rule] })
    const asking = policy({ action: 'CUSTOM', provider: { name: 'opa' }, rules: [rule] })
    for (const namespace of ['ns-1', 'ns-2', 'ns-3']) {
      for (const port of [80, 8080, 9090]) {
        const plain = { ...connection, peer: peer('td', namespace, 'x'), destination: { port } }
        const words = left === 'all' ? [] : left.split(' ')
        const expected = words.every(word => word === namespace || word === String(port))
        const name = `${JSON.stringify(rule)} on ${namespace} ${port}`
        t.equal(decide([denying], plain).allowed, !expected, name)
        t.equal(decide([asking], plain).allowed, !expected, `CUSTOM ${name}`)
      }
    }
  }
})

t.test('AZ-32: what is left of an ALLOW on connections', async t => {
  const rules = [
    { from: [fromToken], to: [toMethod] },
    { from: [fromNamespace], to: [toBoth] },
    { from: [{ source: { namespaces: ['ns-2'], requestPrincipals: ['id-2'] } }], to: [toPort] },
    { from: [fromNamespace], to: [toPort] }
  ]
  const passes = (namespace: string, port: number): boolean =>
    decide([policy({ rules })], { ...connection, peer: peer('td', namespace, 'x'), destination: { port } })
      .allowed
  t.ok(passes('ns-1', 80), 'the one rule without methods and tokens')
  t.notOk(passes('ns-1', 8080))
  t.notOk(passes('ns-2', 80))
  t.equal(
    decide([policy({ rules: rules.slice(0, 3) })], connection).allowed,
    false,
    'a policy of which nothing is left allows nothing'
  )
})

t.test('AZ-18: sources with aliases, each with its own conditions', async t => {
  const more = { mesh: { ...mesh, trustDomains: ['td1', 'cluster.local', 'some-td'] } }
  const rule = {
    from: [
      { source: { principals: ['cluster.local/ns/a/sa/one'] } },
      { source: { principals: ['some-td/ns/a/sa/two', 'cluster.local/ns/b/sa/two'], namespaces: ['b'] } }
    ]
  }
  const of = (trustDomain: string, namespace: string, account: string): boolean =>
    matches(rule, { ...request(), peer: peer(trustDomain, namespace, account) }, more)
  for (const trustDomain of ['td1', 'cluster.local', 'some-td']) {
    t.ok(of(trustDomain, 'a', 'one'), trustDomain)
    t.ok(of(trustDomain, 'b', 'two'), trustDomain)
    t.notOk(of(trustDomain, 'a', 'two'), `${trustDomain}: the other namespace`)
  }
  t.notOk(of('td2', 'a', 'one'))
})

t.test('trust domains that are listed, or not excluded', async t => {
  const rule = {
    from: [
      { source: { trustDomains: ['cluster.local', 'another.local'] } },
      { source: { notTrustDomains: ['bad*', 'untrusted', 'cluster*', 'another*'] } }
    ]
  }
  const of = (name: string): boolean => matches(rule, { ...request(), peer: peer(name, 'a', 'x') })
  for (const name of ['cluster.local', 'another.local', 'third']) t.ok(of(name), name)
  for (const name of ['bad', 'badly', 'untrusted', 'cluster.other']) t.notOk(of(name), name)
})

t.test('AZ-37: of two ALLOW policies only the one that is in force allows', async t => {
  const allow = (name: string, path: string, dryRun: string): ReturnType<typeof policy> =>
    policy(
      { rules: [{ to: [{ operation: { paths: [path] } }] }] },
      { name, annotations: { 'istio.io/dry-run': dryRun } }
    )
  const both = [allow('one', '/allow', 'true'), allow('two', '/another', 'false')]
  t.match(decide(both, request({ path: '/allow' })), { allowed: false, dryRun: [{ result: 'allowed' }] })
  t.match(decide(both, request({ path: '/another' })), { allowed: true, dryRun: [{ result: 'denied' }] })
})

t.test('AZ-42: a provider that nobody can ask refuses what it would be asked about', async t => {
  const asking = (name: string, provider: Json, path: string): ReturnType<typeof policy> =>
    policy({ action: 'CUSTOM', provider, rules: [{ to: [{ operation: { paths: [path] } }] }] }, { name })
  const both = [asking('one', { name: 'default' }, '/one'), asking('two', {}, '/two')]
  const end = '-deny-due-to-bad-CUSTOM-action'
  t.match(decide(both, { ...connection, http: { ...http, path: '/one' } }), {
    policyId: `istio-ext-authz-default-ns[shop]-policy[one]-rule[0]${end}`
  })
  t.match(decide(both, request({ path: '/two' })), {
    policyId: `istio-ext-authz-ns[shop]-policy[two]-rule[0]${end}`
  })
  t.equal(decide(both, request({ path: '/three' })).allowed, true)
})
