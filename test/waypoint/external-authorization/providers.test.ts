/** Authorizers as the mesh configuration defines them: AZ-41, AZ-43, AZ-44, AZ-45. */
import t from 'tap'
import {
  readProviders,
  type HttpProvider,
  type Provider
} from '../../../waypoint/external-authorization/providers.ts'

type Json = Readonly<Record<string, unknown>>

const least = { service: 'shop/authz.shop.svc.cluster.local', port: 8000 }
const http = (more: Json = {}): Json => ({ name: 'a', envoyExtAuthzHttp: { ...least, ...more } })
const grpc = (more: Json = {}): Json => ({ name: 'a', envoyExtAuthzGrpc: { ...least, ...more } })
const read = (entry: Json): Provider | undefined => readProviders([entry]).get('a')

t.test('AZ-43: what an authorizer is where little is said', async t => {
  const service = { namespace: 'shop', hostname: 'authz.shop.svc.cluster.local', port: 8000 }
  const common = { name: 'a', service, timeoutMs: 1000, failOpen: false, statusOnError: 403 }
  t.strictSame(read(grpc()), { kind: 'grpc', ...common })
  t.match(read(http()), {
    kind: 'http',
    ...common,
    pathPrefix: '',
    extraHeaders: [],
    downstreamOnDeny: undefined
  })
})

t.test('AZ-43: and where much is said', async t => {
  const said = {
    service: 'authz.example',
    timeout: '2.5s',
    failOpen: true,
    statusOnError: '503',
    clearRouteCache: true
  }
  const service = { namespace: undefined, hostname: 'authz.example', port: 8000 }
  for (const form of [http, grpc]) {
    t.match(read(form(said)), { service, timeoutMs: 2500, failOpen: true, statusOnError: 503 })
  }
})

t.test('AZ-44, AZ-45: headers by name, beginning and end, without case', async t => {
  const lists = ['headersToUpstreamOnAllow', 'headersToDownstreamOnAllow', 'headersToDownstreamOnDeny']
  const names = ['X-User', 'x-team-*', '*-Id']
  const provider = read(
    http({
      pathPrefix: '/check',
      includeRequestHeadersInCheck: names,
      includeHeadersInCheck: ['X-Older'],
      includeAdditionalHeadersInCheck: { 'X-Static': 'yes' },
      ...Object.fromEntries(lists.map(list => [list, names]))
    })
  ) as HttpProvider
  t.match(provider, { kind: 'http', pathPrefix: '/check', extraHeaders: [['x-static', 'yes']] })
  const { requestHeaders, upstreamOnAllow, downstreamOnAllow, downstreamOnDeny } = provider
  for (const test of [requestHeaders, upstreamOnAllow, downstreamOnAllow, downstreamOnDeny]) {
    const found = ['x-user', 'x-users', 'x-team-a', 'x-team', 'x-request-id', 'id'].map(name => test?.(name))
    t.strictSame(found, [true, false, true, false, true, false])
  }
  t.strictSame([requestHeaders('x-older'), upstreamOnAllow('x-older')], [true, false])
})

const wrong: readonly (readonly [entry: Json, reason: RegExp])[] = [
  [http({ service: undefined }), /^envoyExtAuthzHttp\.service: is required/],
  [http({ service: 'a/b/c' }), /service: expected host or namespace\/host/],
  [http({ service: '/host' }), /service: expected host or namespace\/host/],
  [http({ service: 'host:80' }), /service: expected host or namespace\/host/],
  [http({ service: 'a host' }), /service: expected host or namespace\/host/],
  [grpc({ port: undefined }), /^envoyExtAuthzGrpc\.port: expected a port from 1/],
  [grpc({ port: 65_536 }), /port: expected a whole number up to 65535/],
  [grpc({ port: '80' }), /port: expected a whole number/],
  [grpc({ timeout: 'soon' }), /timeout: expected a duration up to 600s, found "soon"/],
  [grpc({ timeout: '0s' }), /timeout: expected a duration/],
  [grpc({ timeout: '601s' }), /timeout: expected a duration/],
  [grpc({ statusOnError: '200' }), /statusOnError: expected a status from 400 to 599/],
  [grpc({ statusOnError: 503 }), /statusOnError: expected text/],
  [grpc({ failOpen: 'yes' }), /failOpen: expected true or false/],
  [grpc({ failopen: true }), /failopen: unknown field/],
  [grpc({ pathPrefix: '/x' }), /pathPrefix: unknown field/],
  [
    grpc({ includeRequestBodyInCheck: { maxRequestBytes: 10 } }),
    /includeRequestBodyInCheck: is not supported/
  ],
  [http({ includeRequestBodyInCheck: {} }), /includeRequestBodyInCheck: is not supported/],
  [http({ pathPrefix: 'check' }), /pathPrefix: expected a path that begins with a slash/],
  [http({ pathPrefix: '/a b' }), /pathPrefix: expected a path/],
  [http({ pathPrefix: '/a?b=' }), /pathPrefix: expected a path/],
  [http({ headersToUpstreamOnAllow: ['*'] }), /headersToUpstreamOnAllow\[0\]: expected the name of a header/],
  [http({ headersToDownstreamOnDeny: ['a', '*b*'] }), /headersToDownstreamOnDeny\[1\]: expected the name/],
  [http({ includeRequestHeadersInCheck: ['a*b'] }), /includeRequestHeadersInCheck\[0\]: expected the name/],
  [http({ includeRequestHeadersInCheck: [7] }), /includeRequestHeadersInCheck\[0\]: expected the name/],
  [http({ includeRequestHeadersInCheck: 'x' }), /includeRequestHeadersInCheck: expected a list/],
  [http({ includeAdditionalHeadersInCheck: { Host: 'x' } }), /\["Host"\]: is no name of a header/],
  [http({ includeAdditionalHeadersInCheck: { 'a b': 'x' } }), /\["a b"\]: is no name of a header/],
  [
    http({ includeAdditionalHeadersInCheck: { a: 'x\r\nb: c' } }),
    /\["a"\]: expected text that a header can carry/
  ],
  [{ ...http(), ...grpc() }, /stands beside another kind of provider/],
  [{ ...http(), other: {} }, /^other: unknown field/],
  [{ name: 'a', envoyExtAuthzHttp: null }, /service: is required|expected a mapping/],
  [{ name: 'a', envoyExtAuthzGrpc: 'here' }, /envoyExtAuthzGrpc: expected a mapping/]
]

t.test('what is wrong has its reason, with the field', async t => {
  for (const [entry, reason] of wrong) {
    t.match(read(entry), { kind: 'invalid', name: 'a', reason }, JSON.stringify(entry))
  }
  t.match(read(http({ port: 0, timeout: 'x' })), { reason: /timeout: .*; .*port: / }, 'all of them together')
})

t.test('a provider touches no other one', async t => {
  const providers = readProviders([
    http({ port: 0 }),
    { ...grpc(), name: 'b' },
    { ...grpc(), name: 'twice' },
    { ...grpc(), name: 'twice' },
    { name: 'logs', envoyFileAccessLog: { path: '/dev/stdout' } },
    { envoyExtAuthzGrpc: least },
    { ...grpc(), name: 7 },
    null,
    'text'
  ])
  const kinds = [...providers].map(([name, { kind }]) => `${name} ${kind}`)
  t.strictSame(kinds, ['a invalid', 'b grpc', 'twice invalid'])
})

t.test('what is no list has no providers', async t => {
  for (const value of [undefined, null, {}, 'x', 7, []]) t.equal(readProviders(value).size, 0)
})
