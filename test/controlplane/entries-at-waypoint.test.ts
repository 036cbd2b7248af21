/** Both ends of ServiceEntries: what the control plane sends of one leads a waypoint to where the entry says. */
import t from 'tap'
import { DesiredState } from '../../controlplane/desired/desired-state.ts'
import { decodeAddress } from '../../shared/mesh/decode.ts'
import { MeshStore } from '../../shared/mesh/store.ts'
import { ip, parseSocketAddress } from '../../shared/net/address.ts'
import { Egress, leadsOut } from '../../waypoint/egress/egress.ts'
import { objects, settings } from './world.ts'

const waypoint = `
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}
`

const config = {
  ...{ podName: 'wp-1', podNamespace: 'shop', nodeName: 'n1', clusterId: 'Kubernetes', network: '' },
  ...{ trustDomain: 'cluster.local', self: { namespace: 'shop', hostname: 'wp.shop.svc.cluster.local' } }
}

interface Row {
  readonly name: string
  readonly spec: string
  readonly annotations?: string
  readonly host?: string
  readonly addressed?: string
  readonly expect: readonly string[]
}

const ports = 'ports: [{number: 80, targetPort: 8080, name: http, protocol: HTTP}]'
const rows: readonly Row[] = [
  {
    name: 'DNS',
    spec: `{hosts: [api.example], resolution: DNS, ${ports}}`,
    expect: ['1.1.1.1 8080', '8.8.8.8 8080']
  },
  {
    name: 'DNS with endpoints that are names and addresses',
    spec: `{hosts: [api.example], resolution: DNS, endpoints: [{address: other.example, ports: {http: 9090}}, {address: 9.9.9.9}], ${ports}}`,
    expect: ['4.4.4.4 9090', '9.9.9.9 8080']
  },
  {
    name: 'DNS_ROUND_ROBIN',
    spec: `{hosts: [api.example], resolution: DNS_ROUND_ROBIN, ${ports}}`,
    expect: ['1.1.1.1 8080']
  },
  {
    name: 'racing',
    spec: `{hosts: [api.example], resolution: DNS, ${ports}}`,
    annotations: '{istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT}',
    expect: ['1.1.1.1,8.8.8.8 8080']
  },
  {
    name: 'DYNAMIC_DNS',
    spec: `{hosts: ["*.example"], resolution: DYNAMIC_DNS, ${ports}}`,
    host: 'other.example',
    expect: ['4.4.4.4 8080']
  },
  {
    name: 'NONE',
    spec: '{hosts: [api.example], addresses: [198.51.100.0/24], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}',
    addressed: '198.51.100.7:80',
    expect: ['198.51.100.7 80']
  }
]

const names: Readonly<Record<string, readonly string[]>> = {
  'api.example': ['1.1.1.1', '8.8.8.8'],
  'other.example': ['4.4.4.4']
}

for (const {
  name,
  spec,
  annotations = '{}',
  host = 'api.example',
  addressed = '240.240.0.1:80',
  expect
} of rows) {
  t.test(name, async t => {
    const desired = new DesiredState(settings)
    const metadata = `{name: e, namespace: shop, labels: {istio.io/use-waypoint: wp}, annotations: ${annotations}}`
    const entry = `kind: ServiceEntry\nmetadata: ${metadata}\nspec: ${spec}\n`
    for (const object of objects(`${waypoint}---\n${entry}`)) desired.put(object)
    desired.refresh()
    const store = new MeshStore()
    for (const { value, waypoints } of desired.snapshot.table('address').values()) {
      const decoded = decodeAddress(value)
      if (waypoints.includes('shop/wp.shop.svc.cluster.local') || decoded.kind === 'workload')
        store.apply([decoded])
    }
    const [service] = store.view().services()
    if (service === undefined) throw new Error('the waypoint is not told of the entry')
    t.ok(leadsOut(service))
    const egress = new Egress({
      view: () => store.view(),
      config,
      names: { find: name => ({ kind: 'addresses', addresses: (names[name] ?? []).map(ip) }) },
      allowed: []
    })
    const address = parseSocketAddress(addressed)
    if (address === undefined) throw new Error('no address')
    const way = await egress.find(service, 80, { host, addressed: { kind: 'address', address } })
    t.equal(way.kind, 'endpoints')
    const found = way.kind === 'endpoints' ? way.endpoints : []
    t.strictSame(found.map(({ workload, port }) => `${workload.addresses.join()} ${port}`).toSorted(), expect)
  })
}
