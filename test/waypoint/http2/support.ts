/** Servers and clients that speak through the halves under test, and a proxy made of both. */
import { once } from 'node:events'
import net from 'node:net'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import type { BodySink } from '../../../waypoint/http/body.ts'
import type {
  ClientConnection,
  ClientRequest,
  ClientRequestEvents,
  Exchange
} from '../../../waypoint/http/exchange.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { Http2ClientConnection, type Http2ClientOptions } from '../../../waypoint/http2/client-connection.ts'
import { Http2ServerConnection, type Http2ServerOptions } from '../../../waypoint/http2/server-connection.ts'

export interface Test {
  teardown(end: () => unknown): void
}

export type Serve = (exchange: Exchange) => void

export interface World {
  readonly port: number
  readonly connections: Http2ServerConnection[]
  readonly sockets: net.Socket[]
}

export async function portOf(t: Test, server: net.Server): Promise<number> {
  const sockets: net.Socket[] = []
  server.on('connection', (socket: net.Socket) => sockets.push(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as net.AddressInfo).port
}

/** Our server half on every connection to a port. */
export async function listen(t: Test, serve: Serve, options: Http2ServerOptions = {}): Promise<World> {
  const connections: Http2ServerConnection[] = []
  const sockets: net.Socket[] = []
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    sockets.push(socket)
    connections.push(new Http2ServerConnection(streamOf(socket), serve, options))
  })
  return { port: await portOf(t, server), connections, sockets }
}

export interface Client {
  readonly connection: Http2ClientConnection
  readonly told: string[]
}

/** Our client half, connected to a port. */
export async function connected(t: Test, port: number, options: Http2ClientOptions = {}): Promise<Client> {
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const told: string[] = []
  const events = { idle: () => told.push('idle'), closed: () => told.push('closed') }
  const connection = new Http2ClientConnection(streamOf(socket), events, options)
  t.teardown(() => connection.destroy())
  return { connection, told }
}

export interface Outcome {
  readonly status?: number
  readonly headers?: HeaderList
  readonly framing?: string
  readonly body?: string
  readonly trailers?: readonly string[]
  readonly informed: readonly number[]
  readonly failed?: string
  readonly untouched?: boolean
  readonly lost?: string
}

export const getRequest: ClientRequest = {
  method: 'GET',
  target: '/',
  authority: 'shop',
  scheme: 'http',
  headers: new HeaderList(),
  framing: { kind: 'none' }
}

/** Sends a request whole; what became of it. */
export function ask(
  connection: ClientConnection,
  request: Partial<ClientRequest> = {},
  body?: Buffer,
  trailers?: HeaderList
): Promise<Outcome> {
  const { promise, sink } = begin(connection, request)
  if (body !== undefined) sink.data(body)
  sink.end(trailers)
  return promise
}

export interface Begun {
  readonly sink: BodySink
  readonly promise: Promise<Outcome>
}

export function begin(
  connection: ClientConnection,
  request: Partial<ClientRequest> = {},
  more: Partial<ClientRequestEvents> = {}
): Begun {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  const informed: number[] = []
  const sink = connection.send(
    { ...getRequest, ...request },
    {
      informed: head => informed.push(head.status),
      answered: (head, answer) => {
        const { status, headers, framing } = head
        const chunks: Buffer[] = []
        const outcome = { status, headers, framing: framing.kind, informed }
        answer.pipe({
          data: bytes => chunks.push(bytes) > 0,
          end: trailers =>
            resolve({
              ...outcome,
              body: Buffer.concat(chunks).toString('latin1'),
              ...(trailers === undefined ? {} : { trailers: [...trailers].flat() })
            }),
          fail: error => resolve({ ...outcome, lost: error.message })
        })
      },
      failed: (error, { untouched }) => resolve({ informed, failed: error.message, untouched }),
      ...more
    }
  )
  return { sink, promise }
}

/** The body comes back as it came, in the framing that it had, with its trailers. */
export function echo(exchange: Exchange): void {
  const { head, body } = exchange
  const headers = HeaderList.of('x-target', head.target, 'x-method', head.method)
  body.pipe(exchange.respond({ status: 200, headers, framing: head.framing }, () => body.resume()))
}

export function say(exchange: Exchange, text: string, ...headers: readonly string[]): void {
  const framing = { kind: 'length', bytes: Buffer.byteLength(text) } as const
  const writer = exchange.respond({ status: 200, headers: HeaderList.of(...headers), framing })
  writer.data(Buffer.from(text))
  writer.end()
}

/** Answers with what the head was understood as, once the body has come. */
export function mirror(exchange: Exchange): void {
  const { method, target, authority, headers, framing, upgrade } = exchange.head
  const chunks: Buffer[] = []
  exchange.body.pipe({
    data: bytes => chunks.push(bytes) > 0,
    end: trailers =>
      say(
        exchange,
        JSON.stringify({
          ...{ method, target, authority, upgrade, framing, headers: [...headers] },
          body: Buffer.concat(chunks).toString('latin1'),
          trailers: [...(trailers ?? [])]
        })
      ),
    fail: () => undefined
  })
}

/** Passes requests on over a connection, as a proxy does: bodies, trailers, interim answers, cancellations. */
export function passOn(upstream: () => ClientConnection): Serve {
  return exchange => {
    const { head, body } = exchange
    const { method, target, authority, headers, framing, upgrade } = head
    let answered = false
    const sink = upstream().send(
      {
        ...{ method, target, authority, headers, framing, scheme: 'http' },
        ...(upgrade === undefined ? {} : { upgrade })
      },
      {
        informed: ({ status, headers: said }) => exchange.inform(status, said),
        answered: (response, answer) => {
          answered = true
          answer.pipe(exchange.respond(response, () => answer.resume()))
          exchange.onGone(() => answer.cancel())
        },
        switched: (response, stream) => {
          answered = true
          join(exchange.switchProtocols(response.headers), stream)
        },
        failed: error => {
          if (answered) return
          answered = true
          const text = Buffer.from(error.message)
          const writer = exchange.respond({
            status: 502,
            headers: new HeaderList(),
            framing: { kind: 'length', bytes: text.length }
          })
          writer.data(text)
          writer.end()
        },
        drained: () => body.resume()
      }
    )
    exchange.onGone(reason => {
      answered = true
      sink.fail(reason)
    })
    body.pipe(sink)
  }
}

type ByteStream = ReturnType<typeof streamOf>

function join(one: ByteStream, other: ByteStream): void {
  for (const [from, to] of [
    [one, other],
    [other, one]
  ] as const) {
    from.attach({
      data: chunk => {
        if (!to.write(chunk)) from.pause()
      },
      end: () => to.end(),
      drain: () => to.resume(),
      close: error => {
        if (error !== undefined) to.destroy(error)
      }
    })
  }
  one.resume()
  other.resume()
}
