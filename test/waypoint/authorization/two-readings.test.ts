/** Whatever policies and requests chance makes, the compiled policies say what a plain reading of the spec says. */
import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import type { HttpFacts, RequestFacts } from '../../../waypoint/authorization/facts.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { randomFrom, secondsOf, seedOf } from '../../shared/hbone/chance.ts'
import { refusedBy, type Lists, type PlainPolicy, type PlainRule } from './second-opinion.ts'
import { decide, mesh, peer, policy } from './support.ts'

const trustDomains = ['td1', 'old-td', 'x.td']

/** Values that fit often, by the fields and keys that take them. */
const principals = [
  '*',
  'td1/ns/a/sa/x',
  'cluster.local/ns/a/sa/x',
  '*-td/ns/ab/sa/x',
  '*/ns/a/sa/x',
  'td1/ns/a*',
  '*x'
]
const namespaces = ['a', 'ab', 'a*', '*b', '*', 'a*b', '*sa', 'a.']
const addresses = ['10.0.0.1', '10.0.0.0/8', '0.0.0.0/0', '10.0.0.0/31', '::/0', 'fd00::1', 'fd00::/16']
const ports = ['80', '8080']
const texts = ['*', 'a', 'a*', '*a', 'A', 'a*b', 'ab', '*b*', 'a,b']

const sources: Lists = {
  principals,
  namespaces,
  serviceAccounts: ['x', 'a/x', 'ab/y'],
  ipBlocks: addresses,
  remoteIpBlocks: addresses,
  requestPrincipals: ['*', 'i/s', '*/s', 'i/*', 'i/s*', '*i/s', '*s', 'i*', 'i', 'https://i/s', '*/*']
}
const operations: Lists = {
  hosts: ['*', 'h.example', 'H.example', '*.example', 'h.*', 'h.example:80'],
  methods: ['*', 'GET', 'get', 'P*', '*T'],
  paths: [
    '*',
    '/',
    '/a',
    '/a*',
    '*/b',
    '/a*b',
    '/{*}',
    '/a/{*}',
    '/a/{**}',
    '/{**}/b',
    '/{*}/{**}/',
    '/a/{*}/b'
  ],
  ports
}
const conditions: Lists = {
  'source.principal': principals,
  'source.namespace': namespaces,
  'source.ip': addresses,
  'destination.ip': addresses,
  'destination.port': ports,
  'connection.sni': texts,
  'request.headers[x-user]': texts,
  'request.auth.claims[groups]': texts
}

t.test('the compiled policies agree with a plain reading', async t => {
  const seed = seedOf()
  t.comment(`UNDERPASS_SEED=${seed}`)
  const random = randomFrom(seed)
  const chance = (probability: number): boolean => random() < probability
  const one = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T
  const some = <T>(most: number, make: () => T): readonly T[] =>
    Array.from({ length: Math.floor(random() * (most + 1)) }, make)
  const oneOrTwo = (values: readonly string[]): readonly string[] =>
    Array.from({ length: chance(0.7) ? 1 : 2 }, () => one(values))

  const lists = (of: Lists): Lists => {
    const found: Record<string, readonly string[]> = {}
    const names = Object.keys(of)
    for (const name of oneOrTwo(names)) {
      const notName = `not${name.charAt(0).toUpperCase()}${name.slice(1)}`
      if (!chance(0.3)) found[name] = oneOrTwo(of[name] ?? [])
      else found[notName] = oneOrTwo(of[name] ?? [])
    }
    const peers = /^(?:notP|p)rincipals$|^(?:notN|n)amespaces$/
    if (Object.keys(found).some(name => peers.test(name))) {
      delete found['serviceAccounts']
      delete found['notServiceAccounts']
    }
    return found
  }
  const rule = (): PlainRule => ({
    from: some(2, () => ({ source: lists(sources) })),
    to: some(2, () => ({ operation: lists(operations) })),
    when: some(2, () => {
      const key = one(Object.keys(conditions))
      const values = oneOrTwo(conditions[key] ?? [])
      return chance(0.3) ? { key, notValues: values } : { key, values }
    })
  })
  const plainPolicy = (_: unknown, at: number): PlainPolicy => ({
    namespace: one(['a', 'ab']),
    name: `p${at}`,
    action: one(['ALLOW', 'ALLOW', 'DENY', 'AUDIT']),
    rules: some(12, rule)
  })
  const http = (): HttpFacts => ({
    method: one(['GET', 'POST', 'PUT']),
    path: one(['/', '/a', '/a/', '/a/b', '/a/c/b', '/b', '//', '/a/b/', '/a*b']),
    authority: one(['h.example', 'H.Example', 'h.example:80', 'x', '']),
    headers: HeaderList.of(...some(2, () => ['x-user', one(['a', 'b', 'ab', ''])]).flat()),
    ...(chance(0.5)
      ? {}
      : {
          claims: {
            iss: one<unknown>(['i', 'https://i', '', 7, 'ii']),
            sub: one<unknown>(['s', '', 'ss', undefined, '*']),
            groups: one<unknown>(['a', ['b', 'ab'], [], 1, [1, 'a'], { a: 'a' }])
          }
        })
  })
  const facts = (): RequestFacts => ({
    peer: peer(one(['td1', 'old-td', 'x.td', 'td2']), one(['a', 'ab', 'sa', 'b']), one(['x', 'y', 'sa'])),
    clientIp: one(['10.0.0.1', '10.0.0.2', '11.0.0.1', 'fd00::1'].map(ip)),
    destination: { port: one([80, 8080]), ...(chance(0.7) ? { ip: ip('10.0.0.1') } : {}) },
    ...(chance(0.5) ? { sni: one(['a', 'ab', '']) } : {}),
    ...(chance(0.7) ? { http: http() } : {})
  })

  const end = performance.now() + secondsOf(2) * 1000
  const seen = { refused: 0, passed: 0 }
  while (performance.now() < end) {
    const plain = Array.from({ length: 1 + Math.floor(random() * 3) }, plainPolicy)
    const compiled = plain.map(({ namespace, name, action, rules }) =>
      policy({ action, rules }, { namespace, name, mesh: { ...mesh, trustDomains } })
    )
    for (let round = 0; round < 20; round += 1) {
      const asked = facts()
      const verdict = decide(compiled, asked)
      const got = verdict.allowed ? undefined : verdict.policyId
      const expected = refusedBy(plain, asked, trustDomains)
      seen[expected === undefined ? 'passed' : 'refused'] += 1
      if (got === expected) continue
      t.equal(got, expected, JSON.stringify({ plain, asked, headers: [...(asked.http?.headers ?? [])] }))
      return
    }
  }
  t.comment(`${seen.passed} passed, ${seen.refused} were refused`)
  t.ok(seen.passed > 100 && seen.refused > 100, 'both happen')
})
