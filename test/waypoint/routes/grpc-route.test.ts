/** Which rule of a GRPCRoute a call meets, by table. */
import t from 'tap'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { readGrpcRoute } from '../../../waypoint/routes/grpc-route.ts'
import { RouteTable } from '../../../waypoint/routes/route-table.ts'

function winner(
  rules: readonly object[],
  path: string,
  { method = 'POST', headers = [] as string[] } = {}
): string {
  const parent = { group: '', kind: 'Service', namespace: 'shop', name: 'cart' }
  const spec = { parentRefs: [parent], rules }
  const route = readGrpcRoute({ namespace: 'shop', name: 'cart', createdMs: 0, spec }, 'cluster.local')
  const table = new RouteTable([route])
  return table.find({ method, headers: HeaderList.of(...headers) }, path, '')?.rule.name ?? '-'
}

const rules = [
  { name: 'method of any', matches: [{ method: { method: 'Get' } }] },
  { name: 'service', matches: [{ method: { service: 'shop.v1.Cart' } }] },
  { name: 'method', matches: [{ method: { service: 'shop.v1.Cart', method: 'Add' } }] },
  {
    name: 'canary',
    matches: [
      { method: { service: 'shop.v1.Cart', method: 'Add' }, headers: [{ name: 'X-Canary', value: '1' }] }
    ]
  },
  {
    name: 'expression',
    matches: [{ method: { type: 'RegularExpression', service: 'old\\..+', method: 'S.*' } }]
  }
]

const calls: readonly (readonly [path: string, wins: string, headers?: string[]])[] = [
  ['/shop.v1.Cart/Add', 'method'],
  ['/shop.v1.Cart/Add', 'canary', ['x-canary', '1']],
  ['/shop.v1.Cart/Get', 'service'],
  ['/shop.v1.CartOfOthers/Get', 'method of any'],
  ['/shopXv1.Cart/Add', '-'],
  ['/old.Cart/Set', 'expression'],
  ['/other.Cart/Set', '-']
]

for (const [path, wins, headers = []] of calls) {
  t.test(`${path} ${headers.join(' ')}: ${wins}`, async t => {
    t.equal(winner(rules, path, { headers }), wins)
  })
}

t.test('what is no POST is no call', async t => {
  t.equal(winner(rules, '/shop.v1.Cart/Add', { method: 'GET' }), '-')
  t.equal(winner([{ name: 'all' }], '/any/Call'), 'all')
})

t.test('a call without a usable backend is answered UNAVAILABLE', async t => {
  const spec = { rules: [{ backendRefs: [{ unresolved: 'BackendNotFound' }] }] }
  const { rules } = readGrpcRoute({ namespace: 'shop', name: 'x', createdMs: 0, spec }, 'cluster.local')
  t.equal(rules[0]?.statusWithoutBackend, 503)
})
