/** Which endpoint of a service captured connections go to: health, place, weight, affinity, load, named ports. */
import t from 'tap'
import type net from 'node:net'
import { serveTunnels } from '../../shared/hbone/server.ts'
import { acceptTls } from '../../shared/hbone/tls.ts'
import { FakeCa } from '../../shared/identity/fake-ca.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { ip, type Ip } from '../../shared/net/address.ts'
import { samples } from '../support/access-lines.ts'
import { uncaptured } from '../support/hbone-peer.ts'
import { CLIENT, localMesh, SERVER_PORT } from '../support/local-mesh.ts'
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
const never = new AbortController().signal

/** Addresses of endpoints outside of the mesh, as EndpointSlices without pods give them. */
const [FIRST, SECOND, THIRD] = [ip('10.77.0.21'), ip('10.77.0.22'), ip('10.77.0.23')]
/** No endpoint has it. */
const OUTSIDE = ip('10.77.0.24')
/** Two that are equally likely both answer within so many tries, but for one chance in 2^39. */
const tries = 40

interface Situation {
  readonly name: string
  readonly service?: object
  /** Endpoints by address; '' has none. */
  readonly endpoints: Readonly<Record<string, object>>
  readonly to?: { readonly ip: Ip; readonly port: number }
  /** Who answers, sorted; empty when nobody does. */
  readonly reached: readonly string[]
}

const inZone = (region: string, zone: string): object => ({ locality: { region, zone } })
const nearest = { loadBalancer: { mode: 'Failover', routingPreferences: ['Region', 'Zone'] } }
const thisNode = { loadBalancer: { mode: 'Strict', routingPreferences: ['Node'] } }
const unhealthy = { status: 'Unhealthy' }

const situations: readonly Situation[] = [
  {
    name: 'every endpoint without a preference',
    endpoints: { [FIRST]: {}, [SECOND]: {} },
    reached: [FIRST, SECOND]
  },
  { name: 'only healthy ones', endpoints: { [FIRST]: {}, [SECOND]: unhealthy }, reached: [FIRST] },
  { name: 'nobody when none is healthy', endpoints: { [FIRST]: unhealthy }, reached: [] },
  {
    name: 'unhealthy ones, too, where not-ready addresses are published',
    service: { loadBalancer: { healthPolicy: 'AllowAll' } },
    endpoints: { [FIRST]: unhealthy },
    reached: [FIRST]
  },
  {
    name: 'no capacity, no traffic',
    endpoints: { [FIRST]: { capacity: 0 }, [SECOND]: {} },
    reached: [SECOND]
  },
  {
    name: 'Failover: the nearest zone',
    service: nearest,
    endpoints: {
      [FIRST]: inZone('north', 'n2'),
      [SECOND]: inZone('north', 'n1'),
      [THIRD]: inZone('south', 'n1')
    },
    reached: [SECOND]
  },
  {
    name: 'Failover: the next best when the nearest is not healthy',
    service: nearest,
    endpoints: {
      [FIRST]: inZone('north', 'n2'),
      [SECOND]: { ...inZone('north', 'n1'), ...unhealthy },
      [THIRD]: inZone('south', 'n1')
    },
    reached: [FIRST]
  },
  {
    name: 'Strict: only this node',
    service: thisNode,
    endpoints: { [FIRST]: { node: 'a' }, [SECOND]: { node: 'b' } },
    reached: [FIRST]
  },
  {
    name: 'Strict: nobody when there is none here',
    service: thisNode,
    endpoints: { [SECOND]: { node: 'b' } },
    reached: []
  },
  {
    name: 'Passthrough: the address that was asked for',
    service: { vips: [`/${OUTSIDE}`], loadBalancer: { mode: 'Passthrough' }, canonical: false },
    endpoints: { [FIRST]: {} },
    to: at(OUTSIDE, SERVER_PORT),
    reached: [OUTSIDE]
  },
  {
    name: 'a named target port is each endpoint’s own; one without it is left out',
    service: { ports: { 80: 0 } },
    endpoints: { [FIRST]: {}, [SECOND]: { port: 9090 }, [THIRD]: { port: 0 } },
    reached: [FIRST, `${SECOND}:9090`]
  },
  {
    name: 'a headless Service: the endpoint whose address it is, at its own port',
    service: { vips: [] },
    endpoints: { [FIRST]: {}, [SECOND]: {} },
    to: at(SECOND, 9090),
    reached: [`${SECOND}:9090`]
  },
  {
    name: 'a port that the service does not have',
    endpoints: { [FIRST]: {} },
    to: at(vip(12), 81),
    reached: []
  }
]

t.test('who is reached', { skip }, async t => {
  const { a, client } = await world(t, situations, inZone('north', 'n1'))
  for (const [index, { name, to = at(vip(index), 80), reached }] of situations.entries()) {
    const seen = new Set<string>()
    for (let count = 0; count < tries; count++) {
      seen.add(await attempt(await connect(a, to), Buffer.alloc(0)))
      if (reached.length > 1 && seen.size === reached.length) break
    }
    t.strictSame([...seen].toSorted(), reached.length === 0 ? [''] : reached.toSorted(), name)
    if (reached.length === 0) await client.logged(new RegExp(`no healthy upstream: ${to.ip}:${to.port}`))
  }
})

t.test('an endpoint that is known by host name only is looked up, and counted', { skip }, async t => {
  const tooLong = `${'x'.repeat(64)}.example` // no resolver has to be asked to know that there is none
  const named = (hostname: string): Situation => ({
    name: hostname,
    endpoints: { '': { hostname } },
    reached: []
  })
  const { a, client } = await world(t, [named('localhost'), named(tooLong)])
  await serve(t, a, socket => socket.resume().end('found'), { port: SERVER_PORT })
  t.equal(await attempt(await connect(a, at(vip(0), 80)), Buffer.alloc(0)), 'found')
  t.equal(await attempt(await connect(a, at(vip(1), 80)), Buffer.alloc(0)), '')
  await client.logged(/connection failed.*no ip addresses were resolved for workload .*x{64}\.example/)
  const { body } = await client.ask(15020, '/metrics')
  t.match(samples(body, 'istio_on_demand_dns_total'), [
    { labels: { source_workload: 'client-deployment', hostname: 'localhost' }, value: 1 },
    { labels: { hostname: tooLong }, value: 1 }
  ])
})

t.test('client-IP affinity: a client keeps its endpoint, and clients are spread', { skip }, async t => {
  const sticky = { traffic: { clientIpAffinitySeconds: 600 } }
  const nodes = await world(t, [
    { name: 'sticky', service: sticky, endpoints: { [FIRST]: {}, [SECOND]: {}, [THIRD]: {} }, reached: [] }
  ])
  const endpoints = new Set<string>()
  for (let last = 100; last < 116; last++) {
    const from = ip(`10.77.0.${last}`)
    nodes.addAddress('a', from)
    const answers = new Set<string>()
    for (let count = 0; count < 5; count++) {
      const socket = await connect(nodes.a, at(vip(0), 80), { bind: at(from, 0) })
      answers.add(await attempt(socket, Buffer.alloc(0)))
    }
    t.equal(answers.size, 1, `${from} always reaches ${[...answers].join()}`)
    for (const answer of answers) endpoints.add(answer)
  }
  t.strictSame([...endpoints].toSorted(), [FIRST, SECOND, THIRD])
})

t.test('least-request: an endpoint with open connections gets fewer new ones', { skip }, async t => {
  for (const [balancing, least, most] of [
    ['random', 140, 260],
    ['least-request', 260, 340]
  ] as const) {
    await t.test(balancing, async t => {
      const { a, b } = await world(
        t,
        [
          {
            name: 'one',
            endpoints: { [FIRST]: { services: { [key(0)]: ports(9999), [key(1)]: ports() } } },
            reached: []
          },
          { name: 'both', endpoints: { [SECOND]: {} }, reached: [] }
        ],
        {},
        { UNDERPASS_LOAD_BALANCING: balancing }
      )
      await serve(t, b, socket => void socket.resume(), { port: 9999 }) // keeps connections open
      const open = await Promise.all(Array.from({ length: 10 }, () => connect(a, at(vip(0), 80))))
      t.teardown(() => open.forEach(socket => socket.destroy()))
      let unloaded = 0
      for (let count = 0; count < 400; count++) {
        if ((await attempt(await connect(a, at(vip(1), 80)), Buffer.alloc(0))) === SECOND) unloaded += 1
      }
      // Half of 400, or with two choices three quarters; six standard deviations are 60 and 52.
      t.ok(unloaded > least && unloaded < most, `${unloaded} of 400 to the one without load`)
    })
  }
})

t.test('UNDERPASS_DIAL_RETRIES: how many other endpoints are tried when a dial fails', { skip }, async t => {
  const dead = { port: 5999, capacity: 1_000_000_000 } // nobody listens there, and it is always the first choice
  for (const [retries, reached] of [
    ['0', ''],
    ['1', SECOND]
  ] as const) {
    await t.test(retries, async t => {
      const { a, client } = await world(
        t,
        [{ name: 'half dead', endpoints: { [FIRST]: dead, [SECOND]: {} }, reached: [] }],
        {},
        { UNDERPASS_DIAL_RETRIES: retries }
      )
      t.equal(await attempt(await connect(a, at(vip(0), 80)), Buffer.alloc(0)), reached)
      await client.logged(
        reached === ''
          ? /connection failed: 10\.77\.0\.21:5999: connect ECONNREFUSED/
          : /dst\.addr=10\.77\.0\.22:8080/
      )
    })
  }
})

t.test(
  'a session that is lost before it answered is a dial that failed: the next endpoint',
  { skip },
  async t => {
    const lost = {
      protocol: 'HBONE',
      trustDomain: 'cluster.local',
      serviceAccount: 'lost',
      capacity: 1_000_000_000 // always the first choice
    }
    const { a, b, client } = await world(t, [
      { name: 'half dead', endpoints: { [FIRST]: lost, [SECOND]: {} }, reached: [] }
    ])
    const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'lost' })
    const certificate = await new FakeCa().fetch(identity, never)
    let asked = 0
    const accept = async (socket: net.Socket): Promise<void> => {
      const { socket: secure } = await acceptTls(socket, certificate, never)
      serveTunnels(secure, {}, () => {
        asked += 1
        socket.destroy() // as when its node loses its power
      })
    }
    await serve(t, b, socket => void accept(socket), { address: FIRST, port: 15_008 })
    t.equal(await attempt(await connect(a, at(vip(0), 80)), Buffer.alloc(0)), SECOND)
    t.equal(asked, 1)
    const { body } = await client.ask(15_020, '/metrics')
    t.match(samples(body, 'underpass_dial_retries_total'), [{ value: 1 }])
  }
)

t.test('UNDERPASS_IDLE_TIMEOUT ends connections without a byte, and no other', { skip }, async t => {
  const { a, b, client } = await world(
    t,
    [{ name: 'quiet', endpoints: { [FIRST]: { port: 9999 } }, reached: [] }],
    {},
    { UNDERPASS_IDLE_TIMEOUT: '3s' }
  )
  await serve(t, b, socket => void socket.pipe(socket), { port: 9999 })
  const [quiet, busy] = await Promise.all([connect(a, at(vip(0), 80)), connect(a, at(vip(0), 80))])
  const ended = new Promise(resolve => quiet.once('close', resolve))
  quiet.resume().on('error', () => undefined)
  let echoed = 0
  busy.on('data', (chunk: Buffer) => {
    echoed += chunk.length
  })
  const talking = setInterval(() => busy.write('x'), 100)
  t.teardown(() => clearInterval(talking))
  await ended
  await client.logged(/error="no byte for 3000 ms \(UNDERPASS_IDLE_TIMEOUT\)"/)
  const before = echoed
  busy.write('y')
  await new Promise(resolve => busy.once('data', resolve))
  t.ok(echoed > before, 'who talks goes on')
})

interface World extends TwoNodes {
  readonly client: Proxy
}

/** A service for each situation; every endpoint says its address and, if it is not the usual one, its port. */
async function world(
  t: Teardown,
  services: readonly Pick<Situation, 'name' | 'service' | 'endpoints' | 'reached'>[],
  client: object = {},
  env: Record<string, string> = {}
): Promise<World> {
  const nodes = await twoNodes(t)
  for (const address of [FIRST, SECOND, THIRD, OUTSIDE]) uncaptured(nodes, address)
  for (const port of [SERVER_PORT, 9090]) {
    const usual = port === SERVER_PORT
    await serve(
      t,
      nodes.b,
      socket => {
        const address = socket.localAddress?.replace('::ffff:', '') ?? ''
        socket.resume().end(usual ? address : `${address}:${port}`)
      },
      { port }
    )
  }
  const localConfig = localMesh(nodes, {
    client,
    server: { services: {} },
    services: services.map(({ service }, index) => ({
      name: `s${index}`,
      namespace: 'shop',
      hostname: `s${index}.shop.svc.cluster.local`,
      vips: [`/${vip(index)}`],
      ports: { 80: SERVER_PORT },
      canonical: true,
      ...service
    })),
    workloads: services.flatMap(({ endpoints }, index) =>
      Object.entries(endpoints).map(([address, { port, ...more }]: [string, { port?: number }]) => ({
        uid: `Kubernetes/discovery.k8s.io/EndpointSlice/shop/s${index}/${address}`,
        name: `s${index}-${address}`,
        namespace: 'shop',
        workloadIps: address === '' ? [] : [address],
        protocol: 'TCP',
        services: { [key(index)]: port === 0 ? {} : ports(port) },
        ...more
      }))
    )
  })
  const proxy = await startProxy(t, nodes.a, { kind: 'underpass', localConfig, workload: CLIENT, env })
  return { ...nodes, client: proxy }
}

function vip(index: number): Ip {
  return ip(`10.96.1.${index + 1}`)
}

function key(index: number): string {
  return `shop/s${index}.shop.svc.cluster.local`
}

function ports(target = SERVER_PORT): object {
  return { 80: target }
}
