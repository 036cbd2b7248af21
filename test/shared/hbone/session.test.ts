import t from 'tap'
import { MeshError } from '../../../shared/runtime/errors.ts'
import { echo, never, readAll, sessionPair } from './support.ts'

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
