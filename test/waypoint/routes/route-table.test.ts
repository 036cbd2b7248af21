/** Which rule wins: the Gateway API's order of matches, by table; and a thousand routes that cost no more than ten. */
import t from 'tap'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { readHttpRoute } from '../../../waypoint/routes/http-route.ts'
import { RouteStore } from '../../../waypoint/routes/route-store.ts'
import { RouteTable } from '../../../waypoint/routes/route-table.ts'
import type { Route } from '../../../waypoint/routes/route.ts'

interface Parts {
  readonly name?: string
  readonly namespace?: string
  readonly createdMs?: number
  readonly port?: number
}

function route(
  rules: readonly object[],
  { name = 'r', namespace = 'shop', createdMs = 0, port }: Parts = {}
): Route {
  const parent = {
    kind: 'Service',
    group: '',
    namespace: 'shop',
    name: 'web',
    ...(port === undefined ? {} : { port })
  }
  return readHttpRoute({ namespace, name, createdMs, spec: { parentRefs: [parent], rules } }, 'cluster.local')
}

/** A rule that tells its name. */
function rule(name: string, ...matches: readonly object[]): object {
  return { name, matches, backendRefs: [{ name, port: 80 }] }
}

const exact = (value: string): object => ({ type: 'Exact', value })
const prefix = (value: string): object => ({ type: 'PathPrefix', value })
const regex = (value: string): object => ({ type: 'RegularExpression', value })

interface Situation {
  readonly name: string
  readonly routes: readonly Route[]
  /** Method, target and headers; what wins, `-` for nothing. */
  readonly asked: readonly (readonly [request: string, winner: string, headers?: readonly string[]])[]
}

const situations: readonly Situation[] = [
  {
    name: 'exact before the longest prefix before a shorter one before an expression',
    routes: [
      route([
        rule('expression', { path: regex('/a.*') }),
        rule('root', { path: prefix('/') }),
        rule('short', { path: prefix('/a') }),
        rule('long', { path: prefix('/a/b/') }),
        rule('exact', { path: exact('/a/b') })
      ])
    ],
    asked: [
      ['GET /a/b', 'exact'],
      ['GET /a/b/', 'long'],
      ['GET /a/b/c', 'long'],
      ['GET /a/bc', 'short'],
      ['GET /ab', 'root'],
      ['GET /', 'root']
    ]
  },
  {
    name: 'an expression matches the whole path, where nothing else does',
    routes: [
      route([rule('expression', { path: regex('/v[0-9]+/.+') }), rule('exact', { path: exact('/x') })])
    ],
    asked: [
      ['GET /v12/x', 'expression'],
      ['GET /v12/', '-'],
      ['GET /a/v12/x', '-']
    ]
  },
  {
    name: 'of one path: a method, then more headers, then more parameters',
    routes: [
      route([
        rule('query', { queryParams: [{ name: 'q', value: '1' }] }),
        rule('header', { headers: [{ name: 'X-A', value: '1' }] }),
        rule('headers', {
          headers: [
            { name: 'x-a', value: '1' },
            { name: 'x-b', value: '2' }
          ]
        }),
        rule('method', { method: 'PUT' }),
        rule('none', {})
      ])
    ],
    asked: [
      ['PUT /?q=1', 'method', ['x-a', '1', 'x-b', '2']],
      ['GET /?q=1', 'headers', ['x-a', '1', 'x-b', '2']],
      ['GET /?q=1', 'header', ['x-a', '1']],
      ['GET /?q=1', 'query'],
      ['GET /?q=2', 'none']
    ]
  },
  {
    name: 'what is equal: the older, then by name, then the first',
    routes: [
      route([rule('younger', {})], { name: 'a', createdMs: 2000 }),
      route([rule('second by name', {})], { name: 'c', createdMs: 1000 }),
      route([rule('first', {}), rule('second', {})], { name: 'b', createdMs: 1000 })
    ],
    asked: [['GET /', 'first']]
  },
  {
    name: 'headers and parameters: repeated ones, expressions, names that are given twice',
    routes: [
      route([
        rule('joined', { headers: [{ name: 'x-a', value: '1,2' }] }),
        rule('expression', { headers: [{ name: 'x-b', type: 'RegularExpression', value: 'a+' }] }),
        rule('twice', {
          headers: [
            { name: 'X-C', value: '1' },
            { name: 'x-c', value: '2' }
          ]
        }),
        rule('parameter', { queryParams: [{ name: 'Q', value: 'a b' }] })
      ])
    ],
    asked: [
      ['GET /', 'joined', ['x-a', '1', 'x-a', '2']],
      ['GET /', 'expression', ['x-b', 'aaa']],
      ['GET /', '-', ['x-b', 'aab']],
      ['GET /', 'twice', ['x-c', '1']],
      ['GET /?Q=a%20b&Q=c', 'parameter'],
      ['GET /?q=a%20b', '-']
    ]
  },
  {
    name: 'any of several matches is enough',
    routes: [route([rule('either', { path: exact('/a') }, { path: exact('/b'), method: 'POST' })])],
    asked: [
      ['GET /a', 'either'],
      ['GET /b', '-'],
      ['POST /b', 'either']
    ]
  }
]

function winner(table: RouteTable, request: string, headers: readonly string[] = []): string {
  const [method = '', target = ''] = request.split(' ')
  const [path = '', query = ''] = target.split('?')
  return table.find({ method, headers: HeaderList.of(...headers) }, path, query)?.rule.name ?? '-'
}

for (const { name, routes, asked } of situations) {
  t.test(name, async t => {
    const table = new RouteTable(routes)
    for (const [request, wins, headers] of asked) t.equal(winner(table, request, headers), wins, request)
  })
}

t.test(
  'whose routes apply: producers for all, consumers for their own namespace and instead of these',
  async t => {
    const store = new RouteStore()
    const web = { namespace: 'shop', hostname: 'web.shop.svc.cluster.local' }
    const winners = (namespace: string, port = 80): string => {
      const table = store.table(web, port, namespace)
      return table === undefined ? 'no route' : winner(table, 'GET /')
    }
    t.equal(winners('shop'), 'no route')
    store.put('HTTPRoute shop/producer', route([rule('producer', {})], { name: 'producer' }))
    store.put(
      'HTTPRoute other/consumer',
      route([rule('consumer', {})], { name: 'consumer', namespace: 'other' })
    )
    t.equal(winners('shop'), 'producer')
    t.equal(winners('third'), 'producer')
    t.equal(winners('other'), 'consumer')
    store.put('HTTPRoute shop/producer', route([rule('only 81', {})], { name: 'producer', port: 81 }))
    t.equal(winners('shop'), 'no route')
    t.equal(winners('shop', 81), 'only 81')
    store.remove('HTTPRoute other/consumer')
    t.equal(winners('other', 81), 'only 81')
    store.remove('HTTPRoute shop/producer')
    t.equal(winners('other', 81), 'no route')
  }
)

t.test('the time to find a rule hardly grows with the number of routes', async t => {
  const tableOf = (count: number): RouteTable =>
    new RouteTable(
      Array.from({ length: count }, (_, at) =>
        route(
          [
            rule(`p${at}`, { path: prefix(`/team-${at}/api`) }),
            rule(`e${at}`, { path: exact(`/team-${at}`) })
          ],
          {
            name: `r${at}`
          }
        )
      )
    )
  const time = (table: RouteTable, last: number): number => {
    const started = performance.now()
    for (let round = 0; round < 20_000; round += 1) winner(table, `GET /team-${last}/api/things/${round}`)
    return performance.now() - started
  }
  const [few, many] = [tableOf(10), tableOf(1000)]
  t.equal(winner(many, 'GET /team-999/api/x'), 'p999')
  time(many, 999)
  time(few, 9)
  const ratios = Array.from({ length: 5 }, () => time(many, 999) / time(few, 9)).toSorted((a, b) => a - b)
  t.comment(`a thousand routes against ten: ${ratios.map(ratio => ratio.toFixed(2)).join(', ')}`)
  t.ok((ratios[0] ?? 9) < 3, 'not linear')
})
