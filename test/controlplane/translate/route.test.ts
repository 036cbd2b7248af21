import t from 'tap'
import type { RouteObject } from '../../../controlplane/cluster/objects.ts'
import { recipientName } from '../../../controlplane/desired/snapshot.ts'
import { resolveBackend } from '../../../controlplane/translate/backend-ref.ts'
import { attachParent } from '../../../controlplane/translate/route-parents.ts'
import { routedRecipients, translateRoute } from '../../../controlplane/translate/route.ts'
import { backendsOf } from '../../../controlplane/cluster/cluster.ts'
import { world } from '../world.ts'

const shop = `
kind: Gateway
metadata: {name: wp}
spec: {gatewayClassName: underpass-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}
---
kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: wp}}
spec: {ports: [{port: 80, name: http}, {port: 8080, name: alt}]}
---
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
kind: Service
metadata: {name: db, namespace: other}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: secret, namespace: other}
spec: {ports: [{port: 80}]}
---
kind: ServiceEntry
metadata: {name: partner, namespace: other}
spec: {hosts: [partner.example], resolution: DNS, ports: [{number: 443, name: https}]}
---
kind: ServiceEntry
metadata: {name: api, labels: {istio.io/use-waypoint: wp}}
spec: {hosts: [api.example], resolution: DNS, ports: [{number: 80, name: http}]}
---
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Service, name: db}]
---
`

interface Built {
  readonly view: ReturnType<typeof world>
  readonly route: RouteObject
}

function built(spec: string, kind: RouteObject['kind'] = 'HTTPRoute', more = ''): Built {
  const view = world(
    `${shop}${more}kind: ${kind}\nmetadata: {name: r, creationTimestamp: "2026-01-01T00:00:00Z"}\nspec: ${spec}\n`
  )
  const route = view.get(kind, 'shop/r')
  if (route === undefined) throw new Error('no route')
  return { view, route }
}

const toWeb = 'parentRefs: [{group: "", kind: Service, name: web}]'
const specOf = ({ view, route }: Built): unknown => translateRoute(view, route)?.message.spec

t.test('what a parent must be', async t => {
  const rows = [
    { parent: '{group: "", kind: Service, name: web}', attached: 'every port' },
    { parent: '{group: "", kind: Service, name: web, port: 8080}', attached: 8080 },
    { parent: '{group: "", kind: Service, name: web, sectionName: alt}', attached: 8080 },
    { parent: '{group: "", kind: Service, name: web, port: 80, sectionName: http}', attached: 80 },
    {
      parent: '{group: "", kind: Service, name: web, port: 80, sectionName: alt}',
      refused: /80 "alt"; it has 80 "http", 8080 "alt"/
    },
    { parent: '{group: "", kind: Service, name: web, port: 9}', refused: /no TCP port 9/ },
    { parent: '{group: "", kind: Service, name: web, sectionName: x}', refused: /no TCP port "x"/ },
    { parent: '{group: "", kind: Service, name: gone}', refused: /Service shop\/gone was not found/ },
    { parent: '{group: "", kind: Service, name: alias}', refused: /ExternalName/ },
    { parent: '{group: "", kind: Service, namespace: other, name: db}', attached: 'every port' },
    { parent: '{kind: Service, name: web}', refused: /write group: ""/ },
    { parent: '{name: wp}', refused: /shop\/wp is a waypoint/ },
    { parent: '{group: networking.istio.io, kind: ServiceEntry, name: api, port: 80}', attached: 80 },
    {
      parent: '{group: networking.istio.io, kind: ServiceEntry, name: web}',
      refused: /ServiceEntry shop\/web was not found/
    }
  ]
  for (const { parent, attached, refused } of rows) {
    const { view, route } = built(`{parentRefs: [${parent}]}`)
    const [reference] = route.parents
    const attachment = reference === undefined ? undefined : attachParent(view, route, reference)
    if (refused !== undefined) t.match(attachment, { kind: 'refused', message: refused }, parent)
    else
      t.match(
        attachment,
        { kind: 'attached', port: attached === 'every port' ? undefined : attached },
        parent
      )
  }
  const gateways = built(
    '{parentRefs: [{kind: ListenerSet, name: wp}, {kind: Service, group: example.com, name: web}]}'
  )
  t.strictSame(gateways.route.parents, [], 'parents of others are not ours')
  t.equal(translateRoute(gateways.view, gateways.route), undefined)
})

t.test('what a backend must be', async t => {
  const rows = [
    { backend: '{name: web, port: 80}', hostname: 'web.shop.svc.cluster.local' },
    { backend: '{name: web}', reason: 'BackendNotFound', message: /a port is missing; it has 80, 8080/ },
    {
      backend: '{name: web, port: 81}',
      reason: 'BackendNotFound',
      message: /no TCP port 81; it has 80, 8080/
    },
    {
      backend: '{name: gone, port: 80}',
      reason: 'BackendNotFound',
      message: /Service shop\/gone was not found/
    },
    { backend: '{name: alias, port: 80}', reason: 'BackendNotFound', message: /ServiceEntry/ },
    { backend: '{namespace: other, name: db, port: 80}', hostname: 'db.other.svc.cluster.local' },
    {
      backend: '{namespace: other, name: secret, port: 80}',
      reason: 'RefNotPermitted',
      message: /ReferenceGrant admits HTTPRoutes of shop/
    },
    {
      backend: '{namespace: other, name: gone, port: 80}',
      reason: 'RefNotPermitted',
      message: /ReferenceGrant/
    },
    { backend: '{kind: Pod, name: web, port: 80}', reason: 'InvalidKind', message: /kind Pod/ },
    {
      backend: '{group: networking.istio.io, kind: ServiceEntry, name: api, port: 80}',
      reason: 'InvalidKind',
      message: /Hostname/
    },
    {
      backend: '{group: networking.istio.io, kind: Hostname, name: api.example, port: 80}',
      hostname: 'api.example'
    },
    {
      backend: '{group: networking.istio.io, kind: Hostname, name: partner.example, port: 443}',
      hostname: 'partner.example'
    },
    {
      backend: '{group: networking.istio.io, kind: Hostname, name: api.example, port: 81}',
      reason: 'BackendNotFound',
      message: /no TCP port 81/
    },
    {
      backend: '{group: networking.istio.io, kind: Hostname, name: gone.example, port: 80}',
      reason: 'BackendNotFound',
      message: /nothing declares host gone\.example/
    },
    {
      backend: '{group: networking.istio.io, kind: Hostname, name: db.other.svc.cluster.local, port: 80}',
      hostname: 'db.other.svc.cluster.local'
    },
    {
      backend: '{group: networking.istio.io, kind: Hostname, name: secret.other.svc.cluster.local, port: 80}',
      reason: 'RefNotPermitted',
      message: /other\/secret/
    }
  ]
  for (const { backend, hostname, reason, message } of rows) {
    const { view, route } = built(`{${toWeb}, rules: [{}, {backendRefs: [${backend}]}]}`)
    const [reference] = backendsOf(route)
    const found = reference === undefined ? undefined : resolveBackend(view, route, reference)
    if (hostname !== undefined) t.match(found, { kind: 'resolved', hostname }, backend)
    else {
      t.match(found, { kind: 'unresolved', reason, message }, backend)
      t.match(found, { message: /^spec\.rules\[1\]\.backendRefs\[0\]: / }, 'with the field')
    }
  }
})

t.test(
  "a consumer's route may go where its clients wanted to go, without a grant, and lead no others there",
  async t => {
    const secret = '{group: "", kind: Service, namespace: other, name: secret}'
    const rows = [
      { parents: secret, found: 'resolved' },
      { parents: `${secret}, {group: "", kind: Service, name: web}`, found: 'unresolved' },
      { parents: '{group: "", kind: Service, namespace: other, name: db}', found: 'unresolved' },
      {
        parents: '{group: networking.istio.io, kind: ServiceEntry, namespace: other, name: secret}',
        found: 'unresolved'
      }
    ]
    for (const { parents, found } of rows) {
      const rules = 'rules: [{backendRefs: [{namespace: other, name: secret, port: 80}]}]'
      const { view, route } = built(`{parentRefs: [${parents}], ${rules}}`)
      const [reference] = backendsOf(route)
      t.equal(reference && resolveBackend(view, route, reference).kind, found, parents)
    }
  }
)

t.test('a grant admits one kind of one namespace to what it names', async t => {
  const grant = (from: string, to: string): string =>
    `kind: ReferenceGrant\nmetadata: {name: h, namespace: other}\nspec: {from: [${from}], to: [${to}]}\n---\n`
  const group = 'group: gateway.networking.k8s.io'
  const rows = [
    {
      from: `{${group}, kind: HTTPRoute, namespace: shop}`,
      to: '{group: "", kind: Service}',
      permitted: true
    },
    {
      from: `{${group}, kind: HTTPRoute, namespace: shop}`,
      to: '{group: "", kind: Service, name: secret}',
      permitted: true
    },
    {
      from: `{${group}, kind: HTTPRoute, namespace: shop}`,
      to: '{group: "", kind: Service, name: db}',
      permitted: false
    },
    {
      from: `{${group}, kind: HTTPRoute, namespace: shop}`,
      to: '{group: "", kind: Secret}',
      permitted: false
    },
    {
      from: `{${group}, kind: HTTPRoute, namespace: shop}`,
      to: '{group: x, kind: Service}',
      permitted: false
    },
    {
      from: `{${group}, kind: GRPCRoute, namespace: shop}`,
      to: '{group: "", kind: Service}',
      permitted: false
    },
    {
      from: `{${group}, kind: HTTPRoute, namespace: other}`,
      to: '{group: "", kind: Service}',
      permitted: false
    },
    {
      from: '{group: "", kind: HTTPRoute, namespace: shop}',
      to: '{group: "", kind: Service}',
      permitted: false
    }
  ]
  for (const { from, to, permitted } of rows) {
    const spec = `{${toWeb}, rules: [{backendRefs: [{namespace: other, name: secret, port: 80}]}]}`
    const { view, route } = built(spec, 'HTTPRoute', grant(from, to))
    const [reference] = backendsOf(route)
    const found = reference === undefined ? undefined : resolveBackend(view, route, reference)
    t.equal(found?.kind, permitted ? 'resolved' : 'unresolved', `${from} to ${to}`)
  }
})

t.test('what is sent says everything, and nothing that has no effect', async t => {
  const whole = built(`
  hostnames: [ignored.example]
  parentRefs:
    - {group: "", kind: Service, name: web, sectionName: http}
    - {group: "", kind: Service, name: gone}
    - {name: some-gateway}
  rules:
    - name: first
      timeouts: {request: 1s}
      matches:
        - headers: [{name: a, value: b}, {name: c, type: RegularExpression, value: .*}]
          queryParams: [{name: q, value: v}]
        - path: {value: /x}
        - path: {type: Exact, value: /y}
          method: GET
      filters:
        - {type: RequestMirror, requestMirror: {backendRef: {namespace: other, name: db, port: 80}, fraction: {numerator: 1}}}
        - {type: RequestRedirect, requestRedirect: {hostname: x}}
        - {type: CORS, cors: {allowOrigins: ["*"]}}
        - {type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}
      backendRefs:
        - {name: web, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}]}
        - {name: gone, port: 80, weight: 0}
    - backendRefs: [{namespace: other, name: secret, port: 80, weight: 5}]`)
  t.strictSame(specOf(whole), {
    parentRefs: [
      {
        group: '',
        kind: 'Service',
        namespace: 'shop',
        name: 'web',
        port: 80,
        hostname: 'web.shop.svc.cluster.local'
      }
    ],
    rules: [
      {
        name: 'first',
        timeouts: { request: '1s' },
        matches: [
          {
            headers: [
              { type: 'Exact', name: 'a', value: 'b' },
              { type: 'RegularExpression', name: 'c', value: '.*' }
            ],
            queryParams: [{ type: 'Exact', name: 'q', value: 'v' }],
            path: { type: 'PathPrefix', value: '/' }
          },
          { path: { type: 'PathPrefix', value: '/x' } },
          { path: { type: 'Exact', value: '/y' }, method: 'GET' }
        ],
        filters: [
          {
            type: 'RequestMirror',
            requestMirror: {
              backendRef: {
                group: '',
                kind: 'Service',
                namespace: 'other',
                name: 'db',
                port: 80,
                weight: 1,
                hostname: 'db.other.svc.cluster.local'
              },
              fraction: { denominator: 100, numerator: 1 }
            }
          },
          { type: 'RequestRedirect', requestRedirect: { statusCode: 302, hostname: 'x' } },
          { type: 'CORS', cors: { maxAge: 5, allowOrigins: ['*'] } },
          { type: 'ExtensionRef', extensionRef: { group: 'g', kind: 'k', name: 'n' } }
        ],
        backendRefs: [
          {
            group: '',
            kind: 'Service',
            namespace: 'shop',
            name: 'web',
            port: 80,
            weight: 1,
            hostname: 'web.shop.svc.cluster.local',
            filters: [{ type: 'RequestHeaderModifier', requestHeaderModifier: { remove: ['x'] } }]
          },
          { weight: 0, unresolved: 'BackendNotFound' }
        ]
      },
      {
        matches: [{ path: { type: 'PathPrefix', value: '/' } }],
        backendRefs: [{ weight: 5, unresolved: 'RefNotPermitted' }]
      }
    ]
  })
  t.equal(translateRoute(whole.view, whole.route)?.message.createdMs, Date.parse('2026-01-01T00:00:00Z'))
})

t.test('defaults are those of the kind', async t => {
  const rows = [
    { kind: 'HTTPRoute', rules: '', wanted: [{ matches: [{ path: { type: 'PathPrefix', value: '/' } }] }] },
    { kind: 'HTTPRoute', rules: ', rules: []', wanted: [] },
    {
      kind: 'HTTPRoute',
      rules: ', rules: [{matches: []}]',
      wanted: [{ matches: [{ path: { type: 'PathPrefix', value: '/' } }] }]
    },
    { kind: 'GRPCRoute', rules: '', wanted: [{ matches: [] }] },
    {
      kind: 'GRPCRoute',
      rules: ', rules: [{matches: [{method: {service: s}, headers: [{name: a, value: b}]}]}]',
      wanted: [
        {
          matches: [
            { method: { type: 'Exact', service: 's' }, headers: [{ type: 'Exact', name: 'a', value: 'b' }] }
          ]
        }
      ]
    }
  ] as const
  for (const { kind, rules, wanted } of rows) {
    t.strictSame(
      (specOf(built(`{${toWeb}${rules}}`, kind)) as { rules: unknown }).rules,
      wanted,
      `${kind}${rules}`
    )
  }
})

t.test('a ServiceEntry stands for each of its hosts', async t => {
  const entry = `kind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [a.example, b.example], resolution: DNS, ports: [{number: 80, name: http}]}\n---\n`
  const parent = '{group: networking.istio.io, kind: ServiceEntry, name: e}'
  const spec = specOf(built(`{parentRefs: [${parent}], rules: []}`, 'HTTPRoute', entry))
  const sent = { group: 'networking.istio.io', kind: 'ServiceEntry', namespace: 'shop', name: 'e' }
  t.strictSame(spec, {
    parentRefs: [
      { ...sent, hostname: 'a.example' },
      { ...sent, hostname: 'b.example' }
    ],
    rules: []
  })
})

t.test('what cannot be carried out: filters are sent, settings and matches are not', async t => {
  const rulesOf = (rules: string): unknown =>
    (specOf(built(`{${toWeb}, rules: ${rules}}`)) as { rules: unknown }).rules
  const everything = { path: { type: 'PathPrefix', value: '/' } }
  const filter = '{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}'
  const bad = '{path: {type: RegularExpression, value: "("}}'
  const rows = [
    {
      rules: `[{filters: [${filter}]}]`,
      sent: [
        {
          matches: [everything],
          filters: [{ type: 'ExtensionRef', extensionRef: { group: 'g', kind: 'k', name: 'n' } }]
        }
      ]
    },
    {
      rules: '[{name: n, retry: {attempts: 1}, sessionPersistence: {}, unheardOf: {}}]',
      sent: [{ name: 'n', retry: { attempts: 1 }, sessionPersistence: {}, matches: [everything] }]
    },
    { rules: `[{matches: [${bad}, {}]}]`, sent: [{ matches: [everything] }] },
    { rules: `[{matches: [${bad}]}, {name: n}]`, sent: [{ name: 'n', matches: [everything] }] },
    { rules: `[{matches: [${bad}]}]`, sent: [] }
  ]
  for (const { rules, sent } of rows) t.strictSame(rulesOf(rules), sent, rules)
})

t.test('who has to know a route, and where it leads', async t => {
  const canary = `kind: Gateway
metadata: {name: next}
spec: {gatewayClassName: c}
status: {addresses: [{type: Hostname, value: next.shop.svc.cluster.local}]}
---
kind: Service
metadata: {name: split, labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: next}}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: free}
spec: {ports: [{port: 80}]}
---
`
  const names = (parent: string): unknown => {
    const rules =
      'rules: [{backendRefs: [{namespace: other, name: db, port: 80}, {namespace: other, name: secret, port: 80}]}]'
    const { view, route } = built(`{parentRefs: [${parent}], ${rules}}`, 'HTTPRoute', canary)
    const known = translateRoute(view, route)?.waypoints.map(recipientName)
    const leads = ['db', 'secret'].map(name => {
      const owner = view.get('Service', `other/${name}`)
      if (owner === undefined) throw new Error('no service')
      return routedRecipients(view, owner, `${name}.other.svc.cluster.local`).map(recipientName)
    })
    return { known, leads }
  }
  const wp = 'shop/wp.shop.svc.cluster.local'
  const next = 'shop/next.shop.svc.cluster.local'
  t.strictSame(names('{group: "", kind: Service, name: web}'), { known: [wp], leads: [[wp], []] })
  t.strictSame(names('{group: "", kind: Service, name: free}'), { known: [], leads: [[], []] })
  t.strictSame(
    names('{group: "", kind: Service, name: split}'),
    { known: [wp, next], leads: [[wp, next], []] },
    'a canary too'
  )
  t.strictSame(names('{group: "", kind: Service, name: gone}'), { known: undefined, leads: [[], []] })
})
