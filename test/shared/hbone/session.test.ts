import t from 'tap'
import { serveTunnels, type TunnelRequest } from '../../../shared/hbone/server.ts'
import { ClientSession } from '../../../shared/hbone/session.ts'
import { acceptTls, connectTls } from '../../../shared/hbone/tls.ts'
import { tunnelDuplex } from '../../../shared/hbone/tunnel-duplex.ts'
import type { Tunnel } from '../../../shared/hbone/tunnel.ts'
import { MeshError } from '../../../shared/runtime/errors.ts'
import { eventually } from '../../support/eventually.ts'
import { client as clientCredentials, echo, never, readAll, server, sessionPair, tlsPair } from './support.ts'

t.test('a tunnel carries bytes both ways and its headers', async t => {
  const seen: unknown[] = []
  const { client } = await sessionPair(t, request => {
    seen.push(request.method, request.authority, request.header('baggage'), request.header('none'))
    echo(request.accept([['baggage', 'service.name=echo']]))
  })
  const headers = [
    ['baggage', 'a=b'],
    ['baggage', 'c=d']
  ] as const
  const { tunnel, headers: answer } = await client.openTunnel({ authority: '10.0.0.1:80', headers }, never)
  t.strictSame(seen, ['CONNECT', '10.0.0.1:80', ['a=b', 'c=d'], []])
  t.strictSame(answer, [
    [':status', '200'],
    ['baggage', 'service.name=echo']
  ])
  const read = readAll(tunnel)
  tunnel.write(Buffer.from('hello '))
  tunnel.write(Buffer.from('mesh'))
  tunnel.end()
  t.equal((await read).toString(), 'hello mesh')
})

t.test('megabytes arrive whole', async t => {
  const { client } = await sessionPair(t, request => echo(request.accept([])))
  const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
  const sent = Buffer.alloc(20 << 20, 'abcdefghijklmnop')
  const read = readAll(tunnel)
  tunnel.write(sent)
  tunnel.end()
  t.ok((await read).equals(sent))
})

t.test('a status other than 200 is an error that names it', async t => {
  const { client } = await sessionPair(t, request => request.refuse(401))
  const opening = client.openTunnel({ authority: 'a:1', headers: [] }, never)
  await t.rejects(opening, { code: 'HTTP_STATUS', message: 'http status: 401' })
  t.equal(client.streams, 0)
  t.ok(client.usable)
})

t.test('an unfinished opening ends with its signal, and the server hears of it', async t => {
  let aborted: AbortSignal | undefined
  const { client, server } = await sessionPair(t, request => {
    aborted = request.aborted
    controller.abort(new MeshError('DRAINED', 'enough'))
  })
  const controller = new AbortController()
  await t.rejects(client.openTunnel({ authority: 'a:1', headers: [] }, controller.signal), {
    message: 'enough'
  })
  await new Promise(resolve => aborted?.addEventListener('abort', resolve))
  t.equal(server.streams, 0)
})

t.test('a client that closes takes no new tunnels and ends with its last', async t => {
  const { client, server } = await sessionPair(t, request => echo(request.accept([])))
  const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
  client.close()
  t.notOk(client.usable)
  await t.rejects(client.openTunnel({ authority: 'a:1', headers: [] }, never), { code: 'HTTP2_FAILED' })
  const read = readAll(tunnel)
  tunnel.write(Buffer.from('still here'))
  tunnel.end()
  t.equal((await read).toString(), 'still here')
  await aborted(client.closed)
  await aborted(server.closed)
})

t.test('a server that drains refuses nothing that was on its way and ends with its last tunnel', async t => {
  const requests: TunnelRequest[] = []
  const { client, server } = await sessionPair(t, request => requests.push(request))
  const first = client.openTunnel({ authority: 'first:1', headers: [] }, never)
  await eventually('the first has arrived', () => requests.length === 1, { everyMs: 1 })
  server.drain()
  const onItsWay = client.openTunnel({ authority: 'second:1', headers: [] }, never)
  await eventually('the second has arrived', () => requests.length === 2, { everyMs: 1 })
  const tunnels = requests.map(request => request.accept([]))
  await Promise.all([first, onItsWay])
  t.notOk(client.usable)
  t.notOk(server.closed.aborted)
  for (const tunnel of tunnels) tunnel.destroy()
  await aborted(server.closed)
  await aborted(client.closed)
})

t.test('destroying a session cuts its tunnels, each end with its reason', async t => {
  let inbound: Tunnel | undefined
  const { client, server } = await sessionPair(t, request => {
    inbound = request.accept([])
  })
  const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
  const far = readAll(tunnel)
  const near = readAll(inbound as unknown as Tunnel)
  const reason = new MeshError('PEER_REVOKED', 'the certificate was revoked')
  server.destroy(reason)
  await t.rejects(near, reason)
  await t.rejects(far, { code: 'STREAM_FAILED', message: /closed the HBONE connection/ })
  t.equal(server.closed.reason, reason)
})

t.test('a lost connection fails what was opening and what is open', async t => {
  const [near, far] = await tlsPair(t)
  serveTunnels(far, {}, () => undefined)
  const client = new ClientSession(near)
  const opening = client.openTunnel({ authority: 'a:1', headers: [] }, never)
  await eventually('the server has spoken', () => far.bytesWritten > 0, { everyMs: 1 })
  await new Promise(resolve => setTimeout(resolve, 20))
  far.destroy()
  await t.rejects(opening, { code: /STREAM_FAILED|TLS_FAILED/ })
  await aborted(client.closed)
})

t.test(
  'after a certificate has expired no tunnel begins, the open ones live on, then the session ends',
  async t => {
    let now = 0
    const clock = { now: () => now }
    const options = { clock, expiresAt: 1000 }
    const { client, server } = await sessionPair(t, request => echo(request.accept([])), {
      client: options,
      server: options
    })
    const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
    now = 1000
    t.notOk(client.usable)
    await t.rejects(client.openTunnel({ authority: 'a:1', headers: [] }, never), { code: 'HTTP2_FAILED' })
    const read = readAll(tunnel)
    tunnel.write(Buffer.from('still here'))
    tunnel.end()
    t.equal((await read).toString(), 'still here')
    await aborted(server.closed)
    await aborted(client.closed)
  }
)

t.test(
  'a server whose own clock says expired refuses the stream, and the client may try elsewhere',
  async t => {
    const { client, server } = await sessionPair(t, request => request.accept([]), {
      server: { expiresAt: Date.now() - 1 }
    })
    const opening = client.openTunnel({ authority: 'a:1', headers: [] }, never)
    await t.rejects(opening, { code: 'HTTP2_FAILED', cause: { name: 'Unprocessed' } })
    await aborted(server.closed)
  }
)

t.test('TLS and HTTP/2 inside a tunnel: a tunnel in a tunnel', async t => {
  const { client } = await sessionPair(t, request => {
    const inner = tunnelDuplex(request.accept([]))
    void acceptTls(inner, server.certificate, never).then(({ socket }) =>
      serveTunnels(socket, {}, request => echo(request.accept([])))
    )
  })
  const { tunnel: outer } = await client.openTunnel({ authority: 'web.ns:80', headers: [] }, never)
  const inner = await connectTls(tunnelDuplex(outer), clientCredentials.certificate, [server.identity], never)
  t.equal(inner.peer, server.identity)
  const session = new ClientSession(inner.socket)
  const { tunnel } = await session.openTunnel({ authority: 'web.ns:80', headers: [] }, never)
  const read = readAll(tunnel)
  const sent = Buffer.alloc(3 << 20, 'inner')
  tunnel.write(sent)
  tunnel.end()
  t.ok((await read).equals(sent))
  session.close()
  await aborted(client.closed.aborted ? client.closed : session.closed)
})

t.test('a thousand idle tunnels cost little', async t => {
  const { client } = await sessionPair(t, request => void request.accept([]), {
    server: { maxStreams: 1100 },
    client: { maxStreams: 1100 }
  })
  const open = (): ReturnType<ClientSession['openTunnel']> =>
    client.openTunnel({ authority: '10.0.0.1:80', headers: [] }, never)
  const kept = [await open()]
  const before = process.memoryUsage().heapUsed
  for (let index = 0; index < 1000; index++) kept.push(await open())
  const each = (process.memoryUsage().heapUsed - before) / 1000
  t.comment(`${Math.round(each)} bytes of heap for both ends of a tunnel, garbage included`)
  t.ok(each < 16_384)
  t.equal(kept.length, 1001)
})

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
