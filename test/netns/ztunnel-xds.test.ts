/** Two ztunnels fed by a control plane over the wire: changes while traffic flows, and a control plane that fails. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import type net from 'node:net'
import { ip, ipToBytes } from '../../shared/net/address.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { hbonePeer } from '../support/hbone-peer.ts'
import { CLIENT, SERVER, SERVER_HOST, SERVER_PORT, VIP } from '../support/local-mesh.ts'
import { residentMiB, settledDescriptors } from '../support/process-state.ts'
import {
  AUTHORIZATION_TYPE,
  startControlPlane,
  type TestControlPlane,
  type TestResources
} from '../support/test-control-plane.ts'
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
import { wireDeny, wireMesh, wireWorkload } from '../support/wire-mesh.ts'

t.setTimeout(240_000)
const skip = needsRoot()
const WAYPOINT_IP = ip('10.77.0.20')
/** The server's ztunnel has 15008 of all its addresses. */
const WAYPOINT_PORT = 15_808
const LOST_VIP = ip('10.96.0.21')

t.test(
  'a policy that comes while a connection lives closes it, and new ones are refused',
  { skip },
  async t => {
    const { a, b, plane, server } = await world(t)
    await serve(t, b, echo, { port: SERVER_PORT })
    await serve(t, b, echo, { port: 9001 })
    const [doomed, spared] = [await connect(a, at(ip(VIP), 80)), await connect(a, at(b.v4, 9001))]
    for (const socket of [doomed, spared]) {
      socket.write('hello')
      t.equal(await read(socket), 'hello')
    }
    const closed = new Promise(resolve => doomed.once('close', resolve))
    doomed.on('error', () => undefined) // a reset is a way to be closed
    plane.put({ policies: { 'shop/deny-8080': wireDeny('deny-8080', { destinationPorts: [SERVER_PORT] }) } })
    await closed
    const line = await server.logged(/connection closed due to policy change/)
    t.match(accessLines([line]), [
      { level: 'error', fields: { direction: 'inbound', bytes_sent: '5', bytes_recv: '5' } }
    ])
    t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('x')), '')
    spared.write('again')
    t.equal(await read(spared), 'again', 'what the policy does not name goes on')
    const { body } = await server.ask(15020, '/metrics')
    t.match(samples(body, 'istio_tcp_connections_failed_total'), [
      { labels: { response_flags: 'DENY' }, value: 2 }
    ])

    plane.remove(AUTHORIZATION_TYPE, 'shop/deny-8080')
    await plane.settled()
    t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('open')), 'open', 'and back again')
    spared.destroy()
  }
)

t.test('a policy that comes while a ztunnel drains closes what it drains', { skip }, async t => {
  const { a, b, plane, server } = await world(t)
  await serve(t, b, echo, { port: SERVER_PORT })
  const live = await connect(a, at(ip(VIP), 80))
  live.write('hello')
  t.equal(await read(live), 'hello')
  const closed = new Promise(resolve => live.once('close', resolve))
  live.on('error', () => undefined) // a reset is a way to be closed
  const ended = server.stop('SIGTERM')
  await server.logged(/shutdown started/)
  t.match(await server.ask(15021, '/healthz/ready'), { status: 500, body: /not ready, pending: .*draining/ })
  plane.put({ policies: { 'shop/deny-8080': wireDeny('deny-8080', { destinationPorts: [SERVER_PORT] }) } })
  await closed
  await server.logged(/connection closed due to policy change/)
  t.equal(await ended, 0)
  await server.logged(/all connections ended in time/)
})

t.test('a broken resource among good ones is named and changes nothing else', { skip }, async t => {
  const { a, b, plane, client } = await world(t)
  await serve(t, b, echo, { port: SERVER_PORT })
  plane.put({
    addresses: {
      'broken/uid': {
        workload: {
          uid: 'broken/uid',
          name: 'broken',
          namespace: 'shop',
          addresses: [Buffer.from([1, 2, 3])]
        }
      },
      'good/uid': {
        workload: {
          uid: 'good/uid',
          name: 'good',
          namespace: 'shop',
          addresses: [Buffer.from([10, 77, 0, 50])]
        }
      }
    }
  })
  await plane.settled()
  t.equal(plane.nacks.length, 2, 'each ztunnel objects')
  t.match(plane.nacks[0], /broken\/uid: .*address/)
  const { workloads } = JSON.parse((await client.ask(15000, '/config_dump')).body) as {
    workloads: { uid: string }[]
  }
  t.ok(workloads.some(({ uid }) => uid === 'good/uid'))
  t.notOk(workloads.some(({ uid }) => uid === 'broken/uid'))
  t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('fine')), 'fine')

  const held = await settledDescriptors(client.pid)
  const memory = residentMiB(client.pid)
  const broken = { uid: 'broken/uid', name: 'broken', namespace: 'shop', addresses: [Buffer.from([1, 2, 3])] }
  for (let push = 0; push < 500; push++) plane.put({ addresses: { 'broken/uid': { workload: broken } } })
  await plane.settled()
  t.equal(plane.nacks.length, 2 * 501, 'each one is objected to, on the stream that stands')
  t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('fine')), 'fine')
  t.ok((await settledDescriptors(client.pid)) <= held + 2)
  const grown = residentMiB(client.pid) - memory
  t.ok(grown < 40, `memory grew by ${grown.toFixed(0)} MiB`)
  const { body } = await client.ask(15020, '/metrics')
  t.equal(samples(body, 'istio_xds_connection_terminations_total').length, 0)
})

t.test('a policy that cannot be read shuts what it protects', { skip }, async t => {
  const { a, b, plane } = await world(t)
  await serve(t, b, echo, { port: SERVER_PORT })
  plane.put({
    policies: {
      'shop/unreadable': { name: 'unreadable', namespace: 'shop', scope: 1, action: 99, rules: [] }
    }
  })
  await plane.settled()
  t.match(plane.nacks[0], /shop\/unreadable/)
  t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('x')), '')
})

t.test(
  'without its control plane a ztunnel goes on with what it knows, and follows when it is back',
  { skip },
  async t => {
    const { a, b, plane, server } = await world(t)
    await serve(t, b, echo, { port: SERVER_PORT })
    t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('both')), 'both')
    plane.down()
    const state = async (): Promise<{ connected: boolean }> =>
      JSON.parse((await server.ask(15000, '/v1/xds')).body) as { connected: boolean }
    await eventually('the ztunnel notices', async () => !(await state()).connected, { everyMs: 50 })
    t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('alone')), 'alone')
    t.equal((await server.ask(15021, '/healthz/ready')).status, 200)
    plane.put({ policies: { 'shop/deny-8080': wireDeny('deny-8080', { destinationPorts: [SERVER_PORT] }) } })
    plane.up()
    await eventually(
      'the change arrives',
      async () => (await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('x'))) === '',
      { everyMs: 100 }
    )
    const { body } = await server.ask(15020, '/metrics')
    t.ok(samples(body, 'istio_xds_connection_terminations_total').length > 0)
    t.ok(samples(body, 'istio_xds_message_total').some(({ labels }) => labels['url'] === AUTHORIZATION_TYPE))
  }
)

t.test('without a certificate nothing is sent in the clear, and the reason is told', { skip }, async t => {
  const { a, b, plane, client } = await world(t, { refuse: 'no certificates today' })
  let reached = 0
  await serve(
    t,
    b,
    socket => {
      reached += 1
      socket.end('here')
    },
    { port: SERVER_PORT }
  )
  t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('secret')), '')
  const line = await client.logged(
    /identity error: no certificate for spiffe:\/\/cluster.local\/ns\/default\/sa\/client/
  )
  t.match(line, /no certificates today/)
  t.equal(reached, 0)
  const { body } = await client.ask(15020, '/metrics')
  t.match(samples(body, 'istio_tcp_connections_failed_total'), [
    { labels: { response_flags: 'IDENTITY_ERROR' } }
  ])
  t.match(JSON.parse((await client.ask(15000, '/v1/certs')).body), [
    { state: /^Unavailable: .*no certificates today/ }
  ])
  plane.refuseCertificates = undefined
  await eventually(
    'the next try succeeds',
    async () => (await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('now'))) === 'here',
    { everyMs: 200 }
  )
})

t.test('on demand, only what connections need is asked for, once', { skip }, async t => {
  const { nodes, plane, client } = await onDemand(t, ({ addresses }) => ({ ...addresses }))
  await serve(t, nodes.b, echo, { port: SERVER_PORT })
  t.strictSame(plane.asked, [])
  const answers = await Promise.all(
    Array.from({ length: 5 }, async () =>
      attempt(await connect(nodes.a, at(nodes.b.v4, SERVER_PORT)), Buffer.from('found'))
    )
  )
  t.strictSame(
    answers,
    Array.from({ length: 5 }, () => 'found')
  )
  // Each end its own record, the client what it connects to and what that is part of, the server its service.
  t.strictSame(plane.asked.toSorted(), [
    `/${nodes.b.v4}`,
    'Kubernetes//Pod/default/client',
    'Kubernetes//Pod/shop/server',
    `shop/${SERVER_HOST}`
  ])
  await client.logged(/dst.workload="server"/)
  t.equal(await attempt(await connect(nodes.a, at(nodes.b.v4, SERVER_PORT)), Buffer.from('again')), 'again')
  t.equal(plane.asked.length, 4, 'what is known is not asked for')
})

t.test('on demand, a service is found with its waypoint, and nothing goes around it', { skip }, async t => {
  const { nodes, plane, client } = await onDemand(t, ({ addresses }, { a }) => {
    const { service } = addresses[`shop/${SERVER_HOST}`] as { service: object }
    const waypoint = { address: { address: ipToBytes(WAYPOINT_IP) }, hboneMtlsPort: WAYPOINT_PORT }
    return {
      ...addresses,
      [`shop/${SERVER_HOST}`]: { service: { ...service, waypoint } },
      'shop/lost.shop.svc': {
        service: {
          ...service,
          name: 'lost',
          hostname: 'lost.shop.svc',
          addresses: [{ address: ipToBytes(LOST_VIP) }],
          waypoint: { hostname: { namespace: 'shop', hostname: 'gone.shop.svc' }, hboneMtlsPort: 15_008 }
        }
      },
      'Kubernetes//Pod/shop/waypoint': {
        workload: {
          ...wireWorkload('waypoint', 'shop', a),
          addresses: [ipToBytes(WAYPOINT_IP)],
          nativeTunnel: true
        }
      }
    }
  })
  await serve(t, nodes.b, () => t.fail('the waypoint was passed by'), { port: SERVER_PORT })
  const waypoint = await hbonePeer(t, nodes, {
    identity: 'spiffe://cluster.local/ns/shop/sa/waypoint',
    ip: WAYPOINT_IP,
    port: WAYPOINT_PORT,
    forward: async () => Promise.reject(new Error('it only listens'))
  })
  await attempt(await connect(nodes.a, at(ip(VIP), 80)), Buffer.from('x'))
  t.match(waypoint.asked, [{ authority: `${VIP}:80` }])
  t.ok(plane.asked.includes(`/${WAYPOINT_IP}`))
  await client.logged(/dst.workload="waypoint"/)

  t.equal(await attempt(await connect(nodes.a, at(LOST_VIP, 80)), Buffer.from('x')), '')
  t.ok(plane.asked.includes('shop/gone.shop.svc'))
  await client.logged(/unknown waypoint: shop\/gone.shop.svc:15008/)
})

t.test(
  'a session whose certificate has expired takes no new connections and ends with its last',
  { skip },
  async t => {
    const { a, b, plane, client, server } = await world(t, { ttlSeconds: 6 })
    await serve(t, b, echo, { port: SERVER_PORT })
    const long = await connect(a, at(ip(VIP), 80))
    long.write('first')
    t.equal(await read(long), 'first')
    const before = accessLines(server.log).length
    const issued = plane.issued.length
    const payload = randomBytes(1000)
    const started = Date.now()
    // Renewal comes at half of the life; the session of `long` is older than its certificate after six seconds.
    while (Date.now() - started < 8000) {
      const answer = await exchange(await connect(a, at(ip(VIP), 80)), payload)
      if (!answer.equals(payload)) t.fail('a connection was lost in a renewal')
      await new Promise(resolve => setTimeout(resolve, 200))
    }
    long.write('still')
    t.equal(await read(long), 'still', 'the connection that was open lives on')
    t.ok(plane.issued.length > issued, 'certificates were renewed')
    const sources = new Set(
      accessLines(server.log)
        .slice(before)
        .map(({ fields }) => fields['src.addr'])
    )
    t.ok(sources.size > 1, 'new connections went to a new session')
    t.equal(
      samples((await client.ask(15020, '/metrics')).body, 'istio_tcp_connections_failed_total').length,
      0
    )
    long.destroy()
  }
)

/** Two ztunnels that ask for what they need, and know nothing else; certificates come from the fake CA. */
async function onDemand(
  t: Teardown,
  addresses: (mesh: Required<Pick<TestResources, 'addresses'>>, nodes: TwoNodes) => Record<string, object>
): Promise<{ nodes: TwoNodes; plane: TestControlPlane; client: Proxy }> {
  const nodes = await twoNodes(t)
  const { addresses: known = {} } = wireMesh(nodes)
  const plane = await startControlPlane(t, [nodes.a, nodes.b], {
    addresses: addresses({ addresses: known }, nodes)
  })
  const common = {
    kind: 'underpass',
    localConfig: '',
    env: { ...plane.xdsEnv, XDS_ON_DEMAND: 'true' }
  } as const
  const [client] = await Promise.all([
    startProxy(t, nodes.a, { ...common, workload: CLIENT }),
    startProxy(t, nodes.b, { ...common, workload: SERVER })
  ])
  return { nodes, plane, client }
}

interface Wishes {
  readonly refuse?: string
  readonly ttlSeconds?: number
}

interface World extends TwoNodes {
  readonly plane: TestControlPlane
  readonly client: Proxy
  readonly server: Proxy
}

async function world(t: Teardown, { refuse, ttlSeconds }: Wishes = {}): Promise<World> {
  const nodes = await twoNodes(t)
  const plane = await startControlPlane(t, [nodes.a, nodes.b], wireMesh(nodes))
  plane.refuseCertificates = refuse
  if (ttlSeconds !== undefined) plane.ttlSeconds = ttlSeconds
  const env = { ...plane.caEnv, ...plane.xdsEnv, CONNECTION_TERMINATION_DEADLINE: '60s' }
  const common = { kind: 'underpass', localConfig: '', env } as const
  const [client, server] = await Promise.all([
    startProxy(t, nodes.a, { ...common, workload: CLIENT }),
    startProxy(t, nodes.b, { ...common, workload: SERVER })
  ])
  return { ...nodes, plane, client, server }
}

function echo(socket: net.Socket): void {
  socket.pipe(socket)
}

function read(socket: net.Socket): Promise<string> {
  return new Promise(resolve => socket.once('data', (chunk: Buffer) => resolve(chunk.toString())))
}
