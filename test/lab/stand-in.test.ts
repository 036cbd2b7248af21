import t, { type Test } from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { protocolOf, startStandIn, type StandInOptions } from '../../lab/stand-in.ts'

async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

async function start(t: Test, name = '', annotations = ''): Promise<number> {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-stand-in-'))
  const annotationsFile = path.join(folder, 'annotations')
  writeFileSync(annotationsFile, annotations)
  const port = await freePort()
  const options: StandInOptions = {
    pod: `pod-${port}`,
    namespace: 'shop',
    container: 'web',
    serviceAccount: 'web',
    node: 'node1',
    image: 'web:1',
    ports: [{ port, protocol: 'TCP', name }],
    annotationsFile
  }
  const stop = await startStandIn(options, () => undefined)
  t.teardown(async () => {
    await stop(0)
    rmSync(folder, { recursive: true })
  })
  return port
}

t.test('it says by HTTP/1.1 who it is and what it received', async t => {
  const port = await start(t)
  const answer = await fetch(`http://127.0.0.1:${port}/a?b=c`, {
    method: 'POST',
    body: 'hello',
    headers: { 'x-a': '1' }
  })
  t.equal(answer.status, 200)
  t.match(await answer.json(), {
    pod: `pod-${port}`,
    namespace: 'shop',
    standIn: true,
    method: 'POST',
    path: '/a?b=c',
    proto: 'HTTP/1.1',
    headers: { 'x-a': '1' },
    body: 'hello',
    source: '127.0.0.1'
  })
})

t.test('it answers HTTP/2 and gRPC on the same port', async t => {
  const port = await start(t)
  const session = http2.connect(`http://127.0.0.1:${port}`)
  t.teardown(() => session.close())
  const plain = await exchange(session, { ':path': '/x' })
  t.match(JSON.parse(plain.body.toString()), { proto: 'HTTP/2.0', path: '/x' })
  const health = await exchange(session, grpcHead('/grpc.health.v1.Health/Check'), Buffer.alloc(5))
  t.strictSame([...health.body], [0, 0, 0, 0, 2, 8, 1], 'SERVING')
  t.equal(health.trailers['grpc-status'], '0')
  const message = Buffer.from([0, 0, 0, 0, 3, 1, 2, 3])
  t.strictSame(
    (await exchange(session, grpcHead('/any.Service/Method'), message)).body,
    message,
    'other methods echo'
  )
})

t.test('whatever else arrives comes back', async t => {
  const port = await start(t)
  t.equal(await tcp(port, ['\u0000\u0001 binary']), '\u0000\u0001 binary')
  t.equal(await tcp(port, ['G']), 'G', 'also when it could have become a request')
  const named = await start(t, 'tcp-sql')
  t.equal(
    await tcp(named, ['GET / HTTP/1.1\r\n\r\n']),
    'GET / HTTP/1.1\r\n\r\n',
    'a port named tcp takes no requests'
  )
})

t.test('a request cut into pieces is still a request', async t => {
  const port = await start(t)
  t.match(
    await tcp(port, ['G', 'ET / HT', 'TP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n']),
    /^HTTP\/1.1 200/
  )
})

t.test('it calls whom the annotation names, now, and hands on what identifies the user', async t => {
  const cart = await start(t)
  const web = await start(
    t,
    '',
    `other="x"\nunderpass.dev/calls="http://127.0.0.1:${cart}/items, http://127.0.0.1:1/"`
  )
  const answer = await fetch(`http://127.0.0.1:${web}/`, {
    headers: { 'x-request-id': 'r1', 'x-private': 'no' }
  })
  const { calls } = (await answer.json()) as { calls: { body: { headers: Record<string, string> } }[] }
  t.match(calls, [
    { status: 200, body: { pod: `pod-${cart}`, path: '/items', headers: { 'x-request-id': 'r1' } } },
    { error: /ECONNREFUSED/ }
  ])
  t.notOk('x-private' in (calls[0]?.body.headers ?? {}))
})

t.test('the first bytes decide', async t => {
  const cases = [
    ['GET / HTTP/1.1', 'http1'],
    ['CONNECT a:1 HTTP/1.1', 'http1'],
    ['PRI * HTTP/2.0\r\n\r\nSM', 'http2'],
    ['PRI * HT', 'undecided'],
    ['OPTI', 'undecided'],
    ['\u0016\u0003\u0001', 'bytes'],
    ['hello', 'bytes']
  ] as const
  for (const [bytes, protocol] of cases) t.equal(protocolOf(Buffer.from(bytes, 'latin1')), protocol, bytes)
})

function grpcHead(path: string): http2.OutgoingHttpHeaders {
  return { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
}

async function exchange(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: Buffer
): Promise<{ body: Buffer; trailers: http2.IncomingHttpHeaders }> {
  const stream = session.request(headers)
  const chunks: Buffer[] = []
  let trailers: http2.IncomingHttpHeaders = {}
  stream.on('trailers', received => {
    trailers = received
  })
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.end(body)
  await new Promise((resolve, reject) => stream.once('close', resolve).once('error', reject))
  return { body: Buffer.concat(chunks), trailers }
}

async function tcp(port: number, pieces: readonly string[]): Promise<string> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk
  })
  const closed = new Promise((resolve, reject) => socket.once('end', resolve).once('error', reject))
  for (const piece of pieces) {
    await new Promise(resolve => socket.write(piece, 'latin1', resolve))
    await new Promise(resolve => setImmediate(resolve))
  }
  socket.end()
  await closed
  return text
}
