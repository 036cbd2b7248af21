/** Traffic to a service in another network: a tunnel to that network's gateway, and in it one to the destination. */
import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import {
  CLIENT_IDENTITY,
  localPolicy,
  SERVER_HOST,
  SERVER_IDENTITY,
  SERVER_PORT,
  VIP
} from '../support/local-mesh.ts'
import {
  AUTHORITY,
  GATEWAY_HOST,
  GATEWAY_IP,
  GATEWAY_PORT,
  twoNetworks,
  type NetworkWishes
} from '../support/two-networks.ts'
import { at, attempt, connect, needsRoot, serve } from '../support/two-nodes.ts'

t.setTimeout(240_000)
const skip = needsRoot()

t.test(
  'the gateway sees the service name and opaque bytes; the destination sees the client itself',
  { skip },
  async t => {
    const onlyClient = localPolicy('only-client', 'Allow', {
      principals: [{ Exact: 'cluster.local/ns/default/sa/client' }]
    })
    const { a, b, client, server, gateway } = await twoNetworks(t, { policies: [onlyClient] })
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
  const { a, b, client } = await twoNetworks(t)
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

const references: readonly { readonly name: string; readonly wishes: NetworkWishes }[] = [
  {
    name: 'the host name of a service, whose port leads to that of its workload',
    wishes: {
      remote: {
        networkGateway: { destination: `istio-system/${GATEWAY_HOST}`, hboneMtlsPort: 15_008 },
        workloadIps: []
      },
      gateway: { services: { [`istio-system/${GATEWAY_HOST}`]: { 15_008: GATEWAY_PORT } } },
      services: [
        {
          name: 'gateway',
          namespace: 'istio-system',
          hostname: GATEWAY_HOST,
          vips: ['/10.96.0.30'],
          ports: { 15_008: GATEWAY_PORT }
        }
      ]
    }
  },
  {
    name: 'the host name of a workload, where no service has it',
    wishes: {
      remote: {
        networkGateway: { destination: `istio-system/${GATEWAY_HOST}`, hboneMtlsPort: GATEWAY_PORT },
        workloadIps: []
      },
      gateway: { hostname: GATEWAY_HOST }
    }
  },
  {
    name: 'the address of a service',
    wishes: {
      remote: {
        networkGateway: { destination: '/10.96.0.30', hboneMtlsPort: 15_008 },
        workloadIps: []
      },
      gateway: { services: { [`istio-system/${GATEWAY_HOST}`]: { 15_008: GATEWAY_PORT } } },
      services: [
        {
          name: 'gateway',
          namespace: 'istio-system',
          hostname: GATEWAY_HOST,
          vips: ['/10.96.0.30'],
          ports: { 15_008: GATEWAY_PORT }
        }
      ]
    }
  }
]

t.test('a gateway is found by whatever names it', { skip }, async t => {
  for (const { name, wishes } of references) {
    await t.test(name, async t => {
      const { a, b, gateway } = await twoNetworks(t, wishes)
      await serve(t, b, socket => socket.pipe(socket), { port: SERVER_PORT })
      t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('found')), 'found')
      t.match(gateway.asked, [{ authority: AUTHORITY, client: CLIENT_IDENTITY }])
    })
  }
})

const failures: readonly {
  readonly name: string
  readonly wishes: NetworkWishes
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
    const { a, b, client, gateway } = await twoNetworks(t, wishes)
    await serve(t, b, () => t.fail('the application was reached'), { port: SERVER_PORT })
    t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('x')), '')
    await client.logged(says)
    t.equal(gateway.asked.length, outer ? 1 : 0)
  })
}
