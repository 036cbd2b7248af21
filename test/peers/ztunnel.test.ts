/** Our ztunnel and Istio's, each on one node: traffic both ways, and what both tell of it, field by field. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import type net from 'node:net'
import { ip } from '../../shared/net/address.ts'
import { accessLines, samples, type AccessLine } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { CLIENT, SERVER, SERVER_PORT, VIP } from '../support/local-mesh.ts'
import { startControlPlane } from '../support/test-control-plane.ts'
import { wireDeny, wireMesh } from '../support/wire-mesh.ts'
import {
  at,
  attempt,
  connect,
  exchange,
  needsRoot,
  peerProgram,
  serve,
  startProxy,
  twoNodes,
  type Proxy,
  type Teardown,
  type TwoNodes
} from '../support/two-nodes.ts'

t.setTimeout(240_000)
const rust = peerProgram('ztunnel')
const skip = 'reason' in rust ? rust.reason : needsRoot()

type Kind = 'underpass' | 'rust'

for (const [client, server] of [
  ['underpass', 'rust'],
  ['rust', 'underpass']
] as const) {
  t.test(`${client} to ${server}: bytes, half close, service addresses, both families`, { skip }, async t => {
    const { a, b } = await world(t, client, server)
    await serve(t, b, echo, { port: SERVER_PORT })
    const payload = randomBytes(5_000_000)
    for (const to of [at(b.v4, SERVER_PORT), at(ip(VIP), 80), at(b.v6, SERVER_PORT)]) {
      const answer = await exchange(await connect(a, to), payload)
      t.ok(answer.equals(payload), `${to.ip} port ${to.port}`)
    }
    await serve(
      t,
      b,
      socket => {
        let size = 0
        socket.on('data', (chunk: Buffer) => (size += chunk.length))
        socket.on('end', () => socket.end(String(size)))
      },
      { port: 8081 }
    )
    t.equal(
      String(await exchange(await connect(a, at(b.v4, 8081)), payload)),
      '5000000',
      'an answer after the end'
    )
    const many = await Promise.all(
      Array.from({ length: 150 }, async (_, index) =>
        attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from(`c${index}`))
      )
    )
    t.strictSame(
      many,
      many.map((_, index) => `c${index}`),
      'more than one session holds'
    )
  })

  t.test(`${client} to ${server}: a policy refuses, and both say so`, { skip }, async t => {
    const { a, b, proxies } = await world(t, client, server, {
      'shop/deny': wireDeny('deny', {
        principals: [{ exact: 'cluster.local/ns/default/sa/client' }],
        destinationPorts: [9001]
      })
    })
    await serve(t, b, () => t.fail('the application was reached'), { port: 9001 })
    t.equal(await attempt(await connect(a, at(b.v4, 9001)), Buffer.from('x')), '')
    await proxies.client.logged(/401/)
    await proxies.server.logged(/explicitly denied by: shop\/deny/)
    const { body } = await proxies.server.ask(15020, '/metrics')
    t.match(samples(body, 'istio_tcp_connections_failed_total'), [
      { labels: { response_flags: 'DENY', reporter: 'destination' }, value: 1 }
    ])
  })
}

t.test('ours and Istio’s tell the same of the same connections', { skip }, async t => {
  const told: Record<Kind, Told> = { underpass: await tell(t, 'underpass'), rust: await tell(t, 'rust') }
  for (const side of ['client', 'server'] as const) {
    t.strictSame(told.underpass[side].lines, told.rust[side].lines, `access log of the ${side}`)
    t.strictSame(told.underpass[side].metrics, told.rust[side].metrics, `metrics of the ${side}`)
  }
})

interface Told {
  readonly client: Side
  readonly server: Side
}

interface Side {
  readonly lines: readonly unknown[]
  readonly metrics: readonly unknown[]
}

const compared = [
  'istio_tcp_connections_opened_total',
  'istio_tcp_connections_closed_total',
  'istio_tcp_connections_failed_total',
  'istio_tcp_received_bytes_total',
  'istio_tcp_sent_bytes_total'
]

/** The same traffic through two proxies of one kind: what each end says of it, without ports and durations. */
async function tell(t: Teardown, kind: Kind): Promise<Told> {
  const { a, b, proxies } = await world(t, kind, kind, {
    'shop/deny': wireDeny('deny', { destinationPorts: [9001] })
  })
  await serve(t, b, echo, { port: SERVER_PORT })
  for (const [to, captured] of [
    [at(b.v4, SERVER_PORT), true],
    [at(ip(VIP), 80), true],
    [at(b.v6, SERVER_PORT), true],
    [at(b.v4, SERVER_PORT), false],
    [at(b.v4, 9001), true],
    [at(b.v4, 9001), false],
    [at(b.v4, 5999), true],
    [at(ip('10.96.0.99'), 80), true]
  ] as const) {
    const socket = await connect(a, to, { captured }).catch(() => undefined)
    if (socket !== undefined) await attempt(socket, Buffer.from('hello'))
  }
  await eventually(
    'all lines are there',
    () => accessLines(proxies.client.log).length >= 6 && accessLines(proxies.server.log).length >= 7,
    { everyMs: 50 }
  )
  const [client, server] = await Promise.all([sideOf(proxies.client), sideOf(proxies.server)])
  await Promise.all([proxies.client.stop(), proxies.server.stop()])
  return { client, server }
}

async function sideOf(proxy: Proxy): Promise<Side> {
  const { body } = await proxy.ask(15020, '/metrics')
  const metrics = compared.flatMap(name => samples(body, name).map(sample => ({ name, ...sample })))
  return {
    lines: accessLines(proxy.log).map(comparable),
    metrics: metrics.map(metric => JSON.stringify(metric)).toSorted()
  }
}

function comparable({ level, message, fields }: AccessLine): unknown {
  const { 'src.addr': source = '', duration: _, error, ...rest } = fields
  return {
    level,
    message,
    fields: { ...rest, 'src.addr': source.replace(/:\d+$/, '') },
    // Both have a reason; the words are each proxy's own, the policy is not.
    error: error === undefined ? undefined : (/explicitly denied by: \S+/.exec(error)?.[0] ?? 'some error')
  }
}

async function world(
  t: Teardown,
  client: Kind,
  server: Kind,
  policies: Readonly<Record<string, object>> = {}
): Promise<TwoNodes & { proxies: { client: Proxy; server: Proxy } }> {
  const nodes = await twoNodes(t)
  const plane = await startControlPlane(t, [nodes.a, nodes.b], { ...wireMesh(nodes), policies })
  const common = { localConfig: '', env: { ...plane.caEnv, ...plane.xdsEnv } }
  const proxies = {
    client: await startProxy(t, nodes.a, { ...common, kind: client, workload: CLIENT }),
    server: await startProxy(t, nodes.b, { ...common, kind: server, workload: SERVER })
  }
  await plane.settled()
  return { ...nodes, proxies }
}

function echo(socket: net.Socket): void {
  socket.pipe(socket)
}
