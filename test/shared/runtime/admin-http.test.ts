import t from 'tap'
import http from 'node:http'
import net from 'node:net'
import zlib from 'node:zlib'
import {
  acceptedEncoding,
  HttpProblem,
  jsonAnswer,
  loopback,
  serveAdmin,
  type Route
} from '../../../shared/runtime/admin-http.ts'

const routes: Route[] = [
  { method: 'GET', path: '/plain', handle: () => ({ body: 'hello\n' }) },
  { method: 'POST', path: '/echo', handle: async request => jsonAnswer(await request.json()) },
  { method: 'GET', path: '/big', handle: () => ({ body: 'x'.repeat(10_000), compress: true }) },
  { method: 'ANY', path: '/any', handle: request => ({ body: request.query.get('q') ?? 'none' }) },
  { method: 'GET', path: '/tree/*', handle: request => ({ body: request.path }) },
  {
    method: 'GET',
    path: '/fault',
    handle: () => {
      throw new Error('outer', { cause: new Error('inner') })
    }
  },
  {
    method: 'GET',
    path: '/refused',
    handle: () => {
      throw new HttpProblem(409, 'not now')
    }
  }
]

t.test('answers exact paths, refuses others and wrong methods', async t => {
  const ask = await started(t, routes)
  t.match(await ask('GET', '/plain'), {
    status: 200,
    body: 'hello\n',
    headers: { 'content-type': 'text/plain; charset=utf-8' }
  })
  t.match(await ask('GET', '/plain?x=1'), { status: 200 })
  t.match(await ask('GET', '//plain?x=//1'), { status: 200 }, 'as istioctl writes it')
  t.match(await ask('HEAD', '/plain'), { status: 200, body: '' })
  t.match(await ask('GET', '/nothing'), { status: 404, body: 'no such path: /nothing\n' })
  t.match(await ask('POST', '/plain'), { status: 405, headers: { allow: 'GET' } })
  t.match(await ask('PUT', '/any?q=v'), { status: 200, body: 'v' })
  t.match(await ask('GET', '/tree/a/b'), { status: 200, body: '/tree/a/b' })
  t.match(await ask('GET', '/refused'), { status: 409, body: 'not now\n' })
  t.match(await ask('GET', '/fault'), { status: 500, body: 'outer: inner\n' })
})

t.test('reads JSON bodies within the limit', async t => {
  const ask = await started(t, routes, 100)
  t.match(await ask('POST', '/echo', { body: '{"a":1}' }), { status: 200, body: '{\n  "a": 1\n}\n' })
  t.match(await ask('POST', '/echo', { body: '{' }), { status: 400, body: /^the body is not JSON/ })
  t.match(await ask('POST', '/echo', { body: `"${'x'.repeat(200)}"` }), { status: 413 })
})

t.test('compresses what asks for it, as the client accepts', async t => {
  const ask = await started(t, routes)
  for (const [encoding, decode] of [
    ['gzip', zlib.gunzipSync],
    ['br', zlib.brotliDecompressSync],
    ['zstd', zlib.zstdDecompressSync]
  ] as const) {
    const { headers, raw } = await ask('GET', '/big', { headers: { 'accept-encoding': encoding } })
    t.equal(headers['content-encoding'], encoding)
    t.equal(decode(raw).toString(), 'x'.repeat(10_000))
  }
  const plain = await ask('GET', '/big')
  t.equal(plain.headers['content-encoding'], undefined)
  t.equal(acceptedEncoding('gzip;q=0, br;q=0.5'), 'br')
  t.equal(acceptedEncoding('gzip;q=0'), undefined)
  t.equal(acceptedEncoding('identity, deflate'), undefined)
})

t.test('a stream ends with its client and with the server', async t => {
  let ended = 0
  const stream: Route = {
    method: 'POST',
    path: '/stream',
    handle: () => ({
      contentType: 'application/x-ndjson',
      run: async (sink, signal) => {
        sink.write('{"n":1}\n')
        await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
        ended += 1
      }
    })
  }
  const server = await serveAdmin({ routes: [stream], listen: loopback(0).slice(0, 1) })
  const lines = await new Promise<http.IncomingMessage>(resolve =>
    http.request({ port: server.port, host: '127.0.0.1', method: 'POST', path: '/stream' }, resolve).end()
  )
  const first = await new Promise<Buffer>(resolve => lines.once('data', resolve))
  t.equal(first.toString(), '{"n":1}\n')
  const over = new Promise(resolve => lines.once('close', resolve))
  lines.on('error', () => undefined) // cut short by the server
  await server.close()
  await over
  t.equal(ended, 1)
})

t.test('an address in use is named', async t => {
  const taken = net.createServer()
  await new Promise<void>(resolve => taken.listen(0, '127.0.0.1', resolve))
  t.teardown(() => taken.close())
  const { port } = taken.address() as net.AddressInfo
  await t.rejects(serveAdmin({ routes: [], listen: loopback(port).slice(0, 1) }), {
    message: `cannot listen on 127.0.0.1:${port}`
  })
})

t.test('a client that sends no head is cut off', async t => {
  const server = await serveAdmin({ routes, listen: loopback(0).slice(0, 1) })
  t.teardown(() => server.close(0))
  const socket = net.connect(server.port, '127.0.0.1')
  socket.write('GET /plain HTTP/1.1\r\nhost: x\r\n')
  const started = performance.now()
  socket.resume()
  await new Promise(resolve => socket.once('close', resolve))
  t.ok(performance.now() - started < 20_000)
})

interface Reply {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
  readonly raw: Buffer
}

async function started(
  test: { teardown(fn: () => unknown): unknown },
  served: readonly Route[],
  maxBodyBytes = 1 << 20
): Promise<
  (method: string, path: string, more?: { body?: string; headers?: Record<string, string> }) => Promise<Reply>
> {
  const server = await serveAdmin({ routes: served, listen: loopback(0).slice(0, 1), maxBodyBytes })
  test.teardown(() => server.close(0))
  return (method, path, more = {}) =>
    new Promise((resolve, reject) => {
      const request = http.request(
        {
          port: server.port,
          host: '127.0.0.1',
          method,
          path,
          agent: false,
          ...(more.headers && { headers: more.headers })
        },
        response => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('end', () => {
            const raw = Buffer.concat(chunks)
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: raw.toString(),
              raw
            })
          })
        }
      )
      request.on('error', reject)
      request.end(more.body)
    })
}

t.test('a client that ends its side at once gets an answer that takes a while', async t => {
  const late: Route = {
    method: 'GET',
    path: '/late',
    handle: async () => {
      await new Promise(resolve => setTimeout(resolve, 50))
      return { body: 'here it is\n' }
    }
  }
  const server = await serveAdmin({ routes: [late], listen: loopback(0).slice(0, 1) })
  t.teardown(() => server.close(0))
  const socket = net.connect(server.port, '127.0.0.1')
  socket.end('GET /late HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  let answer = ''
  for await (const chunk of socket.setEncoding('utf8')) answer += String(chunk)
  t.match(answer, /^HTTP\/1.1 200 OK[\s\S]*here it is/)
})
