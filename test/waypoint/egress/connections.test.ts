/** Connections that leave the mesh as they are: TCP by the names of an entry, TLS by the name in its hello. */
import t from 'tap'
import type { Test } from 'tap'
import { once } from 'node:events'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import { testAuthority } from '../../support/certificates.ts'
import { eventually } from '../../support/eventually.ts'
import { startWorld, type World, type WorldOptions } from '../world.ts'
import { startDns } from './dns-server.ts'
import { entryService, namedEndpoint, type Entry } from './outside.ts'

async function listening(t: Test, server: net.Server, address: string): Promise<number> {
  server.on('connection', socket => socket.on('error', () => undefined))
  server.listen(0, address)
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as net.AddressInfo).port
}

async function start(
  t: Test,
  entry: Entry,
  zone: Parameters<typeof startDns>[1],
  options: Partial<WorldOptions> = {}
): Promise<World> {
  const dns = await startDns(t, zone)
  return startWorld(t, {
    services: [entryService(entry)],
    pods: entry.resolution === 'DYNAMIC_DNS' ? [] : [namedEndpoint(entry)],
    ...options,
    env: {
      UNDERPASS_DNS_SERVERS: dns.address,
      UNDERPASS_ACCESS_LOG: 'all',
      UNDERPASS_CONNECT_TIMEOUT: '4s',
      UNDERPASS_EGRESS_ALLOWED_BLOCKS: '127.77.32.0/24',
      ...options.env
    }
  })
}

async function textOf(stream: Duplex): Promise<string> {
  let text = ''
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) text += String(chunk)
  stream.end()
  return text
}

t.test('TCP goes to an address of the name', async t => {
  const target = await listening(
    t,
    net.createServer(socket => void socket.end('hello from outside')),
    '127.77.32.1'
  )
  const entry: Entry = {
    name: 'db',
    host: 'db.example',
    vip: '240.240.0.8',
    port: 5432,
    target,
    speaks: 'TCP'
  }
  const world = await start(t, { ...entry, resolution: 'DNS' }, { 'db.example': ['127.77.32.1'] })
  t.equal(await textOf(await world.connect('240.240.0.8:5432')), 'hello from outside')
  await eventually('the log tells of it', () =>
    world.lines.some(line => line.includes(`127.77.32.1:${target}`))
  )
})

t.test('TCP without an address is cut, and the log says why', async t => {
  const entry: Entry = {
    name: 'db',
    host: 'db.example',
    vip: '240.240.0.8',
    port: 5432,
    target: 1,
    speaks: 'TCP'
  }
  const world = await start(t, { ...entry, resolution: 'DNS' }, { 'db.example': 'refuse' })
  await t.rejects(textOf(await world.connect('240.240.0.8:5432')))
  await eventually('the log tells of it', () =>
    world.lines.some(line => line.includes(' DF - dns_resolution_failure ') && line.includes('db.example'))
  )
})

const wildcard = { name: 'web', host: '*.example.com', vip: '240.240.0.7', port: 443, speaks: 'TLS' } as const

async function startTls(
  t: Test,
  config?: string
): Promise<{ world: World; hello: (name: string) => Promise<string> }> {
  const { certPem: cert, keyPem: key } = testAuthority().issue({ uris: [], hostnames: ['a.example.com'] })
  const target = await listening(
    t,
    tls.createServer({ cert, key }, socket => {
      socket.on('error', () => undefined)
      socket.end(`you want ${String(socket.servername)}`)
    }),
    '127.77.32.2'
  )
  const zone = {
    'a.example.com': ['127.77.32.2'],
    'inside.example.com': ['10.0.0.1'],
    'a.example.org': ['127.77.32.2']
  }
  const options = config === undefined ? {} : { config }
  const world = await start(t, { ...wildcard, target, resolution: 'DYNAMIC_DNS' }, zone, options)
  const hello = async (servername: string): Promise<string> => {
    const socket = await world.connect('240.240.0.7:443')
    const named = servername === '' ? {} : { servername }
    return textOf(tls.connect({ socket, ...named, rejectUnauthorized: false }))
  }
  return { world, hello }
}

t.test('under a wildcard TLS goes to whom its hello names, and is not looked into', async t => {
  const { world, hello } = await startTls(t)
  t.equal(await hello('a.example.com'), 'you want a.example.com')
  const refused = [
    { name: 'a.example.org', why: 'NR - route_not_found' },
    { name: 'inside.example.com', why: '- - egress_address_not_public' },
    { name: 'nobody.example.com', why: 'DF - dns_resolution_failure' },
    { name: '', why: 'NR - route_not_found' }
  ]
  for (const { name, why } of refused) {
    const before = world.lines.length
    await t.rejects(hello(name), name)
    await eventually('the log tells of it', () => world.lines.length > before)
    t.match(world.lines.at(-1), ` ${why} `, name === '' ? 'without a name' : name)
  }
})

t.test('what is no TLS goes nowhere under a wildcard', async t => {
  const { world } = await startTls(t)
  const client = await world.connect('240.240.0.7:443')
  client.write('GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n')
  await t.rejects(textOf(client))
  await eventually('the log tells of it', () =>
    world.lines.some(line => line.includes(' NR - no_server_name '))
  )
})

t.test('policies see the server name', async t => {
  const { world, hello } = await startTls(
    t,
    `
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: web}]
  action: DENY
  rules: [{when: [{key: connection.sni, values: [a.example.com]}]}]
`
  )
  await t.rejects(hello('a.example.com'))
  await eventually('the log tells of it', () => world.lines.some(line => line.includes('rbac_access_denied')))
})
