/** Our two roles against HTTP/2 as others wrote it: node:http2 (nghttp2) in both roles, the nghttp and h2load clients. */
import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { serveTunnels, type ServerSession, type TunnelRequest } from '../../../shared/hbone/server.ts'
import { ClientSession } from '../../../shared/hbone/session.ts'
import { acceptTls, connectTls } from '../../../shared/hbone/tls.ts'
import { authority, client, echo, never, readAll, server, type Test } from './support.ts'

const run = promisify(execFile)

interface Listening {
  readonly port: number
  readonly sessions: ServerSession[]
}

/** Our server on a port of its own. */
async function listen(t: Test, onRequest: (request: TunnelRequest) => void): Promise<Listening> {
  const sessions: ServerSession[] = []
  const listener = net.createServer({ pauseOnConnect: true }, socket => {
    acceptTls(socket, server.certificate, never).then(
      accepted => sessions.push(serveTunnels(accepted.socket, {}, onRequest)),
      () => undefined // the client sees why
    )
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.teardown(() => {
    listener.close()
    for (const session of sessions) session.destroy(new Error('the test is over'))
  })
  return { port: (listener.address() as net.AddressInfo).port, sessions }
}

const trust = {
  ca: [authority.pem],
  cert: client.certPem,
  key: client.keyPem,
  checkServerIdentity: () => undefined
}

async function nodeClient(
  t: Test,
  port: number,
  options: http2.ClientSessionOptions = {}
): Promise<http2.ClientHttp2Session> {
  const session = http2.connect(`https://127.0.0.1:${port}`, { ...trust, ...options })
  t.teardown(() => session.destroy())
  session.on('error', () => undefined)
  await once(session, 'connect')
  return session
}

function collect(stream: http2.Http2Stream): Promise<Buffer> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  return once(stream, 'end').then(() => Buffer.concat(chunks))
}

// ---- node:http2 as the client

t.test('node:http2 opens a tunnel: headers, bytes both ways, half close', async t => {
  const { port } = await listen(t, request => {
    t.equal(request.method, 'CONNECT')
    t.strictSame(request.header('baggage'), ['k8s.namespace.name=default'])
    echo(request.accept([['baggage', `authority=${request.authority}`]]))
  })
  const session = await nodeClient(t, port)
  const stream = session.request({
    ':method': 'CONNECT',
    ':authority': '10.0.0.1:80',
    baggage: 'k8s.namespace.name=default'
  })
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
  t.match(headers, { ':status': 200, baggage: 'authority=10.0.0.1:80' })
  const received = collect(stream)
  const sent = Buffer.alloc(10 << 20, 'abcdefgh')
  stream.end(sent)
  t.ok((await received).equals(sent))
})

t.test('node:http2 uses the dynamic table and Huffman until it has read that we want neither', async t => {
  const seen: (readonly string[])[] = []
  const { port } = await listen(t, request => {
    seen.push(request.header('x-repeated'))
    request.refuse(401)
  })
  const session = http2.connect(`https://127.0.0.1:${port}`, trust)
  t.teardown(() => session.destroy())
  const ask = async (value: string): Promise<void> => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': 'a:1', 'x-repeated': value })
    stream.on('error', () => undefined)
    await once(stream, 'response')
  }
  // Asked before the SETTINGS of either side are known, then again after they are.
  await Promise.all([ask('one'), ask('one'), ask('one')])
  await new Promise<void>((resolve, reject) => {
    session.ping(error => (error === null ? resolve() : reject(error)))
  })
  await Promise.all([ask('one'), ask('two')])
  t.strictSame(seen, [['one'], ['one'], ['one'], ['one'], ['two']])
})

t.test('node:http2 is refused with a status, resets, and is reset', async t => {
  const aborts: AbortSignal[] = []
  const { port, sessions } = await listen(t, request => {
    if (request.authority === 'refused:1') request.refuse(503)
    else if (request.authority === 'reset:1') request.accept([]).destroy(new Error('cut'))
    else aborts.push(request.aborted)
  })
  const session = await nodeClient(t, port)
  const connect = (to: string): http2.ClientHttp2Stream =>
    session.request({ ':method': 'CONNECT', ':authority': to })
  const refused = connect('refused:1')
  refused.on('error', () => undefined)
  t.match(await once(refused, 'response'), [{ ':status': 503 }])
  const reset = connect('reset:1')
  t.match(await once(reset, 'error'), [{ message: /NGHTTP2_CONNECT_ERROR/ }])
  const given = connect('given-up:1')
  given.on('error', () => undefined)
  while (aborts.length === 0) await new Promise(resolve => setImmediate(resolve))
  given.close(http2.constants.NGHTTP2_CANCEL)
  await once(aborts[0] as AbortSignal, 'abort')
  while ((sessions[0]?.streams ?? 1) > 0) await new Promise(resolve => setImmediate(resolve))
})

t.test('node:http2 hears a graceful GOAWAY and its tunnel lives on', async t => {
  const { port, sessions } = await listen(t, request => echo(request.accept([])))
  const session = await nodeClient(t, port)
  const stream = session.request({ ':method': 'CONNECT', ':authority': 'a:1' })
  await once(stream, 'response')
  const goaway = once(session, 'goaway')
  sessions[0]?.drain()
  t.match(await goaway, [0, 2 ** 31 - 1])
  stream.write('still here')
  t.equal(String((await once(stream, 'data'))[0]), 'still here')
  const closed = once(session, 'close')
  stream.end()
  stream.resume()
  await closed
})

// ---- node:http2 as the server

/** A server of Node's own, reached over a raw connection. */
async function nodeServer(
  t: Test,
  onConnect: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  settings: http2.Settings = {}
): Promise<ClientSession> {
  const listener = http2.createSecureServer({
    cert: server.certPem,
    key: server.keyPem,
    ca: [authority.pem],
    requestCert: true,
    settings
  })
  listener.on('stream', onConnect)
  listener.on('sessionError', () => undefined)
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as net.AddressInfo
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const secure = await connectTls(socket, client.certificate, [server.identity], never)
  const session = new ClientSession(secure.socket)
  t.teardown(() => {
    session.destroy(new Error('the test is over'))
    listener.close()
  })
  return session
}

t.test('a tunnel to node:http2: headers, bytes both ways, half close', async t => {
  const session = await nodeServer(t, (stream, headers) => {
    t.match(headers, { ':method': 'CONNECT', ':authority': '10.0.0.1:80', forwarded: 'for="10.0.0.9:1234"' })
    t.notOk(headers[':scheme'] ?? headers[':path'])
    stream.respond({ ':status': 200, baggage: 'service.name=node' })
    stream.pipe(stream)
  })
  const head = { authority: '10.0.0.1:80', headers: [['forwarded', 'for="10.0.0.9:1234"']] as const }
  const { tunnel, headers } = await session.openTunnel(head, never)
  t.ok(headers.some(([name, value]) => name === 'baggage' && value === 'service.name=node'))
  const sent = Buffer.alloc(10 << 20, 'abcdefgh')
  const received = readAll(tunnel)
  tunnel.write(sent)
  tunnel.end()
  t.ok((await received).equals(sent))
})

t.test('a tunnel to a node:http2 with small windows and frames', async t => {
  const settings = { initialWindowSize: 1000, maxFrameSize: 16_384, maxConcurrentStreams: 2 }
  const session = await nodeServer(
    t,
    stream => {
      stream.respond({ ':status': 200 })
      stream.pipe(stream)
    },
    settings
  )
  const { tunnel } = await session.openTunnel({ authority: 'a:1', headers: [] }, never)
  t.equal(session.maxStreams, 2, 'its limit of streams is known')
  const received = readAll(tunnel)
  tunnel.write(Buffer.alloc(300_000, 'x'))
  tunnel.end()
  t.equal((await received).length, 300_000)
})

t.test('node:http2 answers 403, closes with an error code, goes away', async t => {
  const session = await nodeServer(t, (stream, headers) => {
    stream.on('error', () => undefined)
    if (headers[':authority'] === 'forbidden:1') stream.respond({ ':status': 403 }, { endStream: true })
    else if (headers[':authority'] === 'broken:1') stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR)
    else {
      stream.respond({ ':status': 200 })
      stream.session?.goaway()
    }
  })
  const open = (authority: string): ReturnType<ClientSession['openTunnel']> =>
    session.openTunnel({ authority, headers: [] }, never)
  await t.rejects(open('forbidden:1'), { code: 'HTTP_STATUS', message: 'http status: 403' })
  await t.rejects(open('broken:1'), { code: 'STREAM_FAILED', message: /INTERNAL_ERROR/ })
  const { tunnel } = await open('leaving:1')
  while (session.usable) await new Promise(resolve => setImmediate(resolve))
  t.notOk(tunnel.over, 'GOAWAY ends no stream that it covers')
  await t.rejects(open('late:1'), { code: 'HTTP2_FAILED', message: /takes no new streams/ })
})

// ---- nghttp and h2load

function lacks(program: string): string | false {
  return spawnSync(program, ['--version']).status === 0
    ? false
    : `needs ${program} (Debian package nghttp2-client)`
}

function clientFiles(t: Test): { readonly cert: string; readonly key: string } {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-hbone-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const files = { cert: path.join(folder, 'client.crt'), key: path.join(folder, 'client.key') }
  writeFileSync(files.cert, client.certPem)
  writeFileSync(files.key, client.keyPem)
  return files
}

t.test(
  'nghttp asks without a tunnel, padded and with CONTINUATION, and is told 400',
  { skip: lacks('nghttp') },
  async t => {
    const seen: string[] = []
    const { port } = await listen(t, request => {
      seen.push(`${request.method} ${request.authority} ${request.header('x-long')[0]?.length ?? 0}`)
      request.refuse(400)
    })
    const { cert, key } = clientFiles(t)
    const options = [
      '-v',
      '-n',
      `--cert=${cert}`,
      `--key=${key}`,
      '--padding=200',
      '--continuation',
      '-H',
      `x-long: ${'v'.repeat(9000)}`
    ]
    const { stdout } = await run('nghttp', [...options, `https://127.0.0.1:${port}/`], { timeout: 30_000 })
    t.strictSame(seen, [`GET 127.0.0.1:${port} 9000`])
    t.match(stdout, /:status: 400/)
    t.match(stdout, /SETTINGS_MAX_CONCURRENT_STREAMS\(0x03\):200/)
  }
)

t.test(
  'h2load: a thousand requests on ten connections are all answered',
  { skip: lacks('h2load') },
  async t => {
    const { port } = await listen(t, request => request.refuse(404))
    // h2load shows no certificate: this proves the handshake's refusal; the load itself goes over plain TCP.
    const refused = await run('h2load', ['-n10', '-c1', `https://127.0.0.1:${port}/`], { timeout: 30_000 })
    t.match(refused.stdout, /10 failed/)
    const sessions: ServerSession[] = []
    const plain = net.createServer(socket =>
      sessions.push(serveTunnels(socket, {}, request => request.refuse(404)))
    )
    plain.listen(0, '127.0.0.1')
    await once(plain, 'listening')
    t.teardown(() => plain.close())
    const address = plain.address() as net.AddressInfo
    const { stdout } = await run('h2load', ['-n1000', '-c10', '-m50', `http://127.0.0.1:${address.port}/`], {
      timeout: 60_000
    })
    t.match(stdout, /1000 total, 1000 started, 1000 done/)
    t.match(stdout, /0 2xx, 0 3xx, 1000 4xx, 0 5xx/)
  }
)
