/** Requests that leave the mesh through a waypoint: names that it resolves itself, and where they must not lead. */
import t from 'tap'
import type { Test } from 'tap'
import { once } from 'node:events'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { testAuthority } from '../../support/certificates.ts'
import { eventually } from '../../support/eventually.ts'
import { startWorld, type World, type WorldOptions } from '../world.ts'
import { startDns, type DnsServer } from './dns-server.ts'
import { entryService, namedEndpoint, startServers, type Entry, type Server } from './outside.ts'

interface Outside {
  readonly dns: DnsServer
  readonly server: Server
}

interface Made extends Outside {
  readonly world: World
  readonly entry: Entry
}

async function start(
  t: Test,
  outside: Outside,
  made: Omit<Entry, 'name' | 'vip' | 'target'>,
  options: Partial<WorldOptions> = {}
): Promise<Made> {
  const entry: Entry = { name: 'api', vip: '240.240.0.9', target: outside.server.port, ...made }
  const wildcard = entry.resolution === 'DYNAMIC_DNS' || entry.resolution === undefined
  const world = await startWorld(t, {
    services: [entryService(entry)],
    pods: wildcard ? [] : [namedEndpoint(entry)],
    ...options,
    env: { UNDERPASS_DNS_SERVERS: outside.dns.address, UNDERPASS_ACCESS_LOG: 'all', ...options.env }
  })
  return { ...outside, world, entry }
}

async function outside(
  t: Test,
  zone: Parameters<typeof startDns>[1],
  addresses: readonly string[]
): Promise<Outside> {
  return { dns: await startDns(t, zone), server: await startServers(t, addresses) }
}

/** Many requests, and how many each address answered. */
async function spread(world: World, count = 24): Promise<Record<string, number>> {
  const answers: Record<string, number> = {}
  for (let index = 0; index < count; index += 1) {
    const { status, text } = await world.ask('240.240.0.9:80', { headers: { host: 'api.example' } })
    const key = status === 200 ? text : `${status} ${text}`
    answers[key] = (answers[key] ?? 0) + 1
  }
  return answers
}

const addresses = ['127.77.30.1', '127.77.30.2', '127.77.30.3']

t.test('DNS: requests go to all addresses that a name has, in the clear', async t => {
  const around = await outside(t, { 'api.example': addresses }, addresses)
  const { world, dns, server } = await start(t, around, { host: 'api.example', resolution: 'DNS' })
  t.strictSame(Object.keys(await spread(world)).toSorted(), addresses)
  t.strictSame(dns.asked, ['api.example'], 'the name is looked up once')
  t.match(server.heard[0], / api\.example \/$/, 'the Host stays the client’s')
})

t.test('DNS: what the name means is asked again after its time', async t => {
  const around = await outside(t, { 'api.example': [addresses[0] ?? ''] }, addresses)
  around.dns.ttl = 1
  const { world, dns } = await start(t, around, { host: 'api.example', resolution: 'DNS' })
  t.strictSame(await spread(world, 2), { '127.77.30.1': 2 })
  dns.zone.set('api.example', ['127.77.30.2'])
  await eventually('the new address answers', async () => {
    const { text } = await world.ask('240.240.0.9:80')
    return text === '127.77.30.2'
  })
  t.strictSame(await spread(world, 2), { '127.77.30.2': 2 })
})

t.test('DNS_ROUND_ROBIN: the first address alone', async t => {
  const around = await outside(t, { 'api.example': ['127.77.30.2', '127.77.30.1'] }, addresses)
  const { world } = await start(t, around, { host: 'api.example', resolution: 'DNS_ROUND_ROBIN' })
  t.strictSame(await spread(world), { '127.77.30.2': 24 })
})

t.test('an address that nobody listens at is left for another', async t => {
  const around = await outside(t, { 'api.example': ['127.77.30.99', '127.77.30.1'] }, addresses)
  const { world } = await start(t, around, { host: 'api.example', resolution: 'DNS' })
  t.strictSame(await spread(world), { '127.77.30.1': 24 })
})

t.test('racing: one endpoint, and whichever address takes the connection', async t => {
  const around = await outside(
    t,
    { 'api.example': ['127.77.30.98', '127.77.30.99', '127.77.30.1'] },
    addresses
  )
  const { world } = await start(t, around, { host: 'api.example', resolution: 'DNS', racing: true })
  t.strictSame(await spread(world), { '127.77.30.1': 24 })
  t.match(await world.metrics(), /underpass_upstream_connects_total 1\n/, 'in one attempt')
})

t.test('a name that cannot be resolved is 503, and the log says why', async t => {
  const around = await outside(t, { 'api.example': 'refuse' }, addresses)
  const { world, dns } = await start(t, around, { host: 'api.example', resolution: 'DNS' })
  const answer = await world.ask('240.240.0.9:80')
  t.equal(answer.status, 503)
  t.match(answer.text, /^DNS resolution failure: api\.example could not be looked up/)
  t.match(world.lines.at(-1), / 503 DF dns_resolution_failure /)
  await world.ask('240.240.0.9:80')
  const asked = dns.asked.length
  await world.ask('240.240.0.9:80')
  t.equal(dns.asked.length, asked, 'nobody asks again at once')
})

t.test('the DestinationRule of the host holds for its addresses', async t => {
  const around = await outside(t, { 'api.example': addresses }, addresses)
  const config = `
kind: DestinationRule
metadata: {name: api, namespace: shop}
spec: {host: api.example, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
`
  const { world } = await start(t, around, { host: 'api.example', resolution: 'DNS' }, { config })
  const seen = new Set<string>()
  for (let index = 0; index < 12; index += 1) {
    seen.add((await world.ask('240.240.0.9:80', { headers: { 'x-user': 'anna' } })).text)
  }
  t.equal(seen.size, 1, 'one user stays at one address')
})

t.test('who may go out is decided by the client that asks', async t => {
  const around = await outside(t, { 'api.example': addresses }, addresses)
  const config = `
kind: AuthorizationPolicy
metadata: {name: api, namespace: shop}
spec:
  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: api}]
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}], to: [{operation: {methods: [GET]}}]}]
`
  const { world, server } = await start(t, around, { host: 'api.example', resolution: 'DNS' }, { config })
  t.equal((await world.ask('240.240.0.9:80')).status, 200)
  t.equal((await world.ask('240.240.0.9:80', { method: 'POST' })).status, 403)
  t.equal((await world.ask('240.240.0.9:80', { namespace: 'other' })).status, 403)
  t.equal(server.heard.length, 1, 'nobody outside hears of what was refused')
})

const loopbackAllowed = { env: { UNDERPASS_EGRESS_ALLOWED_BLOCKS: '127.77.30.0/24' } }

t.test('DYNAMIC_DNS: each request goes to the host that it names', async t => {
  const zone = {
    'a.example.com': ['127.77.30.1'],
    'b.c.example.com': ['127.77.30.2'],
    'example.com': ['127.77.30.3']
  }
  const around = await outside(t, { ...zone, 'a.example.org': ['127.77.30.3'] }, addresses)
  const made = { host: '*.example.com', resolution: 'DYNAMIC_DNS' } as const
  const { world, server } = await start(t, around, made, loopbackAllowed)
  const ask = async (host: string): Promise<string> => {
    const { status, text } = await world.ask('240.240.0.9:80', { headers: { host } })
    return `${status} ${text}`
  }
  t.equal(await ask('a.example.com'), '200 127.77.30.1')
  t.equal(await ask('b.c.example.com'), '200 127.77.30.2', 'however many labels')
  t.equal(await ask('A.Example.com.:9999'), '200 127.77.30.1', 'the port is that of the entry')
  const heard = server.heard.length
  for (const host of [
    'example.com',
    'a.example.org',
    'aexample.com',
    '.example.com',
    '127.77.30.1',
    'a..example.com'
  ])
    t.equal(await ask(host), '404 ', host)
  t.match(await ask('nobody.example.com'), /^503 DNS resolution failure: nobody\.example\.com has no address/)
  t.equal(server.heard.length, heard)
})

t.test('DYNAMIC_DNS: names that lead to our own side are refused', async t => {
  const zone = {
    'loopback.example.com': ['127.77.30.1'],
    'metadata.example.com': ['169.254.169.254'],
    'pod.example.com': ['127.77.31.1'],
    'service.example.com': ['127.77.31.9'],
    'both.example.com': ['10.0.0.1', '127.77.30.1']
  }
  const around = await outside(t, zone, addresses)
  const made = { host: '*.example.com', resolution: 'DYNAMIC_DNS' } as const
  const pod = { name: 'db', address: '127.77.31.1', port: 8080, services: [] }
  const entry: Entry = { name: 'api', vip: '240.240.0.9', target: around.server.port, ...made }
  const options = {
    services: [entryService(entry), { name: 'inside', vip: '127.77.31.9' }],
    pods: [pod]
  }
  const hosts = Object.keys(zone)
  const closed = await start(t, around, made, options)
  for (const host of hosts) {
    const { status, text } = await closed.world.ask('240.240.0.9:80', { headers: { host } })
    t.equal(`${status} ${text}`, `403 ${host} leads to addresses that are not public`)
  }
  t.match(closed.world.lines.at(-1), / 403 - egress_address_not_public /)
  const env = { UNDERPASS_EGRESS_ALLOWED_BLOCKS: '127.0.0.0/8' }
  const opened = await start(t, around, made, { ...options, env })
  const statuses = await Promise.all(
    hosts.map(async host => (await opened.world.ask('240.240.0.9:80', { headers: { host } })).status)
  )
  t.strictSame(
    statuses,
    [200, 403, 403, 403, 200],
    'what is of the mesh stays closed; of several, those that may be'
  )
})

t.test('DYNAMIC_DNS: connections are not shared by names', async t => {
  const zone = { 'a.example.com': ['127.77.30.1'], 'b.example.com': ['127.77.30.1'] }
  const around = await outside(t, zone, addresses)
  const made = { host: '*.example.com', resolution: 'DYNAMIC_DNS' } as const
  const { world } = await start(t, around, made, loopbackAllowed)
  for (const host of ['a.example.com', 'b.example.com', 'a.example.com', 'b.example.com'])
    await world.ask('240.240.0.9:80', { headers: { host } })
  const metrics = await world.metrics()
  t.match(metrics, /underpass_upstream_connects_total 2\n/)
  const counted = metrics.split('\n').find(line => line.startsWith('istio_requests_total{')) ?? ''
  t.match(counted, 'destination_service="*.example.com"')
  t.match(counted, 'destination_principal="unknown"', 'nobody knows who is there')
})

t.test('DYNAMIC_DNS: TLS towards the host that was asked for', async t => {
  const { certPem: cert, keyPem: key } = testAuthority().issue({ hostnames: ['a.example.com'] })
  const names: unknown[] = []
  const server = https.createServer({ cert, key }, (_request, response) => response.end('secret'))
  server.on('secureConnection', (socket: TLSSocket) => names.push(socket.servername))
  server.listen(0, '127.77.30.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  const dns = await startDns(t, { 'a.example.com': ['127.77.30.1'], 'b.example.com': ['127.77.30.1'] })
  const config = `
kind: DestinationRule
metadata: {name: api, namespace: shop}
spec: {host: "*.example.com", trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}}
`
  const made = { host: '*.example.com', resolution: 'DYNAMIC_DNS' } as const
  const around = { dns, server: { port, heard: [] } }
  const { world } = await start(t, around, made, { ...loopbackAllowed, config })
  for (const host of ['a.example.com', 'b.example.com', 'a.example.com'])
    t.equal((await world.ask('240.240.0.9:80', { headers: { host } })).text, 'secret')
  t.strictSame(names, ['a.example.com', 'b.example.com'])
})

t.test('NONE: to the address that was asked for, of those of the entry', async t => {
  const around = await outside(t, {}, addresses)
  const made = {
    host: 'block.example',
    port: around.server.port,
    record: {
      vips: [],
      cidrVips: [{ cidr: '127.77.30.0/31' }, { cidr: '127.77.30.2/32' }],
      loadBalancer: { mode: 'Passthrough', healthPolicy: 'AllowAll' }
    }
  }
  const { world } = await start(t, around, made)
  const { port } = around.server
  t.equal((await world.ask(`127.77.30.1:${port}`)).text, '127.77.30.1')
  t.equal((await world.ask(`127.77.30.2:${port}`)).text, '127.77.30.2')
  await t.rejects(world.ask(`127.77.30.3:${port}`), 'what is not of the entry is refused')
  const byName = await world.ask(`block.example:${port}`)
  t.equal(byName.status, 503)
  t.match(world.lines.at(-1), / 503 UH original_destination_unknown /)
})
