/** Requests on a connection, one after the other, from Node's own client, from curl, and from raw sockets. */
import t, { type Test } from 'tap'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { promisify } from 'node:util'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import type { Exchange } from '../../../waypoint/http/exchange.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { Http1ServerConnection, type Http1ServerOptions } from '../../../waypoint/http1/server-connection.ts'
import { eventually } from '../../support/eventually.ts'

interface World {
  readonly port: number
  readonly connections: readonly Http1ServerConnection[]
  readonly sockets: readonly net.Socket[]
}

async function listen(
  t: Test,
  serve: (exchange: Exchange) => void,
  options: Http1ServerOptions = {}
): Promise<World> {
  const connections: Http1ServerConnection[] = []
  const sockets: net.Socket[] = []
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    sockets.push(socket)
    connections.push(new Http1ServerConnection(streamOf(socket), serve, options))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as net.AddressInfo).port, connections, sockets }
}

/** The body comes back as it came, in the framing that it had, with its trailers. */
function echo(exchange: Exchange): void {
  const { head, body } = exchange
  const framing = head.framing.kind === 'until close' ? { kind: 'none' as const } : head.framing
  const headers = HeaderList.of('x-target', head.target)
  body.pipe(exchange.respond({ status: 200, headers, framing }, () => body.resume()))
}

/** Answers with the body once it has come. */
function collect(exchange: Exchange): void {
  let text = ''
  exchange.body.pipe({
    data: bytes => (text += bytes.toString()) !== '',
    end: () => say(exchange, text),
    fail: () => undefined
  })
}

function say(exchange: Exchange, text: string): void {
  const headers = HeaderList.of('x-target', exchange.head.target)
  const framing = { kind: 'length', bytes: Buffer.byteLength(text) } as const
  const writer = exchange.respond({ status: 200, headers, framing })
  writer.data(Buffer.from(text))
  writer.end()
}

/** Sends bytes, closes its half if asked to, and resolves with all that comes until the connection ends. */
async function raw(port: number, text: string, { end = false } = {}): Promise<string> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.setEncoding('latin1').on('error', () => undefined) // what came before counts
  if (end) socket.end(text, 'latin1')
  else socket.write(text, 'latin1')
  let got = ''
  socket.on('data', (more: string) => (got += more))
  socket.on('end', () => socket.end())
  socket.setTimeout(10_000, () => socket.destroy(new Error('nothing came for ten seconds')))
  await once(socket, 'close')
  return got
}

t.test('a crowd of bodies by Node’s client comes back whole, on connections that stay', async t => {
  const world = await listen(t, echo)
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
  t.teardown(() => agent.destroy())
  const sizes = [0, 1, 1000, 65_536, 1_000_000]
  await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      const sent = randomBytes(sizes[index % sizes.length] ?? 0)
      const length = index % 2 === 0 ? { 'content-length': sent.length } : {}
      const request = http.request({
        port: world.port,
        agent,
        method: 'POST',
        path: `/${index}`,
        headers: length
      })
      const answered = once(request, 'response') as Promise<[http.IncomingMessage]>
      request.end(sent)
      const [response] = await answered
      const parts: Buffer[] = []
      for await (const part of response) parts.push(part as Buffer)
      t.ok(Buffer.concat(parts).equals(sent), `${index}`)
      t.equal(response.headers['x-target'], `/${index}`)
    })
  )
  t.ok(world.sockets.length <= 4, `${world.sockets.length} connections`)
})

t.test('curl sends and gets 50 MB, waiting for leave', async t => {
  const { port } = await listen(t, echo)
  const bytes = Buffer.alloc(50 << 20, randomBytes(1 << 20))
  const child = promisify(execFile)(
    'curl',
    ['-s', '-T', '-', '-H', 'Expect: 100-continue', `http://127.0.0.1:${port}/x`],
    {
      encoding: 'buffer',
      maxBuffer: 100 << 20
    }
  )
  child.child.stdin?.end(bytes)
  const { stdout } = await child
  const sum = (data: Buffer): string => createHash('sha256').update(data).digest('hex')
  t.equal(sum(stdout), sum(bytes))
})

t.test('pipelined requests are answered in their order', async t => {
  const { port } = await listen(t, exchange => void setTimeout(() => say(exchange, exchange.head.target), 5))
  const requests = Array.from({ length: 20 }, (_, at) => `GET /${at} HTTP/1.1\r\nHost: x\r\n\r\n`).join('')
  const got = await raw(port, `${requests}GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  t.strictSame(
    [...got.matchAll(/x-target: (\S+)/g)].map(([, target]) => target),
    [...Array.from({ length: 20 }, (_, at) => `/${at}`), '/last']
  )
  t.match(got, /connection: close\r\n/, 'the last answer says that it is')
})

const framings: readonly {
  readonly name: string
  readonly request: string
  readonly status?: number
  readonly expect: RegExp
}[] = [
  {
    name: 'HEAD: the length, no body',
    request: 'HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    expect: /content-length: 2\r\n(?:[^\r]+\r\n)*\r\n$/
  },
  {
    name: '204: neither',
    request: 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    status: 204,
    expect: /^HTTP\/1\.1 204 (?!.*content-length)[^]*\r\n\r\n$/s
  },
  {
    name: 'unknown length, HTTP/1.1: chunks',
    request: 'GET /chunks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    expect: /transfer-encoding: chunked\r\n[^]*\r\n\r\n2\r\nhi\r\n0\r\n\r\n$/
  },
  {
    name: 'unknown length, HTTP/1.0: until the end',
    request: 'GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
    expect: /connection: close\r\n\r\nhi$/
  },
  {
    name: 'HTTP/1.0 that stays is told so',
    request: 'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n',
    expect: /connection: keep-alive\r\n\r\nhiHTTP\/1\.1 200 OK\r\n[^]*connection: close\r\n\r\nhi$/
  }
]

for (const { name, request, status = 200, expect } of framings) {
  t.test(`framing of an answer: ${name}`, async t => {
    const { port } = await listen(t, exchange => {
      const bytes = Buffer.from('hi')
      const framing =
        exchange.head.target === '/chunks'
          ? { kind: 'chunked' as const }
          : { kind: 'length' as const, bytes: bytes.length }
      const writer = exchange.respond({
        status,
        headers: HeaderList.of(),
        framing: status === 204 ? { kind: 'none' } : framing
      })
      if (status !== 204) writer.data(bytes)
      writer.end()
    })
    t.match(await raw(port, request), expect)
  })
}

t.test('a client that closes its half gets its answer', async t => {
  const { port } = await listen(t, exchange => void setTimeout(() => say(exchange, 'late'), 20))
  t.match(await raw(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', { end: true }), /\r\n\r\nlate$/)
})

t.test('a client that is answered before it has sent all gets the answer, not a reset', async t => {
  const { port } = await listen(t, exchange => say(exchange, 'too large'))
  const length = 400_000
  const text = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n${'x'.repeat(length - 1)}`
  t.match(await raw(port, text), /connection: close\r\n[^]*|too large$/)
  t.match(await raw(port, text), /too large$/)
})

t.test('leave to send is given when the body is wanted, and not where the answer comes first', async t => {
  const { port } = await listen(t, exchange =>
    exchange.head.target === '/want' ? collect(exchange) : say(exchange, 'no')
  )
  const ask = (target: string, body: string): Promise<string> =>
    raw(
      port,
      `POST ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n${body}`,
      { end: true }
    )
  t.match(await ask('/want', 'hi'), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n[^]*hi$/)
  t.match(await ask('/not', ''), /^HTTP\/1\.1 200 OK\r\n[^]*no$/)
})

t.test('trailers come through in both directions', async t => {
  const { port } = await listen(t, echo)
  const text = 'POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n'
  t.match(await raw(port, `${text}1\r\na\r\n0\r\nGrpc-Status: 0\r\n\r\n`), /0\r\ngrpc-status: 0\r\n\r\n$/)
})

t.test('what is refused is answered for, and nothing behind it is read', async t => {
  const served: string[] = []
  const refused: string[] = []
  const options = { onRefused: ({ reason }: { reason: string }) => refused.push(reason) }
  const { port } = await listen(
    t,
    exchange => {
      served.push(exchange.head.target)
      exchange.body.pipe({ data: () => true, end: () => undefined, fail: () => undefined })
    },
    options
  )
  const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
  t.match(
    await raw(
      port,
      `POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`
    ),
    /^HTTP\/1\.1 400 Bad Request\r\n[^]*connection: close\r\n\r\nboth content-length and transfer-encoding\n$/
  )
  t.match(
    await raw(
      port,
      `POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n${smuggled}`
    ),
    /^HTTP\/1\.1 400 /
  )
  t.strictSame(served, ['/b'])
  t.equal(refused.length, 2)
})

t.test('a client that goes away in the middle is noticed on both sides of the exchange', async t => {
  const told: string[] = []
  const { port } = await listen(t, exchange => {
    exchange.onGone(() => told.push('gone'))
    exchange.body.pipe({
      data: () => true,
      end: () => told.push('end'),
      fail: error => told.push(error.message)
    })
  })
  const socket = net.connect(port, '127.0.0.1')
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc')
  await once(socket, 'connect')
  socket.end()
  await eventually('it is told', () => told.length > 0, { everyMs: 10 })
  t.match(told[0], /in the middle of a body/)
  socket.destroy()
})

t.test('a body that nobody takes stays with its sender', async t => {
  let exchange: Exchange | undefined
  const { port, sockets } = await listen(t, one => (exchange = one))
  const socket = net.connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  t.teardown(() => socket.destroy())
  socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${64 << 20}\r\n\r\n`)
  const block = Buffer.alloc(1 << 20)
  for (let sent = 0; sent < 64; sent++) socket.write(block)
  await eventually('the request has come', () => exchange !== undefined, { everyMs: 10 })
  const read = (): number => sockets[0]?.bytesRead ?? 0
  let before = -1
  await eventually(
    'nothing more is read',
    () => {
      const same = read() === before
      before = read()
      return same
    },
    { everyMs: 200 }
  )
  t.ok(read() < 1 << 20, `${read()} bytes were read`)
  let got = 0
  exchange?.body.pipe({
    data: bytes => (got += bytes.length) > 0,
    end: () => undefined,
    fail: () => undefined
  })
  await eventually('then all of it comes', () => got === 64 << 20, { everyMs: 20 })
  t.pass('the rest was read once it was taken')
})

t.test('a head that comes too slowly ends the connection, however often a byte comes', async t => {
  const { port } = await listen(t, echo, { headTimeoutMs: 100 })
  const socket = net.connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  const dripping = setInterval(() => socket.write('x'), 20)
  t.teardown(() => clearInterval(dripping))
  socket.write('GET /')
  await new Promise(resolve => socket.on('close', resolve))
  t.pass('it is closed')
})

t.test('a connection that drains ends with the answer under way', async t => {
  let finish: () => void = () => undefined
  const world = await listen(t, exchange => (finish = () => say(exchange, 'done')))
  const answer = raw(world.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n')
  const idle = raw(world.port, '')
  await eventually('both are there', () => world.connections.length === 2, { everyMs: 10 })
  await eventually(
    'the request has come',
    () => (world.sockets[0]?.bytesRead ?? 0) + (world.sockets[1]?.bytesRead ?? 0) > 0,
    { everyMs: 10 }
  )
  for (const connection of world.connections) connection.drain()
  t.equal(await idle, '')
  finish()
  t.match(await answer, /^HTTP\/1\.1 200 OK\r\n[^]*connection: close\r\n\r\ndone$/)
})
