/** What a value of each field matches: AZ-14 to AZ-19, AZ-21 to AZ-25. */
import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import type { HttpFacts, RequestFacts } from '../../../waypoint/authorization/facts.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { connection, matches, mesh, peer, request, type Json } from './support.ts'

type Row = readonly [value: string, text: string, matched: boolean]

function textTable(
  name: string,
  rows: readonly Row[],
  rule: (value: string, not: boolean) => Json,
  facts: (text: string) => RequestFacts
): void {
  t.test(name, async t => {
    for (const [value, text, matched] of rows) {
      t.equal(matches(rule(value, false), facts(text)), matched, `${value} on ${JSON.stringify(text)}`)
      t.equal(matches(rule(value, true), facts(text)), !matched, `not ${value} on ${JSON.stringify(text)}`)
    }
  })
}

function operation(name: string): (value: string, not: boolean) => Json {
  const notName = `not${name.charAt(0).toUpperCase()}${name.slice(1)}`
  return (value, not) => ({ to: [{ operation: { [not ? notName : name]: [value] } }] })
}

function source(name: string): (value: string, not: boolean) => Json {
  const notName = `not${name.charAt(0).toUpperCase()}${name.slice(1)}`
  return (value, not) => ({ from: [{ source: { [not ? notName : name]: [value] } }] })
}

function condition(key: string): (value: string, not: boolean) => Json {
  return (value, not) => ({ when: [{ key, [not ? 'notValues' : 'values']: [value] }] })
}

const http =
  (name: keyof HttpFacts) =>
  (text: string): RequestFacts =>
    request({ [name]: text })

const patterns: readonly Row[] = [
  ['/cart', '/cart', true],
  ['/cart', '/Cart', false],
  ['/cart', '/cart/', false],
  ['/cart*', '/cart/1', true],
  ['/cart*', '/cart', true],
  ['/cart*', '/a/cart', false],
  ['*/edit', '/a/edit', true],
  ['*/edit', '/edit', true],
  ['*/edit', '/edit/x', false],
  ['*', '/', true],
  ['*', '', false],
  ['/a*c', '/a*c', true],
  ['/a*c', '/abc', false],
  ['*/b*', '/a/b*', true],
  ['*/b*', '/a/b/c', false],
  ['*a', 'a', true],
  ['a*', '', false]
]

textTable('AZ-14: paths are exact, prefix, suffix or there', patterns, operation('paths'), http('path'))

textTable('AZ-14: so are server names, headers and claims', patterns, condition('connection.sni'), sni => ({
  ...connection,
  http: request().http,
  sni
}))

textTable(
  'AZ-15: hosts have no case, but a port',
  [
    ['example.com', 'EXAMPLE.com', true],
    ['EXAMPLE.com', 'example.COM', true],
    ['example.com', 'example.com:8080', false],
    ['example.com*', 'Example.com:8080', true],
    ['*.Example.com', 'a.example.COM', true],
    ['*.example.com', 'example.com', false],
    ['*', 'x', true],
    ['*', '', false],
    ['*com', '', false]
  ],
  operation('hosts'),
  http('authority')
)

textTable(
  'AZ-15: methods have',
  [
    ['GET', 'GET', true],
    ['get', 'GET', false],
    ['P*', 'POST', true],
    ['*T', 'PUT', true],
    ['*', 'X', true],
    ['POST', 'GET', false]
  ],
  operation('methods'),
  http('method')
)

textTable(
  'AZ-16, AZ-17: headers by names without case; those sent twice are one list; a star is for an empty one too',
  [
    ['a', 'x-who: a', true],
    ['A', 'x-who: a', false],
    ['a*', 'x-who: abc', true],
    ['*c', 'x-who: abc', true],
    ['a,b', 'x-who: a; x-who: b', true],
    ['a', 'x-who: a; x-who: b', false],
    ['a*', 'x-who: a; x-who: b', true],
    ['*b', 'x-who: a; x-who: b', true],
    ['*', 'x-who: ', true],
    ['*', 'x-other: a', false],
    ['a', 'x-other: a', false]
  ],
  condition('request.headers[X-Who]'),
  text =>
    request({
      headers: HeaderList.of(
        ...text.split('; ').flatMap(line => {
          const [name = '', value = ''] = line.split(': ')
          return [name, value]
        })
      )
    })
)

t.test('AZ-23: what HTTP/2 has before its headers can be named as one', async t => {
  const facts = request({ method: 'PUT', authority: 'A.example' })
  t.ok(matches(condition('request.headers[:method]')('PUT', false), facts))
  t.ok(matches(condition('request.headers[:authority]')('A.example', false), facts))
  t.ok(matches(condition('request.headers[Host]')('A.*', false), facts))
  t.notOk(matches(condition('request.headers[host]')('a.*', false), facts), 'a header has case')
})

textTable(
  'AZ-21: templates',
  [
    ['/foo/{*}', '/foo/bar', true],
    ['/foo/{*}', '/foo/bar/baz', false],
    ['/foo/{*}', '/foo/', false],
    ['/foo/{*}', '/foo', false],
    ['/foo/{*}/', '/foo/bar/', true],
    ['/foo/{*}/', '/foo/bar', false],
    ['/foo/{**}/', '/foo/bar/', true],
    ['/foo/{**}/', '/foo//', true],
    ['/foo/{**}/', '/foo/bar', false],
    ['/foo/{**}/', '/foo/', false],
    ['/foo/{**}', '/foo/', true],
    ['/foo/{**}', '/foo/a/b/', true],
    ['/foo/{**}', '/foo', false],
    ['/foo/{*}/bar/{**}', '/foo/x/bar/', true],
    ['/foo/{*}/bar/{**}', '/foo/x/bar/y', true],
    ['/foo/{*}/bar/{**}', '/foo/x/y/bar/z', false],
    ['/{*}/{*}/c', '/a/b/c', true],
    ['/{*}/{*}/c', '/a//c', false],
    ['/{**}/path/template', '/a/b/path/template', true],
    ['/{**}/path/template', '/path/template', false],
    ['/{**}/path/template', '/a/path/template/b', false],
    ['/{*}', '/x', true],
    ['/{*}', '/', false],
    ['/{**}', '/', true]
  ],
  operation('paths'),
  http('path')
)

const identities: readonly (readonly [field: string, key: string, rows: readonly Row[]])[] = [
  [
    'principals',
    'source.principal',
    [
      ['cluster.local/ns/front/sa/site', 'cluster.local front site', true],
      ['cluster.local/ns/front/sa/site', 'cluster.local front sites', false],
      ['cluster.local/ns/front/*', 'cluster.local front site', true],
      ['*/sa/site', 'cluster.local front site', true],
      ['*/sa/site', 'cluster.local front website', false],
      ['*site', 'cluster.local front website', true],
      ['*', 'other front site', true],
      ['spiffe://cluster.local/ns/front/sa/site', 'cluster.local front site', false],
      ['*/ns/front/sa/site', 'other front site', true],
      ['other/ns/front/sa/site', 'other front site', true]
    ]
  ],
  [
    'namespaces',
    'source.namespace',
    [
      ['front', 'cluster.local front site', true],
      ['front', 'cluster.local front-2 front', false],
      ['fro*', 'cluster.local front site', true],
      ['*ont', 'cluster.local front site', true],
      ['f*t', 'cluster.local front site', true],
      ['f*o*t', 'cluster.local front site', true],
      ['f*x*t', 'cluster.local front site', false],
      ['ab*ba', 'cluster.local aba site', false],
      ['a*bc*c', 'cluster.local abc site', false],
      ['a*b*b*c', 'cluster.local abc site', false],
      ['a*b*b*c', 'cluster.local abbc site', true],
      ['*', 'cluster.local front site', true],
      // A star does not reach into the rest of the identity, of which each has an /sa/.
      ['*sa', 'cluster.local front site', false],
      ['ns', 'cluster.local ns sa', true],
      ['sa', 'cluster.local sa ns', true],
      ['sa', 'cluster.local ns sa', false]
    ]
  ],
  [
    'serviceAccounts',
    'source.serviceAccount',
    [
      ['front/site', 'cluster.local front site', true],
      ['front/site', 'other front site', true],
      ['front/site', 'cluster.local shop site', false],
      ['site', 'cluster.local shop site', true],
      ['site', 'cluster.local front site', false],
      ['front/site', 'cluster.local front website', false]
    ]
  ],
  [
    'trustDomains',
    'source.trustDomain',
    [
      ['cluster.local', 'cluster.local front site', true],
      ['cluster.local', 'cluster.local.evil front site', false],
      ['cluster*', 'cluster.local front site', true],
      ['*.local', 'cluster.local front site', true],
      ['clu*cal', 'cluster.local front site', true],
      ['*', 'other front site', true],
      ['cluster', 'cluster.local front site', false]
    ]
  ]
]

for (const [field, key, rows] of identities) {
  const facts = (text: string): RequestFacts => {
    const [trustDomain = '', namespace = '', serviceAccount = ''] = text.split(' ')
    return { ...request(), peer: peer(trustDomain, namespace, serviceAccount) }
  }
  textTable(`the client by ${field}`, rows, source(field), facts)
  textTable(`the client by ${key}`, rows, condition(key), facts)
}

const aliases: readonly (readonly [
  trustDomains: readonly string[],
  principal: string,
  of: readonly string[],
  notOf: readonly string[]
])[] = [
  [['td2', 'td1'], 'td1/ns/front/sa/site', ['td1', 'td2'], ['td3']],
  [['td1', 'old'], 'cluster.local/ns/front/sa/site', ['td1', 'old'], ['cluster.local']],
  [['td2', 'foo-td1'], '*-td1/ns/front/sa/site', ['td2', 'foo-td1', 'bar-td1'], ['td1']],
  [['new-td', 'old-td'], '*-td/ns/front/sa/site', ['new-td', 'old-td'], ['td']],
  [['td1'], 'elsewhere/ns/front/sa/site', ['elsewhere'], ['td1']],
  [['td1'], '*/ns/front/sa/site', ['td1', 'elsewhere'], []],
  [['td1', '*'], 'elsewhere/ns/front/sa/site', ['td1', 'elsewhere', 'third'], []],
  [['td1', '*.old'], 'a.old/ns/front/sa/site', ['td1'], ['old']],
  [['td1', 'old'], 'td1/ns/front/*', ['td1'], ['old']], // four parts have no trust domain to replace
  [['td1', 'old'], 'td1/ns/front/sa/s*', ['td1', 'old'], []]
]

t.test('AZ-18: a principal of one of our trust domains is one of all of them', async t => {
  for (const [trustDomains, principal, of, notOf] of aliases) {
    for (const name of [...of, ...notOf]) {
      const facts = { ...request(), peer: peer(name, 'front', 'site') }
      const got = matches(source('principals')(principal, false), facts, { mesh: { ...mesh, trustDomains } })
      t.equal(got, of.includes(name), `${principal} with ${trustDomains.join(', ')} on ${name}`)
      const when = matches(condition('source.principal')(principal, false), facts, {
        mesh: { ...mesh, trustDomains }
      })
      t.equal(when, got, 'the condition agrees')
    }
  }
})

t.test('AZ-18: trust domains stand for their aliases only when they are written out', async t => {
  const more = { mesh: { ...mesh, trustDomains: ['td1', 'old'] } }
  const facts = { ...request(), peer: peer('old', 'front', 'site') }
  t.ok(matches(source('trustDomains')('td1', false), facts, more))
  t.notOk(matches(source('trustDomains')('td1*', false), facts, more))
})

t.test('AZ-19: a principal that must not be any is never true: every client has one', async t => {
  t.notOk(matches(source('principals')('*', true), request()))
})

const addresses: readonly Row[] = [
  ['10.1.2.3', '10.1.2.3', true],
  ['10.1.2.3', '10.1.2.30', false],
  ['10.1.0.0/16', '10.1.255.255', true],
  ['10.1.0.0/16', '10.2.0.0', false],
  ['0.0.0.0/0', '255.255.255.255', true],
  ['0.0.0.0/0', '2001:db8::1', false],
  ['0.0.0.0/0', '::1', false],
  ['128.0.0.0/1', '200.0.0.1', true],
  ['128.0.0.0/1', '127.255.255.255', false],
  ['10.1.2.3/31', '10.1.2.2', true],
  ['2001:db8::/32', '2001:db8:1::1', true],
  ['2001:db8::/32', '2001:db9::1', false],
  ['::/0', '10.1.2.3', false],
  ['2001:db8::1', '2001:db8::1', true]
]
const client = (text: string): RequestFacts => ({ ...request(), clientIp: ip(text) })
textTable('addresses of clients', addresses, source('ipBlocks'), client)
textTable('which are also those that are remote', addresses, source('remoteIpBlocks'), client)
textTable('source.ip', addresses, condition('source.ip'), client)
textTable('remote.ip', addresses, condition('remote.ip'), client)
textTable('AZ-25: the address that was asked for', addresses, condition('destination.ip'), text => ({
  ...request(),
  destination: { ip: ip(text), port: 80 }
}))

const ports: readonly Row[] = [
  ['80', '80', true],
  ['80', '8080', false],
  ['65535', '65535', true]
]
const at = (text: string): RequestFacts => ({ ...request(), destination: { port: Number(text) } })
textTable('ports as they were asked for', ports, operation('ports'), at)
textTable('destination.port', ports, condition('destination.port'), at)

t.test('AZ-22: what is not there must not be anything', async t => {
  const bare: RequestFacts = { ...request({ authority: '' }), destination: { port: 80 } }
  const rules = [
    operation('hosts')('*', true),
    condition('destination.ip')('0.0.0.0/0', true),
    condition('connection.sni')('*', true),
    condition('request.headers[x]')('*', true),
    source('requestPrincipals')('*', true)
  ]
  for (const rule of rules) t.ok(matches(rule, bare), JSON.stringify(rule))
})
