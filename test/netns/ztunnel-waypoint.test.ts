/** Services and workloads behind a waypoint: captured traffic goes to it, and comes from it to the destination. */
import t from 'tap'
import type net from 'node:net'
import type { Duplex } from 'node:stream'
import { formatSocketAddress, ip, type Ip } from '../../shared/net/address.ts'
import { accessLines, samples, type AccessLine } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { hbonePeer, openHbone, type Asked, type HbonePeer } from '../support/hbone-peer.ts'
import {
  CLIENT,
  CLIENT_IDENTITY,
  localMesh,
  localPolicy,
  SERVER,
  SERVER_HOST,
  SERVER_IDENTITY,
  SERVER_PORT,
  VIP,
  type LocalMeshWishes
} from '../support/local-mesh.ts'
import {
  at,
  attempt,
  connect,
  needsRoot,
  serve,
  startProxy,
  twoNodes,
  type Proxy,
  type Teardown,
  type TwoNodes
} from '../support/two-nodes.ts'

t.setTimeout(240_000)
const skip = needsRoot()

const WAYPOINT_IP = ip('10.77.0.20')
const WAYPOINT_VIP = ip('10.96.0.20')
/** Not 15008: a waypoint's port comes with the reference to it. */
const WAYPOINT_PORT = 15_808
const identityIn = (namespace: string): string => `spiffe://cluster.local/ns/${namespace}/sa/waypoint`
const hostIn = (namespace: string): string => `waypoint.${namespace}.svc.cluster.local`

const ways: readonly {
  readonly name: string
  /** Namespace of the waypoint. */
  readonly namespace: string
  readonly wishes: LocalMeshWishes
  readonly to: (server: Ip) => { ip: Ip; port: number }
  /** The service that both ends name in their logs. */
  readonly service: string | undefined
}[] = [
  {
    name: 'a service by the host name of its waypoint',
    namespace: 'shop',
    wishes: { service: { waypoint: { destination: `shop/${hostIn('shop')}`, hboneMtlsPort: 15008 } } },
    to: () => at(ip(VIP), 80),
    service: SERVER_HOST
  },
  {
    name: 'a service by the address of a waypoint in another namespace',
    namespace: 'infra',
    wishes: { service: { waypoint: { destination: `/${WAYPOINT_VIP}`, hboneMtlsPort: 15008 } } },
    to: () => at(ip(VIP), 80),
    service: SERVER_HOST
  },
  {
    name: 'a service by weights',
    namespace: 'shop',
    wishes: {
      service: {
        weightedWaypoints: [
          {
            destination: { destination: 'shop/nobody.shop.svc.cluster.local', hboneMtlsPort: 15008 },
            weight: 0
          },
          {
            destination: { destination: `/${WAYPOINT_IP}`, hboneMtlsPort: WAYPOINT_PORT },
            weight: 1
          }
        ]
      }
    },
    to: () => at(ip(VIP), 80),
    service: SERVER_HOST
  },
  {
    name: 'a workload by its own address',
    namespace: 'infra',
    wishes: { server: { waypoint: { destination: `infra/${hostIn('infra')}`, hboneMtlsPort: 15008 } } },
    to: server => at(server, SERVER_PORT),
    service: undefined
  }
]

for (const { name, namespace, wishes, to, service } of ways) {
  t.test(
    `${name}: HBONE to the waypoint, with the client's identity and what it asked for`,
    { skip },
    async t => {
      const onlyWaypoint = localPolicy('istio_allow_waypoint', 'Allow', {
        principals: [{ Exact: identityIn(namespace).slice('spiffe://'.length) }]
      })
      const { a, b, client, server, waypoint } = await world(t, namespace, {
        ...wishes,
        policies: [onlyWaypoint]
      })
      await serve(t, b, sayWho, { port: SERVER_PORT })
      const asked = to(b.v4)
      t.equal(await attempt(await connect(a, asked), Buffer.from('hello')), 'echo: hello')
      const [request] = waypoint.asked
      t.equal(waypoint.asked.length, 1)
      t.match(request, { authority: formatSocketAddress(asked), client: CLIENT_IDENTITY, from: { ip: a.v4 } })
      const host = service === undefined ? '' : `;host=${service}`
      t.match(request?.header('forwarded'), [new RegExp(`^for="10\\.77\\.0\\.1:\\d+"${host}$`)])
      t.match(request?.header('baggage'), [/^k8s\.cluster\.name=Kubernetes,k8s\.namespace\.name=default,/])
      t.match(request?.header('traceparent'), [/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/])
      t.strictSame(request?.header('x-forwarded-network'), [])

      t.match(await lastLine(client), {
        level: 'info',
        fields: {
          'src.identity': CLIENT_IDENTITY,
          'dst.addr': `${WAYPOINT_IP}:${WAYPOINT_PORT}`,
          'dst.hbone_addr': formatSocketAddress(asked),
          'dst.workload': 'waypoint',
          'dst.namespace': namespace,
          'dst.identity': identityIn(namespace)
        }
      })
      t.equal((await lastLine(client)).fields['dst.service'], service)
      t.match(await lastLine(server), {
        level: 'info',
        fields: {
          'src.workload': 'waypoint',
          'src.namespace': namespace,
          'src.identity': identityIn(namespace),
          'dst.hbone_addr': `${b.v4}:${SERVER_PORT}`,
          'dst.service': SERVER_HOST,
          'dst.workload': 'server',
          bytes_recv: '5'
        }
      })
      // What the policy is for: nobody gets around the waypoint.
      await t.rejects(
        openHbone(t, a, {
          to: at(b.v4, 15_008),
          identity: CLIENT_IDENTITY,
          expect: SERVER_IDENTITY,
          authority: `${b.v4}:${SERVER_PORT}`
        }),
        { code: 'HTTP_STATUS', message: /401/ }
      )
    }
  )
}

t.test(
  'the other address goes around: a service does not use its pods’ waypoint, a pod not its service’s',
  { skip },
  async t => {
    const workloadOnly = {
      server: { waypoint: { destination: `shop/${hostIn('shop')}`, hboneMtlsPort: 15008 } }
    }
    const serviceOnly = { service: workloadOnly.server }
    for (const [wishes, to] of [
      [workloadOnly, () => at(ip(VIP), 80)],
      [serviceOnly, (server: Ip) => at(server, SERVER_PORT)]
    ] as const) {
      await t.test(Object.keys(wishes).join(), async t => {
        const { a, b, client, waypoint } = await world(t, 'shop', wishes)
        await serve(t, b, sayWho, { port: SERVER_PORT })
        t.equal(await attempt(await connect(a, to(b.v4)), Buffer.from('x')), 'echo: x')
        t.strictSame(waypoint.asked, [])
        t.match((await lastLine(client)).fields, { 'dst.addr': `${b.v4}:15008`, 'dst.workload': 'server' })
      })
    }
  }
)

const lost: readonly {
  readonly name: string
  readonly wishes: LocalMeshWishes
  readonly waypoint?: object
  readonly says: RegExp
  /** `response_flags` of the failure; undefined when it is refused before it counts. */
  readonly flag?: string
}[] = [
  {
    name: 'a waypoint that is not healthy',
    wishes: { service: { waypoint: { destination: `shop/${hostIn('shop')}`, hboneMtlsPort: 15008 } } },
    waypoint: { status: 'Unhealthy' },
    says: /connection failed.*unknown waypoint: shop\/waypoint\.shop\.svc\.cluster\.local:15008/
  },
  {
    name: 'a waypoint without the port',
    wishes: { service: { waypoint: { destination: `shop/${hostIn('shop')}`, hboneMtlsPort: 15009 } } },
    says: /connection failed.*unknown waypoint/
  },
  {
    name: 'a waypoint address that nobody has',
    wishes: { server: { waypoint: { destination: '/10.77.0.99', hboneMtlsPort: 15008 } } },
    says: /connection failed.*unknown waypoint: \/10\.77\.0\.99:15008/
  },
  {
    name: 'a waypoint that is not there',
    wishes: { service: { waypoint: { destination: `/${WAYPOINT_IP}`, hboneMtlsPort: 15_809 } } },
    says: /connection complete.*error="connection failed: 10\.77\.0\.20:15809: connect ECONNREFUSED/,
    flag: 'CONNECT'
  },
  {
    name: 'a waypoint that proves to be somebody else',
    wishes: { service: { waypoint: { destination: `shop/${hostIn('shop')}`, hboneMtlsPort: 15008 } } },
    waypoint: { serviceAccount: 'another' },
    says: /connection complete.*error="tls error: .*spiffe:\/\/cluster\.local\/ns\/shop\/sa\/another/,
    flag: 'TLS_FAILURE'
  }
]

for (const { name, wishes, waypoint: record, says, flag } of lost) {
  t.test(`${name}: the connection fails closed, with its reason`, { skip }, async t => {
    const { a, b, client, waypoint } = await world(t, 'shop', wishes, record)
    await serve(t, b, () => t.fail('the application was reached'), { port: SERVER_PORT })
    const to = wishes.server === undefined ? at(ip(VIP), 80) : at(b.v4, SERVER_PORT)
    t.equal(await attempt(await connect(a, to), Buffer.from('x')), '')
    await client.logged(says)
    t.strictSame(waypoint.asked, [])
    const { body } = await client.ask(15020, '/metrics')
    t.match(
      samples(body, 'istio_tcp_connections_failed_total').map(({ labels }) => labels['response_flags']),
      flag === undefined ? [] : [flag]
    )
  })
}

interface World extends TwoNodes {
  readonly client: Proxy
  readonly server: Proxy
  readonly waypoint: HbonePeer
}

/** Both nodes with their ztunnels, and a waypoint on an address of its own that forwards to the server by HBONE. */
async function world(
  t: Teardown,
  namespace: string,
  wishes: LocalMeshWishes,
  record: object = {}
): Promise<World> {
  const nodes = await twoNodes(t)
  const { b } = nodes
  const identity = identityIn(namespace)
  const forward = async (asked: Asked): Promise<Duplex> => {
    const { stream } = await openHbone(t, b, {
      to: at(b.v4, 15_008),
      identity,
      expect: SERVER_IDENTITY,
      authority: `${b.v4}:${SERVER_PORT}`,
      headers: asked.header('forwarded').map(value => ['forwarded', value] as const),
      bind: WAYPOINT_IP
    })
    return stream
  }
  const waypoint = await hbonePeer(t, nodes, { identity, ip: WAYPOINT_IP, port: WAYPOINT_PORT, forward })
  const localConfig = localMesh(nodes, {
    ...wishes,
    workloads: [
      {
        uid: `Kubernetes//Pod/${namespace}/waypoint`,
        name: 'waypoint',
        namespace,
        serviceAccount: 'waypoint',
        trustDomain: 'cluster.local',
        workloadIps: [WAYPOINT_IP],
        protocol: 'HBONE',
        nativeTunnel: true,
        services: { [`${namespace}/${hostIn(namespace)}`]: { 15008: WAYPOINT_PORT } },
        ...record
      }
    ],
    services: [
      {
        name: 'waypoint',
        namespace,
        hostname: hostIn(namespace),
        vips: [`/${WAYPOINT_VIP}`],
        ports: { 15008: WAYPOINT_PORT },
        canonical: true
      }
    ]
  })
  const common = { kind: 'underpass', localConfig } as const
  const [client, server] = await Promise.all([
    startProxy(t, nodes.a, { ...common, workload: CLIENT }),
    startProxy(t, nodes.b, { ...common, workload: SERVER })
  ])
  return { ...nodes, client, server, waypoint }
}

async function lastLine(proxy: Proxy): Promise<AccessLine> {
  await eventually('a connection is logged', () => accessLines(proxy.log).length > 0, { everyMs: 20 })
  const line = accessLines(proxy.log).at(0)
  if (line === undefined) throw new Error('no line')
  return line
}

function sayWho(socket: net.Socket): void {
  socket.write('echo: ')
  socket.pipe(socket)
}
