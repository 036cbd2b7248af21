/** SOCKS5 in front of the outbound path: no capture rules between the client and the mesh. */
import t from 'tap'
import { ip, ipToBytes } from '../../shared/net/address.ts'
import { accessLines } from '../support/access-lines.ts'
import {
  CLIENT,
  CLIENT_IDENTITY,
  localMesh,
  SERVER,
  SERVER_HOST,
  SERVER_PORT,
  VIP
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
  type TwoNodes
} from '../support/two-nodes.ts'

t.setTimeout(120_000)
const skip = needsRoot()

const greeting = [5, 1, 0]
const toV4 = (address: string, port: number): number[] => [
  5,
  1,
  0,
  1,
  ...ipToBytes(ip(address)),
  port >> 8,
  port & 255
]
const toV6 = (address: string, port: number): number[] => [
  5,
  1,
  0,
  4,
  ...ipToBytes(ip(address)),
  port >> 8,
  port & 255
]
const toName = (name: string, port: number): number[] => [
  5,
  1,
  0,
  3,
  name.length,
  ...Buffer.from(name),
  port >> 8,
  port & 255
]
const succeeded = [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]

t.test('what is asked of SOCKS5 goes through the mesh, and is answered', { skip }, async t => {
  const { a, b, client, server } = await world(t)
  await serve(t, b, socket => socket.pipe(socket), { port: SERVER_PORT })
  const asks = {
    'a service address': toV4(VIP, 80),
    'a pod address': toV4(b.v4, SERVER_PORT),
    'a pod address of IPv6': toV6(b.v6, SERVER_PORT),
    'the name of a service': toName(SERVER_HOST, 80)
  }
  for (const [name, request] of Object.entries(asks)) {
    const answer = await exchange(
      await connect(a, socks),
      Buffer.from([...greeting, ...request, ...Buffer.from('hello')])
    )
    t.strictSame([...answer], [...succeeded, ...Buffer.from('hello')], name)
  }
  const slow = await connect(a, socks)
  slow.setNoDelay()
  const bytes = [...greeting, ...toV4(VIP, 80), ...Buffer.from('slowly')]
  for (const byte of bytes) {
    slow.write(Buffer.from([byte]))
    await new Promise(resolve => setImmediate(resolve))
  }
  t.equal((await attempt(slow, Buffer.from('!'))).slice(succeeded.length), 'slowly!', 'byte by byte')
  await server.logged(/connection complete/)
  t.match(accessLines(client.log)[0], {
    level: 'info',
    fields: { 'src.identity': CLIENT_IDENTITY, 'dst.service': SERVER_HOST, bytes_sent: '5', bytes_recv: '5' }
  })
})

const refusals: readonly {
  readonly name: string
  readonly sent: readonly number[]
  readonly answer: readonly number[]
}[] = [
  { name: 'a version that is not 5', sent: [4, 1, 0, 80], answer: [] },
  { name: 'a client that insists on a password', sent: [5, 1, 2], answer: [5, 0xff] },
  {
    name: 'BIND',
    sent: [...greeting, 5, 2, ...toV4(VIP, 80).slice(2)],
    answer: [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]
  },
  {
    name: 'an address type that does not exist',
    sent: [...greeting, 5, 1, 0, 9, 1, 2],
    answer: [5, 0, 5, 8, 0, 1, 0, 0, 0, 0, 0, 0]
  },
  {
    name: 'a name that leads nowhere',
    sent: [...greeting, ...toName('nowhere.invalid', 80)],
    answer: [5, 0, 5, 4, 0, 1, 0, 0, 0, 0, 0, 0]
  },
  { name: 'half a request', sent: [...greeting, 5, 1, 0], answer: [5, 0] }
]

t.test('what SOCKS5 cannot do is refused with its code, and reaches nobody', { skip }, async t => {
  const { a, b, client } = await world(t)
  await serve(t, b, () => t.fail('the application was reached'), { port: SERVER_PORT })
  for (const { name, sent, answer } of refusals) {
    const said = await exchange(await connect(a, socks), Buffer.from(sent))
    t.strictSame([...said], answer, name)
  }
  const own = await attempt(await connect(a, socks), Buffer.from([...greeting, ...toV4('127.0.0.1', 15_080)]))
  t.equal(own.length, succeeded.length, 'it does not go round in circles')
  await client.logged(/attempted recursive call to ourselves/)
})

t.test('nobody listens unless asked, and then on loopback only', { skip }, async t => {
  const without = await world(t, {})
  await t.rejects(connect(without.a, socks), { code: 'ECONNREFUSED' })
  const { a, b } = await world(t)
  await t.rejects(connect(b, at(a.v4, 15_080), { captured: false }), { code: 'ECONNREFUSED' })
})

const socks = at(ip('127.0.0.1'), 15_080)

async function world(
  t: { teardown(fn: () => unknown): unknown },
  env: Record<string, string> = { UNSTABLE_ENABLE_SOCKS5: 'true' }
): Promise<TwoNodes & { client: Proxy; server: Proxy }> {
  const nodes = await twoNodes(t, { capture: 'none' })
  const common = { kind: 'underpass', localConfig: localMesh(nodes) } as const
  const [client, server] = await Promise.all([
    startProxy(t, nodes.a, { ...common, workload: CLIENT, env }),
    startProxy(t, nodes.b, { ...common, workload: SERVER })
  ])
  return { ...nodes, client, server }
}
