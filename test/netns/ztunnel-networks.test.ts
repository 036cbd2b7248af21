/** Traffic to a service in another network: a tunnel to that network's gateway, and in it one to the destination. */
import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { hbonePeer, type HbonePeer } from '../support/hbone-peer.ts'
import {
  CLIENT,
  CLIENT_IDENTITY,
  localMesh,
  localPolicy,
  SERVER,
  SERVER_HOST,
  SERVER_IDENTITY,
  SERVER_PORT,
  VIP
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

const GATEWAY_IP = ip('10.77.0.30')
const GATEWAY_PORT = 15_809
const GATEWAY_IDENTITY = 'spiffe://cluster.local/ns/istio-system/sa/gateway'
const AUTHORITY = `${SERVER_HOST}:80`

t.test(
  'the gateway sees the service name and opaque bytes; the destination sees the client itself',
  { skip },
  async t => {
    const onlyClient = localPolicy('only-client', 'Allow', {
      principals: [{ Exact: 'cluster.local/ns/default/sa/client' }]
    })
    const { a, b, client, server, gateway } = await world(t, { policies: [onlyClient] })
    await serve(t, b, socket => socket.pipe(socket), { port: SERVER_PORT })
    for (const word of ['first', 'second']) {
      t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from(word)), word)
    }
    t.equal(gateway.asked.length, 2)
    const [outer, second] = gateway.asked
    t.match(outer, { authority: AUTHORITY, client: CLIENT_IDENTITY, from: { ip: a.v4 } })
    t.strictSame(outer?.header('x-forwarded-network'), [], 'told to the destination only')
    t.match(outer?.header('forwarded'), [new RegExp(`;host=${SERVER_HOST}$`)])
    t.equal(second?.from.port, outer?.from.port, 'the outer session is pooled, the inner one is not')

    await eventually('both ends logged', () => accessLines(server.log).length === 2, { everyMs: 20 })
    t.match(accessLines(client.log)[0], {
      level: 'info',
      fields: {
        'src.identity': CLIENT_IDENTITY,
        'dst.addr': `${GATEWAY_IP}:${GATEWAY_PORT}`,
        'dst.hbone_addr': AUTHORITY,
        'dst.service': SERVER_HOST,
        'dst.identity': SERVER_IDENTITY
      }
    })
    const [received] = accessLines(server.log)
    t.match(received, {
      level: 'info',
      fields: {
        'src.workload': 'client-deployment', // its own words: the address is the gateway's
        'src.namespace': 'default',
        'src.identity': CLIENT_IDENTITY,
        'dst.hbone_addr': AUTHORITY,
        'dst.service': SERVER_HOST
      }
    })
    t.match(received?.fields['src.addr'], /^10\.77\.0\.30:/)
    for (const proxy of [client, server]) {
      const { body } = await proxy.ask(15020, '/metrics')
      t.match(samples(body, 'istio_tcp_connections_opened_total'), [
        {
          labels: {
            source_workload: 'client-deployment',
            source_principal: CLIENT_IDENTITY,
            destination_service: SERVER_HOST,
            destination_workload: 'server-deployment',
            destination_principal: SERVER_IDENTITY,
            destination_cluster: 'elsewhere'
          },
          value: 2
        }
      ])
    }
  }
)

t.test('while a connection is open, the list of connections calls it DOUBLEHBONE', { skip }, async t => {
  const { a, b, client } = await world(t)
  await serve(t, b, socket => socket.pipe(socket), { port: SERVER_PORT })
  const socket = await connect(a, at(ip(VIP), 80))
  socket.write('x')
  await new Promise(resolve => socket.once('data', resolve))
  const dump = JSON.parse((await client.ask(15000, '/config_dump')).body) as object
  t.match(dump, {
    workloadState: {
      dedicated: {
        connections: {
          outbound: [
            {
              originalDst: `${VIP}:80`,
              actualDst: `${GATEWAY_IP}:${GATEWAY_PORT}`,
              protocol: 'DOUBLEHBONE'
            }
          ]
        }
      }
    }
  })
  socket.destroy()
})

const failures: readonly {
  readonly name: string
  readonly wishes: Wishes
  readonly says: RegExp
  /** The gateway carried an outer tunnel. */
  readonly outer: boolean
}[] = [
  {
    name: 'a destination that is not one of the service’s identities',
    wishes: { service: { subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/another'] } },
    says: /error="tls error: .*spiffe:\/\/cluster\.local\/ns\/shop\/sa\/server/,
    outer: true
  },
  {
    name: 'a service that names no identity',
    wishes: { service: { subjectAltNames: [] } },
    says: /error="tls error: /,
    outer: true
  },
  {
    name: 'a gateway that is somebody else',
    wishes: { gateway: { serviceAccount: 'another' } },
    says: /error="tls error: .*spiffe:\/\/cluster\.local\/ns\/istio-system\/sa\/gateway/,
    outer: false
  },
  {
    name: 'a gateway that nobody knows',
    wishes: { remote: { networkGateway: { destination: '/10.77.0.99', hboneMtlsPort: 15008 } } },
    says: /connection failed.*unknown network gateway: \/10\.77\.0\.99:15008/,
    outer: false
  },
  {
    name: 'a network without a gateway',
    wishes: { remote: { networkGateway: undefined, workloadIps: ['10.99.0.1'] } },
    says: /connection failed.*no valid routing destination for workload/,
    outer: false
  },
  {
    name: 'a destination that refuses',
    wishes: { policies: [localPolicy('nobody', 'Allow', { namespaces: [{ Exact: 'nobody' }] })] },
    says: /error="http status: 401"/,
    outer: true
  }
]

for (const { name, wishes, says, outer } of failures) {
  t.test(`${name}: the connection fails closed, with its reason`, { skip }, async t => {
    const { a, b, client, gateway } = await world(t, wishes)
    await serve(t, b, () => t.fail('the application was reached'), { port: SERVER_PORT })
    t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('x')), '')
    await client.logged(says)
    t.equal(gateway.asked.length, outer ? 1 : 0)
  })
}

interface Wishes {
  readonly policies?: readonly object[]
  readonly service?: object
  /** The destination as the client's network knows it. */
  readonly remote?: object
  readonly gateway?: object
}

interface World extends TwoNodes {
  readonly client: Proxy
  readonly server: Proxy
  readonly gateway: HbonePeer
}

/** The client in the default network, the server in `far`, whose gateway passes tunnels on without looking inside. */
async function world(t: Teardown, wishes: Wishes = {}): Promise<World> {
  const nodes = await twoNodes(t)
  const { a, b } = nodes
  const gateway = await hbonePeer(t, nodes, {
    identity: GATEWAY_IDENTITY,
    ip: GATEWAY_IP,
    port: GATEWAY_PORT,
    forward: () => connect(b, at(b.v4, 15_008), { captured: false, bind: at(GATEWAY_IP, 0) })
  })
  const gatewayRecord = {
    uid: 'Kubernetes//Pod/istio-system/gateway',
    name: 'gateway',
    namespace: 'istio-system',
    serviceAccount: 'gateway',
    trustDomain: 'cluster.local',
    workloadIps: [GATEWAY_IP],
    protocol: 'HBONE',
    services: {},
    ...wishes.gateway
  }
  const near = localMesh(nodes, {
    server: {
      network: 'far',
      clusterId: 'elsewhere',
      workloadIps: [],
      networkGateway: { destination: `/${GATEWAY_IP}`, hboneMtlsPort: GATEWAY_PORT },
      ...wishes.remote
    },
    service: { subjectAltNames: [SERVER_IDENTITY], ...wishes.service },
    workloads: [gatewayRecord]
  })
  const far = localMesh(nodes, {
    client: { network: 'default' },
    server: { network: 'far', clusterId: 'elsewhere' },
    service: { vips: [`far/${VIP}`] },
    // In the server's network the gateway's address is known; it must not be taken for the client.
    workloads: [{ ...gatewayRecord, network: 'far' }],
    policies: wishes.policies ?? []
  })
  const [client, server] = await Promise.all([
    startProxy(t, a, { kind: 'underpass', localConfig: near, workload: CLIENT }),
    startProxy(t, b, { kind: 'underpass', localConfig: far, workload: SERVER, env: { NETWORK: 'far' } })
  ])
  return { ...nodes, client, server, gateway }
}
