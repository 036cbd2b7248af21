/** Connections that are more than a request and an answer: TCP, WebSocket, large bodies, clients and pods that go away. */
import t from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer } from 'ws'
import { eventually } from '../support/eventually.ts'
import { listen, request, startPod, startWorld, type Pod, type World } from './world.ts'

const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'db', vip: '10.96.0.2', port: 3306, speaks: 'TCP' },
  { name: 'any', vip: '10.96.0.3', port: 9000, speaks: 'none' }
]
const pod = (last: number, name: string, port = 8080): Pod => ({
  name,
  address: `127.77.3.${last}`,
  port,
  services: [name]
})

async function readUntil(stream: Duplex, expected: string): Promise<string> {
  let text = ''
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.includes(expected)) return text
  }
  return text
}

t.test('TCP is carried as it is, both ways, each half ending on its own', async t => {
  const db = pod(1, 'db', 3306)
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    let heard = ''
    socket.on('data', chunk => (heard += chunk.toString()))
    socket.on('end', () => socket.end(`heard ${heard}`))
  })
  await listen(t, server, db)
  const world = await startWorld(t, { services, pods: [db] })
  const client = await world.connect('10.96.0.2:3306')
  client.write('GET / HTTP/1.1 is no request here')
  client.end('.')
  t.equal(await readUntil(client, '.'), 'heard GET / HTTP/1.1 is no request here.')
})

t.test('a port of which nobody said what it speaks', async t => {
  const any = pod(2, 'any', 9000)
  const server = net.createServer(socket => void socket.end('hello, I speak first'))
  await listen(t, server, any)
  const world = await startWorld(t, {
    services,
    pods: [any],
    env: { UNDERPASS_PROTOCOL_DETECTION_TIMEOUT: '200ms' }
  })
  const client = await world.connect('10.96.0.3:9000')
  t.equal(await readUntil(client, 'first'), 'hello, I speak first', 'a server may speak first')
})

t.test('on such a port HTTP is seen, and anything else is TCP', async t => {
  const any = pod(3, 'any', 9000)
  const server = http.createServer((_, response) => response.end('over HTTP'))
  server.on('clientError', (_error, socket) => void socket.end('what?'))
  await listen(t, server, any)
  const world = await startWorld(t, { services, pods: [any] })
  const answer = await world.ask('10.96.0.3:9000')
  t.match(answer, { status: 200, text: 'over HTTP', headers: { 'x-envoy-upstream-service-time': /\d/ } })
  const client = await world.connect('10.96.0.3:9000')
  client.write('SSH-2.0-x\r\n')
  t.equal(await readUntil(client, '?'), 'what?')
})

t.test('WebSocket: messages both ways, and the end', async t => {
  const web = pod(4, 'web')
  const server = http.createServer()
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket, { url }) => {
    socket.on('message', (message: Buffer) => socket.send(`${url}: ${message.toString()}`))
  })
  await listen(t, server, web)
  const world = await startWorld(t, { services, pods: [web], env: { UNDERPASS_ACCESS_LOG: 'all' } })
  const stream = await world.connect('10.96.0.1:80')
  const socket = new WebSocket('ws://shop.example/chat', { createConnection: () => stream as net.Socket })
  await once(socket, 'open')
  socket.send('one')
  const [answer] = (await once(socket, 'message')) as [Buffer]
  t.equal(answer.toString(), '/chat: one')
  const large = 'x'.repeat(1 << 20)
  socket.send(large)
  const [echoed] = (await once(socket, 'message')) as [Buffer]
  t.equal(echoed.length, large.length + 7)
  socket.close()
  await once(socket, 'close')
  await eventually('it is told', () => world.lines.some(line => / 101 - via_upstream /.test(line)), {
    everyMs: 20
  })
})

t.test('another upgrade is not passed on', async t => {
  const web = pod(5, 'web')
  await startPod(t, web, (sent, response) => response.end(`upgrade ${sent.headers.upgrade}`))
  const world = await startWorld(t, { services, pods: [web] })
  const headers = { connection: 'upgrade', upgrade: 'h2c' }
  t.match(await world.ask('10.96.0.1:80', { headers }), { status: 200, text: 'upgrade undefined' })
})

t.test('40 MB there and back, with a length and in chunks', async t => {
  const web = pod(6, 'web')
  await startPod(t, web, (sent, response) => void sent.pipe(response))
  const world = await startWorld(t, { services, pods: [web] })
  const body = Buffer.alloc(40 << 20, randomBytes(1 << 20))
  const sum = (text: string): string => createHash('sha256').update(text, 'latin1').digest('hex')
  const expected = createHash('sha256').update(body).digest('hex')
  for (const headers of [{ 'content-length': body.length }, { 'transfer-encoding': 'chunked' }]) {
    const { text } = await world.ask('10.96.0.1:80', { method: 'POST', body, headers })
    t.equal(sum(text), expected, Object.keys(headers).join())
  }
  t.match(await world.metrics(), /istio_request_bytes_sum\{.*\} 83886080/)
})

/** A pod that writes for ever, and counts. */
function pouring(): { readonly handler: http.RequestListener; written: number; closed: boolean } {
  const state = {
    written: 0,
    closed: false,
    handler: (_: http.IncomingMessage, response: http.ServerResponse): void => {
      const block = Buffer.alloc(64 << 10)
      const pour = (): void => {
        while (!response.destroyed) {
          state.written += block.length
          if (!response.write(block)) return void response.once('drain', pour)
        }
      }
      response.on('close', () => (state.closed = true))
      pour()
    }
  }
  return state
}

t.test('a client that does not read stops the pod, and when it goes the pod learns it', async t => {
  const web = pod(7, 'web')
  const pour = pouring()
  await startPod(t, web, pour.handler)
  const world = await startWorld(t, { services, pods: [web] })
  const client = await world.connect('10.96.0.1:80')
  client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await once(client, 'readable')
  let before = -1
  await eventually(
    'it writes no more',
    () => {
      const same = pour.written === before
      before = pour.written
      return same && before > 0
    },
    { everyMs: 300 }
  )
  t.ok(pour.written < 64 << 20, `${pour.written >> 20} MiB are on the way`)
  client.destroy()
  await eventually('the pod learns it', () => pour.closed, { everyMs: 20 })
  await eventually('and the log', () =>
    world.lines.some(line => / DC downstream_remote_disconnect /.test(line))
  )
})

t.test('a pod that does not answer learns that nobody waits any more', async t => {
  const web = pod(10, 'web')
  const config = `
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules: [{timeouts: {request: 300ms}, backendRefs: [{name: web, port: 80}]}]
`
  let asked = 0
  const gone: string[] = []
  await startPod(t, web, (sent, response) => {
    asked += 1
    sent.resume()
    response.on('close', () => gone.push(sent.url ?? ''))
  })
  const world = await startWorld(t, { services, pods: [web], config })
  for (const asked of [{ path: '/slow' }, { path: '/slow-body', method: 'POST', body: 'all of it' }]) {
    t.match(await world.ask('10.96.0.1:80', asked), { status: 504 })
    await eventually('a timeout ends it', () => gone.includes(asked.path), { everyMs: 10 })
  }
  const client = await world.connect('10.96.0.1:80')
  client.write('GET /left HTTP/1.1\r\nHost: x\r\n\r\n')
  await eventually('it is there', () => asked === 3, { everyMs: 10 })
  client.destroy()
  await eventually('a client that leaves ends it', () => gone.includes('/left'), { everyMs: 10 })
})

t.test('a pod that dies in the middle of its answer cuts the answer, and dies before it: 503', async t => {
  const web = pod(8, 'web')
  await startPod(t, web, (sent, response) => {
    if (sent.url === '/half') response.write('half of it', () => response.destroy())
    else response.destroy()
  })
  const world = await startWorld(t, { services, pods: [web] })
  await t.rejects(
    world.ask('10.96.0.1:80', { path: '/half' }),
    /aborted|hang up|reset|Parse|premature|closed/i
  )
  t.match(await world.ask('10.96.0.1:80', { method: 'POST', body: 'x' }), {
    status: 503,
    text: /connection termination/
  })
  t.match(world.lines.join('\n'), / UC upstream_reset_after_response_started /)
})

t.test(
  'at the end requests under way are answered, new ones on the same connection too, and then it is over',
  async t => {
    const web = pod(9, 'web')
    let answer: () => void = () => undefined
    await startPod(t, web, (sent, response) => {
      if (sent.url === '/now') response.end('now')
      else answer = () => response.end('late')
    })
    const world: World = await startWorld(t, {
      services,
      pods: [web],
      env: { CONNECTION_TERMINATION_DEADLINE: '8s' }
    })
    const slow = world.ask('10.96.0.1:80', { path: '/late' })
    const idle = await world.connect('10.96.0.1:80')
    await eventually('the request is under way', () => answer.name !== '', { everyMs: 10 }).catch(
      () => undefined
    )
    await new Promise(resolve => setTimeout(resolve, 100))
    const ended = world.app.shutDown()
    t.match(await request(idle, { path: '/now' }), { status: 200, headers: { connection: 'close' } })
    answer()
    t.match(await slow, { status: 200, text: 'late' })
    await ended
    t.pass('it has ended')
  }
)
