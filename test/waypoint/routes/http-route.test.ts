/** What is read of an HTTPRoute, and what is refused as a whole, with the field that is wrong. */
import t from 'tap'
import { changeTarget, redirectLocation } from '../../../waypoint/routes/change-request.ts'
import { noFilters } from '../../../waypoint/routes/filters.ts'
import { readHttpRoute } from '../../../waypoint/routes/http-route.ts'
import type { PathChange, Redirect } from '../../../waypoint/routes/route.ts'

function read(spec: Readonly<Record<string, unknown>>): ReturnType<typeof readHttpRoute> {
  return readHttpRoute({ namespace: 'shop', name: 'web', createdMs: 5, spec }, 'cluster.local')
}

t.test('parents, backends and what is the default', async t => {
  const { parents, rules } = read({
    parentRefs: [
      { kind: 'Service', group: '', name: 'web', port: 80 },
      { kind: 'ServiceEntry', group: 'networking.istio.io', namespace: 'out', name: 'api.example' }
    ],
    rules: [
      {
        backendRefs: [
          { name: 'a', port: 80 },
          { hostname: 'b.example', port: 81, weight: 0 },
          { unresolved: 'RefNotPermitted' },
          { name: 'c' }
        ]
      },
      { name: 'named', timeouts: { request: '10s', backendRequest: '1s500ms' }, matches: [] }
    ]
  })
  t.strictSame(parents, [
    { namespace: 'shop', hostname: 'web.shop.svc.cluster.local', port: 80 },
    { namespace: 'out', hostname: 'api.example', port: undefined }
  ])
  t.match(rules[0]?.backends, [
    { kind: 'service', hostname: 'a.shop.svc.cluster.local', namespace: 'shop', port: 80, weight: 1 },
    { kind: 'service', hostname: 'b.example', port: 81, weight: 0 },
    { kind: 'unresolved', reason: 'RefNotPermitted' },
    { kind: 'unresolved', reason: /no port/ }
  ])
  t.match(rules[0], {
    name: '0',
    matches: [{ path: { kind: 'prefix', value: '' } }],
    requestTimeoutMs: undefined
  })
  t.match(rules[1], { name: 'named', requestTimeoutMs: 10_000, backendTimeoutMs: 1500, backends: [] })
})

t.test('what is sent again: Istio’s two tries unless the route counts them', async t => {
  const retryOf = (retry: object): unknown => read({ rules: [{ retry }] }).rules[0]?.retry
  t.strictSame(retryOf({}), { times: 2, statuses: new Set(), backoffMs: undefined })
  t.strictSame(retryOf({ attempts: 0, codes: [500, 599], backoff: '1s500ms' }), {
    times: 0,
    statuses: new Set([500, 599]),
    backoffMs: 1500
  })
})

function modified(requestHeaderModifier: object): Record<string, unknown> {
  return { rules: [{ filters: [{ type: 'RequestHeaderModifier', requestHeaderModifier }] }] }
}

function mirrored(requestMirror: object): Record<string, unknown> {
  return { rules: [{ filters: [{ type: 'RequestMirror', requestMirror }] }] }
}

t.test('mirrors: which service, and which share of requests', async t => {
  const backend = { kind: 'service', hostname: 'a.shop.svc.cluster.local', namespace: 'shop', port: 80 }
  const rows = [
    { written: {}, share: 1 },
    { written: { percent: 0 }, share: 0 },
    { written: { percent: 35 }, share: 0.35 },
    { written: { fraction: { numerator: 5 } }, share: 0.05 },
    { written: { fraction: { numerator: 1, denominator: 1_000_000 } }, share: 0.000_001 },
    { written: { fraction: { numerator: 3, denominator: 3 } }, share: 1 }
  ]
  for (const { written, share } of rows) {
    const { rules } = read(mirrored({ backendRef: { name: 'a', port: 80 }, ...written }))
    t.strictSame(rules[0]?.filters, { ...noFilters, mirrors: [{ backend, share }] }, JSON.stringify(written))
  }
  const sent = { group: '', kind: 'Service', namespace: 'out', name: 'b', port: 81, weight: 1 }
  const refs = [
    { ...sent, hostname: 'b.example' },
    { weight: 1, unresolved: 'RefNotPermitted' }
  ]
  const filters = refs.map(backendRef => ({ type: 'RequestMirror', requestMirror: { backendRef } }))
  const onBackend = { name: 'a', port: 80, filters }
  const mirrors = [
    { backend: { kind: 'service', hostname: 'b.example', namespace: 'out', port: 81 }, share: 1 },
    { backend: { kind: 'unresolved', reason: 'RefNotPermitted' }, share: 1 }
  ]
  const [rule] = read({ rules: [{ filters, backendRefs: [onBackend] }] }).rules
  t.strictSame(rule?.filters.mirrors, mirrors, 'as the control plane tells them')
  t.strictSame(rule?.backends[0]?.filters.mirrors, mirrors, 'of a backend')
})

t.test('a policy for other origins', async t => {
  const cors = { allowOrigins: ['https://a.example', 'http://*.b.example:81', '*'], allowCredentials: true }
  t.strictSame(read({ rules: [{ filters: [{ type: 'CORS', cors }] }] }).rules[0]?.filters.cors, {
    origins: [
      { kind: 'one', scheme: 'https', host: 'a.example', port: 443 },
      { kind: 'ending', scheme: 'http', host: '.b.example', port: 81 },
      { kind: 'any' }
    ],
    methods: [],
    headers: [],
    exposed: [],
    credentials: true,
    maxAgeSeconds: 5
  })
})

const wrong: readonly (readonly [name: string, spec: Record<string, unknown>, complaint: RegExp])[] = [
  [
    'a field that we do not know',
    { rules: [{ sessionPersistence: { type: 'Query' } }] },
    /spec\.rules\[0\]\.sessionPersistence\.type: expected one of/
  ],
  [
    'a match that we do not know',
    { rules: [{ matches: [{ cookies: [] }] }] },
    /matches\[0\]\.cookies: unknown field/
  ],
  [
    'a type of path',
    { rules: [{ matches: [{ path: { type: 'Suffix', value: '/x' } }] }] },
    /path\.type: expected one of Exact/
  ],
  [
    'an expression',
    { rules: [{ matches: [{ path: { type: 'RegularExpression', value: '(?=x)' } }] }] },
    /path\.value: .*no regular expression of RE2/
  ],
  [
    'a status to try again for',
    { rules: [{ retry: { codes: [200] } }] },
    /retry\.codes\[0\]: expected a status from 400/
  ],
  ['a number of tries', { rules: [{ retry: { attempts: -1 } }] }, /retry\.attempts: expected/],
  ['a pause', { rules: [{ retry: { backoff: 'long' } }] }, /retry\.backoff: "long" is no duration/],
  ['a duration', { rules: [{ timeouts: { request: 'soon' } }] }, /timeouts\.request: "soon" is no duration/],
  [
    'a scheme',
    { rules: [{ filters: [{ type: 'RequestRedirect', requestRedirect: { scheme: 'ftp' } }] }] },
    /scheme: expected http or https/
  ],
  [
    'a filter without its part',
    { rules: [{ filters: [{ type: 'URLRewrite' }] }] },
    /urlRewrite: expected a mapping/
  ],
  ['a mirror without a backend', mirrored({}), /requestMirror\.backendRef: is required/],
  [
    'a percentage',
    mirrored({ backendRef: { name: 'a', port: 80 }, percent: 101 }),
    /percent: expected a whole number up to 100/
  ],
  [
    'two shares',
    mirrored({ backendRef: { name: 'a', port: 80 }, percent: 1, fraction: { numerator: 1 } }),
    /requestMirror: has percent and fraction/
  ],
  [
    'a share of nothing',
    mirrored({ backendRef: { name: 'a', port: 80 }, fraction: { numerator: 0, denominator: 0 } }),
    /fraction: 0\/0 is no share/
  ],
  [
    'more than all',
    mirrored({ backendRef: { name: 'a', port: 80 }, fraction: { numerator: 101 } }),
    /fraction: 101\/100 is no share/
  ],
  [
    'a field of a mirror that we do not know',
    mirrored({ backendRef: { name: 'a', port: 80, filters: [] } }),
    /backendRef\.filters: unknown field/
  ],
  ['rules that are none', { rules: 'all' }, /spec\.rules: expected a list/]
]

for (const [name, spec, complaint] of wrong) {
  t.test(`refused: ${name}`, async t => {
    t.throws(() => read(spec), { message: complaint })
  })
}

const uncarried: typeof wrong = [
  [
    'a header name',
    modified({ set: [{ name: 'x y', value: '1' }] }),
    /set\[0\]\.name: "x y" is no header name/
  ],
  ["the proxy's own header", modified({ add: [{ name: 'Host', value: 'a' }] }), /use URLRewrite/],
  [
    'one that it frames messages by',
    modified({ remove: ['Content-Length'] }),
    /remove\[0\]: content-length is the proxy's own/
  ],
  [
    'a value that would end its line',
    modified({ set: [{ name: 'x', value: 'a\r\nb: c' }] }),
    /set\[0\]\.value: has characters/
  ],
  [
    'a value that would be cut to one',
    modified({ set: [{ name: 'x', value: 'a\u010ab: c' }] }),
    /set\[0\]\.value: has characters/
  ],
  [
    'a host to rewrite to',
    { rules: [{ filters: [{ type: 'URLRewrite', urlRewrite: { hostname: 'a b' } }] }] },
    /urlRewrite\.hostname: "a b" is no host/
  ],
  [
    'an origin that is none',
    { rules: [{ filters: [{ type: 'CORS', cors: { allowOrigins: ['a.example'] } }] }] },
    /cors\.allowOrigins\[0\]: "a\.example" is no origin/
  ],
  [
    'a path to rewrite to',
    {
      rules: [
        {
          filters: [
            { type: 'URLRewrite', urlRewrite: { path: { type: 'ReplaceFullPath', replaceFullPath: '/a b' } } }
          ]
        }
      ]
    },
    /urlRewrite\.path: "\/a b" has characters/
  ]
]

for (const [name, spec, complaint] of uncarried) {
  t.test(`answered 500: ${name}`, async t => {
    t.match(read(spec).rules[0]?.filters, {
      unsupported: complaint,
      requestHeaders: undefined,
      rewrite: undefined
    })
  })
}

t.test('a filter of an unknown type is kept as one that cannot be carried out', async t => {
  const { rules } = read({ rules: [{ filters: [{ type: 'ExtensionRef' }] }] })
  t.equal(rules[0]?.filters.unsupported, 'filter ExtensionRef is not supported')
})

/** Source: Gateway API v1, HTTPPathModifier. */
const replacements: readonly (readonly [
  target: string,
  prefix: string,
  change: PathChange,
  result: string
])[] = [
  ['/foo/bar', '/foo', { kind: 'prefix', value: '/xyz' }, '/xyz/bar'],
  ['/foo/bar', '/foo', { kind: 'prefix', value: '/xyz/' }, '/xyz/bar'],
  ['/foo/', '/foo', { kind: 'prefix', value: '/xyz' }, '/xyz/'],
  ['/foo', '/foo', { kind: 'prefix', value: '/xyz/' }, '/xyz'],
  ['/foo/', '/foo', { kind: 'prefix', value: '/' }, '/'],
  ['/foo', '/foo', { kind: 'prefix', value: '' }, '/'],
  ['/foo/bar?a=/foo', '/foo', { kind: 'prefix', value: '/' }, '/bar?a=/foo'],
  ['/', '', { kind: 'prefix', value: '/api' }, '/api/'],
  ['/foo?x=1', '/foo', { kind: 'full', value: '/one' }, '/one?x=1'],
  ['/foo?x=1', '/foo', { kind: 'full', value: '' }, '/?x=1']
]

for (const [target, prefix, change, result] of replacements) {
  t.test(`${target} by ${change.kind} ${JSON.stringify(change.value)}: ${result}`, async t => {
    t.equal(changeTarget(target, change, prefix), result)
  })
}

/** Source: Gateway API v1, HTTPRequestRedirectFilter: what a port means with and without a scheme. */
const redirects: readonly (readonly [name: string, redirect: Partial<Redirect>, location: string])[] = [
  ['nothing but the host', { hostname: 'a.example' }, 'http://a.example:8080/p?q=1'],
  ['a scheme means its port', { scheme: 'https' }, 'https://shop.example/p?q=1'],
  [
    'a port that the scheme means is not written',
    { scheme: 'https', port: 443 },
    'https://shop.example/p?q=1'
  ],
  ['80 for http is not written', { port: 80 }, 'http://shop.example/p?q=1'],
  ['another port is', { port: 8443, scheme: 'https' }, 'https://shop.example:8443/p?q=1'],
  ['a path', { path: { kind: 'full', value: '/new' } }, 'http://shop.example:8080/new?q=1']
]

for (const [name, redirect, location] of redirects) {
  t.test(`redirect: ${name}`, async t => {
    const whole = {
      scheme: undefined,
      hostname: undefined,
      path: undefined,
      port: undefined,
      status: 302,
      ...redirect
    }
    const head = { authority: 'shop.example:8080', target: '/p?q=1' }
    t.equal(redirectLocation(head, whole, { port: 8080, prefix: '' }), location)
  })
}
