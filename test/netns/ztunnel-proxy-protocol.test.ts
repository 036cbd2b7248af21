/** Applications that take PROXY headers (a waypoint beside its ztunnel): every byte of what they are sent. */
import t from 'tap'
import type net from 'node:net'
import type { Duplex } from 'node:stream'
import { ip, type Ip } from '../../shared/net/address.ts'
import { accessLines } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { openHbone } from '../support/hbone-peer.ts'
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

const TUNNEL_PORT = 15_088
const tunnelled: LocalMeshWishes = { server: { applicationTunnel: { protocol: 'PROXY', port: TUNNEL_PORT } } }
const signature = '0d0a0d0a000d0a515549540a'
/** TLV 0xd0 with 43 bytes: the client's identity. */
const identity = `d0002b${Buffer.from(CLIENT_IDENTITY).toString('hex')}`

t.test('captured by IPv4: addresses of client and authority, then the identity', { skip }, async t => {
  const { a, b, server } = await world(t)
  const received = await application(t, b, ip('127.0.0.1'))
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('hello')), 'done')
  const port = await clientPort(server)
  // 12 bytes of addresses and 46 of identity.
  t.equal(
    (await received()).toString('hex'),
    `${signature}2111003a0a4d00010a4d0002${port}${hex16(SERVER_PORT)}${identity}${Buffer.from('hello').toString('hex')}`
  )
})

t.test('captured by IPv6', { skip }, async t => {
  const { a, b, server } = await world(t)
  const received = await application(t, b, ip('::1'))
  t.equal(await attempt(await connect(a, at(b.v6, SERVER_PORT)), Buffer.from('hello')), 'done')
  const address = (last: number): string => `fd77${'0000'.repeat(6)}${hex16(last)}`
  t.equal(
    (await received()).toString('hex'),
    `${signature}21210052${address(1)}${address(2)}${await clientPort(server)}${hex16(SERVER_PORT)}${identity}${Buffer.from('hello').toString('hex')}`
  )
})

const authorities: readonly { readonly name: string; readonly authority: string; readonly head: string }[] = [
  {
    name: 'an address of something behind the waypoint stays as it was asked for',
    authority: '10.96.0.77:443',
    head: `2111003a0a4d00010a60004dPORT${hex16(443)}`
  },
  {
    name: 'a host name becomes its service’s address, IPv4 first',
    authority: `${SERVER_HOST}:80`,
    head: `2111003a0a4d00010a60000aPORT${hex16(80)}`
  },
  {
    name: 'mixed families cannot be said',
    authority: `[${VIP6}]:80`,
    head: '2101002e'
  }
]

t.test('what the header says of the destination, by authority', { skip }, async t => {
  const { a, b } = await world(t)
  const received = await application(t, b, ip('127.0.0.1'))
  for (const { name, authority, head } of authorities) {
    const { stream, from } = await openHbone(t, a, {
      to: at(b.v4, 15_008),
      identity: CLIENT_IDENTITY,
      expect: SERVER_IDENTITY,
      authority
    })
    const answer = whole(stream)
    stream.end()
    t.equal(String(await answer), 'done')
    const port = hex16(Number(from.split(':')[1]))
    t.equal((await received()).toString('hex'), `${signature}${head.replace('PORT', port)}${identity}`, name)
  }
})

t.test('a service without an address has nothing to put into a header', { skip }, async t => {
  const { a, b, server } = await world(t, { ...tunnelled, service: { vips: [] } })
  await t.rejects(
    openHbone(t, a, {
      to: at(b.v4, 15_008),
      identity: CLIENT_IDENTITY,
      expect: SERVER_IDENTITY,
      authority: `${SERVER_HOST}:80`
    }),
    { message: /503/ }
  )
  await server.logged(/found, but has no IP addresses/)
})

t.test('LOCALHOST_APP_TUNNEL=false: the header goes to the pod’s address', { skip }, async t => {
  const { a, b } = await world(t, tunnelled, { LOCALHOST_APP_TUNNEL: 'false' })
  const received = await application(t, b, b.v4)
  t.equal(await attempt(await connect(a, at(ip(VIP), 80)), Buffer.from('hello')), 'done')
  t.match(
    (await received()).toString('hex'),
    new RegExp(`^${signature}2111003a.*${Buffer.from('hello').toString('hex')}$`)
  )
})

t.test('a tunnel that is only a port: no header, and policies judge that port', { skip }, async t => {
  const { a, b, server } = await world(t, {
    server: { applicationTunnel: { protocol: 'NONE', port: TUNNEL_PORT } },
    policies: [localPolicy('tunnel-port', 'Allow', { destinationPorts: [TUNNEL_PORT] })]
  })
  const received = await application(t, b, b.v4)
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('hello')), 'done')
  t.equal(String(await received()), 'hello')
  await eventually('it is logged', () => accessLines(server.log).length === 1, { everyMs: 20 })
  t.match(accessLines(server.log)[0]?.fields, { 'dst.hbone_addr': `${b.v4}:${SERVER_PORT}` })
})

/** Reads all that one connection brings, answers `done`; each call gives the next connection's bytes. */
async function application(
  t: Teardown,
  { netnsFd, ...b }: TwoNodes['b'],
  address: Ip
): Promise<() => Promise<Buffer>> {
  const arrived: Promise<Buffer>[] = []
  const waiting: ((bytes: Promise<Buffer>) => void)[] = []
  await serve(
    t,
    { netnsFd, ...b },
    (socket: net.Socket) => {
      const bytes = whole(socket)
      void bytes.then(() => socket.end('done'))
      const next = waiting.shift()
      if (next === undefined) arrived.push(bytes)
      else next(bytes)
    },
    { address, port: TUNNEL_PORT }
  )
  return () => arrived.shift() ?? new Promise(resolve => waiting.push(resolve))
}

function whole(stream: Duplex): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.once('end', () => resolve(Buffer.concat(chunks)))
    stream.once('error', reject)
  })
}

/** Of the TCP connection under the tunnel, as four hexadecimal digits. */
async function clientPort(server: Proxy): Promise<string> {
  await eventually('it is logged', () => accessLines(server.log).length === 1, { everyMs: 20 })
  return hex16(Number(accessLines(server.log)[0]?.fields['src.addr']?.split(':').at(-1)))
}

function hex16(value: number): string {
  return value.toString(16).padStart(4, '0')
}

async function world(
  t: Teardown,
  wishes: LocalMeshWishes = tunnelled,
  env: Record<string, string> = {}
): Promise<TwoNodes & { client: Proxy; server: Proxy }> {
  const nodes = await twoNodes(t)
  const common = { kind: 'underpass', localConfig: localMesh(nodes, wishes), env } as const
  const [client, server] = await Promise.all([
    startProxy(t, nodes.a, { ...common, workload: CLIENT }),
    startProxy(t, nodes.b, { ...common, workload: SERVER })
  ])
  return { ...nodes, client, server }
}
