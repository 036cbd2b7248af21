/** Requests to Node's own server, and to servers that misbehave; then both our halves between curl and Node. */
import t, { type Test } from 'tap'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import type { ClientRequest, Exchange } from '../../../waypoint/http/exchange.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { Http1ClientConnection } from '../../../waypoint/http1/client-connection.ts'
import { Http1ServerConnection } from '../../../waypoint/http1/server-connection.ts'

async function portOf(t: Test, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as net.AddressInfo).port
}

/** A server that says `text` when it has heard something, and ends where that is asked for. */
async function saying(t: Test, text: string, { end = false } = {}): Promise<number> {
  const sockets: net.Socket[] = []
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  const server = net.createServer(socket => {
    sockets.push(socket)
    socket.on('error', () => undefined)
    socket.once('data', () => (end ? socket.end(text, 'latin1') : socket.write(text, 'latin1')))
  })
  return portOf(t, server)
}

interface Client {
  readonly connection: Http1ClientConnection
  readonly told: string[]
}

async function connected(t: Test, port: number): Promise<Client> {
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const told: string[] = []
  const connection = new Http1ClientConnection(streamOf(socket), {
    idle: () => told.push('idle'),
    closed: () => told.push('closed')
  })
  t.teardown(() => connection.destroy())
  return { connection, told }
}

interface Outcome {
  readonly status?: number
  readonly body?: string
  readonly trailers?: readonly string[]
  readonly informed: readonly number[]
  readonly failed?: string
  readonly untouched?: boolean
  readonly lost?: string
}

function ask({ connection }: Client, request: Partial<ClientRequest> = {}, body?: Buffer): Promise<Outcome> {
  return new Promise(resolve => {
    const informed: number[] = []
    const writer = connection.send(
      {
        method: 'GET',
        target: '/',
        authority: 'shop',
        scheme: 'http',
        headers: HeaderList.of(),
        framing: body === undefined ? { kind: 'none' } : { kind: 'length', bytes: body.length },
        ...request
      },
      {
        informed: ({ status }) => informed.push(status),
        answered: ({ status }, answer) => {
          let text = ''
          answer.pipe({
            data: bytes => (text += bytes.toString('latin1')) !== '',
            end: trailers =>
              resolve({ status, body: text, informed, trailers: [...(trailers ?? [])].flat() }),
            fail: error => resolve({ status, body: text, informed, lost: error.message })
          })
        },
        failed: (error, { untouched }) => resolve({ informed, failed: error.message, untouched })
      }
    )
    if (body !== undefined) writer.data(body)
    writer.end()
  })
}

t.test('one connection for many requests to Node’s server', async t => {
  let connections = 0
  const server = http.createServer((request, response) => {
    const { url = '' } = request
    if (url === '/hints') response.writeEarlyHints({ link: '</a.css>; rel=preload' })
    if (url === '/none') response.writeHead(204).end()
    else if (url === '/trailers') {
      response.writeHead(200, { trailer: 'x-sum' }).write('some')
      response.addTrailers({ 'x-sum': '1' })
      response.end()
    } else if (request.method === 'POST') request.pipe(response)
    else response.writeHead(200, { 'content-length': '2' }).end('hi')
  })
  server.on('connection', () => (connections += 1))
  const client = await connected(t, await portOf(t, server))
  t.match(await ask(client), { status: 200, body: 'hi', informed: [] })
  t.match(await ask(client, { method: 'HEAD' }), { status: 200, body: '' })
  t.match(await ask(client, { target: '/none' }), { status: 204, body: '' })
  t.match(await ask(client, { target: '/hints' }), { status: 200, informed: [103] })
  t.match(await ask(client, { target: '/trailers' }), { body: 'some', trailers: ['x-sum', '1'] })
  t.match(await ask(client, { method: 'POST' }, Buffer.from('there and back')), { body: 'there and back' })
  t.equal(connections, 1)
  t.strictSame(
    client.told,
    Array.from({ length: 6 }, () => 'idle')
  )
})

const misbehaviours: readonly {
  readonly name: string
  readonly text: string
  readonly end?: boolean
  readonly as: object
  readonly told: readonly string[]
}[] = [
  {
    name: 'a body until the connection ends',
    text: 'HTTP/1.1 200 OK\r\n\r\nall of it',
    end: true,
    as: { status: 200, body: 'all of it' },
    told: ['closed']
  },
  {
    name: 'a body that is cut off',
    text: 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf',
    end: true,
    as: { body: 'half', lost: /in the middle/ },
    told: ['closed']
  },
  {
    name: 'chunks that are cut off',
    text: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n',
    end: true,
    as: { body: 'half', lost: /in the middle/ },
    told: ['closed']
  },
  {
    name: 'no answer',
    text: '',
    end: true,
    as: { failed: /closed the connection/, untouched: false },
    told: ['closed']
  },
  { name: 'another protocol', text: 'SSH-2.0-x\r\n\r\n', as: { failed: /status line/ }, told: ['closed'] },
  {
    name: 'a second answer behind the first',
    text: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil',
    as: { status: 200, body: 'hi' },
    told: ['closed']
  },
  {
    name: 'protocols switched unasked',
    text: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n',
    as: { failed: /unasked/ },
    told: ['closed']
  },
  {
    name: 'an answer that says that it is the last',
    text: 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi',
    as: { status: 200, body: 'hi' },
    told: ['closed']
  }
]

for (const { name, text, end = false, as, told } of misbehaviours) {
  t.test(`a server’s ${name}`, async t => {
    const client = await connected(t, await saying(t, text, { end }))
    t.match(await ask(client), as)
    t.strictSame(client.told, told)
    t.equal(client.connection.usable, false)
  })
}

t.test('a connection that the server closes while it is idle, or as the next request comes', async t => {
  const server = net.createServer(socket => {
    socket.on('error', () => undefined)
    let requests = 0
    socket.on('data', () => {
      requests += 1
      if (requests === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
      else socket.destroy()
    })
  })
  const client = await connected(t, await portOf(t, server))
  t.match(await ask(client), { status: 200 })
  t.match(await ask(client), { failed: String, untouched: true }, 'it can be tried on another connection')
})

t.test('a switched connection is the caller’s', async t => {
  const server = http.createServer()
  server.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst')
    socket.pipe(socket)
  })
  const { connection } = await connected(t, await portOf(t, server))
  const got = await new Promise<string>((resolve, reject) => {
    const headers = HeaderList.of()
    const head = { method: 'GET', target: '/', authority: 'shop', scheme: 'http', headers } as const
    const writer = connection.send(
      { ...head, framing: { kind: 'none' }, upgrade: 'echo' },
      {
        answered: () => reject(new Error('answered')),
        failed: reject,
        switched: (_head, stream) => {
          let text = ''
          stream.attach({
            data: chunk => {
              text += chunk.toString()
              if (!text.endsWith('second')) return
              resolve(text)
              stream.close()
            },
            end: () => undefined,
            drain: () => undefined,
            close: () => undefined
          })
          stream.resume()
          stream.write(Buffer.from('second'))
        }
      }
    )
    writer.end()
  })
  t.equal(got, 'firstsecond')
})

/** What a proxy does with one exchange, without any policy. */
function forward(exchange: Exchange, port: number): void {
  const { head, body } = exchange
  const socket = net.connect(port, '127.0.0.1')
  const connection = new Http1ClientConnection(streamOf(socket), {
    idle: () => connection.destroy(),
    closed: () => undefined
  })
  exchange.onGone(() => connection.destroy())
  const writer = connection.send(
    { ...head, scheme: 'http' },
    {
      drained: () => body.resume(),
      answered: (answer, answerBody) => {
        answerBody.pipe(exchange.respond(answer, () => answerBody.resume()))
      },
      failed: () => {
        exchange.respond({ status: 503, headers: HeaderList.of(), framing: { kind: 'none' } }).end()
      }
    }
  )
  body.pipe(writer)
}

t.test('between curl and Node’s server both halves carry 50 MB there and back', async t => {
  const upstream = await portOf(
    t,
    http.createServer((request, response) => void request.pipe(response))
  )
  const port = await portOf(
    t,
    net.createServer({ allowHalfOpen: true }, socket => {
      // oxlint-disable-next-line no-new -- it lives with its socket
      new Http1ServerConnection(streamOf(socket), exchange => forward(exchange, upstream))
    })
  )
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-http1-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = path.join(folder, 'bytes')
  const bytes = Buffer.alloc(50 << 20, randomBytes(1 << 20))
  writeFileSync(file, bytes)
  const sum = (data: Buffer): string => createHash('sha256').update(data).digest('hex')
  for (const framing of ['a length', 'chunks']) {
    const before = process.memoryUsage().rss
    const words = framing === 'chunks' ? ['-H', 'Transfer-Encoding: chunked'] : []
    const { stdout } = await promisify(execFile)(
      'curl',
      ['-s', '-T', file, ...words, `http://127.0.0.1:${port}/`],
      { encoding: 'buffer', maxBuffer: 100 << 20, timeout: 60_000 }
    )
    t.equal(sum(stdout), sum(bytes), framing)
    t.comment(`memory: ${Math.round((process.memoryUsage().rss - before) / 2 ** 20)} MiB more`)
  }
})
