/** Traffic of unmodified sockets, captured on one node and delivered on another by two of our ztunnels. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import type net from 'node:net'
import { ip } from '../../shared/net/address.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
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
  VIP6,
  type LocalMeshWishes
} from '../support/local-mesh.ts'
import {
  at,
  attempt,
  connect,
  exchange,
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

for (const workers of [1, 2]) {
  t.test(
    `with ${workers} worker(s): captured connections arrive byte for byte, and both ends tell who talked`,
    { skip },
    async t => {
      const { a, b, client, server } = await world(t, { workers })
      await serve(t, b, echo, { port: SERVER_PORT })
      const payload = randomBytes(3_000_000)
      const ways = [
        {
          to: at(b.v4, SERVER_PORT),
          dst: `${b.v4}:15008`,
          authority: `${b.v4}:${SERVER_PORT}`,
          service: undefined
        },
        {
          to: at(ip(VIP), 80),
          dst: `${b.v4}:15008`,
          authority: `${b.v4}:${SERVER_PORT}`,
          service: SERVER_HOST
        },
        {
          to: at(b.v6, SERVER_PORT),
          dst: `[${b.v6}]:15008`,
          authority: `[${b.v6}]:${SERVER_PORT}`,
          service: undefined
        },
        {
          to: at(ip(VIP6), 80),
          dst: `[${b.v6}]:15008`,
          authority: `[${b.v6}]:${SERVER_PORT}`,
          service: SERVER_HOST
        }
      ]
      for (const { to } of ways) {
        const answer = await exchange(await connect(a, to), payload)
        t.ok(answer.equals(payload), `${to.ip} port ${to.port}`)
      }
      await eventually(
        'both ends logged every connection',
        () => accessLines(client.log).length === 4 && accessLines(server.log).length === 4,
        { everyMs: 20 }
      )
      for (const [index, { dst, authority, service }] of ways.entries()) {
        const common = {
          'src.workload': 'client',
          'src.namespace': 'default',
          'src.identity': CLIENT_IDENTITY,
          'src.cluster': 'Kubernetes',
          'dst.addr': dst,
          'dst.hbone_addr': authority,
          'dst.workload': 'server',
          'dst.namespace': 'shop',
          'dst.identity': SERVER_IDENTITY,
          'dst.cluster': 'Kubernetes',
          bytes_sent: '3000000',
          bytes_recv: '3000000'
        }
        const [sent, received] = [accessLines(client.log)[index], accessLines(server.log)[index]]
        t.match(sent, {
          level: 'info',
          message: 'connection complete',
          fields: { ...common, direction: 'outbound' }
        })
        t.equal(sent?.fields['dst.service'], service)
        t.match(received, {
          level: 'info',
          message: 'connection complete',
          fields: { ...common, 'dst.service': SERVER_HOST, direction: 'inbound' }
        })
        for (const line of [sent, received]) t.match(line?.fields['duration'], /^\d+ms$/)
      }
      for (const [proxy, reporter] of [
        [client, 'source'],
        [server, 'destination']
      ] as const) {
        const { body } = await proxy.ask(15020, '/metrics')
        t.match(body, /# EOF\n$/)
        const opened = samples(body, 'istio_tcp_connections_opened_total')
        const [row] = opened.filter(({ labels }) => labels['destination_service'] === SERVER_HOST)
        t.equal(
          opened.reduce((sum, { value }) => sum + value, 0),
          4
        )
        t.match(row?.labels, {
          reporter,
          source_workload: 'client-deployment',
          source_canonical_service: 'client-app',
          source_canonical_revision: 'v1',
          source_workload_namespace: 'default',
          source_principal: CLIENT_IDENTITY,
          source_app: 'client-app',
          source_version: 'v1',
          source_cluster: 'Kubernetes',
          destination_service: SERVER_HOST,
          destination_service_namespace: 'shop',
          destination_service_name: 'server',
          destination_workload: 'server-deployment',
          destination_canonical_service: 'server-app',
          destination_canonical_revision: 'v1',
          destination_workload_namespace: 'shop',
          destination_principal: SERVER_IDENTITY,
          destination_app: 'server-app',
          destination_version: 'v1',
          destination_cluster: 'Kubernetes',
          request_protocol: 'tcp',
          response_flags: '-',
          connection_security_policy: 'mutual_tls'
        })
        for (const name of ['istio_tcp_received_bytes_total', 'istio_tcp_sent_bytes_total']) {
          t.equal(
            samples(body, name).reduce((sum, { value }) => sum + value, 0),
            12_000_000,
            name
          )
        }
        t.equal(
          samples(body, 'istio_tcp_connections_closed_total').reduce((sum, { value }) => sum + value, 0),
          4
        )
        t.strictSame(samples(body, 'istio_tcp_connections_failed_total'), [])
        t.match(samples(body, 'istio_tcp_sockets_open'), [{ value: 0 }, { value: 0 }])
        t.match(samples(body, 'istio_build'), [{ labels: { component: 'ztunnel' }, value: 1 }])
      }
      t.equal(await client.stop(), 0)
      t.equal(await server.stop(), 0)
    }
  )
}

t.test('half close: each direction ends on its own', { skip }, async t => {
  const { a, b } = await world(t)
  await serve(
    t,
    b,
    socket => {
      // Answers only after the client has ended, as many protocols do.
      const chunks: Buffer[] = []
      socket.on('data', (chunk: Buffer) => chunks.push(chunk))
      socket.on('end', () => socket.end(Buffer.concat([Buffer.from('got '), ...chunks])))
    },
    { port: SERVER_PORT }
  )
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('all')), 'got all')
  await serve(t, b, socket => socket.end('only me'), { port: 8081 })
  const socket = await connect(a, at(b.v4, 8081))
  const [said] = await Promise.all([read(socket), new Promise(resolve => socket.once('end', resolve))])
  t.equal(said, 'only me')
  socket.write('still here')
  socket.end()
  await new Promise(resolve => socket.once('close', resolve))
})

const denied: readonly { name: string; match: object; port: number }[] = [
  {
    name: 'principal',
    match: { principals: [{ Exact: 'cluster.local/ns/default/sa/client' }], destinationPorts: [9001] },
    port: 9001
  },
  { name: 'namespace', match: { namespaces: [{ Exact: 'default' }], destinationPorts: [9002] }, port: 9002 },
  { name: 'source address', match: { sourceIps: ['10.77.0.0/24'], destinationPorts: [9003] }, port: 9003 },
  { name: 'port', match: { destinationPorts: [9004] }, port: 9004 },
  {
    name: 'service account',
    match: {
      serviceAccounts: [{ namespace: 'default', serviceAccount: 'client' }],
      destinationPorts: [9005]
    },
    port: 9005
  },
  {
    name: 'destination address',
    match: { destinationIps: ['10.77.0.2/32'], destinationPorts: [9006] },
    port: 9006
  }
]

t.test('policies deny by every attribute that layer 4 has, and say which one it was', { skip }, async t => {
  const policies = denied.map(({ name, match }) =>
    localPolicy(`no-${name.replaceAll(' ', '-')}`, 'Deny', match)
  )
  const { a, b, client, server } = await world(t, { policies })
  for (const { name, port } of denied) {
    await serve(t, b, () => t.fail(`the application was reached on ${port}`), { port })
    t.equal(await attempt(await connect(a, at(b.v4, port)), Buffer.from('x')), '', name)
    const line = await server.logged(new RegExp(`explicitly denied by: shop/no-${name.replaceAll(' ', '-')}`))
    t.match(accessLines([line]), [
      {
        level: 'error',
        fields: { 'src.identity': CLIENT_IDENTITY, 'dst.hbone_addr': `${b.v4}:${port}`, direction: 'inbound' }
      }
    ])
  }
  await serve(t, b, echo, { port: SERVER_PORT })
  t.equal(
    await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('free')),
    'free',
    'nothing else is denied'
  )
  const { body } = await server.ask(15020, '/stats/prometheus')
  const failed = samples(body, 'istio_tcp_connections_failed_total')
  t.match(failed, [{ labels: { response_flags: 'DENY', reporter: 'destination' }, value: denied.length }])
  await client.logged(/error="http status: 401"/)
})

t.test('where a policy allows, everybody else is refused', { skip }, async t => {
  const policies = [
    localPolicy('only-web', 'Allow', { principals: [{ Exact: 'cluster.local/ns/default/sa/web' }] }),
    localPolicy('and-9001', 'Allow', { destinationPorts: [9001], namespaces: [{ Prefix: 'def' }] })
  ]
  const { a, b, server } = await world(t, { policies })
  await serve(t, b, echo, { port: SERVER_PORT })
  await serve(t, b, echo, { port: 9001 })
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('x')), '')
  await server.logged(/allow policies exist, but none allowed/)
  t.equal(await attempt(await connect(a, at(b.v4, 9001)), Buffer.from('in')), 'in')
})

t.test('strict mutual TLS refuses plaintext with a reset; without it plaintext passes', { skip }, async t => {
  const strict = localPolicy(
    'istio_converted_static_strict',
    'Deny',
    { notPrincipals: [{ Presence: [] }] },
    { namespace: 'istio-system', scope: 'Global' }
  )
  const { b, a, server } = await world(t, { policies: [strict] })
  await serve(t, b, echo, { port: SERVER_PORT })
  const refused = await connect(a, at(b.v4, SERVER_PORT), { captured: false })
  const error = await new Promise<NodeJS.ErrnoException>(resolve => refused.once('error', resolve))
  t.equal(error.code, 'ECONNRESET')
  const line = await server.logged(/istio_converted_static_strict/)
  const [{ fields } = { fields: {} as Record<string, string> }] = accessLines([line])
  t.equal(fields['src.identity'], undefined)
  t.equal(fields['dst.addr'], `${b.v4}:${SERVER_PORT}`)
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('mtls')), 'mtls')
})

t.test('plaintext from outside the mesh reaches the application, by IPv4 and IPv6', { skip }, async t => {
  const { a, b, server } = await world(t)
  await serve(t, b, echo, { port: SERVER_PORT })
  for (const address of [b.v4, b.v6]) {
    t.equal(
      await attempt(await connect(a, at(address, SERVER_PORT), { captured: false }), Buffer.from('clear')),
      'clear'
    )
  }
  await server.logged(/direction="inbound" bytes_sent=5/)
  const { body } = await server.ask(15020, '/metrics')
  t.match(samples(body, 'istio_tcp_connections_opened_total'), [
    {
      labels: {
        connection_security_policy: 'unknown',
        source_principal: 'unknown',
        source_workload: 'client-deployment',
        destination_service: SERVER_HOST
      },
      value: 2
    }
  ])
})

t.test('what nobody registered passes through, unless only the registry is allowed', { skip }, async t => {
  const outside = ip('10.77.0.99')
  for (const [policy, reached] of [
    ['ALLOW_ANY', true],
    ['REGISTRY_ONLY', false]
  ] as const) {
    await t.test(policy, async t => {
      const { a, client, nodes } = await world(t, {}, { UNDERPASS_OUTBOUND_TRAFFIC_POLICY: policy })
      nodes.addAddress('b', outside)
      // Not part of the mesh: no ztunnel listens for what arrives there.
      nodes.run('b', 'iptables', '-t', 'nat', '-I', 'PREROUTING', '-d', outside, '-j', 'ACCEPT')
      await serve(t, nodes.b, echo, { port: 7777 })
      const answer = await attempt(await connect(a, at(outside, 7777)), Buffer.from('out'))
      t.equal(answer, reached ? 'out' : '')
      const line = await client.logged(
        reached ? /connection complete.*10\.77\.0\.99:7777/ : /connection failed.*10\.77\.0\.99:7777/
      )
      t.notMatch(line, /dst.workload/)
    })
  }
})

t.test(
  'a service without endpoints fails closed, and so does a waypoint that nobody knows',
  { skip },
  async t => {
    const nowhere = {
      name: 'empty',
      namespace: 'shop',
      hostname: 'empty.shop.svc.cluster.local',
      vips: ['/10.96.0.11'],
      ports: { 80: 80 },
      canonical: true
    }
    const lost = {
      ...nowhere,
      name: 'lost',
      hostname: 'lost.shop.svc.cluster.local',
      vips: ['/10.96.0.12'],
      waypoint: { destination: 'shop/waypoint.shop.svc.cluster.local', hboneMtlsPort: 15008 }
    }
    const { a, client } = await world(t, { services: [nowhere, lost] })
    for (const [vip, says] of [
      ['10.96.0.11', /no healthy upstream: 10\.96\.0\.11:80/],
      ['10.96.0.12', /unknown waypoint/]
    ] as const) {
      t.equal(await attempt(await connect(a, at(ip(vip), 80)), Buffer.from('x')), '')
      t.match(await client.logged(says), /warn\taccess\tconnection failed/)
    }
  }
)

t.test('when an endpoint does not answer, the next one is tried', { skip }, async t => {
  const dead = {
    uid: 'Kubernetes//Pod/shop/dead',
    name: 'dead',
    namespace: 'shop',
    serviceAccount: 'server',
    trustDomain: 'cluster.local',
    workloadIps: ['10.77.0.77'],
    protocol: 'HBONE',
    node: 'b',
    network: '',
    clusterId: 'Kubernetes',
    capacity: 1_000_000,
    services: { [`shop/${SERVER_HOST}`]: { 80: SERVER_PORT } }
  }
  const { a, b, client } = await world(t, { workloads: [dead] })
  await serve(t, b, echo, { port: SERVER_PORT })
  t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('second')), 'second')
  await client.logged(/dst.workload="server"/)
  const { body } = await client.ask(15020, '/metrics')
  t.match(samples(body, 'underpass_dial_retries_total'), [{ value: 1 }])
  t.match(samples(body, 'istio_tcp_connections_opened_total'), [
    { labels: { destination_workload: 'server-deployment' }, value: 1 }
  ])
})

t.test(
  'an application that is not there closes the connection, with the reason at both ends',
  { skip },
  async t => {
    const { a, b, client, server } = await world(t)
    t.equal(await attempt(await connect(a, at(b.v4, 5999)), Buffer.from('x')), '')
    await client.logged(/error="http status: 503"/)
    await server.logged(/connection failed: 10\.77\.0\.2:5999: connect ECONNREFUSED/)
    const { body } = await server.ask(15020, '/metrics')
    t.match(samples(body, 'istio_tcp_connections_failed_total'), [
      { labels: { response_flags: 'CONNECT' }, value: 1 }
    ])
  }
)

t.test('an application that dials our own listeners is refused', { skip }, async t => {
  const { a, b, server } = await world(t)
  for (const port of [15001, 15006]) {
    t.equal(await attempt(await connect(a, at(b.v4, port)), Buffer.from('x')), '')
  }
  await server.logged(/attempted recursive call to ourselves/)
})

t.test('live connections are listed at both ends, with their bytes', { skip }, async t => {
  const { a, b, client, server } = await world(t, { workers: 2 })
  await serve(t, b, echo, { port: SERVER_PORT })
  const socket = await connect(a, at(ip(VIP), 80))
  socket.write('12345')
  t.equal(await read(socket), '12345')
  const dump = async (
    proxy: Proxy
  ): Promise<Record<string, { connections: { inbound: object[]; outbound: object[] } }>> =>
    (
      JSON.parse((await proxy.ask(15000, '/config_dump')).body) as {
        workloadState: Record<string, { connections: { inbound: object[]; outbound: object[] } }>
      }
    ).workloadState
  t.match(await dump(client), {
    dedicated: {
      state: 'Up',
      connections: {
        inbound: [],
        outbound: [{ originalDst: `${VIP}:80`, actualDst: `${b.v4}:15008`, protocol: 'HBONE' }]
      }
    }
  })
  t.match(await dump(server), {
    dedicated: {
      connections: {
        inbound: [{ originalDst: SERVER_HOST, actualDst: `${b.v4}:${SERVER_PORT}`, protocol: 'HBONE' }],
        outbound: []
      }
    }
  })
  t.match(JSON.parse((await server.ask(15000, '/v1/connections')).body), [
    { connections: [{ bytesFromClient: 5, bytesToClient: 5, identity: CLIENT_IDENTITY }] }
  ])
  socket.destroy()
  await eventually(
    'the connection is gone from the list',
    async () => ((await dump(server))['dedicated']?.connections.inbound.length ?? 1) === 0,
    { everyMs: 50 }
  )
})

interface World extends TwoNodes {
  readonly nodes: TwoNodes
  readonly client: Proxy
  readonly server: Proxy
}

async function world(
  t: Teardown,
  wishes: LocalMeshWishes & { workers?: number } = {},
  env: Record<string, string> = {}
): Promise<World> {
  const nodes = await twoNodes(t)
  const common = {
    kind: 'underpass',
    localConfig: localMesh(nodes, wishes),
    workers: wishes.workers ?? 1,
    env
  } as const
  const [client, server] = await Promise.all([
    startProxy(t, nodes.a, { ...common, workload: CLIENT }),
    startProxy(t, nodes.b, { ...common, workload: SERVER })
  ])
  return { ...nodes, nodes, client, server }
}

function echo(socket: net.Socket): void {
  socket.pipe(socket)
}

function read(socket: net.Socket): Promise<string> {
  return new Promise(resolve => socket.once('data', (chunk: Buffer) => resolve(chunk.toString())))
}
