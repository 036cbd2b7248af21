/** Which rule a request meets: of which VirtualServices, in which order, by which of its conditions. */
import t from 'tap'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { pathOf, queryOf } from '../../../waypoint/http/target.ts'
import type { VirtualService } from '../../../waypoint/virtual-services/virtual-service.ts'
import { VirtualServiceStore } from '../../../waypoint/virtual-services/virtual-service-store.ts'
import { read, route } from './support.ts'

const web = { namespace: 'shop', hostname: 'web.shop.svc.cluster.local' }

function storeOf(...all: readonly VirtualService[]): VirtualServiceStore {
  const store = new VirtualServiceStore('shop')
  for (const each of all) store.put(`${each.namespace}/${each.name}`, each)
  return store
}

/** Rules that tell their name. */
function named(rules: Readonly<Record<string, readonly object[] | undefined>>): object {
  const http = Object.entries(rules).map(([name, match]) => ({
    name,
    route,
    ...(match === undefined ? {} : { match })
  }))
  return { http }
}

interface Asked {
  readonly method?: string
  readonly authority?: string
  readonly scheme?: string
  readonly headers?: readonly string[]
  readonly port?: number
  readonly from?: string
}

/** The rule's name; `-`: none of them, undefined: there are none for such a request. */
function winner(store: VirtualServiceStore, target: string, asked: Asked = {}): string | undefined {
  const { method = 'GET', authority = 'web', scheme, headers = [], port = 80, from = 'shop' } = asked
  const head = {
    method,
    authority,
    headers: HeaderList.of(...headers),
    ...(scheme === undefined ? {} : { scheme })
  }
  const table = store.table(web, port, from)
  if (table === undefined) return undefined
  return table.find(head, pathOf(target), queryOf(target))?.rule.name ?? '-'
}

const situations: readonly [
  name: string,
  match: object,
  holds: readonly (readonly [string, Asked?])[],
  not: readonly (readonly [string, Asked?])[]
][] = [
  ['an exact path', { uri: { exact: '/a' } }, [['/a'], ['/a?b']], [['/a/'], ['/A'], ['/ab']]],
  ['in any case', { uri: { exact: '/Ab' }, ignoreUriCase: true }, [['/ab'], ['/AB']], [['/abc']]],
  [
    'a prefix of characters',
    { uri: { prefix: '/foo' } },
    [['/foo'], ['/foobar'], ['/foo/x']],
    [['/fo'], ['/x/foo']]
  ],
  ['in any case', { uri: { prefix: '/Foo' }, ignoreUriCase: true }, [['/FOObar']], [['/fo']]],
  [
    'an expression for all of the path',
    { uri: { regex: '/[ab]+' } },
    [['/aba'], ['/a?c']],
    [['/abc'], ['/x/a']]
  ],
  ['any path', { uri: {} }, [['/'], ['*', { method: 'OPTIONS' }]], []],
  [
    'a method',
    { method: { exact: 'POST' } },
    [['/', { method: 'POST' }]],
    [['/'], ['/', { method: 'post' }]]
  ],
  [
    'a scheme',
    { scheme: { exact: 'http' } },
    [['/'], ['/', { scheme: 'http' }]],
    [['/', { scheme: 'https' }]]
  ],
  [
    'an authority',
    { authority: { prefix: 'a.' } },
    [['/', { authority: 'a.test:81' }]],
    [['/'], ['/', { authority: '' }]]
  ],
  [
    'a header, of several fields',
    { headers: { x: { exact: 'a,b' } } },
    [
      ['/', { headers: ['x', 'a,b'] }],
      ['/', { headers: ['x', 'a', 'x', 'b'] }]
    ],
    [['/'], ['/', { headers: ['x', 'a'] }]]
  ],
  [
    'a header that is empty',
    { headers: { x: { exact: '' } } },
    [['/', { headers: ['x', ''] }]],
    [['/'], ['/', { headers: ['x', 'a'] }]]
  ],
  ['a header that is there', { headers: { x: {} } }, [['/', { headers: ['x', ''] }]], [['/']]],
  ['a header that is not', { withoutHeaders: { x: {} } }, [['/']], [['/', { headers: ['x', ''] }]]],
  [
    'a header that is another one, or not there',
    { withoutHeaders: { x: { prefix: 'a' } } },
    [['/'], ['/', { headers: ['x', 'b'] }]],
    [['/', { headers: ['x', 'ab'] }]]
  ],
  [
    'parameters',
    { queryParams: { a: { exact: '1' }, b: {} } },
    [['/?b&a=1'], ['/?a=1&a=2&b=']],
    [['/?a=1'], ['/?b'], ['/?a=2&a=1&b'], ['/']]
  ],
  ['a port', { port: 80 }, [['/']], []],
  ['a namespace', { sourceNamespace: 'shop' }, [['/']], []],
  [
    'all of them together',
    { uri: { prefix: '/a' }, headers: { x: { exact: '1' } }, method: { exact: 'GET' } },
    [['/ab', { headers: ['x', '1'] }]],
    [['/ab'], ['/b', { headers: ['x', '1'] }], ['/a', { method: 'PUT', headers: ['x', '1'] }]]
  ]
]

for (const [name, match, holds, not] of situations) {
  t.test(`${name}: ${JSON.stringify(match)}`, async t => {
    const store = storeOf(read(named({ it: [match] })))
    for (const [target, asked] of holds) t.equal(winner(store, target, asked), 'it', target)
    for (const [target, asked] of not) t.equal(winner(store, target, asked), '-', target)
  })
}

t.test('the first that matches wins, whichever way paths are looked for', async t => {
  const exact = { uri: { exact: '/a' } }
  const prefix = { uri: { prefix: '/' } }
  t.equal(winner(storeOf(read(named({ first: [exact], second: [prefix] }))), '/a'), 'first')
  t.equal(winner(storeOf(read(named({ first: [prefix], second: [exact] }))), '/a'), 'first')
  t.equal(winner(storeOf(read(named({ first: undefined, second: [exact] }))), '/a'), 'first')
  t.equal(
    winner(
      storeOf(read(named({ first: [{ uri: { regex: '/b' } }], second: [exact], third: undefined }))),
      '/a'
    ),
    'second'
  )
  const two = storeOf(
    read(named({ first: [{ ...exact, method: { exact: 'PUT' } }, prefix], second: [exact] }))
  )
  t.equal(winner(two, '/a'), 'first', 'any of its matches')
})

t.test('the oldest VirtualService first, and only those for the service, VS-01, VS-02', async t => {
  const old = read(named({ old: [{ uri: { exact: '/a' } }] }), { name: 'z', createdMs: 1 })
  const young = read(named({ young: undefined }), { name: 'a', createdMs: 2 })
  const store = storeOf(young, old)
  t.equal(winner(store, '/a'), 'old')
  t.equal(winner(store, '/b'), 'young')
  const twin = read(named({ twin: undefined }), { name: 'y', createdMs: 1 })
  t.equal(winner(storeOf(old, twin), '/a'), 'twin', 'of two that are as old by their name')
  for (const [hosts, namespace, expected] of [
    [['web.shop.svc.cluster.local'], 'shop', 'it'],
    [['*.svc.cluster.local'], 'shop', 'it'],
    [['*'], 'shop', 'it'],
    [['other', 'web'], 'shop', 'it'],
    [['other'], 'shop', undefined],
    [['*.shop'], 'shop', undefined],
    [['web.shop.svc.cluster.local'], 'lab', undefined]
  ] as const) {
    const made = read({ ...named({ it: undefined }), hosts }, { namespace })
    t.equal(winner(storeOf(made), '/'), expected, `${hosts.join()} of ${namespace}`)
  }
  const elsewhere = new VirtualServiceStore('waypoints')
  elsewhere.put(
    'waypoints/a',
    read({ ...named({ it: undefined }), hosts: [web.hostname] }, { namespace: 'waypoints' })
  )
  t.equal(winner(elsewhere, '/'), 'it', 'of the namespace of the waypoint')
})

t.test('where no rule can be met the service is, VS-03, VS-05', async t => {
  const store = storeOf(
    read(
      named({
        port: [{ port: 81 }],
        labels: [{ sourceLabels: { a: 'b' } }],
        lab: [{ sourceNamespace: 'lab' }]
      })
    )
  )
  t.equal(winner(store, '/'), undefined)
  t.equal(winner(store, '/', { port: 81 }), 'port')
  t.equal(winner(store, '/', { from: 'lab' }), 'lab')
  t.equal(winner(storeOf(read({ tcp: [{ route }] })), '/'), undefined)
  store.remove('shop/web')
  t.equal(winner(store, '/', { port: 81 }), undefined, 'gone at once')
  t.strictSame([...store.all()], [])
})

t.test('a destination without a port has the one that was asked for', async t => {
  const mirrors = [{ destination: { host: 'b' } }]
  const store = storeOf(read({ http: [{ route, mirrors }] }))
  const head = { method: 'GET', authority: '', headers: new HeaderList() }
  for (const port of [80, 8080]) {
    t.match(store.table(web, port, 'shop')?.find(head, '/', ''), {
      rule: { backends: [{ port }], filters: { mirrors: [{ backend: { port } }] } }
    })
  }
})

t.test('what matched of the path is what a rewrite replaces', async t => {
  const prefixOf = (match: object | undefined, path: string): string | undefined => {
    const store = storeOf(read({ http: [{ route, ...(match === undefined ? {} : { match: [match] }) }] }))
    const head = { method: 'GET', authority: '', headers: new HeaderList() }
    return store.table(web, 80, 'shop')?.find(head, path, '')?.prefix
  }
  t.equal(prefixOf({ uri: { prefix: '/a' } }, '/ab'), '/a')
  t.equal(prefixOf({ uri: { exact: '/ab' } }, '/ab'), '/ab')
  t.equal(prefixOf({ uri: { regex: '/.*' } }, '/ab'), '/ab')
  t.equal(prefixOf(undefined, '/ab'), '/')
})

t.test('routes for connections: tls before tcp, by port, VS-06, PI-25', async t => {
  const to = (host: string): object => ({ route: [{ destination: { host } }] })
  const store = storeOf(
    read({
      tls: [
        { match: [{ sniHosts: [web.hostname, 'more'] }], ...to('several') },
        { match: [{ sniHosts: ['else'] }], ...to('else') },
        { match: [{ sniHosts: [web.hostname], port: 443 }], ...to('tls') }
      ],
      tcp: [
        { match: [{ port: 80 }], ...to('tcp') },
        { match: [{ port: 443 }], ...to('raw') }
      ]
    })
  )
  const chosen = (port: number, tls: boolean): unknown => {
    const [backend] = store.connectionRule(web, port, { tls })?.backends ?? []
    return backend?.kind === 'service' ? `${backend.hostname.split('.')[0]}:${backend.port}` : undefined
  }
  t.equal(chosen(443, true), 'tls:443')
  t.equal(chosen(443, false), 'raw:443')
  t.equal(chosen(80, true), 'tcp:80')
  t.equal(chosen(81, true), undefined, 'nothing is said of it')
  t.equal(new VirtualServiceStore('shop').connectionRule(web, 80, { tls: true }), undefined)
})

t.test('a thousand rules are looked through in no time', async t => {
  const many = (each: (at: number) => object): VirtualServiceStore =>
    storeOf(read(named(Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`r${at}`, [each(at)]])))))
  const headers = Array.from({ length: 20 }, (_, at) => [`x-header-${at}`, 'value']).flat()
  for (const [what, store, target, atMostUs] of [
    ['exact paths', many(at => ({ uri: { exact: `/path/${at}` } })), '/path/999', 500],
    ['prefixes', many(at => ({ uri: { prefix: `/path/${at}/` } })), '/path/999/a', 500],
    ['expressions', many(at => ({ uri: { regex: `/path/${at}/[a-z]+` } })), '/path/999/a', 2000],
    ['headers', many(at => ({ headers: { 'x-user': { exact: `user-${at}` } } })), '/', 2000],
    ['parameters', many(at => ({ queryParams: { user: { exact: `${at}` } } })), '/?user=999', 2000]
  ] as const) {
    const asked = { headers: [...headers, 'x-user', 'user-999'] }
    t.equal(winner(store, target, asked), 'r999')
    const table = store.table(web, 80, 'shop')
    const head = { method: 'GET', authority: 'web', headers: HeaderList.of(...asked.headers) }
    const rounds = 2000
    const startedAt = performance.now()
    for (let round = 0; round < rounds; round += 1) table?.find(head, pathOf(target), queryOf(target))
    const us = ((performance.now() - startedAt) * 1000) / rounds
    t.ok(us < atMostUs, `${what}: ${us.toFixed(1)} us`)
    t.comment(`${what}: ${us.toFixed(1)} us`)
  }
})
