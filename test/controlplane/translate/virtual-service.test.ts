import t from 'tap'
import { readMeshConfig } from '../../../controlplane/cluster/mesh-config.ts'
import type { VirtualServiceObject } from '../../../controlplane/cluster/objects.ts'
import { recipientName } from '../../../controlplane/desired/snapshot.ts'
import { furtherRecipients } from '../../../controlplane/translate/service-recipients.ts'
import { translateVirtualService } from '../../../controlplane/translate/virtual-service.ts'
import { objects, settings, world } from '../world.ts'

const gateway = (namespace: string, name = 'wp'): string =>
  `kind: Gateway\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {gatewayClassName: c, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}\nstatus: {addresses: [{type: Hostname, value: ${name}.${namespace}}]}\n---\n`

/** Namespace shop has a waypoint of its own and a canary of that; `mart` goes through that of `edge`. */
const cluster = `${gateway('shop')}${gateway('shop', 'next')}${gateway('edge')}kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: wp}}
spec: {ports: [{name: http, port: 80}, {name: admin, port: 8080}]}
---
kind: Service
metadata: {name: cart, labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: next}}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: mart, namespace: mart, labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: edge}}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: free}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: elsewhere.example}
---
kind: Service
metadata: {name: packets}
spec: {ports: [{port: 53, protocol: UDP}]}
---
kind: ServiceEntry
metadata: {name: api, labels: {istio.io/use-waypoint: wp}}
spec: {hosts: [api.example], resolution: DNS, ports: [{name: http, number: 80, protocol: HTTP}]}
---
kind: ServiceEntry
metadata: {name: older, namespace: shop, creationTimestamp: "2019-01-01T00:00:00Z"}
spec: {hosts: [taken.example], resolution: DNS, ports: [{name: http, number: 80, protocol: HTTP}]}
---
kind: ServiceEntry
metadata: {name: younger, namespace: edge, creationTimestamp: "2020-01-01T00:00:00Z"}
spec: {hosts: [taken.example], resolution: DNS, ports: [{name: http, number: 81, protocol: HTTP}]}
---
`
const toFree = 'http: [{route: [{destination: {host: free}}]}]'
const virtualService = (spec: string, namespace = 'shop'): string =>
  `kind: VirtualService\nmetadata: {name: v, namespace: ${namespace}, creationTimestamp: "2020-01-01T00:00:00Z"}\nspec: {${spec}}\n---\n`

function read(yaml: string): VirtualServiceObject {
  const [object] = objects(yaml)
  if (object?.kind !== 'VirtualService') throw new Error('no VirtualService')
  return object
}

const shop = 'shop/wp.shop'
const next = 'shop/next.shop'
const edge = 'edge/wp.edge'

t.test(
  'it goes to the waypoints that serve one of its hosts, from their namespace or that of the service',
  async t => {
    const rows = [
      { spec: 'hosts: [web]', to: [shop] },
      { spec: 'hosts: [web.shop.svc.cluster.local]', to: [shop] },
      { spec: 'hosts: [web]', namespace: 'edge', to: [], what: 'a service web of edge is not there' },
      { spec: 'hosts: [web.shop]', to: [], what: 'what has a dot is a whole name' },
      { spec: 'hosts: [free]', to: [], what: 'no waypoint' },
      { spec: 'hosts: [gone]', to: [] },
      { spec: 'hosts: []', to: [], what: 'a part of another one' },
      { spec: 'hosts: [gone, web]', to: [shop] },
      { spec: 'hosts: [cart]', to: [shop, next], what: 'the canary serves it too' },
      { spec: 'hosts: [api.example]', to: [shop] },
      { spec: 'hosts: [mart]', namespace: 'mart', to: [edge], what: 'of the service' },
      {
        spec: 'hosts: [mart.mart.svc.cluster.local]',
        namespace: 'edge',
        to: [edge],
        what: 'of the waypoint'
      },
      { spec: 'hosts: [mart.mart.svc.cluster.local]', namespace: 'shop', to: [], what: 'of somebody else' },
      {
        spec: 'hosts: [mart.mart.svc.cluster.local]',
        namespace: 'istio-system',
        to: [],
        what: 'the root namespace is nothing special'
      },
      { spec: 'hosts: ["*.shop.svc.cluster.local"]', to: [shop, next] },
      { spec: 'hosts: ["*.svc.cluster.local"]', namespace: 'edge', to: [edge] },
      { spec: 'hosts: ["*.example"]', to: [shop] },
      { spec: 'hosts: ["*.example.com"]', to: [] },
      { spec: 'hosts: [web], exportTo: [.]', to: [shop] },
      { spec: 'hosts: [web], exportTo: ["*"]', to: [shop] },
      { spec: 'hosts: [web], exportTo: [edge]', to: [], what: 'for others only' },
      { spec: 'hosts: [mart], exportTo: [.]', namespace: 'mart', to: [], what: 'its waypoint is elsewhere' },
      { spec: 'hosts: [mart], exportTo: [., edge]', namespace: 'mart', to: [edge] },
      { spec: 'hosts: [web], gateways: []', to: [shop] },
      { spec: 'hosts: [web], gateways: [mesh]', to: [shop] },
      { spec: 'hosts: [web], gateways: [shop/ingress, mesh]', to: [shop] },
      { spec: 'hosts: [web], gateways: [shop/ingress]', to: [], what: 'for a Gateway only' },
      { spec: 'hosts: [web]', routes: '', to: [], what: 'without routes' },
      { spec: 'hosts: [web]', routes: 'tcp: [{route: [{destination: {host: free}}]}]', to: [shop] },
      {
        spec: 'hosts: [web]',
        routes: 'http: [{match: [{gateways: [ingress]}]}]',
        to: [],
        what: 'no route left'
      }
    ]
    for (const { spec, namespace, routes = toFree, to, what = '' } of rows) {
      const yaml = virtualService([spec, routes].filter(Boolean).join(', '), namespace)
      const sent = translateVirtualService(world(cluster + yaml), read(yaml))
      const name = `${spec} in ${namespace ?? 'shop'} ${what}`
      t.strictSame(new Set(sent?.waypoints.map(recipientName)), new Set(to), name)
    }
  }
)

t.test('who sees one that does not say so is for the mesh configuration to say', async t => {
  const rows = [
    { config: '', to: [edge] },
    { config: 'defaultVirtualServiceExportTo: ["*"]', to: [edge] },
    { config: 'defaultVirtualServiceExportTo: ["."]', to: [] },
    { config: 'defaultVirtualServiceExportTo: [edge]', to: [edge] },
    { config: 'defaultDestinationRuleExportTo: ["."]', to: [edge] }
  ]
  const yaml = virtualService(`hosts: [mart], ${toFree}`, 'mart')
  for (const { config, to } of rows) {
    const mesh = readMeshConfig(config, settings)
    if (mesh.kind === 'problem') throw new Error(mesh.message)
    const sent = translateVirtualService(world(cluster + yaml, mesh.settings), read(yaml))
    t.strictSame(sent?.waypoints.map(recipientName) ?? [], to, config)
  }
})

t.test('the spec goes as it is written but for hosts, destinations and what is for Gateways', async t => {
  const yaml = virtualService(`
    hosts: [web, "*.shop.svc.cluster.local"], exportTo: ["*"], gateways: [ingress, mesh],
    http: [
      {name: a, match: [{gateways: [ingress], uri: {exact: /a}}, {gateways: [mesh, ingress], port: 80, sourceLabels: {x: y}}, {uri: {prefix: /b}}],
       route: [{destination: {host: cart, subset: v1}, weight: 90, headers: {request: {set: {a: b}}}}, {destination: {host: web, port: {number: 8080}}, weight: 10}],
       mirror: {host: free}, mirrorPercentage: {value: 5},
       mirrors: [{destination: {host: web}, percentage: {value: 1}}], timeout: 1s},
      {name: dropped, match: [{gateways: [ingress]}], route: [{destination: {host: cart}}]},
      {redirect: {uri: /}}],
    tls: [{match: [{sniHosts: [web.shop.svc.cluster.local]}], route: [{destination: {host: cart}}]}],
    tcp: [{match: [{port: 8080}], route: [{destination: {host: cart}}]}, {match: [{gateways: [x], port: 80}], route: [{destination: {host: cart}}]}]
  `)
  const host = (name: string): string => `${name}.shop.svc.cluster.local`
  const cart = { host: host('cart'), namespace: 'shop', port: { number: 80 } }
  t.strictSame(translateVirtualService(world(cluster + yaml), read(yaml))?.message, {
    namespace: 'shop',
    name: 'v',
    createdMs: Date.parse('2020-01-01T00:00:00Z'),
    spec: {
      hosts: [host('web'), '*.shop.svc.cluster.local'],
      http: [
        {
          match: [{ port: 80, sourceLabels: { x: 'y' } }, { uri: { prefix: '/b' } }],
          name: 'a',
          mirrorPercentage: { value: 5 },
          timeout: '1s',
          route: [
            {
              destination: { host: host('cart'), namespace: 'shop', subset: 'v1', port: { number: 80 } },
              weight: 90,
              headers: { request: { set: { a: 'b' } } }
            },
            { destination: { host: host('web'), namespace: 'shop', port: { number: 8080 } }, weight: 10 }
          ],
          mirror: { host: host('free'), namespace: 'shop', port: { number: 80 } },
          mirrors: [{ destination: { host: host('web'), namespace: 'shop' }, percentage: { value: 1 } }]
        },
        { redirect: { uri: '/' } }
      ],
      tls: [{ match: [{ sniHosts: [host('web')] }], route: [{ destination: cart }] }],
      tcp: [{ match: [{ port: 8080 }], route: [{ destination: cart }] }]
    }
  })
})

t.test('a destination is a port of a service, or the reason why it is none', async t => {
  const port = (number: number): object => ({ port: { number } })
  const of = (namespace: string): object => ({ namespace })
  const rows = [
    { destination: 'host: cart', as: { host: 'cart.shop.svc.cluster.local', ...of('shop'), ...port(80) } },
    {
      destination: 'host: web',
      as: { host: 'web.shop.svc.cluster.local', ...of('shop') },
      what: 'of several ports that which is asked for'
    },
    {
      destination: 'host: web, port: {number: 0}',
      as: { host: 'web.shop.svc.cluster.local', ...of('shop') }
    },
    {
      destination: 'host: mart.mart.svc.cluster.local, port: {number: 80}',
      as: { host: 'mart.mart.svc.cluster.local', ...of('mart'), ...port(80) }
    },
    { destination: 'host: api.example', as: { host: 'api.example', ...of('shop'), ...port(80) } },
    {
      destination: 'host: taken.example',
      as: { host: 'taken.example', ...of('shop'), ...port(80) },
      what: 'its own before that of everybody'
    },
    {
      destination: 'host: taken.example',
      namespace: 'edge',
      as: { host: 'taken.example', ...of('edge'), ...port(81) }
    },
    {
      destination: 'host: taken.example',
      namespace: 'mart',
      as: { host: 'taken.example', ...of('shop'), ...port(80) },
      what: 'that of everybody'
    },
    {
      destination: 'host: mart',
      as: { unresolved: 'no Service or ServiceEntry declares host mart.shop.svc.cluster.local' }
    },
    {
      destination: 'host: alias',
      as: { unresolved: 'no Service or ServiceEntry declares host alias.shop.svc.cluster.local' }
    },
    {
      destination: 'host: web, port: {number: 81}',
      as: { unresolved: 'web.shop.svc.cluster.local has no TCP port 81; it has 80, 8080' }
    },
    {
      destination: 'host: packets',
      as: { unresolved: 'packets.shop.svc.cluster.local has no TCP port' }
    },
    {
      destination: 'host: packets, port: {number: 53}',
      as: { unresolved: 'packets.shop.svc.cluster.local has no TCP port 53' }
    }
  ]
  for (const { destination, namespace = 'shop', as, what = '' } of rows) {
    const hosts = `${namespace === 'shop' ? 'web' : 'mart'}.${namespace === 'shop' ? 'shop' : 'mart'}.svc.cluster.local`
    const yaml = virtualService(
      `hosts: [${hosts}], http: [{route: [{destination: {${destination}}}]}]`,
      namespace
    )
    const sent = translateVirtualService(world(cluster + yaml), read(yaml))
    const http = sent?.message.spec['http']
    t.strictSame(http, [{ route: [{ destination: as }] }], `${destination} from ${namespace} ${what}`)
  }
})

t.test('a service is known to the waypoints whose VirtualServices lead to it', async t => {
  const led = (destination: string): string => `http: [{route: [{destination: {${destination}}}]}]`
  const rows = [
    { spec: `hosts: [web], ${led('host: free')}`, to: [shop] },
    { spec: 'hosts: [web], http: [{mirror: {host: free}}]', to: [shop] },
    { spec: 'hosts: [web], http: [{mirrors: [{destination: {host: free}}]}]', to: [shop] },
    { spec: 'hosts: [web], tcp: [{route: [{destination: {host: free}}]}]', to: [shop] },
    { spec: 'hosts: [web], tls: [{route: [{destination: {host: free}}]}]', to: [shop] },
    { spec: `hosts: [cart], ${led('host: free.shop.svc.cluster.local')}`, to: [shop, next] },
    {
      spec: `hosts: [mart.mart.svc.cluster.local], ${led('host: free.shop.svc.cluster.local')}`,
      namespace: 'edge',
      to: [edge]
    },
    {
      spec: `hosts: [web], ${led('host: free, port: {number: 81}')}`,
      to: [],
      what: 'such a port is not there'
    },
    { spec: `hosts: [free], ${led('host: free')}`, to: [], what: 'no waypoint' },
    { spec: `hosts: [web], gateways: [ingress], ${led('host: free')}`, to: [] },
    { spec: `hosts: [web], exportTo: [edge], ${led('host: free')}`, to: [] },
    { spec: `hosts: [web], ${led('host: cart')}`, to: [] }
  ]
  for (const { spec, namespace, to, what = '' } of rows) {
    const view = world(cluster + virtualService(spec, namespace))
    const owner = view.get('Service', 'shop/free')
    if (owner === undefined) throw new Error('no service')
    const known = furtherRecipients(view, owner, 'free.shop.svc.cluster.local').map(recipientName)
    t.strictSame(new Set(known), new Set(to), `${spec} in ${namespace ?? 'shop'} ${what}`)
  }
})

t.test('one that cannot be read names the field', async t => {
  const rows = [
    { spec: 'hosts: web', problem: /spec\.hosts: expected a list/ },
    { spec: 'hosts: [5]', problem: /spec\.hosts\[0\]: expected text, found 5/ },
    { spec: 'hosts: [web], exportTo: all', problem: /spec\.exportTo: expected a list/ },
    { spec: 'hosts: [web], gateways: mesh', problem: /spec\.gateways: expected a list/ },
    { spec: 'hosts: [web], http: [5]', problem: /spec\.http\[0\]: expected an object, found 5/ },
    {
      spec: 'http: [{match: [{gateways: mesh}]}]',
      problem: /spec\.http\[0\]\.match\[0\]\.gateways: expected a list/
    },
    {
      spec: 'http: [{route: [{weight: 1}]}]',
      problem: /spec\.http\[0\]\.route\[0\]\.destination\.host: is missing/
    },
    { spec: 'http: [{mirror: {subset: a}}]', problem: /spec\.http\[0\]\.mirror\.host: is missing/ },
    {
      spec: 'tcp: [{route: [{destination: {host: a, port: {number: 65536}}}]}]',
      problem:
        /spec\.tcp\[0\]\.route\[0\]\.destination\.port\.number: expected a whole number from 0 to 65535/
    },
    {
      spec: 'tls: [{route: [{destination: {host: a, subset: 1}}]}]',
      problem: /spec\.tls\[0\]\.route\[0\]\.destination\.subset: expected text/
    }
  ]
  for (const { spec, problem } of rows) {
    t.throws(() => read(virtualService(spec)), { message: problem }, spec)
  }
  t.strictSame(
    read(virtualService('hosts: 5, gateways: [ingress], http: [{route: 5}]')).routes,
    { http: [], tls: [], tcp: [] },
    'what is for Gateways only is not read'
  )
})
