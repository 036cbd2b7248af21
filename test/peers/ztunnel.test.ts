/** Our ztunnel and Istio's, each on one node: traffic both ways, and what both tell of it, field by field. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import type net from 'node:net'
import { ip } from '../../shared/net/address.ts'
import { samples } from '../support/access-lines.ts'
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

for (const format of ['plain', 'json'] as const) {
  t.test(
    `ours and Istio’s tell the same of the same connections, to the letter (${format})`,
    { skip },
    async t => {
      const told = { underpass: await tell(t, 'underpass', format), rust: await tell(t, 'rust', format) }
      for (const side of ['client', 'server'] as const) {
        t.strictSame(told.underpass[side].lines, told.rust[side].lines, `access log of the ${side}`)
        t.strictSame(told.underpass[side].metrics, told.rust[side].metrics, `metrics of the ${side}`)
        const ours = told.underpass[side].families
        const theirs = [...told.rust[side].families].filter(([name]) => !name.startsWith('tokio_'))
        for (const [name, description] of theirs) t.strictSame(ours.get(name), description, name)
        t.ok(theirs.length > 8, 'there was something to compare')
      }
    }
  )
}

t.test('ours and Istio’s answer the same to whoever looks', { skip }, async t => {
  const ours = await look(t, 'underpass')
  const theirs = await look(t, 'rust')
  t.strictSame(ours.answers, theirs.answers)
  t.ok(
    theirs.answers.some(({ said }) => said === 'ready\n'),
    'there was something to compare'
  )
  const { config: settings, version, certificates: _, ...mesh } = theirs.dump
  for (const [part, value] of Object.entries(mesh)) t.strictSame(ours.dump[part], value, `dump of ${part}`)
  for (const [name, value] of Object.entries(settings as Dump)) {
    if (!onlyTheirs.has(name))
      t.strictSame((ours.dump['config'] as Dump)[name], value, `dump of config, ${name}`)
  }
  for (const name of Object.keys(version as Dump)) t.ok((ours.dump['version'] as Dump)[name], name)
})

type Dump = Readonly<Record<string, unknown>>

/** Settings of their DNS proxy and of test builds, and one whose order changes from run to run. */
const onlyTheirs = new Set([
  'dnsProxyAddr',
  'dnsResolverCfg',
  'dnsResolverOpts',
  'fakeSelfInbound',
  'illegalPorts',
  'preferedServiceNamespace',
  'proxyArgs'
])

interface Told {
  readonly client: Side
  readonly server: Side
}

interface Side {
  readonly lines: readonly string[]
  readonly metrics: readonly string[]
  /** `# HELP` and `# TYPE` by family. */
  readonly families: ReadonlyMap<string, readonly string[]>
}

const compared = [
  'istio_tcp_connections_opened_total',
  'istio_tcp_connections_closed_total',
  'istio_tcp_connections_failed_total',
  'istio_tcp_received_bytes_total',
  'istio_tcp_sent_bytes_total'
]

/** The same traffic through two proxies of one kind: what each end says of it, without ports and durations. */
async function tell(t: Teardown, kind: Kind, format: 'plain' | 'json'): Promise<Told> {
  const policies = { 'shop/deny': wireDeny('deny', { destinationPorts: [9001] }) }
  const env = { LOG_FORMAT: format, RUST_LOG: 'info,access=debug' }
  const { a, b, proxies } = await world(t, kind, kind, policies, env)
  await serve(t, b, echo, { port: SERVER_PORT })
  for (const [to, captured] of [
    [at(b.v4, SERVER_PORT), true],
    [at(ip(VIP), 80), true],
    [at(b.v6, SERVER_PORT), true],
    [at(b.v4, SERVER_PORT), false],
    [at(b.v4, 9001), true],
    [at(b.v4, 9001), false],
    [at(b.v4, 5999), true],
    [at(ip('10.96.0.99'), 80), true],
    [at(ip('127.0.0.1'), 15008), true]
  ] as const) {
    const socket = await connect(a, to, { captured }).catch(() => undefined)
    if (socket !== undefined) await attempt(socket, Buffer.from('hello'))
  }
  await eventually(
    'all lines are there',
    () => accessLog(proxies.client).length >= 13 && accessLog(proxies.server).length >= 14,
    { everyMs: 50 }
  )
  const [client, server] = await Promise.all([sideOf(proxies.client), sideOf(proxies.server)])
  await Promise.all([proxies.client.stop(), proxies.server.stop()])
  return { client, server }
}

async function sideOf(proxy: Proxy): Promise<Side> {
  const { body } = await proxy.ask(15020, '/metrics')
  const metrics = compared.flatMap(name => samples(body, name).map(sample => ({ name, ...sample })))
  const descriptions = [...body.matchAll(/^# (?:HELP|TYPE) (\S+) .*$/gm)]
  return {
    lines: accessLog(proxy).map(comparable).toSorted(),
    metrics: metrics.map(metric => JSON.stringify(metric)).toSorted(),
    families: new Map(
      [...Map.groupBy(descriptions, ([, name = '']) => name)].map(([name, lines]) => [
        name,
        lines.map(([line]) => line)
      ])
    )
  }
}

function accessLog(proxy: Proxy): readonly string[] {
  return proxy.log.filter(line => /\taccess\t|"scope":"access"/.test(line))
}

/** A line without what differs from run to run. Both have a reason for an error: the words are each proxy's own, the policy is not. */
function comparable(line: string): string {
  return line
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/, 'TIME')
    .replace(/(src\.addr(?:=|":")(?:[\d.]+|\[[\da-f:]+\])):\d+/, '$1:PORT')
    .replace(/(duration(?:=|":)")\d+ms"/, '$1DURATION"')
    .replace(/(error(?:=|":)")((?:[^"\\]|\\.)*)"/, (_, key: string, error: string) => {
      return `${key}${/explicitly denied by: \S+/.exec(error)?.[0] ?? 'ERROR'}"`
    })
}

/** Questions whose answers are the interface of dashboards, probes and istioctl. */
async function look(
  t: Teardown,
  kind: Kind
): Promise<{ answers: { asked: string; status: number; said: string | undefined }[]; dump: Dump }> {
  const { proxies } = await world(t, kind, kind, {
    'shop/deny': wireDeny('deny', {
      destinationPorts: [9001],
      principals: [{ prefix: 'a' }, { presence: {} }]
    })
  })
  const questions = [
    [15020, 'GET', '/metrics', 'type', { accept: 'application/openmetrics-text; version=1.0.0' }],
    [15020, 'GET', '/metrics', 'type', { accept: '*/*' }],
    [15020, 'GET', '/stats/prometheus', 'type'],
    [15020, 'GET', '/', 'status'],
    [15021, 'GET', '/healthz/ready', 'body'],
    [15021, 'POST', '/healthz/ready', 'status'],
    [15021, 'GET', '/', 'status'],
    [15000, 'GET', '/config_dump', 'type'],
    [15000, 'GET', '/nothing', 'status'],
    [15000, 'GET', '/logging', 'status'],
    [15000, 'POST', '/logging?level=loud', 'status'],
    [15000, 'POST', '/logging?level=access=warn', 'body'],
    [15000, 'POST', '/logging?level=debug', 'body'],
    [15000, 'POST', '/logging?reset', 'body'],
    [15000, 'POST', '/logging?reset&level=error', 'body'],
    [15000, 'GET', '/quitquitquit', 'status'],
    [15000, 'GET', '/debug/pprof/profile?seconds=301', 'status'],
    [15000, 'GET', '/debug/pprof/profile?frequency=0', 'status'],
    [15000, 'POST', '/quitquitquit', 'body']
  ] as const
  const answers = []
  const dump = JSON.parse((await proxies.server.ask(15000, '/config_dump')).body) as Dump
  for (const [port, method, path, part, headers = {}] of questions) {
    const { status, contentType, body } = await proxies.client.ask(port, path, { method, headers })
    // The DNS library of Istio's ztunnel has a level of its own from the start.
    const said = {
      type: contentType,
      body: body.replace('hickory_server::server=off,', ''),
      status: undefined
    }
    answers.push({ asked: `${port} ${method} ${path}`, status, said: said[part] })
  }
  await proxies.client.stop('SIGTERM')
  return { answers, dump }
}

async function world(
  t: Teardown,
  client: Kind,
  server: Kind,
  policies: Readonly<Record<string, object>> = {},
  env: Readonly<Record<string, string>> = {}
): Promise<TwoNodes & { proxies: { client: Proxy; server: Proxy } }> {
  const nodes = await twoNodes(t)
  const plane = await startControlPlane(t, [nodes.a, nodes.b], { ...wireMesh(nodes), policies })
  const common = { localConfig: '', env: { ...plane.caEnv, ...plane.xdsEnv, ...env } }
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
