import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { missing } from '../../ztunnel/discover.ts'
import {
  addresses,
  endpointOf,
  gatewayTo,
  service,
  storeOf,
  vips,
  workload,
  type MeshParts
} from '../support/mesh.ts'

const client = workload({ name: 'client', addresses: addresses('10.0.0.1') })
const web = { name: 'web', vips: vips('/10.1.0.1') }

const situations: readonly { name: string; mesh: MeshParts; to: string; expect: readonly string[] }[] = [
  { name: 'an address that nobody knows', mesh: {}, to: '10.0.0.9', expect: ['/10.0.0.9'] },
  { name: 'a service without a waypoint', mesh: { services: [service(web)] }, to: '10.1.0.1', expect: [] },
  {
    name: 'the waypoint of a service, by host name',
    mesh: { services: [service({ ...web, waypoint: gatewayTo('infra/wp.infra.svc:15008') })] },
    to: '10.1.0.1',
    expect: ['infra/wp.infra.svc']
  },
  {
    name: 'a waypoint that is there',
    mesh: {
      services: [service({ ...web, waypoint: gatewayTo('/10.0.0.7:15008', 'address') })],
      workloads: [workload({ name: 'wp', addresses: addresses('10.0.0.7') })]
    },
    to: '10.1.0.1',
    expect: []
  },
  {
    name: 'all waypoints among which weights decide',
    mesh: {
      services: [
        service({
          ...web,
          weightedWaypoints: [
            { destination: gatewayTo('shop/a.svc:15008'), weight: 1 },
            { destination: gatewayTo('/10.0.0.7:15008', 'address'), weight: 9 }
          ]
        })
      ]
    },
    to: '10.1.0.1',
    expect: ['shop/a.svc', '/10.0.0.7']
  },
  {
    name: 'the waypoint and the services of a workload',
    mesh: {
      workloads: [
        workload({
          name: 'pod',
          addresses: addresses('10.0.0.5'),
          waypoint: gatewayTo('shop/wp.svc:15008'),
          services: endpointOf('web')
        })
      ]
    },
    to: '10.0.0.5',
    expect: ['shop/wp.svc', 'shop/web.shop.svc.cluster.local']
  },
  {
    name: 'the gateways of endpoints in other networks, each once',
    mesh: {
      services: [service(web)],
      workloads: ['a', 'b'].map(name =>
        workload({
          name,
          network: 'far',
          addresses: addresses('10.9.0.1'),
          networkGateway: gatewayTo('/10.0.0.8:15008', 'address'),
          services: endpointOf('web')
        })
      )
    },
    to: '10.1.0.1',
    expect: ['/10.0.0.8']
  }
]

for (const { name, mesh, to, expect } of situations) {
  t.test(`${name}: ${expect.length === 0 ? 'nothing' : expect.join(', ')} is asked for`, async t => {
    t.strictSame(missing(storeOf(mesh).view(), '', client, ip(to)), expect)
  })
}
