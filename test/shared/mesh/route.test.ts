import t from 'tap'
import { ip, parseSocketAddress, type SocketAddress } from '../../../shared/net/address.ts'
import type { Service, Workload } from '../../../shared/mesh/model.ts'
import { decideRoute, type Route, type RouteContext } from '../../../shared/mesh/route.ts'
import {
  addresses,
  cidr,
  endpointOf,
  gatewayTo,
  service,
  storeOf,
  vips,
  workload,
  type MeshParts
} from '../../support/mesh.ts'

const client = workload({ name: 'client', addresses: addresses('10.0.0.1', '2001:db8::1') })
const web1 = workload({
  name: 'web1',
  serviceAccount: 'web',
  addresses: addresses('10.0.1.1', '2001:db8:1::1'),
  services: endpointOf('web')
})
const web = service({ name: 'web', vips: vips('/10.96.0.1', '/2001:db8:96::1') })
const waypointPod = workload({
  name: 'wp1',
  serviceAccount: 'waypoint',
  addresses: addresses('10.0.2.1', '2001:db8:2::1'),
  services: endpointOf('waypoint')
})
const waypoint = service({ name: 'waypoint', vips: vips('/10.96.0.2'), ports: new Map([[15008, 15008]]) })
const toWaypoint = gatewayTo('shop/waypoint.shop.svc.cluster.local:15008')
const gatewayPod = workload({
  name: 'gw1',
  namespace: 'istio-system',
  serviceAccount: 'gateway',
  addresses: addresses('10.0.3.1'),
  services: new Map([['istio-system/gw.example', new Map()]])
})
const gateway = service({
  name: 'gw',
  namespace: 'istio-system',
  hostname: 'gw.example',
  ports: new Map([[15008, 15009]])
})
const toGateway = gatewayTo('istio-system/gw.example:15008')

const sa = (name: string, namespace = 'shop'): string => `spiffe://cluster.local/ns/${namespace}/sa/${name}`
const at = (text: string): SocketAddress => parseSocketAddress(text) as SocketAddress

interface Situation {
  readonly name: string
  readonly given: MeshParts
  readonly to: string
  readonly context?: Partial<RouteContext>
  readonly expect: object
}

function routeOf({ given, to, context = {} }: Pick<Situation, 'given' | 'to' | 'context'>): Route {
  const { workloads = [], ...rest } = given
  const view = storeOf({ workloads: [client, ...workloads], ...rest }).view()
  return decideRoute(
    view,
    { network: '', source: client, sourceIp: ip('10.0.0.1'), random: () => 0, ...context },
    at(to)
  )
}

const remote = (parts: Partial<Workload> = {}): Workload =>
  workload({
    name: 'remote',
    addresses: addresses('10.0.1.9'),
    network: 'net2',
    services: endpointOf('web'),
    ...parts
  })

const situations: readonly Situation[] = [
  // Row 1: is it addressed to a service? A workload's address is not, even if a service has the same.
  {
    name: 'an address that is both a pod and a VIP: not service-addressed, so the service’s waypoint is passed by, but balanced as the service',
    given: {
      workloads: [web1, waypointPod, workload({ name: 'both', addresses: addresses('10.96.0.1') })],
      services: [service({ ...web, waypoint: toWaypoint }), waypoint]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'hbone', through: 'destination', authority: '10.0.1.1:8080', service: { name: 'web' } }
  },
  // Row 2: a service with a waypoint.
  {
    name: 'a service whose waypoint nobody knows fails closed',
    given: { workloads: [web1], services: [service({ ...web, waypoint: toWaypoint })] },
    to: '10.96.0.1:80',
    expect: {
      kind: 'refused',
      reason: 'unknown-waypoint',
      message: 'unknown waypoint: shop/waypoint.shop.svc.cluster.local:15008'
    }
  },
  {
    name: 'a service whose waypoint has no endpoint fails closed',
    given: { workloads: [web1], services: [service({ ...web, waypoint: toWaypoint }), waypoint] },
    to: '10.96.0.1:80',
    expect: { kind: 'refused', reason: 'unknown-waypoint' }
  },
  {
    name: 'a service with a waypoint in another network: double HBONE through the waypoint’s network gateway, by host name',
    given: {
      workloads: [{ ...waypointPod, network: 'net2', networkGateway: toGateway }, gatewayPod],
      services: [
        service({ ...web, waypoint: toWaypoint, subjectAltNames: [sa('web')] }),
        service({ ...waypoint, subjectAltNames: [sa('waypoint')] }),
        gateway
      ]
    },
    to: '10.96.0.1:80',
    expect: {
      kind: 'double-hbone',
      gateway: { address: { ip: '10.0.3.1', port: 15009 }, expected: [sa('gateway', 'istio-system')] },
      authority: 'web.shop.svc.cluster.local:80',
      innerExpected: [sa('waypoint')],
      destination: { name: 'gw1' },
      service: { name: 'web' }
    }
  },
  {
    name: 'a service with a waypoint: HBONE to it, the VIP untranslated, either identity of the waypoint',
    given: {
      workloads: [web1, waypointPod],
      services: [
        service({ ...web, waypoint: toWaypoint }),
        service({ ...waypoint, subjectAltNames: ['spiffe://other/ns/a/sa/b', 'not an identity'] })
      ]
    },
    to: '10.96.0.1:80',
    expect: {
      kind: 'hbone',
      hop: {
        address: { ip: '10.0.2.1', port: 15008 },
        expected: ['spiffe://other/ns/a/sa/b', sa('waypoint')],
        workload: { name: 'wp1' }
      },
      authority: '10.96.0.1:80',
      through: 'service-waypoint',
      target: undefined,
      destination: { name: 'wp1' },
      service: { name: 'web' }
    }
  },
  {
    name: 'with a waypoint the client does not look at the service’s endpoints, nor its ports',
    given: { workloads: [waypointPod], services: [service({ ...web, waypoint: toWaypoint }), waypoint] },
    to: '10.96.0.1:9999',
    expect: { kind: 'hbone', authority: '10.96.0.1:9999', through: 'service-waypoint' }
  },
  // Row 3: nothing to go to.
  {
    name: 'a service without endpoints fails closed',
    given: { services: [web] },
    to: '10.96.0.1:80',
    expect: { kind: 'refused', reason: 'no-healthy-upstream', message: 'no healthy upstream: 10.96.0.1:80' }
  },
  {
    name: 'a port that the service does not have fails closed',
    given: { workloads: [web1], services: [web] },
    to: '10.96.0.1:81',
    expect: { kind: 'refused', reason: 'no-healthy-upstream' }
  },
  {
    name: 'a service that does not balance passes through, without its name',
    given: {
      services: [
        service({
          ...web,
          loadBalancer: { mode: 'Passthrough', routingPreferences: [], healthPolicy: 'OnlyHealthy' }
        })
      ]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'passthrough', to: { ip: '10.96.0.1', port: 80 }, service: undefined }
  },
  {
    name: 'also under REGISTRY_ONLY, because it is registered',
    given: {
      services: [
        service({
          ...web,
          loadBalancer: { mode: 'Passthrough', routingPreferences: [], healthPolicy: 'OnlyHealthy' }
        })
      ]
    },
    to: '10.96.0.1:80',
    context: { outboundTrafficPolicy: 'REGISTRY_ONLY' },
    expect: { kind: 'passthrough' }
  },
  {
    name: 'a block of addresses that does not balance passes through',
    given: {
      services: [
        service({
          name: 'block',
          vips: [],
          cidrVips: [{ network: '', cidr: cidr('240.0.0.0/4') }],
          loadBalancer: { mode: 'Passthrough', routingPreferences: [], healthPolicy: 'OnlyHealthy' }
        })
      ]
    },
    to: '240.1.2.3:80',
    expect: { kind: 'passthrough', to: { ip: '240.1.2.3', port: 80 } }
  },
  {
    name: 'what nobody knows passes through',
    given: {},
    to: '8.8.8.8:53',
    expect: { kind: 'passthrough', to: { ip: '8.8.8.8', port: 53 } }
  },
  {
    name: 'unless only registered destinations are allowed',
    given: {},
    to: '8.8.8.8:53',
    context: { outboundTrafficPolicy: 'REGISTRY_ONLY' },
    expect: {
      kind: 'refused',
      reason: 'not-registered',
      message: /8\.8\.8\.8:53 is not registered.*add a ServiceEntry/
    }
  },
  {
    name: 'a VIP that the client’s namespace may not see is unknown',
    given: {
      workloads: [web1],
      services: [service({ ...web, namespace: 'hidden', visibility: 'Namespace' })]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'passthrough' }
  },
  // Row 4: another network.
  {
    name: 'an endpoint in another network: double HBONE through its gateway, inner identities only those of the service',
    given: {
      workloads: [remote({ networkGateway: toGateway }), gatewayPod],
      services: [service({ ...web, subjectAltNames: [sa('web'), sa('web2'), 'junk'] }), gateway]
    },
    to: '10.96.0.1:80',
    expect: {
      kind: 'double-hbone',
      gateway: {
        address: { ip: '10.0.3.1', port: 15009 },
        expected: [sa('gateway', 'istio-system')],
        workload: { name: 'gw1' }
      },
      authority: 'web.shop.svc.cluster.local:80',
      innerExpected: [sa('web'), sa('web2')],
      service: { name: 'web' }
    }
  },
  {
    name: 'a service that names nobody has an empty inner list, which nobody matches',
    given: {
      workloads: [remote({ networkGateway: toGateway, addresses: [] }), gatewayPod],
      services: [web, gateway]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'double-hbone', innerExpected: [] }
  },
  {
    name: 'an endpoint in another network without a gateway: no valid destination',
    given: { workloads: [remote()], services: [web] },
    to: '10.96.0.1:80',
    expect: {
      kind: 'refused',
      reason: 'no-valid-destination',
      message: 'no valid routing destination for workload: Kubernetes//Pod/shop/remote'
    }
  },
  {
    name: 'a gateway that nobody knows',
    given: { workloads: [remote({ networkGateway: toGateway })], services: [web] },
    to: '10.96.0.1:80',
    expect: {
      kind: 'refused',
      reason: 'unknown-network-gateway',
      message: 'unknown network gateway: istio-system/gw.example:15008'
    }
  },
  {
    name: 'a workload address in another network is refused: only services cross networks',
    given: { workloads: [workload({ name: 'own', addresses: addresses('10.0.1.9') })] },
    to: '10.0.1.9:80',
    context: { source: { ...client, network: 'net3' } },
    expect: {
      kind: 'refused',
      reason: 'no-service-for-target',
      message: 'no service for target address: 10.0.1.9:80'
    }
  },
  // Row 5: a workload's own waypoint.
  {
    name: 'a pod address with a workload waypoint: HBONE to it, authority as asked',
    given: { workloads: [{ ...web1, waypoint: toWaypoint }, waypointPod], services: [web, waypoint] },
    to: '10.0.1.1:8080',
    expect: {
      kind: 'hbone',
      through: 'workload-waypoint',
      authority: '10.0.1.1:8080',
      hop: { address: { ip: '10.0.2.1', port: 15008 }, expected: [sa('waypoint')] },
      target: undefined,
      service: undefined
    }
  },
  {
    name: 'a VIP does not use the workload’s waypoint, only the service’s',
    given: { workloads: [{ ...web1, waypoint: toWaypoint }, waypointPod], services: [web, waypoint] },
    to: '10.96.0.1:80',
    expect: { kind: 'hbone', through: 'destination', authority: '10.0.1.1:8080' }
  },
  {
    name: 'a workload waypoint that nobody knows fails closed',
    given: { workloads: [{ ...web1, waypoint: toWaypoint }] },
    to: '10.0.1.1:8080',
    expect: { kind: 'refused', reason: 'unknown-waypoint' }
  },
  {
    name: 'the waypoint itself sends directly',
    given: { workloads: [{ ...web1, waypoint: toWaypoint }, waypointPod], services: [web, waypoint] },
    to: '10.0.1.1:8080',
    context: { source: waypointPod, sourceIp: ip('10.0.2.1') },
    expect: { kind: 'hbone', through: 'destination', hop: { address: { ip: '10.0.1.1', port: 15008 } } }
  },
  {
    name: 'the waypoint’s identity from another address is not the waypoint',
    given: { workloads: [{ ...web1, waypoint: toWaypoint }, waypointPod], services: [web, waypoint] },
    to: '10.0.1.1:8080',
    context: { source: waypointPod, sourceIp: ip('10.0.9.9') },
    expect: { kind: 'hbone', through: 'workload-waypoint' }
  },
  {
    name: 'the waypoint’s address with another identity is not the waypoint',
    given: {
      workloads: [
        { ...web1, waypoint: toWaypoint },
        waypointPod,
        workload({ name: 'liar', addresses: addresses('10.0.2.1'), uid: 'x' })
      ],
      services: [web, waypoint]
    },
    to: '10.0.1.1:8080',
    context: {
      source: workload({ name: 'liar', addresses: addresses('10.0.2.1'), uid: 'x' }),
      sourceIp: ip('10.0.2.1')
    },
    expect: { kind: 'hbone', through: 'workload-waypoint' }
  },
  {
    name: 'a waypoint that is referred to by its own address knows itself',
    given: { workloads: [{ ...web1, waypoint: gatewayTo('/10.0.2.1:15008', 'address') }, waypointPod] },
    to: '10.0.1.1:8080',
    context: { source: waypointPod, sourceIp: ip('10.0.2.1') },
    expect: { kind: 'hbone', through: 'destination' }
  },
  {
    name: 'a waypoint that is referred to by its service’s address knows itself',
    given: {
      workloads: [{ ...web1, waypoint: gatewayTo('/10.96.0.2:15008', 'address') }, waypointPod],
      services: [waypoint]
    },
    to: '10.0.1.1:8080',
    context: { source: waypointPod, sourceIp: ip('10.0.2.1') },
    expect: { kind: 'hbone', through: 'destination' }
  },
  // Row 6 and 7: directly.
  {
    name: 'an HBONE endpoint of a service: tunnel to its 15008, authority its address and target port, SANs of both',
    given: { workloads: [web1], services: [service({ ...web, subjectAltNames: [sa('legacy'), 'junk'] })] },
    to: '10.96.0.1:80',
    expect: {
      kind: 'hbone',
      hop: { address: { ip: '10.0.1.1', port: 15008 }, expected: [sa('legacy'), sa('web')] },
      authority: '10.0.1.1:8080',
      through: 'destination',
      target: { ip: '10.0.1.1', port: 8080 },
      destination: { name: 'web1' },
      service: { name: 'web' }
    }
  },
  {
    name: 'an HBONE pod by its address keeps its port',
    given: { workloads: [web1], services: [web] },
    to: '10.0.1.1:9999',
    expect: { kind: 'hbone', authority: '10.0.1.1:9999', hop: { expected: [sa('web')] }, service: undefined }
  },
  {
    name: 'IPv6 authorities are in brackets',
    given: { workloads: [web1], services: [web] },
    to: '[2001:db8:1::1]:8080',
    expect: {
      kind: 'hbone',
      authority: '[2001:db8:1::1]:8080',
      hop: { address: { ip: '2001:db8:1::1', port: 15008 } }
    }
  },
  {
    name: 'an endpoint outside of the mesh: plain TCP to its target port',
    given: { workloads: [{ ...web1, protocol: 'TCP' }], services: [web] },
    to: '10.96.0.1:80',
    expect: {
      kind: 'plaintext',
      to: { ip: '10.0.1.1', port: 8080 },
      destination: { name: 'web1' },
      service: { name: 'web' }
    }
  },
  {
    name: 'a known pod outside of the mesh by its address',
    given: { workloads: [{ ...web1, protocol: 'TCP' }] },
    to: '10.0.1.1:22',
    expect: { kind: 'plaintext', to: { ip: '10.0.1.1', port: 22 }, service: undefined }
  },
  // 5.3: references to waypoints and gateways.
  {
    name: 'a waypoint by the address of a pod: its port as it is',
    given: {
      workloads: [web1, waypointPod],
      services: [service({ ...web, waypoint: gatewayTo('/10.0.2.1:15010', 'address') })]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'hbone', hop: { address: { ip: '10.0.2.1', port: 15010 } } }
  },
  {
    name: 'a waypoint by the address of a service: its port is a service port',
    given: {
      workloads: [web1, waypointPod],
      services: [
        service({ ...web, waypoint: gatewayTo('/10.96.0.2:15008', 'address') }),
        service({ ...waypoint, ports: new Map([[15008, 15099]]) })
      ]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'hbone', hop: { address: { ip: '10.0.2.1', port: 15099 } } }
  },
  {
    name: 'a waypoint by the host name of a workload',
    given: {
      workloads: [web1, { ...waypointPod, hostname: 'wp.example', services: new Map() }],
      services: [service({ ...web, waypoint: gatewayTo('shop/wp.example:15011') })]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'hbone', hop: { address: { ip: '10.0.2.1', port: 15011 } } }
  },
  {
    name: 'a waypoint service that does not list the port, behind an application tunnel: the port passes',
    given: {
      workloads: [web1, { ...waypointPod, applicationTunnel: { protocol: 'PROXY', port: 15088 } }],
      services: [
        service({ ...web, waypoint: toWaypoint }),
        service({ ...waypoint, ports: new Map([[80, 80]]) })
      ]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'hbone', hop: { address: { ip: '10.0.2.1', port: 15008 } } }
  },
  {
    name: 'without the tunnel the port has to be there',
    given: {
      workloads: [web1, waypointPod],
      services: [
        service({ ...web, waypoint: toWaypoint }),
        service({ ...waypoint, ports: new Map([[80, 80]]) })
      ]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'refused', reason: 'unknown-waypoint' }
  },
  {
    name: 'a waypoint by host name follows the family that the client used',
    given: {
      workloads: [web1, waypointPod],
      services: [service({ ...web, waypoint: toWaypoint }), waypoint]
    },
    to: '[2001:db8:96::1]:80',
    expect: {
      kind: 'hbone',
      hop: { address: { ip: '2001:db8:2::1', port: 15008 } },
      authority: '[2001:db8:96::1]:80'
    }
  },
  {
    name: 'a waypoint by address keeps its own family',
    given: {
      workloads: [web1, waypointPod],
      services: [service({ ...web, waypoint: gatewayTo('/10.0.2.1:15008', 'address') })]
    },
    to: '[2001:db8:96::1]:80',
    expect: { kind: 'hbone', hop: { address: { ip: '10.0.2.1', port: 15008 } } }
  },
  // 5.4: which address of the chosen workload.
  {
    name: 'the address that was asked for',
    given: { workloads: [{ ...web1, addresses: addresses('10.0.1.1', '10.0.1.2') }] },
    to: '10.0.1.2:80',
    expect: { kind: 'hbone', authority: '10.0.1.2:80' }
  },
  {
    name: 'of a service, one of the family that was asked for',
    given: { workloads: [web1], services: [web] },
    to: '[2001:db8:96::1]:80',
    expect: { kind: 'hbone', authority: '[2001:db8:1::1]:8080' }
  },
  {
    name: 'unless the service does not allow that family',
    given: { workloads: [web1], services: [service({ ...web, ipFamilies: 'IPv4' })] },
    to: '[2001:db8:96::1]:80',
    expect: { kind: 'hbone', authority: '10.0.1.1:8080' }
  },
  {
    name: 'or the workload has none of it',
    given: { workloads: [{ ...web1, addresses: addresses('10.0.1.1') }], services: [web] },
    to: '[2001:db8:96::1]:80',
    expect: { kind: 'hbone', authority: '10.0.1.1:8080' }
  },
  {
    name: 'no address that the service allows',
    given: {
      workloads: [{ ...web1, addresses: addresses('10.0.1.1') }],
      services: [service({ ...web, ipFamilies: 'IPv6' })]
    },
    to: '10.96.0.1:80',
    expect: { kind: 'refused', reason: 'no-valid-destination' }
  },
  {
    name: 'a host name only: look it up first',
    given: {
      workloads: [{ ...web1, addresses: [], hostname: 'db.example', protocol: 'TCP' }],
      services: [web]
    },
    to: '[2001:db8:96::1]:80',
    expect: {
      kind: 'resolve',
      hostname: 'db.example',
      prefer: 6,
      workload: { name: 'web1' },
      service: { name: 'web' }
    }
  }
]

for (const situation of situations) {
  t.test(situation.name, async t => {
    const route = routeOf(situation)
    t.match(route, situation.expect)
    const { innerExpected } = situation.expect as { innerExpected?: readonly string[] }
    if (innerExpected !== undefined && route.kind === 'double-hbone')
      t.strictSame(route.innerExpected, innerExpected)
    const { hop } = situation.expect as { hop?: { expected?: readonly string[] } }
    if (hop?.expected !== undefined && route.kind === 'hbone')
      t.strictSame(route.hop.expected, hop.expected, 'nobody else is expected')
  })
}

t.test('several waypoints take their share of connections by weight', async t => {
  const canary = { ...waypointPod, uid: 'wp2', name: 'wp2', addresses: addresses('10.0.2.2') }
  const weighted = (first: number, second: number): MeshParts => ({
    workloads: [web1, waypointPod, canary],
    services: [
      service({
        name: 'web',
        vips: vips('/10.96.0.1'),
        waypoint: gatewayTo('/10.0.1.1:15008', 'address'),
        weightedWaypoints: [
          { destination: gatewayTo('/10.0.2.1:15008', 'address'), weight: first },
          { destination: gatewayTo('/10.0.2.2:15008', 'address'), weight: second }
        ]
      })
    ]
  })
  for (const [given, chance, hop] of [
    [weighted(9, 1), 0, '10.0.2.1'],
    [weighted(9, 1), 0.899, '10.0.2.1'],
    [weighted(9, 1), 0.9, '10.0.2.2'],
    [weighted(0, 1), 0, '10.0.2.2'],
    [weighted(0, 0), 0, '10.0.1.1']
  ] as const) {
    const route = routeOf({ given, to: '10.96.0.1:80', context: { random: () => chance } })
    t.match(route, { kind: 'hbone', hop: { address: { ip: hop, port: 15008 } } }, `${hop} at ${chance}`)
  }
})

t.test('what follows after a host name was looked up', async t => {
  const given = (parts: Partial<Workload>): MeshParts => ({
    workloads: [{ ...web1, addresses: [], hostname: 'db.example', ...parts }],
    services: [web]
  })
  const plain = routeOf({ given: given({ protocol: 'TCP' }), to: '10.96.0.1:80' })
  t.match(plain.kind === 'resolve' && plain.withAddress(ip('192.0.2.7')), {
    kind: 'plaintext',
    to: { ip: '192.0.2.7', port: 8080 }
  })
  const tunnel = routeOf({ given: given({}), to: '10.96.0.1:80' })
  t.match(tunnel.kind === 'resolve' && tunnel.withAddress(ip('2001:db8::7')), {
    kind: 'hbone',
    hop: { address: { ip: '2001:db8::7', port: 15008 }, expected: [sa('web')] },
    authority: '[2001:db8::7]:8080',
    target: { ip: '2001:db8::7', port: 8080 }
  })
  const byGateway = routeOf({
    given: {
      workloads: [
        remote({ networkGateway: toGateway }),
        { ...gatewayPod, addresses: [], hostname: 'gw.cloud.example' }
      ],
      services: [web, gateway]
    },
    to: '10.96.0.1:80'
  })
  t.match(byGateway, { kind: 'resolve', hostname: 'gw.cloud.example' })
  t.match(byGateway.kind === 'resolve' && byGateway.withAddress(ip('192.0.2.8')), {
    kind: 'double-hbone',
    gateway: { address: { ip: '192.0.2.8', port: 15009 } }
  })
})

t.test('weighted waypoints share the connections by weight; all zero means the single one', async t => {
  const other = service({ name: 'canary', ports: new Map([[15008, 15008]]) })
  const otherPod = workload({
    name: 'canary1',
    addresses: addresses('10.0.2.9'),
    services: endpointOf('canary')
  })
  const weighted = (stable: number, canary: number): Service =>
    service({
      ...web,
      waypoint: toWaypoint,
      weightedWaypoints: [
        { destination: toWaypoint, weight: stable },
        { destination: gatewayTo('shop/canary.shop.svc.cluster.local:15008'), weight: canary }
      ]
    })
  const chosen = (service: Service, random: number): string | undefined => {
    const given = { workloads: [web1, waypointPod, otherPod], services: [service, waypoint, other] }
    const route = routeOf({ given, to: '10.96.0.1:80', context: { random: () => random } })
    return route.kind === 'hbone' ? route.hop.workload.name : undefined
  }
  t.equal(chosen(weighted(90, 10), 0), 'wp1')
  t.equal(chosen(weighted(90, 10), 0.899), 'wp1')
  t.equal(chosen(weighted(90, 10), 0.9), 'canary1')
  t.equal(chosen(weighted(90, 10), 0.999), 'canary1')
  t.equal(chosen(weighted(0, 5), 0), 'canary1')
  t.equal(chosen(weighted(0, 0), 0.999), 'wp1')
})

t.test('a failed endpoint is left out on the next try', async t => {
  const web2 = workload({ name: 'web2', addresses: addresses('10.0.1.2'), services: endpointOf('web') })
  const given = { workloads: [web1, web2], services: [web] }
  for (const [excluded, other] of [
    [web1, 'web2'],
    [web2, 'web1']
  ] as const) {
    for (const random of [0, 0.5, 0.99]) {
      t.match(
        routeOf({
          given,
          to: '10.96.0.1:80',
          context: { exclude: new Set([excluded.uid]), random: () => random }
        }),
        { destination: { name: other } }
      )
    }
  }
})
