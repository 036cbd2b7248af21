/** HTTPRoutes and GRPCRoutes that want the same host of a listener: the oldest has it. Source: Gateway API v1, GRPCRoute. */
import t from 'tap'
import type { RouteKind, RouteObject } from '../../../controlplane/cluster/objects.ts'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { attachedRoutes, routeReports } from '../../../controlplane/translate/route-conditions.ts'
import { translateRoute } from '../../../controlplane/translate/route.ts'
import { gateway } from '../gateway-world.ts'
import { objects, settings, world } from '../world.ts'

const listeners = ['{name: web, port: 80, protocol: HTTP}', '{name: alt, port: 81, protocol: HTTP}']

interface Wish {
  readonly name: string
  readonly kind: RouteKind
  readonly hostnames?: string
  readonly section?: string
  readonly rules?: string
  /** When it was made, in seconds. */
  readonly age: number
}

function yamlOf({ name, kind, hostnames = '', section = 'web', rules = '{}', age }: Wish): string {
  const made = new Date(1_700_000_000_000 + age * 1000).toISOString()
  const parent = section === '' ? '{name: gw}' : `{name: gw, sectionName: ${section}}`
  return `kind: ${kind}
metadata: {name: ${name}, creationTimestamp: "${made}"}
spec: {parentRefs: [${parent}], hostnames: [${hostnames}], rules: [${rules}]}
---
`
}

const http = 'HTTPRoute'
const grpc = 'GRPCRoute'
const filtered = '{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}'

const rows: readonly { readonly title: string; readonly wishes: readonly (Wish & { lost?: RegExp })[] }[] = [
  {
    title: 'the older has the host',
    wishes: [
      { name: 'a', kind: http, hostnames: 'x.y', age: 2, lost: /GRPCRoute shop\/b of listener web/ },
      { name: 'b', kind: grpc, hostnames: 'x.y', age: 1 }
    ]
  },
  {
    title: 'of one age, the first by name',
    wishes: [
      { name: 'a', kind: http, age: 1 },
      { name: 'b', kind: grpc, age: 1, lost: /HTTPRoute shop\/a/ }
    ]
  },
  {
    title: 'of one age and name, one of them',
    wishes: [
      { name: 'a', kind: http, age: 1, lost: /GRPCRoute shop\/a/ },
      { name: 'a', kind: grpc, age: 1 }
    ]
  },
  {
    title: 'a wildcard has the hosts under it, and no hostname has all',
    wishes: [
      { name: 'a', kind: http, hostnames: '"*.y"', age: 1 },
      { name: 'b', kind: grpc, hostnames: 'x.y', age: 2, lost: /HTTPRoute shop\/a/ },
      { name: 'c', kind: grpc, age: 3, lost: /HTTPRoute shop\/a/ },
      { name: 'd', kind: grpc, hostnames: 'y, x.z', age: 4 }
    ]
  },
  {
    title: 'those of one kind share a host',
    wishes: [
      { name: 'a', kind: grpc, hostnames: 'x.y', age: 1 },
      { name: 'b', kind: grpc, hostnames: 'x.y', age: 2 }
    ]
  },
  {
    title: 'at other listeners they are not in the way',
    wishes: [
      { name: 'a', kind: grpc, hostnames: 'x.y', age: 1 },
      { name: 'b', kind: http, hostnames: 'x.y', section: 'alt', age: 2 }
    ]
  },
  {
    title: 'one that has lost is in nobody’s way',
    wishes: [
      { name: 'a', kind: http, hostnames: 'a.y', age: 1 },
      { name: 'b', kind: grpc, hostnames: 'a.y, b.y', age: 2, lost: /HTTPRoute shop\/a/ },
      { name: 'c', kind: http, hostnames: 'b.y, c.y', age: 3 },
      { name: 'd', kind: grpc, hostnames: 'c.y', age: 4, lost: /HTTPRoute shop\/c/ }
    ]
  },
  {
    title: 'nor is one of which nothing is carried out, or that is not let in',
    wishes: [
      { name: 'a', kind: grpc, hostnames: 'x.y', rules: filtered, age: 1, lost: /ExtensionRef/ },
      { name: 'b', kind: http, hostnames: 'x.y', age: 2 }
    ]
  }
]

t.test('who has a host', async t => {
  for (const { title, wishes } of rows) {
    const view = world(gateway('gw', listeners) + wishes.map(yamlOf).join(''))
    let accepted = 0
    for (const { name, kind, section = 'web', lost } of wishes) {
      const route = view.get(kind, `shop/${name}`) as RouteObject
      const [report] = routeReports(view, route, 'auto')
      const what = `${title}: ${kind} ${name}`
      t.match(
        report?.conditions['Accepted'],
        lost === undefined ? { status: 'True' } : { status: 'False', message: lost },
        what
      )
      if (lost === undefined && section === 'web') accepted += 1
      if (lost?.source.includes('ExtensionRef') === true) continue
      t.equal(translateRoute(view, route) === undefined, lost !== undefined, `${what} is sent`)
    }
    const gw = view.get('Gateway', 'shop/gw')
    t.equal(gw && (attachedRoutes(view, gw).get('web') ?? 0), accepted, title)
  }
})

t.test('it keeps the listeners that nobody contends for', async t => {
  const a = { name: 'a', kind: grpc, hostnames: 'x.y', age: 1 } as const
  const b = { name: 'b', kind: http, hostnames: 'x.y', section: '', age: 2 } as const
  const view = world(gateway('gw', listeners) + yamlOf(a) + yamlOf(b))
  const route = view.get(http, 'shop/b') as RouteObject
  t.match(routeReports(view, route, 'auto'), [{ conditions: { Accepted: { status: 'True' } } }])
  t.match(translateRoute(view, route)?.message.spec['parentRefs'], [{ listeners: [{ name: 'alt' }] }])
})

t.test('who loses a host, or gets it back, is told to gateways at once', async t => {
  const desired = new DesiredState(settings)
  const put = (yaml: string): void => {
    for (const object of objects(yaml)) desired.put(object)
    desired.refresh()
  }
  const sent = (): readonly string[] =>
    [http, grpc].flatMap(kind =>
      [...desired.snapshot.table(kind as RouteKind).values()].map(({ name }) => name)
    )
  put(gateway('gw', listeners))
  put(yamlOf({ name: 'c', kind: grpc, hostnames: 'c.y', age: 9 }))
  put(yamlOf({ name: 'b', kind: http, hostnames: 'b.y, c.y', age: 8 }))
  t.strictSame(sent(), ['shop/b'], 'c has lost to b')
  put(yamlOf({ name: 'a', kind: grpc, hostnames: 'b.y', age: 7 }))
  t.strictSame(sent().toSorted(), ['shop/a', 'shop/c'], 'b has lost to a, and c has its host back')
  desired.delete(grpc, 'shop/a')
  desired.refresh()
  t.strictSame(sent(), ['shop/b'])
  put(yamlOf({ name: 'b', kind: http, hostnames: 'b.y', age: 8 }))
  t.strictSame(sent(), ['shop/b', 'shop/c'], 'each has its own')
})
