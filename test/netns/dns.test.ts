/** DNS of captured pods: the real rules, the real ztunnel, resolvers that remember who asked them what. */
import t from 'tap'
import { execFile } from 'node:child_process'
import dgram from 'node:dgram'
import { promisify } from 'node:util'
import { ip, type Ip } from '../../shared/net/address.ts'
import { openDatagramListener } from '../../shared/net/datagrams.ts'
import { samples } from '../support/access-lines.ts'
import { queryOf, replyTo, type Asked, type Heard } from '../support/dns-wire.ts'
import { needsRoot } from '../support/namespaces.ts'
import { ask, askByTcp, askMany, dnsMesh, dnsWorld, type DnsWorld } from './dns-world.ts'

t.setTimeout(240_000)
const skip = needsRoot()
const run = promisify(execFile)
const methods = [
  { mode: 'tproxy', backend: 'nft' },
  { mode: 'tproxy', backend: 'iptables' },
  { mode: 'redirect', backend: 'iptables' },
  { mode: 'redirect', backend: 'nft' }
] as const

function start(
  world: DnsWorld,
  options: Parameters<DnsWorld['start']>[0] = {}
): ReturnType<DnsWorld['start']> {
  const env = { ISTIO_META_DNS_CAPTURE: 'true', RUST_LOG: 'info,dns=debug', ...options.env }
  return world.start({ localConfig: dnsMesh(world), ...options, env })
}

const port = 53
const outside: Asked = { name: 'www.example.org', type: 'A' }

const names: readonly { name: string; asked: Asked; answers: readonly string[] | RegExp; rcode?: number }[] =
  [
    {
      name: 'a Service in full',
      asked: { name: 'web.shop.svc.cluster.local', type: 'A' },
      answers: ['web.shop.svc.cluster.local 30 A 10.97.0.1']
    },
    {
      name: 'the other family',
      asked: { name: 'web.shop.svc.cluster.local', type: 'AAAA' },
      answers: ['web.shop.svc.cluster.local 30 AAAA fd97::1']
    },
    { name: 'a Service in short', asked: { name: 'web', type: 'A' }, answers: ['web 30 A 10.97.0.1'] },
    {
      name: 'another namespace',
      asked: { name: 'vault.bank', type: 'A' },
      answers: ['vault.bank 30 A 10.97.0.2']
    },
    { name: 'a family that the Service has not', asked: { name: 'four', type: 'AAAA' }, answers: [] },
    {
      name: 'one pod of a headless Service',
      asked: { name: 'db-1.db', type: 'AAAA' },
      answers: ['db-1.db 30 AAAA fd79:2::51']
    },
    {
      name: 'a ServiceEntry with an address that was found for it',
      asked: { name: 'api.external.test', type: 'A' },
      answers: ['api.external.test 30 A 240.240.0.1']
    },
    {
      name: 'a ServiceEntry with a search domain behind it',
      asked: { name: 'api.external.test.shop.svc.cluster.local', type: 'A' },
      answers: [
        'api.external.test.shop.svc.cluster.local 30 CNAME api.external.test',
        'api.external.test 30 A 240.240.0.1'
      ]
    },
    {
      name: 'a wildcard',
      asked: { name: 'a.b.wild.test', type: 'A' },
      answers: ['a.b.wild.test 30 A 240.240.0.2']
    }
  ]

for (const method of methods) {
  const keeps = method.mode === 'tproxy'
  t.test(`${method.mode} by ${method.backend}`, { skip }, async t => {
    const world = await dnsWorld(t, method)
    const { first, second, six, nodeLocal, client } = world
    const pod = client.netnsFd
    const proxy = await start(world, { workers: 2 })
    const askAll = (address: Ip, asked: Asked): Promise<readonly Heard[]> =>
      Promise.all([
        ask(pod, { ip: address, port }, asked),
        askByTcp(pod, { ip: address, port }, [asked]).then(([heard]) => heard as Heard)
      ])

    t.test('what the mesh knows is answered, whoever was asked, by UDP and TCP', async t => {
      for (const { name, asked, answers } of names) {
        for (const address of [second.address, six.address]) {
          for (const heard of await askAll(address, asked)) {
            t.match(
              heard,
              { rcode: 0, authoritative: true, recursionAvailable: true, truncated: false },
              name
            )
            t.strictSame(heard.answers, answers, name)
          }
        }
      }
      t.strictSame([...first.asked, ...second.asked, ...six.asked], [], 'no resolver heard of it')
    })

    t.test('a headless Service is its pods, in any order', async t => {
      const heard = await ask(pod, { ip: second.address, port }, { name: 'db', type: 'A' })
      t.strictSame([...heard.answers].toSorted(), ['db 30 A 10.79.2.50', 'db 30 A 10.79.2.51'])
    })

    t.test('everything else is what the resolver that was asked says, untouched', async t => {
      for (const { address, asked } of [second, six, nodeLocal]) {
        const answer = { '10.96.0.11': 11, 'fd96::10': 16, '169.254.20.10': 20 }[String(address)]
        const [byUdp, byTcp] = await askAll(address, outside)
        t.strictSame(byTcp?.answers, [`www.example.org 60 A 192.0.2.${answer}`])
        t.strictSame(byUdp?.answers, [`www.example.org 60 A 192.0.2.${keeps ? answer : 10}`])
        t.notOk(byUdp?.authoritative)
        const from = address === six.address ? client.v6 : client.v4
        t.match(asked.join(), new RegExp(`tcp ${from} 1 www.example.org`), 'from the address of the pod')
        if (keeps) t.match(asked.join(), new RegExp(`udp ${from} 1 www.example.org`))
      }
      t.match(
        await askAll(second.address, { name: 'secret.test', type: 'A' }),
        [{ rcode: 3 }, { rcode: 3 }],
        'not for this namespace'
      )
      t.match(
        await askAll(second.address, { name: 'web.shop.svc.cluster.local', type: 'SRV' }),
        [{ rcode: 3 }, { rcode: 3 }],
        'no address'
      )
    })

    t.test('answers come from the address that was asked', async t => {
      for (const [family, resolvers] of [
        [4, [first, second, nodeLocal]],
        [6, [six]]
      ] as const) {
        const queries = resolvers.flatMap(({ address }) =>
          [outside, { name: 'web', type: 'A' } as const].map(asked => ({ to: { ip: address, port }, asked }))
        )
        const found = await askMany(pod, family, queries)
        t.equal(found.length, queries.length)
        for (const { from, heard } of found) t.strictSame(from, queries[heard.id]?.to)
      }
    })

    t.test('programs that use the C library and the search list find them', async t => {
      const { stdout } = await run('ip', ['netns', 'exec', client.netns, 'getent', 'ahosts', 'web'])
      t.match(stdout, /10\.97\.0\.1 .*STREAM/)
      t.match(stdout, /fd97::1 .*STREAM/)
      const hosts = await run('ip', ['netns', 'exec', client.netns, 'getent', 'hosts', 'api.external.test'])
      t.match(hosts.stdout, /2001:2::1\s+api\.external\.test/)
    })

    t.test('what is too large for UDP comes by TCP', async t => {
      const heard = await ask(pod, { ip: second.address, port }, { name: 'many', type: 'A', edns: 1232 })
      t.ok(heard.truncated)
      t.equal(heard.answers.length, 74)
      const script = `
        const { Resolver } = require('node:dns').promises
        const resolver = new Resolver({ timeout: 5000, tries: 3 })
        resolver.setServers(['${second.address}', '[${six.address}]'])
        Promise.all(['many.shop.svc.cluster.local', 'big.example.org'].map(name => resolver.resolve4(name)))
          .then(found => console.log(found.map(({ length }) => length).join()))`
      const command = [process.execPath, '-e', script]
      const { stdout } = await run('ip', ['netns', 'exec', client.netns, ...command])
      t.equal(stdout, '256,100\n')
    })

    t.test('a thousand queries a second lose nothing', async t => {
      const queries = Array.from({ length: 2000 }, (_, index) => ({
        to: { ip: index % 2 === 0 ? first.address : second.address, port },
        asked: index % 4 === 0 ? outside : ({ name: 'web', type: 'A' } as const)
      }))
      const found = await askMany(pod, 4, queries, { perSecond: 1000, timeoutMs: 30_000 })
      t.equal(found.length, queries.length)
      t.ok(found.every(({ heard }) => heard.rcode === 0 && heard.answers.length === 1))
    })

    t.test('nobody outside of the pod can ask', async t => {
      const proxy = { ip: client.v4, port: 15053 }
      const asked: Asked = { name: 'web', type: 'A' }
      await t.rejects(ask(world.node.fd, proxy, asked), /ECONNREFUSED/)
      await t.rejects(askByTcp(world.node.fd, proxy, [asked]), /closed after 0 answers|ECONNRE/)
    })

    t.test('metrics and log say what was asked, and what became of it', async t => {
      const { body } = await proxy.ask(15020, '/metrics')
      const of = (name: string, type: string, protocol: string): number =>
        samples(body, name)
          .filter(
            ({ labels }) => labels['request_query_type'] === type && labels['request_protocol'] === protocol
          )
          .reduce((sum, { value }) => sum + value, 0)
      t.ok(of('istio_dns_requests_total', 'a', 'udp') > 2000)
      t.ok(of('istio_dns_upstream_requests_total', 'a', 'udp') > 500)
      t.equal(of('istio_dns_upstream_requests_total', 'srv', 'tcp'), 1)
      t.equal(of('istio_dns_upstream_failures_total', 'a', 'udp'), 0)
      t.equal(of('istio_dns_upstream_request_duration_seconds_count', 'srv', 'udp'), 1)
      t.match(samples(body, 'istio_dns_requests_total')[0]?.labels, {
        source_canonical_service: 'client-app',
        source_canonical_revision: 'v1'
      })
      t.match(
        await proxy.logged(/result="forwarded".*/),
        /debug\tdns\tsrc\.workload="client" src\.namespace="shop" query="A" domain="www\.example\.org\." result="forwarded" endpoints=1/
      )
      t.match(
        await proxy.logged(/domain="four\."/),
        /result="service does not support this record type" endpoints=0/
      )
    })
  })
}

t.test(
  'a resolver that does not answer, or is not there, is a failure that the client is told',
  { skip },
  async t => {
    const world = await dnsWorld(t, { mode: 'tproxy', backend: 'nft' })
    const { client, second, node } = world
    const proxy = await start(world)
    node.run('ip', 'addr', 'add', '10.96.0.99/32', 'dev', 'lo')
    const nobody = { ip: ip('10.96.0.99'), port }
    t.match(await ask(client.netnsFd, nobody, outside), { rcode: 2, question: 'www.example.org' })
    t.match(await askByTcp(client.netnsFd, nobody, [outside]), [{ rcode: 2 }])
    second.silent = true
    t.match(await ask(client.netnsFd, { ip: second.address, port }, outside, 30_000), { rcode: 2 })
    second.silent = false
    t.match(await ask(client.netnsFd, { ip: second.address, port }, outside), { rcode: 0 })
    await proxy.logged(/forwarding failed \(10\.96\.0\.11 did not answer in time\)/)
    const { body } = await proxy.ask(15020, '/metrics')
    t.equal(
      samples(body, 'istio_dns_upstream_failures_total').reduce((sum, { value }) => sum + value, 0),
      3
    )
  }
)

t.test('a restart under load loses no query', { skip }, async t => {
  const world = await dnsWorld(t, { mode: 'tproxy', backend: 'nft' })
  const { client, first } = world
  const old = await start(world, { workers: 2 })
  const some = Array.from({ length: 100 }, (_, index) => ({
    to: { ip: first.address, port },
    asked: index % 2 === 0 ? outside : ({ name: 'web', type: 'A' } as const)
  }))
  const restart = { over: false }
  const asking = (async () => {
    let asked = 0
    let answered = 0
    while (!restart.over) {
      const found = await askMany(client.netnsFd, 4, some, { perSecond: 400, timeoutMs: 15_000 })
      asked += some.length
      answered += found.filter(({ heard }) => heard.rcode === 0 && heard.answers.length === 1).length
    }
    return { asked, answered }
  })()
  const ports = { UNDERPASS_ADMIN_PORT: '0', UNDERPASS_STATS_PORT: '0', UNDERPASS_READY_PORT: '0' }
  const next = await start(world, { workers: 2, env: ports })
  await next.logged(/pods synchronised with the node agent/, 60_000)
  t.equal(await old.stop('SIGTERM'), 0)
  restart.over = true
  const { asked, answered } = await asking
  t.equal(answered, asked)
  t.equal(await next.stop(), 0)
})

t.test('a pod’s own DNS server keeps its port, and its answers their way', { skip }, async t => {
  const world = await dnsWorld(t, { mode: 'tproxy', backend: 'nft' })
  const { client, second, node } = world
  await start(world)
  const pod = client.netnsFd
  t.match(await ask(pod, { ip: second.address, port }, outside), { rcode: 0 }, 'DNS works first')
  const server = dgram.createSocket('udp4')
  server.on('message', (query, from) =>
    server.send(replyTo(query, [Buffer.from([192, 0, 2, 99])]), from.port, from.address)
  )
  server.bind({ fd: openDatagramListener({ netns: pod }, { address: { ip: ip('0.0.0.0'), port } }) })
  t.teardown(() => server.close())
  t.match(await ask(node.fd, { ip: client.v4, port }, outside), {
    answers: ['www.example.org 60 A 192.0.2.99']
  })
  const fromPort53 = dgram.createSocket('udp4')
  fromPort53.bind({
    fd: openDatagramListener({ netns: node.fd }, { address: { ip: ip('10.79.1.1'), port } })
  })
  t.teardown(() => fromPort53.close())
  const heard = new Promise(resolve => fromPort53.once('message', resolve))
  fromPort53.send(queryOf(outside), port, client.v4)
  await heard
  t.match(await ask(pod, { ip: second.address, port }, outside), { rcode: 0 }, 'and works still')
})

t.test('a pod whose loopback has no IPv6 starts, and has DNS', { skip }, async t => {
  const world = await dnsWorld(t, { mode: 'tproxy', backend: 'nft' })
  const { client, second } = world
  client.namespace.run('sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=1')
  await start(world)
  t.strictSame(world.agent.answers, [undefined, undefined, undefined])
  t.match(await ask(client.netnsFd, { ip: second.address, port }, { name: 'web', type: 'A' }), {
    answers: ['web 30 A 10.97.0.1']
  })
})
