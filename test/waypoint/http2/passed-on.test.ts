/** Both halves back to back, as a proxy has them, between real peers and between the versions of HTTP. */
import t, { type Test } from 'tap'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { promisify } from 'node:util'
import { WebSocket, WebSocketServer } from 'ws'
import { clientPreface, headersFrames, settingsFrame } from '../../../shared/hbone/frames.ts'
import { encodeHeaders } from '../../../shared/hbone/hpack.ts'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import type { ClientConnection } from '../../../waypoint/http/exchange.ts'
import { Http1ClientConnection } from '../../../waypoint/http1/client-connection.ts'
import { Http1ServerConnection } from '../../../waypoint/http1/server-connection.ts'
import { eventually } from '../../support/eventually.ts'
import { connected, listen, passOn, portOf } from './support.ts'

const run = promisify(execFile)

/** HTTP/1.1 connections to a port, a new one for each request. */
function http1To(t: Test, port: number): () => ClientConnection {
  return () => {
    const socket = net.connect(port, '127.0.0.1')
    const connection = new Http1ClientConnection(streamOf(socket), {
      idle: () => connection.drain(),
      closed: () => undefined
    })
    t.teardown(() => connection.destroy())
    return connection
  }
}

/** A proxy that takes HTTP/1.1. */
async function listenHttp1(t: Test, upstream: () => ClientConnection): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    void new Http1ServerConnection(streamOf(socket), passOn(upstream))
  })
  return portOf(t, server)
}

async function proxyTo(t: Test, port: number): Promise<number> {
  const { connection } = await connected(t, port)
  return (
    await listen(
      t,
      passOn(() => connection)
    )
  ).port
}

async function http2Echo(t: Test): Promise<number> {
  const server = http2.createServer()
  server.on('stream', (stream, head) => {
    stream.on('error', () => undefined)
    stream.respond({ ':status': 200, 'x-host': head[':authority'], 'x-method': head[':method'] })
    stream.pipe(stream)
  })
  return portOf(t, server)
}

async function http1Echo(t: Test, seen: string[] = []): Promise<number> {
  const server = http.createServer((request, response) => {
    seen.push(`${request.method} ${request.url} ${JSON.stringify(request.rawHeaders)}`)
    response.writeHead(200, { 'x-host': request.headers.host })
    request.pipe(response)
  })
  return portOf(t, server)
}

/** Sends bytes and gets them back; their number and digest on either side. */
async function thereAndBack(port: number, bytes: number): Promise<void> {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  const stream = session.request({ ':method': 'POST' })
  const piece = Buffer.alloc(65_536, 'some bytes that repeat, ')
  const [sent, got] = [createHash('sha1'), createHash('sha1')]
  let left = bytes
  const more = (): void => {
    while (left > 0) {
      const next = piece.subarray(0, Math.min(left, piece.length))
      left -= next.length
      sent.update(next)
      if (!stream.write(next)) return void stream.once('drain', more)
    }
    stream.end()
  }
  more()
  let back = 0
  stream.on('data', (chunk: Buffer) => {
    back += chunk.length
    got.update(chunk)
  })
  await once(stream, 'end')
  session.destroy()
  if (back !== bytes || sent.digest('hex') !== got.digest('hex'))
    throw new Error(`${back} other bytes of ${bytes} came back`)
}

t.test('fifty megabytes go there and back over HTTP/2', async t => {
  await t.resolves(thereAndBack(await proxyTo(t, await http2Echo(t)), 50 << 20))
})

t.test('ten megabytes go there and back from HTTP/2 to HTTP/1.1', async t => {
  const { port } = await listen(t, passOn(http1To(t, await http1Echo(t))))
  await t.resolves(thereAndBack(port, 10 << 20))
})

t.test('ten megabytes go there and back from HTTP/1.1 to HTTP/2', async t => {
  const { connection } = await connected(t, await http2Echo(t))
  const port = await listenHttp1(t, () => connection)
  const sent = run('curl', ['-sS', '-T', '-', `http://127.0.0.1:${port}/`], {
    maxBuffer: 1 << 25,
    encoding: 'buffer'
  })
  const bytes = Buffer.alloc(10 << 20, 'abc')
  sent.child.stdin?.end(bytes)
  t.ok((await sent).stdout.equals(bytes))
})

t.test('one client after the other asks through both halves', async t => {
  const port = await proxyTo(t, await http2Echo(t))
  const curl = [
    '-sS',
    '--http2-prior-knowledge',
    '-d',
    'hello',
    '-H',
    'host: shop',
    `http://127.0.0.1:${port}/`
  ]
  const answer = (await run('curl', [...curl, '-i'])).stdout.replaceAll('\r', '')
  t.match(answer, /^HTTP\/2 200 \nx-host: shop\nx-method: POST\n.*\n\nhello$/, 'curl')
  const { stdout } = await run('h2load', ['-n', '2000', '-c', '4', '-m', '20', `http://127.0.0.1:${port}/`])
  t.match(stdout, /2000 succeeded, 0 failed, 0 errored/, 'h2load')
})

t.test('trailers and lengths keep their meaning between the versions', async t => {
  const seen: string[] = []
  const server = http.createServer((request, response) => {
    seen.push(request.headers['content-length'] ?? request.headers['transfer-encoding'] ?? 'none')
    response.writeHead(200, { trailer: 'x-sum' })
    request.resume()
    request.on('end', () => {
      response.write('body')
      response.addTrailers({ 'x-sum': request.trailers['x-sum'] ?? 'none' })
      response.end()
    })
  })
  const { port } = await listen(t, passOn(http1To(t, await portOf(t, server))))
  const session = http2.connect(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const ask = async (head: http2.OutgoingHttpHeaders, body?: string): Promise<unknown> => {
    const stream = session.request(head, { endStream: body === undefined, waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '4' }))
    const trailers = once(stream, 'trailers')
    stream.resume()
    if (body !== undefined) stream.end(body)
    return ((await trailers) as [http2.IncomingHttpHeaders])[0]['x-sum']
  }
  t.equal(await ask({ ':method': 'POST' }, 'body'), '4')
  t.equal(
    await ask({ ':method': 'POST', 'content-length': 4 }, 'body'),
    'none',
    'HTTP/1.1 has no place for them then'
  )
  t.equal(await ask({ ':method': 'GET' }), 'none')
  t.strictSame(seen, ['chunked', '4', 'none'])
})

t.test('no line break of a client reaches a server that speaks HTTP/1.1', async t => {
  const seen: string[] = []
  const { port } = await listen(t, passOn(http1To(t, await http1Echo(t, seen))))
  const base = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'shop']
  ] as const
  const smuggled = '\r\nx-smuggled: 1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop\r\n\r\n'
  const heads = [
    ...base.map(([name, value]) =>
      base.map(field => (field[0] === name ? ([name, value + smuggled] as const) : field))
    ),
    [...base, ['x-a', smuggled] as const],
    [...base, [`x-a${smuggled}`, 'b'] as const],
    [...base, ['x-a', 'b\nx-smuggled: 1'] as const],
    [...base, ['cookie', `a=b${smuggled}`] as const],
    [...base, ['content-length', `0${smuggled}`] as const],
    [...base, ['transfer-encoding', 'chunked'] as const]
  ]
  const socket = net.connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.write(Buffer.concat([clientPreface, settingsFrame([])]))
  for (const [at, head] of heads.entries())
    socket.write(headersFrames(2 * at + 1, encodeHeaders(head), true, 16_384))
  socket.write(headersFrames(99, encodeHeaders([...base, ['x-last', '1']]), true, 16_384))
  await eventually('the clean one arrives', () => seen.length > 0, { everyMs: 10 })
  t.equal(seen.length, 1)
  t.match(seen[0], /x-last/)
  t.notMatch(seen[0], /smuggled/)
})

t.test('WebSocket crosses from either version to either', async t => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  t.teardown(() => {
    for (const client of server.clients) client.terminate()
    server.close()
  })
  server.on('connection', socket =>
    socket.on('message', (message: Buffer) => socket.send(`you said ${message.toString()}`))
  )
  const last = (server.address() as net.AddressInfo).port
  // HTTP/1.1 to HTTP/2, over that to HTTP/2 again, and back to HTTP/1.1 at the server.
  const outward = await listen(t, passOn(http1To(t, last)))
  const middle = await connected(t, outward.port)
  const inward = await connected(
    t,
    (
      await listen(
        t,
        passOn(() => middle.connection)
      )
    ).port
  )
  const port = await listenHttp1(t, () => inward.connection)
  const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`)
  await once(socket, 'open')
  socket.send('hello')
  const [answer] = (await once(socket, 'message')) as [Buffer]
  t.equal(answer.toString(), 'you said hello')
  const closed = once(socket, 'close')
  socket.close(1000, 'enough')
  t.equal(((await closed) as [number])[0], 1000)
  await eventually('nothing is left open', () => middle.connection.active + inward.connection.active === 0, {
    everyMs: 10
  })
})

t.test('a client that goes away is told to the server', async t => {
  const codes: number[] = []
  const server = http2.createServer()
  server.on('stream', stream => {
    stream.on('error', () => undefined)
    stream.on('close', () => codes.push(stream.rstCode ?? -1))
    stream.respond({ ':status': 200 })
    stream.write('some')
  })
  const port = await proxyTo(t, await portOf(t, server))
  const session = http2.connect(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':method': 'POST' })
  await once(stream, 'response')
  stream.close(http2.constants.NGHTTP2_CANCEL)
  await eventually('the server hears of it', () => codes.length === 1, { everyMs: 10 })
  t.strictSame(codes, [http2.constants.NGHTTP2_CANCEL])
})
