/** Which listeners of a gateway a route attaches to, what its status says of that, and what proxies are sent. */
import t from 'tap'
import type { ClusterView } from '../../../controlplane/cluster/cluster.ts'
import type { GatewayObject, RouteKind, RouteObject } from '../../../controlplane/cluster/objects.ts'
import { recipientName } from '../../../controlplane/desired/snapshot.ts'
import { intersection } from '../../../controlplane/translate/hostname-intersection.ts'
import type { IstioClasses } from '../../../controlplane/translate/gateway-class.ts'
import { attachedRoutes, routeReports } from '../../../controlplane/translate/route-conditions.ts'
import { translateRoute } from '../../../controlplane/translate/route.ts'
import { gateway } from '../gateway-world.ts'
import { world } from '../world.ts'

t.test('hostnames of a listener and of a route', async t => {
  const rows: readonly [listener: string, route: readonly string[], common: readonly string[]][] = [
    ['', [], ['']],
    ['a.b', [], ['a.b']],
    ['', ['z.y', 'a.b'], ['a.b', 'z.y']],
    ['a.b', ['a.b', 'c.b'], ['a.b']],
    ['*.b', ['a.b', 'c.a.b', 'b', 'ab', '*.a.b', '*.b'], ['*.a.b', '*.b', 'a.b', 'c.a.b']],
    ['a.b', ['*.b'], ['a.b']],
    ['c.a.b', ['*.b', '*.a.b', 'x.b'], ['c.a.b']],
    ['*.a.b', ['*.b'], ['*.a.b']],
    ['a.b', ['*.a.b', 'b'], []],
    ['very.specific.com', ['non.matching.com', '*.nonmatchingwildcard.io'], []]
  ]
  for (const [listener, route, common] of rows) {
    t.strictSame(intersection(listener, route), common, `${listener} with ${route.join(' ')}`)
  }
})

const passthrough = 'tls: {mode: Passthrough}'
const shop =
  gateway('gw', [
    '{name: http, port: 80, protocol: HTTP}',
    '{name: named, port: 80, protocol: HTTP, hostname: "*.example.com"}',
    '{name: alt, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}}',
    `{name: tls, port: 443, protocol: TLS, hostname: s.example.com, ${passthrough}}`,
    '{name: nobody, port: 81, protocol: HTTP, allowedRoutes: {namespaces: {from: None}}}',
    '{name: labelled, port: 82, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}}'
  ]) +
  gateway('istios', ['{name: http, port: 80, protocol: HTTP}'], { className: 'istio' }) +
  gateway('other', ['{name: http, port: 80, protocol: HTTP}'], { className: 'nginx' }) +
  gateway('wp', ['{name: mesh, port: 15008, protocol: HBONE}'], { className: 'underpass-waypoint' }) +
  `kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
kind: Namespace
metadata: {name: teams, labels: {team: a}}
---
`
const istiod =
  'kind: Pod\nmetadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}\nstatus: {phase: Running}\n---\n'

interface Row {
  readonly parent: string
  readonly kind?: RouteKind
  readonly namespace?: string
  readonly hostnames?: string
  readonly rules?: string
  readonly more?: string
  readonly istioClasses?: IstioClasses
}

function built({ parent, kind = 'HTTPRoute', namespace = 'shop', hostnames = '', rules, more = '' }: Row): {
  readonly view: ClusterView
  readonly route: RouteObject
} {
  const backends = rules ?? '{backendRefs: [{name: web, port: 80}]}'
  const view = world(
    `${shop}${more}kind: ${kind}
metadata: {name: r, namespace: ${namespace}}
spec: {parentRefs: [${parent}], hostnames: [${hostnames}], rules: [${backends}]}
`
  )
  const route = view.get(kind, `${namespace}/r`)
  if (route === undefined) throw new Error('no route')
  return { view, route }
}

function ofShop(view: ClusterView): GatewayObject {
  const found = view.get('Gateway', 'shop/gw')
  if (found === undefined) throw new Error('no Gateway')
  return found
}

t.test('what a route attaches to, with the reason where it does not', async t => {
  const rows: readonly (Row & {
    readonly accepted?: readonly string[]
    readonly refused?: string
    readonly says?: RegExp
  })[] = [
    { parent: '{name: gw}', accepted: ['http ', 'named *.example.com'] },
    {
      parent: '{name: gw}',
      hostnames: 'A.example.com',
      accepted: ['http a.example.com', 'named a.example.com']
    },
    { parent: '{name: gw}', hostnames: 'x.y', accepted: ['http x.y'] },
    { parent: '{name: gw, sectionName: named}', accepted: ['named *.example.com'] },
    { parent: '{name: gw, port: 80}', accepted: ['http ', 'named *.example.com'] },
    { parent: '{name: gw, sectionName: http, port: 80}', accepted: ['http '] },
    {
      parent: '{name: gw, sectionName: none}',
      refused: 'NoMatchingParent',
      says: /no listener of name "none"; it has "http" at 80, "named" at 80/
    },
    { parent: '{name: gw, port: 83}', refused: 'NoMatchingParent', says: /no listener of port 83/ },
    {
      parent: '{name: gw, sectionName: http, port: 8080}',
      refused: 'NoMatchingParent',
      says: /name "http" and port 8080/
    },
    {
      parent: '{name: gw, sectionName: named}',
      hostnames: 'x.y',
      refused: 'NoMatchingListenerHostname',
      says: /\*\.example\.com/
    },
    { parent: '{name: gw, sectionName: alt}', refused: 'NotAllowedByListeners', says: /takes a HTTPRoute/ },
    { parent: '{name: gw, sectionName: alt}', kind: 'GRPCRoute', accepted: ['alt '] },
    { parent: '{name: gw}', kind: 'GRPCRoute', accepted: ['http ', 'named *.example.com', 'alt '] },
    { parent: '{name: gw, sectionName: tls}', refused: 'NotAllowedByListeners' },
    { parent: '{name: gw, sectionName: nobody}', refused: 'NotAllowedByListeners', says: /namespace shop/ },
    {
      parent: '{name: gw, namespace: shop}',
      namespace: 'far',
      rules: '{}',
      refused: 'NotAllowedByListeners'
    },
    {
      parent: '{name: gw, namespace: shop}',
      namespace: 'teams',
      rules: '{}',
      accepted: ['labelled ']
    },
    { parent: '{name: gw}', kind: 'TLSRoute', hostnames: 's.example.com', accepted: ['tls s.example.com'] },
    { parent: '{name: gw}', kind: 'TLSRoute', hostnames: '"*.com"', accepted: ['tls s.example.com'] },
    { parent: '{name: gw}', kind: 'TLSRoute', hostnames: 'z.y', refused: 'NoMatchingListenerHostname' },
    { parent: '{name: gw, sectionName: http}', kind: 'TLSRoute', refused: 'NotAllowedByListeners' },
    { parent: '{name: istios}', accepted: ['http '] },
    { parent: '{name: istios}', istioClasses: 'on', more: istiod, accepted: ['http '] }
  ]
  for (const { accepted = [], refused, says, istioClasses = 'auto', ...row } of rows) {
    const { view, route } = built(row)
    const [report, ...more] = routeReports(view, route, istioClasses)
    t.strictSame(more, [])
    const { Accepted, ResolvedRefs } = report?.conditions ?? {}
    const name = JSON.stringify(row)
    t.match(
      Accepted,
      refused === undefined
        ? { status: 'True', reason: 'Accepted' }
        : { status: 'False', reason: refused, message: says ?? /./ },
      name
    )
    t.match(ResolvedRefs, { status: 'True' })
    t.match(report, { controller: 'underpass.dev/gateway-controller' })
    t.notOk(report?.conditions['ResolvedWaypoints'], 'a gateway is no waypoint')
    const sent = translateRoute(view, route)
    const parents = (sent?.message.spec['parentRefs'] ?? []) as readonly {
      readonly listeners: readonly { readonly name: string; readonly hostnames: readonly string[] }[]
    }[]
    t.strictSame(
      parents.flatMap(({ listeners }) =>
        listeners.map(({ name, hostnames }) => `${name} ${hostnames.join(' ')}`)
      ),
      accepted,
      name
    )
    for (const listener of ofShop(view).listeners) {
      const isIn = row.parent.includes('gw') && accepted.some(each => each.startsWith(`${listener.name} `))
      t.equal(attachedRoutes(view, ofShop(view)).get(listener.name) ?? 0, isIn ? 1 : 0)
    }
  }
})

t.test('what others run is theirs to speak of', async t => {
  const rows: readonly Row[] = [
    { parent: '{name: other}' },
    { parent: '{name: gone}' },
    { parent: '{name: istios}', more: istiod },
    { parent: '{name: istios}', istioClasses: 'off' },
    {
      parent: '{name: gw}',
      more: 'kind: GatewayClass\nmetadata: {name: underpass}\nspec: {controllerName: somebody.else/controller}\n---\n'
    }
  ]
  for (const { istioClasses = 'auto', ...row } of rows) {
    const { view, route } = built(row)
    t.strictSame(routeReports(view, route, istioClasses), [], JSON.stringify(row))
  }
  const custom =
    'kind: GatewayClass\nmetadata: {name: nginx}\nspec: {controllerName: underpass.dev/gateway-controller}\n---\n'
  const { view, route } = built({ parent: '{name: other}', more: custom })
  t.match(
    routeReports(view, route, 'auto'),
    [{ conditions: { Accepted: { status: 'True' } } }],
    'a class of ours'
  )
})

t.test('a route of which nothing is carried out counts nowhere', async t => {
  const rules = '{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}'
  const { view, route } = built({ parent: '{name: gw, sectionName: http}', rules })
  t.match(routeReports(view, route, 'auto'), [
    { conditions: { Accepted: { status: 'False', reason: 'UnsupportedValue' } } }
  ])
  t.equal(attachedRoutes(view, ofShop(view)).get('http'), undefined)
})

t.test('what is sent of a route of both worlds', async t => {
  const { view, route } = built({
    parent:
      '{group: "", kind: Service, name: web}, {name: gw, sectionName: http}, {name: gw, sectionName: named}, {name: gw, port: 80}, {name: other}'
  })
  const sent = translateRoute(view, route)
  t.strictSame(sent?.message.spec['parentRefs'], [
    { group: '', kind: 'Service', namespace: 'shop', name: 'web', hostname: 'web.shop.svc.cluster.local' },
    {
      group: 'gateway.networking.k8s.io',
      kind: 'Gateway',
      namespace: 'shop',
      name: 'gw',
      listeners: [
        { name: 'http', hostnames: [''] },
        { name: 'named', hostnames: ['*.example.com'] }
      ]
    }
  ])
  t.strictSame([...new Set(sent?.waypoints.map(recipientName))], ['Gateway shop/gw'])
})

t.test('a TLSRoute has no matches, and no parents but Gateways', async t => {
  const row = { kind: 'TLSRoute', hostnames: 's.example.com' } as const
  const { view, route } = built({ ...row, parent: '{name: gw}' })
  t.strictSame(translateRoute(view, route)?.message.spec['rules'], [
    {
      backendRefs: [
        {
          group: '',
          kind: 'Service',
          namespace: 'shop',
          name: 'web',
          port: 80,
          weight: 1,
          hostname: 'web.shop.svc.cluster.local'
        }
      ]
    }
  ])
  const service = built({ ...row, parent: '{group: "", kind: Service, name: web}' })
  t.equal(translateRoute(service.view, service.route), undefined)
  t.match(routeReports(service.view, service.route, 'auto'), [
    { conditions: { Accepted: { reason: 'NoMatchingParent', message: /listeners of Gateways alone/ } } }
  ])
})
