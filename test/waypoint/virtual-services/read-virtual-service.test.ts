/** VirtualServices as they are written: every field, by table, and what is said of those that are wrong. */
import t from 'tap'
import { unreadableVirtualService } from '../../../waypoint/virtual-services/read-virtual-service.ts'
import { domain, matches, read, resource, route, rule } from './support.ts'

t.test('hosts and destinations in full', async t => {
  const { hosts, http } = read({
    hosts: ['web', '*.Example.com', 'web.other.svc.cluster.local'],
    exportTo: ['*'],
    gateways: ['mesh'],
    http: [{ route: [{ destination: { host: 'b', subset: 'v1', port: { number: 81 } } }] }]
  })
  t.strictSame(hosts, ['web.shop.svc.cluster.local', '*.example.com', 'web.other.svc.cluster.local'])
  t.match(http[0]?.rule.backends, [
    {
      kind: 'service',
      hostname: 'b.shop.svc.cluster.local',
      namespace: 'shop',
      port: 81,
      subset: 'v1',
      weight: 1
    }
  ])
  const [own, other, far, said, none] = [
    { host: 'a' },
    { host: 'a.lab.svc.cluster.local' },
    { host: 'api.test' },
    { host: 'api.test', namespace: 'egress' },
    { unresolved: 'no such service' }
  ].map(destination => rule({ route: [{ destination }] }).backends[0])
  t.match(own, { namespace: 'shop', port: 0 })
  t.match(other, { namespace: 'lab' })
  t.match(far, { namespace: 'shop', hostname: 'api.test' })
  t.match(said, { namespace: 'egress' })
  t.match(none, { kind: 'unresolved', reason: 'no such service' })
  t.strictSame(read({ gateways: ['shop/edge'], http: [{ route }] }).hosts, [], 'not for the mesh')
})

t.test('weights, VS-11', async t => {
  const weights = (...list: readonly (number | undefined)[]): readonly number[] =>
    rule({
      route: list.map(weight => ({
        destination: { host: 'web' },
        ...(weight === undefined ? {} : { weight })
      }))
    }).backends.map(({ weight }) => weight)
  t.strictSame(weights(undefined), [1])
  t.strictSame(weights(0), [1], 'one that is alone takes everything')
  t.strictSame(weights(80, 20, 0, undefined), [80, 20])
})

t.test('matches, VS-09, VS-10', async t => {
  const [all] = matches({
    name: 'a',
    statPrefix: 'b',
    uri: { prefix: '/Foo' },
    ignoreUriCase: true,
    scheme: { exact: 'https' },
    method: { regex: 'GET|HEAD' },
    authority: { prefix: 'shop.' },
    headers: { 'X-User': { exact: 'ann' }, 'x-any': {}, 'x-star': { regex: '*' }, uri: { exact: 'ignored' } },
    withoutHeaders: { 'X-Bot': {} },
    queryParams: { Q: { regex: '\\d+' } },
    port: 80,
    gateways: ['edge', 'mesh'],
    sourceNamespace: 'lab'
  })
  t.match(all, {
    path: { text: { kind: 'prefix', value: '/foo' }, ignoresCase: true },
    scheme: { kind: 'exact', value: 'https' },
    method: { kind: 'regex' },
    authority: { kind: 'prefix', value: 'shop.' },
    headers: [
      { name: 'x-user', text: { kind: 'exact', value: 'ann' } },
      { name: 'x-any', text: { kind: 'present' } },
      { name: 'x-star', text: { kind: 'present' } }
    ],
    withoutHeaders: [{ name: 'x-bot', text: { kind: 'present' } }],
    query: [{ name: 'Q', text: { kind: 'regex' } }],
    port: 80,
    sourceNamespace: 'lab'
  })
  t.equal(all?.headers.length, 3)
  t.strictSame(matches({ uri: { prefix: '' } })[0]?.path, undefined, 'every path')
  t.strictSame(matches({ sourceLabels: { app: 'a' } }), [], 'VS-05: labels of clients are not known')
  t.strictSame(matches({ gateways: ['edge'] }), [])
  t.equal(read({ http: [{ route }] }).http[0]?.matches.length, 1, 'without any it is for every request')
})

t.test('what becomes of requests, VS-12, VS-13', async t => {
  const { filters } = rule({
    rewrite: { uri: '/v2', authority: 'v2.test' },
    headers: {
      request: {
        set: { 'X-A': '1', Host: 'lost.test' },
        add: { 'x-b': '50%%', 'x-c': '2' },
        remove: ['X-C', 'x-d']
      },
      response: { add: { 'x-e': '3' } }
    }
  })
  t.match(filters.rewrite, { hostname: 'v2.test', path: { kind: 'text', value: '/v2' } })
  t.strictSame(filters.requestHeaders, {
    set: [
      ['x-a', '1'],
      ['x-c', '2']
    ],
    add: [['x-b', '50%']],
    remove: ['x-d']
  })
  t.strictSame(filters.responseHeaders, { set: [], add: [['x-e', '3']], remove: [] })
  t.match(rule({ headers: { request: { set: { ':authority': 'a.test' } } } }).filters.rewrite, {
    hostname: 'a.test'
  })
  const expression = rule({ rewrite: { uriRegexRewrite: { match: '^/a/(.*)$', rewrite: '/b/\\1' } } }).filters
    .rewrite
  t.equal(expression?.path?.kind === 'expression' && expression.path.value.apply('/a/c'), '/b/c')
  const [backend] = rule({
    route: [{ destination: { host: 'web' }, headers: { request: { remove: ['x-a'] } } }]
  }).backends
  t.strictSame(backend?.filters.requestHeaders, { set: [], add: [], remove: ['x-a'] })
})

t.test('answers of its own, VS-12', async t => {
  for (const [fields, expected] of [
    [{ redirect: {} }, { kind: 'redirect', status: 301, uri: undefined, port: undefined }],
    [
      { redirect: { uri: '/a', authority: 'b.test', scheme: 'HTTPS', port: 8443, redirectCode: 308 } },
      { uri: '/a', authority: 'b.test', scheme: 'https', port: 8443, status: 308 }
    ],
    [{ redirect: { prefixRewrite: '/b' } }, { uri: undefined, prefix: '/b' }],
    [{ redirect: { derivePort: 'FROM_REQUEST_PORT' } }, { port: 'request' }],
    [{ redirect: { derivePort: 'FROM_PROTOCOL_DEFAULT' } }, { port: undefined }],
    [{ directResponse: { status: 204 } }, { kind: 'direct', status: 204, body: '' }],
    [{ directResponse: { status: 503, body: { string: 'späť' } } }, { body: 'späť' }],
    [{ directResponse: { status: 200, body: { bytes: 'aGk=' } } }, { body: 'hi' }]
  ] as const) {
    const { filters, backends } = rule(fields)
    t.match(filters.ownAnswer, expected)
    t.strictSame(backends, [])
  }
})

t.test('mirrors, VS-14, VS-17', async t => {
  const of = (fields: object): readonly object[] => rule(fields).filters.mirrors
  const mirror = { host: 'b' }
  for (const [fields, share] of [
    [{ mirror }, 1],
    [{ mirror, mirrorPercent: 30 }, 0.3],
    [{ mirror, mirrorPercentage: { value: 0.0001 } }, 0.000_001],
    [{ mirror, mirrorPercentage: {} }, 0],
    [{ mirrors: [{ destination: mirror }] }, 1],
    [{ mirrors: [{ destination: mirror, percentage: { value: 12.5 } }] }, 0.125]
  ] as const) {
    t.match(of(fields), [{ backend: { hostname: 'b.shop.svc.cluster.local' }, share, shadowHost: true }])
  }
})

t.test('faults, VS-15, VS-17', async t => {
  const percentage = { value: 0.5 }
  for (const [fault, expected] of [
    [{ delay: { fixedDelay: '5s', percentage } }, { delay: { ms: 5000, share: 0.005 }, abort: undefined }],
    [{ delay: { fixedDelay: '1h1m', percent: 10 } }, { delay: { ms: 3_660_000, share: 0.1 } }],
    [{ delay: { fixedDelay: '5s' } }, { delay: { share: 0 } }],
    [{ delay: { fixedDelay: '1000h', percentage } }, { delay: { ms: 2 ** 31 - 1 } }],
    [
      { abort: { httpStatus: 400, percentage } },
      { abort: { status: 400, grpcStatus: undefined, share: 0.005 } }
    ],
    [{ abort: { grpcStatus: 'UNAVAILABLE' } }, { abort: { status: 503, grpcStatus: 14, share: 0 } }],
    [{ abort: { grpcStatus: '7' } }, { abort: { status: 403, grpcStatus: 7 } }],
    [{ abort: { grpcStatus: 'not_found' } }, { abort: { status: 404, grpcStatus: 5 } }]
  ] as const) {
    t.match(rule({ fault }).fault, expected)
  }
})

t.test('retries and timeouts, VS-19 to VS-22', async t => {
  const conditions = {
    reset: false,
    resetBeforeRequest: false,
    connectFailure: false,
    refusedStream: false,
    avoidsTried: true
  }
  const usual = {
    ...conditions,
    connectFailure: true,
    refusedStream: true,
    grpcStatuses: new Set(['14', '1'])
  }
  t.match(rule({}), {
    retry: { times: 2, statuses: new Set(), conditions: usual },
    requestTimeoutMs: undefined,
    backendTimeoutMs: undefined
  })
  t.match(rule({ retries: {} }).retry, { times: 0 }, 'attempts that are not counted are none')
  t.match(rule({ retries: { attempts: 3 } }).retry, { times: 3, conditions: usual })
  t.match(rule({ timeout: '3s', retries: { attempts: 1, perTryTimeout: '2s', backoff: '100ms' } }), {
    retry: { backoffMs: 100 },
    requestTimeoutMs: 3000,
    backendTimeoutMs: 2000
  })
  t.equal(rule({ timeout: '0s' }).requestTimeoutMs, undefined)
  const retryOn = (text: string, more: object = {}): unknown =>
    rule({ retries: { attempts: 1, retryOn: text, ...more } }).retry
  t.match(retryOn('5xx'), {
    statuses: new Set(Array.from({ length: 100 }, (_, at) => 500 + at)),
    conditions: { reset: true }
  })
  t.match(retryOn('gateway-error, retriable-4xx ,418'), { statuses: new Set([502, 503, 504, 409, 418]) })
  t.match(retryOn('reset-before-request,internal'), {
    conditions: { ...conditions, resetBeforeRequest: true, grpcStatuses: new Set(['13']) }
  })
  t.match(retryOn('reset,deadline-exceeded,resource-exhausted'), {
    conditions: { reset: true, grpcStatuses: new Set(['4', '8']) }
  })
  t.match(retryOn('retriable-headers,retriable-status-codes'), {
    statuses: new Set(),
    conditions: { ...conditions, grpcStatuses: new Set() }
  })
  t.match(retryOn('reset', { retryIgnorePreviousHosts: false, retryRemoteLocalities: true }), {
    conditions: { avoidsTried: false }
  })
})

t.test('CORS, VS-16', async t => {
  t.match(
    rule({
      corsPolicy: {
        allowOrigins: [
          { exact: 'https://a.test' },
          { exact: '*' },
          { prefix: 'https://b' },
          { regex: '.*c' },
          { exact: 'null' }
        ],
        allowOrigin: ['http://d.test:81'],
        allowMethods: ['GET'],
        allowHeaders: ['x-a'],
        exposeHeaders: ['x-b'],
        maxAge: '90s',
        allowCredentials: true
      }
    }).filters.cors,
    {
      origins: [
        { kind: 'one', scheme: 'https', host: 'a.test', port: 443 },
        { kind: 'any' },
        { kind: 'written', text: { kind: 'prefix', value: 'https://b' } },
        { kind: 'written', text: { kind: 'regex' } },
        { kind: 'written', text: { kind: 'exact', value: 'null' } },
        { kind: 'one', scheme: 'http', host: 'd.test', port: 81 }
      ],
      methods: ['GET'],
      headers: ['x-a'],
      exposed: ['x-b'],
      maxAgeSeconds: 90,
      credentials: true,
      forwardsOthers: true
    }
  )
  const ignoring = rule({ corsPolicy: { unmatchedPreflights: 'IGNORE' } }).filters.cors
  t.equal(ignoring?.forwardsOthers, undefined)
  t.equal(ignoring?.maxAgeSeconds, undefined)
})

t.test('connections, VS-06', async t => {
  const { tcp, tls } = read({
    tcp: [{ match: [{ port: 80 }], route }, { route }],
    tls: [
      { match: [{ sniHosts: ['web.shop.svc.cluster.local'], port: 443 }], route },
      { match: [{ sniHosts: ['a'], sourceLabels: { a: 'b' } }], route }
    ]
  })
  t.match(tcp, [
    { matches: [{ port: 80, serverNames: undefined }], unsupported: undefined },
    { matches: [{ port: undefined }] }
  ])
  t.match(tls[0]?.matches, [{ port: 443, serverNames: ['web.shop.svc.cluster.local'] }])
  t.strictSame(tls[1]?.matches, [])
  for (const field of [
    { destinationSubnets: ['10.0.0.0/8'] },
    { sourceSubnet: '10.0.0.0/8' },
    { sourceNamespace: 'a' }
  ]) {
    const [made] = read({ tcp: [{ match: [field], route }] }).tcp
    t.match(made?.unsupported, new RegExp(`${Object.keys(field)[0]}: is not looked at by a waypoint`))
  }
})

for (const [what, fields, expected] of [
  ['delegate', { delegate: { name: 'a' }, route: undefined }, /http\[0\]\.delegate: is for gateways/],
  [
    'a variable of Envoy',
    { headers: { request: { add: { a: '%REQ(x)%' } } } },
    /headers\.request\.add\["a"\]: .*variable of Envoy/
  ],
  [
    'a header of the connection',
    { headers: { response: { set: { 'transfer-encoding': 'a' } } } },
    /proxy's own/
  ],
  ['a name that is none', { headers: { request: { remove: ['a b'] } } }, /remove\[0\].*no header name/],
  ['characters of no header', { headers: { request: { set: { a: 'a\nb' } } } }, /cannot carry/],
  ['a host that is none', { headers: { request: { set: { host: 'a b' } } } }, /is no host/],
  ['exponentialDelay', { fault: { delay: { exponentialDelay: '5s' } } }, /use fixedDelay/],
  ['http2Error', { fault: { abort: { http2Error: 'X' } } }, /use httpStatus or grpcStatus/],
  ['a path that is none', { rewrite: { uri: '/a b' } }, /rewrite\.uri: .*percent-encoded/],
  ['an authority that is none', { rewrite: { authority: 'a/b' } }, /rewrite\.authority: .*no host/],
  ['bytes that are no text', { directResponse: { status: 200, body: { bytes: '/w==' } } }, /UTF-8/]
] as const) {
  t.test(`valid, but not carried out: ${what}`, async t =>
    t.match(rule(fields).filters.unsupported, expected)
  )
}

const http = (fields: object): object => ({ http: [{ route, ...fields }] })

for (const [what, spec, expected] of [
  ['no hosts', { hosts: undefined }, /spec\.hosts: is required/],
  ['an unknown field', http({ webRoute: 1 }), /spec\.http\[0\]\.webRoute: unknown field/],
  ['no way', { http: [{ match: [] }] }, /spec\.http\[0\]: needs one of route, redirect and directResponse/],
  ['two ways', http({ redirect: { uri: '/' } }), /needs one of/],
  [
    'no destination',
    http({ route: [{ weight: 1 }] }),
    /spec\.http\[0\]\.route\[0\]\.destination: is required/
  ],
  ['no host', http({ route: [{ destination: {} }] }), /destination\.host: is required/],
  ['a weight below 0', http({ route: [{ destination: { host: 'a' }, weight: -1 }] }), /route\[0\]\.weight/],
  [
    'nothing but weights of 0',
    http({ route: [{ destination: { host: 'a' } }, { destination: { host: 'b' } }] }),
    /http\[0\]\.route: has no destination with a weight above 0/
  ],
  [
    'two conditions in one',
    http({ match: [{ uri: { exact: 'a', prefix: 'b' } }] }),
    /match\[0\]\.uri: has more than one/
  ],
  [
    'an expression that is none',
    http({ match: [{ headers: { a: { regex: '(?=x)' } } }] }),
    /headers\["a"\]\.regex: .*RE2/
  ],
  ['a match that is none', http({ match: ['a'] }), /match\[0\]: expected a mapping/],
  ['a port that is none', http({ match: [{ port: 70_000 }] }), /match\[0\]\.port/],
  [
    'a redirect of no kind',
    { http: [{ redirect: { redirectCode: 305 } }] },
    /redirectCode: expected one of 301/
  ],
  [
    'two paths of a redirect',
    { http: [{ redirect: { uri: '/', prefixRewrite: '/' } }] },
    /redirect: has uri and prefixRewrite/
  ],
  ['a scheme that is none', { http: [{ redirect: { scheme: 'a b' } }] }, /scheme/],
  ['a port that is derived from nothing', { http: [{ redirect: { derivePort: 'X' } }] }, /derivePort/],
  ['a status that is none', { http: [{ directResponse: { status: 99 } }] }, /directResponse\.status/],
  [
    'a long body',
    { http: [{ directResponse: { status: 200, body: { string: 'x'.repeat(1_048_577) } } }] },
    /body: is longer than 1048576 bytes/
  ],
  [
    'two bodies',
    { http: [{ directResponse: { status: 200, body: { string: 'a', bytes: 'aGk=' } } }] },
    /keep one/
  ],
  ['two rewrites', http({ rewrite: { uri: '/', uriRegexRewrite: { match: 'a' } } }), /keep one of them/],
  [
    'a group that there is not',
    http({ rewrite: { uriRegexRewrite: { match: 'a', rewrite: '\\1' } } }),
    /stands for nothing/
  ],
  ['an expression to rewrite that is none', http({ rewrite: { uriRegexRewrite: { match: '(' } } }), /RE2/],
  ['a time that is none', http({ timeout: 'soon' }), /spec\.http\[0\]\.timeout: .*"soon"/],
  ['too many attempts', http({ retries: { attempts: 101 } }), /retries\.attempts/],
  [
    'a condition that is none',
    http({ retries: { attempts: 1, retryOn: 'sometimes' } }),
    /retryOn: "sometimes" is neither/
  ],
  ['a try that takes no time', http({ retries: { attempts: 1, perTryTimeout: '0s' } }), /perTryTimeout/],
  [
    'a delay without its time',
    http({ fault: { delay: { percentage: { value: 1 } } } }),
    /fixedDelay: is required/
  ],
  [
    'an abort without a status',
    http({ fault: { abort: { percentage: { value: 1 } } } }),
    /abort\.httpStatus/
  ],
  ['two statuses', http({ fault: { abort: { httpStatus: 400, grpcStatus: 'OK' } } }), /keep one of them/],
  ['a gRPC status that is none', http({ fault: { abort: { grpcStatus: 'BAD' } } }), /grpcStatus: "BAD"/],
  [
    'more than all',
    http({ fault: { delay: { fixedDelay: '1s', percentage: { value: 101 } } } }),
    /percentage\.value/
  ],
  [
    'two kinds of mirrors',
    http({ mirror: { host: 'a' }, mirrors: [{ destination: { host: 'a' } }] }),
    /mirror and mirrors/
  ],
  ['a mirror of nothing', http({ mirrors: [{}] }), /mirrors\[0\]\.destination: is required/],
  [
    'origins that are none',
    http({ corsPolicy: { allowOrigins: ['a'] } }),
    /allowOrigins\[0\]: expected a mapping/
  ],
  ['preflights', http({ corsPolicy: { unmatchedPreflights: 'DROP' } }), /unmatchedPreflights/],
  ['a header with a number', http({ headers: { request: { set: { a: 1 } } } }), /set\["a"\]: expected text/],
  ['tls without match', { tls: [{ route }] }, /spec\.tls\[0\]\.match: is required/],
  [
    'tls without names',
    { tls: [{ match: [{ port: 1 }], route }] },
    /tls\[0\]\.match\[0\]\.sniHosts: is required/
  ],
  ['tcp with a path', { tcp: [{ match: [{ uri: {} }], route }] }, /tcp\[0\]\.match\[0\]\.uri: unknown field/]
] as const) {
  t.test(`refused: ${what}`, async t => t.throws(() => read(spec), { message: expected }))
}

t.test('every problem is told at once', async t => {
  const spec = { hosts: [], http: [{ route, timeout: 'x', retries: { attempts: -1 } }] }
  t.throws(() => read(spec), { message: /timeout.*; .*attempts/s })
})

t.test('one that cannot be read answers 500 for its hosts, where these can be told', async t => {
  const made = unreadableVirtualService(resource({ http: 'x', gateways: ['mesh'] }), domain)
  t.match(made, {
    hosts: ['web.shop.svc.cluster.local'],
    http: [{ rule: { filters: { unsupported: /not understood/ } } }],
    tcp: [{ unsupported: /not understood/ }]
  })
  t.equal(unreadableVirtualService(resource({ hosts: 3 }), domain), undefined)
  t.equal(unreadableVirtualService(resource({ gateways: ['edge'] }), domain), undefined)
})
