import t from 'tap'
import type { Cluster } from '../../../controlplane/cluster/cluster.ts'
import {
  serviceWaypoint,
  weightedWaypoints,
  workloadWaypoint,
  type Binding
} from '../../../controlplane/translate/waypoint.ts'
import { shown, world } from '../world.ts'

const gateways = `
kind: Gateway
metadata: {name: wp}
spec: {gatewayClassName: c, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.96.0.9}, {type: Hostname, value: wp.shop.svc.cluster.local}]}
---
kind: Gateway
metadata: {name: by-ip}
spec: {gatewayClassName: c}
status: {addresses: [{type: IPAddress, value: 10.96.0.9}]}
---
kind: Gateway
metadata: {name: starting}
spec: {gatewayClassName: c}
---
kind: Gateway
metadata: {name: workloads, labels: {istio.io/waypoint-for: workload}}
spec: {gatewayClassName: c}
status: {addresses: [{type: IPAddress, value: 10.96.0.8}]}
---
kind: Gateway
metadata: {name: all, labels: {istio.io/waypoint-for: all}}
spec: {gatewayClassName: c}
status: {addresses: [{type: IPAddress, value: 10.96.0.7}]}
---
kind: Gateway
metadata: {name: nothing, labels: {istio.io/waypoint-for: none}}
spec: {gatewayClassName: c}
status: {addresses: [{type: IPAddress, value: 10.96.0.6}]}
---
kind: GatewayClass
metadata: {name: for-all, labels: {istio.io/waypoint-for: all}, annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}}
spec: {controllerName: x}
---
kind: Gateway
metadata: {name: by-class}
spec: {gatewayClassName: for-all, listeners: [{name: proxy, port: 15088, protocol: x, allowedRoutes: {namespaces: {from: All}}}]}
status: {addresses: [{type: IPAddress, value: 10.96.0.5}]}
---
`

const summary = (binding: Binding): string =>
  binding.kind === 'bound' ? binding.waypoint.key : binding.kind === 'refused' ? binding.reason : 'none'

const labels = (values: Record<string, string>): string => JSON.stringify(values)

t.test('object × namespace × readiness × traffic type', async t => {
  const use = (name: string): Record<string, string> => ({ 'istio.io/use-waypoint': name })
  const rows = [
    { object: {}, namespace: {}, service: 'none', workload: 'none' },
    { object: use('wp'), namespace: {}, service: 'shop/wp', workload: 'UnsupportedTrafficType' },
    { object: {}, namespace: use('wp'), service: 'shop/wp', workload: 'none' },
    { object: use('none'), namespace: use('wp'), service: 'none', workload: 'none' },
    { object: use('wp'), namespace: use('none'), service: 'shop/wp', workload: 'UnsupportedTrafficType' },
    {
      object: use('starting'),
      namespace: use('wp'),
      service: 'WaypointIsNotReady',
      workload: 'WaypointIsNotReady'
    },
    {
      object: use('missing'),
      namespace: use('wp'),
      service: 'WaypointIsNotReady',
      workload: 'WaypointIsNotReady'
    },
    { object: {}, namespace: use('missing'), service: 'WaypointIsNotReady', workload: 'WaypointIsNotReady' },
    {
      object: use('workloads'),
      namespace: use('wp'),
      service: 'UnsupportedTrafficType',
      workload: 'shop/workloads'
    },
    {
      object: {},
      namespace: use('workloads'),
      service: 'UnsupportedTrafficType',
      workload: 'shop/workloads'
    },
    { object: {}, namespace: use('all'), service: 'shop/all', workload: 'shop/all' },
    {
      object: use('nothing'),
      namespace: {},
      service: 'UnsupportedTrafficType',
      workload: 'UnsupportedTrafficType'
    },
    { object: use('by-class'), namespace: {}, service: 'shop/by-class', workload: 'shop/by-class' }
  ]
  for (const { object, namespace, service, workload } of rows) {
    const name = `${labels(object)} in ${labels(namespace)}`
    const view = world(
      `${gateways}kind: Namespace\nmetadata: {name: shop, labels: ${labels(namespace)}}\n---\nkind: Service\nmetadata: {name: s, labels: ${labels(object)}}\nspec: {}\n---\nkind: Pod\nmetadata: {name: p, labels: ${labels(object)}}\nspec: {}\n`
    )
    t.equal(summary(serviceWaypoint(view, metaOf(view, 'Service', 'shop/s'))), service, `service ${name}`)
    t.equal(
      summary(workloadWaypoint(view, metaOf(view, 'Pod', 'shop/p')).binding),
      workload,
      `workload ${name}`
    )
  }
})

t.test('its address', async t => {
  const address = (name: string): unknown => {
    const view = world(
      `${gateways}kind: Service\nmetadata: {name: s, labels: {istio.io/use-waypoint: ${name}}}\nspec: {}\n---\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: net1}}\n`
    )
    const binding = serviceWaypoint(view, metaOf(view, 'Service', 'shop/s'))
    return binding.kind === 'bound' ? shown(binding.waypoint.address) : binding
  }
  t.strictSame(
    address('wp'),
    { hostname: { namespace: 'shop', hostname: 'wp.shop.svc.cluster.local' }, hboneMtlsPort: 15008 },
    'a hostname before an address'
  )
  t.strictSame(address('by-ip'), { address: { network: 'net1', address: '10.96.0.9' }, hboneMtlsPort: 15008 })
})

t.test('which namespaces it takes', async t => {
  const rows = [
    { allowed: '', from: 'shop', expect: 'shop/gw' },
    { allowed: '', from: 'other', expect: 'AttachmentDenied' },
    { allowed: 'allowedRoutes: {namespaces: {from: Same}}', from: 'other', expect: 'AttachmentDenied' },
    { allowed: 'allowedRoutes: {namespaces: {from: All}}', from: 'other', expect: 'shop/gw' },
    { allowed: 'allowedRoutes: {namespaces: {from: None}}', from: 'shop', expect: 'AttachmentDenied' },
    {
      allowed: 'allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}',
      from: 'other',
      expect: 'shop/gw'
    },
    {
      allowed:
        'allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: NotIn, values: [a]}]}}}',
      from: 'other',
      expect: 'AttachmentDenied'
    }
  ]
  for (const { allowed, from, expect } of rows) {
    const view = world(
      `kind: Gateway\nmetadata: {name: gw}\nspec: {gatewayClassName: c, listeners: [{name: other, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}, {name: mesh, port: 15008, protocol: HBONE, ${allowed}}]}\nstatus: {addresses: [{type: IPAddress, value: 10.0.0.1}]}\n---\nkind: Namespace\nmetadata: {name: other, labels: {team: a}}\n---\nkind: Service\nmetadata: {name: s, namespace: ${from}, labels: {istio.io/use-waypoint: gw, istio.io/use-waypoint-namespace: shop}}\nspec: {}\n`
    )
    t.equal(
      summary(serviceWaypoint(view, metaOf(view, 'Service', `${from}/s`))),
      expect,
      `${allowed} from ${from}`
    )
  }
})

t.test('waypoints themselves have none', async t => {
  const view = world(
    `${gateways}kind: Namespace\nmetadata: {name: shop, labels: {istio.io/use-waypoint: all}}\n---\nkind: Service\nmetadata: {name: s, labels: {gateway.istio.io/managed: istio.io-mesh-controller}}\nspec: {}\n---\nkind: Service\nmetadata: {name: ew, labels: {gateway.istio.io/managed: istio.io-eastwest-controller}}\nspec: {}\n---\nkind: Pod\nmetadata: {name: p, labels: {gateway.networking.k8s.io/gateway-name: by-class}}\nspec: {}\n---\nkind: Pod\nmetadata: {name: q, labels: {gateway.networking.k8s.io/gateway-name: wp}}\nspec: {}\n`
  )
  t.equal(summary(serviceWaypoint(view, metaOf(view, 'Service', 'shop/s'))), 'none')
  t.equal(summary(serviceWaypoint(view, metaOf(view, 'Service', 'shop/ew'))), 'none')
  t.match(workloadWaypoint(view, metaOf(view, 'Pod', 'shop/p')), {
    binding: { kind: 'none' },
    tunnel: { protocol: 'PROXY', port: 15088 }
  })
  t.match(workloadWaypoint(view, metaOf(view, 'Pod', 'shop/q')), {
    binding: { kind: 'none' },
    tunnel: undefined
  })
})

t.test('how traffic is handed to a waypoint', async t => {
  const rows = [
    { binding: 'PROXY/15088', expect: { protocol: 'PROXY', port: 15088 } },
    { binding: 'PROXY', expect: { protocol: 'PROXY' } },
    { binding: 'NONE', expect: {} },
    { binding: 'NONE/1', expect: { port: 1 } },
    { binding: 'SOCKS/1', expect: undefined },
    { binding: 'PROXY/x', expect: undefined }
  ]
  for (const { binding, expect } of rows) {
    const view = world(
      `kind: Gateway\nmetadata: {name: gw, annotations: {ambient.istio.io/waypoint-inbound-binding: ${binding}}}\nspec: {gatewayClassName: c}\nstatus: {addresses: [{type: IPAddress, value: 10.0.0.1}]}\n---\nkind: Pod\nmetadata: {name: p, labels: {gateway.networking.k8s.io/gateway-name: gw}}\nspec: {}\n`
    )
    t.strictSame(workloadWaypoint(view, metaOf(view, 'Pod', 'shop/p')).tunnel, expect, binding)
  }
})

t.test('a canary', async t => {
  const rows = [
    { on: 'object', labels: 'istio.io/use-waypoint-canary: all', weight: '20', expect: 'shop/all 20' },
    { on: 'object', labels: 'istio.io/use-waypoint-canary: all', weight: '', expect: 'shop/all 0' },
    {
      on: 'object',
      labels: 'istio.io/use-waypoint-canary: all',
      weight: '101',
      expect: 'CanaryInvalidWeight'
    },
    { on: 'object', labels: 'istio.io/use-waypoint-canary: all', weight: 'x', expect: 'CanaryInvalidWeight' },
    { on: 'object', labels: 'istio.io/use-waypoint-canary: wp', weight: '20', expect: 'CanarySameAsPrimary' },
    {
      on: 'object',
      labels: 'istio.io/use-waypoint-canary: missing',
      weight: '20',
      expect: 'WaypointIsNotReady'
    },
    {
      on: 'object',
      labels: 'istio.io/use-waypoint-canary: workloads',
      weight: '20',
      expect: 'UnsupportedTrafficType'
    },
    { on: 'object', labels: 'istio.io/use-waypoint-canary: none', weight: '20', expect: 'none' },
    { on: 'namespace', labels: 'istio.io/use-waypoint-canary: all', weight: '30', expect: 'shop/all 30' }
  ]
  for (const { on, labels, weight, expect } of rows) {
    const meta = `labels: {istio.io/use-waypoint: wp, ${labels}}, annotations: {${weight === '' ? '' : `istio.io/use-waypoint-canary-weight: "${weight}"`}}`
    const view = world(
      `${gateways}kind: Namespace\nmetadata: {name: shop, ${on === 'namespace' ? meta : ''}}\n---\nkind: Service\nmetadata: {name: s, ${on === 'object' ? meta : ''}}\nspec: {}\n`
    )
    const service = metaOf(view, 'Service', 'shop/s')
    const primary = serviceWaypoint(view, service)
    if (primary.kind !== 'bound') throw new Error('no primary')
    const split = weightedWaypoints(view, service, primary.waypoint)
    const found =
      split.kind === 'split'
        ? `${split.canary.key} ${split.weight}`
        : split.kind === 'refused'
          ? split.reason
          : 'none'
    t.equal(found, expect, `${on}: ${labels} ${weight}`)
  }
})

function metaOf(
  view: Cluster,
  kind: 'Service' | 'Pod',
  key: string
): NonNullable<ReturnType<Cluster['get']>>['meta'] {
  const object = view.get(kind, key)
  if (object === undefined) throw new Error(`no ${kind} ${key}`)
  return object.meta
}
