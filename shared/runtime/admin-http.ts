/**
 * The small HTTP/1.1 server behind every admin, metrics and readiness port: exact paths, GET and POST,
 * bounded requests, buffered or streamed answers. HEAD is answered as GET without the body.
 */
import http from 'node:http'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { formatSocketAddress, ip, ipFamily, type Ip, type SocketAddress } from '../net/address.ts'
import { messageOf } from './errors.ts'
import { silent, type Logger } from '../telemetry/logger.ts'

export interface AdminRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: http.IncomingHttpHeaders
  /** IP address of the client as the socket gives it. */
  readonly remoteAddress: string
  /** Aborts when the client goes away or the server closes. */
  readonly signal: AbortSignal
  /** The whole body; throws an {@link HttpProblem} 413 beyond the server's limit. */
  body(): Promise<Buffer>
  /** The body as JSON; an {@link HttpProblem} 400 when it is none. An empty body is `undefined`. */
  json(): Promise<unknown>
}

export interface Answer {
  /** Default 200. */
  readonly status?: number
  /** Default `text/plain; charset=utf-8`. */
  readonly contentType?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body: string | Buffer
  /** Offers zstd, brotli and gzip to clients that accept them. */
  readonly compress?: boolean
}

/** An answer that is written piece by piece until `run` resolves or the client leaves. */
export interface StreamedAnswer {
  readonly contentType: string
  /**
   * `write` returns whether the client keeps up; after false, `drained` resolves when more may be written.
   * Whoever runs it drops or waits: nothing here buffers without end.
   */
  run(sink: StreamSink, signal: AbortSignal): Promise<void>
}

export interface StreamSink {
  write(text: string): boolean
  drained(): Promise<void>
}

export type Handler = (request: AdminRequest) => Answer | StreamedAnswer | Promise<Answer | StreamedAnswer>

export interface Route {
  /** `ANY` takes every method. */
  readonly method: 'GET' | 'POST' | 'ANY'
  /** An exact path, or a prefix that ends in `/*`. */
  readonly path: string
  readonly handle: Handler
}

export interface AdminServerOptions {
  readonly routes: readonly Route[]
  /** Where to listen. Port 0 takes any; further addresses with port 0 follow the port of the first. */
  readonly listen: readonly SocketAddress[]
  readonly logger?: Logger
  /** Largest request body in bytes; default 1 MiB. */
  readonly maxBodyBytes?: number
  /** Addresses after the first that cannot be bound (no IPv6) are left out instead of failing. */
  readonly firstIsEnough?: boolean
}

/** A refusal with an HTTP status and a text that names the remedy. Handlers may throw it. */
export class HttpProblem extends Error {
  static override readonly name = 'HttpProblem'
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.name = 'HttpProblem'
    this.status = status
  }
}

/** Longest time in which a client must have sent its request head. */
const HEAD_TIMEOUT_MS = 2000
const HEAD_MAX_BYTES = 8192
const MAX_CONNECTIONS = 512

export class AdminServer {
  readonly addresses: readonly SocketAddress[]
  readonly #servers: readonly http.Server[]
  readonly #closing: AbortController

  constructor(servers: readonly http.Server[], closing: AbortController) {
    this.#servers = servers
    this.#closing = closing
    this.addresses = servers.map(boundAddress)
  }

  get port(): number {
    return this.addresses[0]?.port ?? 0
  }

  /** Stops accepting and ends streams; answers in hand are cut after `graceMs`. Idempotent. */
  async close(graceMs = 500): Promise<void> {
    this.#closing.abort()
    await Promise.all(this.#servers.map(server => closeServer(server, graceMs)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close(0)
  }
}

/** Binds and serves. Rejects when an address cannot be bound, with what was wanted in the text. */
export async function serveAdmin(options: AdminServerOptions): Promise<AdminServer> {
  const closing = new AbortController()
  const servers: http.Server[] = []
  try {
    for (const [index, wanted] of options.listen.entries()) {
      const first = servers[0]
      const port = wanted.port === 0 && first !== undefined ? boundAddress(first).port : wanted.port
      const server = http.createServer(
        { maxHeaderSize: HEAD_MAX_BYTES, connectionsCheckingInterval: 1000 },
        (request, response) => void answer(options, closing.signal, request, response)
      )
      // A client that has said everything may end its side at once; Node would hang up before the answer is ready.
      Object.assign(server, { httpAllowHalfOpen: true })
      server.headersTimeout = HEAD_TIMEOUT_MS
      server.requestTimeout = 30_000
      server.maxConnections = MAX_CONNECTIONS
      try {
        await bind(server, { ip: wanted.ip, port })
      } catch (error) {
        if (index > 0 && options.firstIsEnough === true) continue
        throw error
      }
      servers.push(server)
    }
  } catch (error) {
    await Promise.all(servers.map(server => closeServer(server, 0)))
    throw error
  }
  return new AdminServer(servers, closing)
}

/** `127.0.0.1` and `::1` with one port: where only this machine, or a port-forward, may ask. */
export function loopback(port: number): SocketAddress[] {
  return [
    { ip: ip('127.0.0.1'), port },
    { ip: ip('::1'), port }
  ]
}

/** All addresses of the machine, both families where IPv6 exists. */
export function wildcard(port: number, ipv6: boolean): SocketAddress[] {
  return [{ ip: ip(ipv6 ? '::' : '0.0.0.0'), port }]
}

export function jsonAnswer(value: unknown, status = 200): Answer {
  return { status, contentType: 'application/json', body: `${JSON.stringify(value, null, 2)}\n` }
}

async function answer(
  options: AdminServerOptions,
  closing: AbortSignal,
  request: http.IncomingMessage,
  response: http.ServerResponse
): Promise<void> {
  const { logger = silent } = options
  const gone = new AbortController()
  const onClosing = (): void => gone.abort()
  closing.addEventListener('abort', onClosing, { once: true })
  response.on('close', () => {
    closing.removeEventListener('abort', onClosing)
    gone.abort()
  })
  response.on('error', () => gone.abort())
  try {
    const found = findRoute(options.routes, request)
    const result = await found.handle(readRequest(options, request, gone.signal))
    if ('run' in result) await writeStream(response, result, gone.signal)
    else await writeWhole(request, response, result)
  } catch (error) {
    if (gone.signal.aborted || response.headersSent) {
      response.destroy()
      return
    }
    const status = error instanceof HttpProblem ? error.status : 500
    if (status === 500) logger.error('request failed', { path: request.url, error: messageOf(error) })
    const allow = error instanceof MethodProblem ? { allow: error.allow } : {}
    await writeWhole(request, response, { status, headers: allow, body: `${messageOf(error)}\n` })
  }
}

class MethodProblem extends HttpProblem {
  readonly allow: string

  constructor(path: string, allow: string) {
    super(405, `${path} takes ${allow} only`)
    this.allow = allow
  }
}

function findRoute(routes: readonly Route[], request: http.IncomingMessage): Route {
  const { path } = splitTarget(request.url)
  const method = request.method === 'HEAD' ? 'GET' : request.method
  const here = routes.filter(route =>
    route.path.endsWith('/*') ? path.startsWith(route.path.slice(0, -1)) : route.path === path
  )
  if (here.length === 0) throw new HttpProblem(404, `no such path: ${path}`)
  const found = here.find(route => route.method === 'ANY' || route.method === method)
  if (found === undefined) throw new MethodProblem(path, here.map(route => route.method).join(', '))
  return found
}

function splitTarget(target = '/'): { path: string; query: URLSearchParams } {
  const cut = target.indexOf('?')
  // istioctl asks for `//version`; Go's servers take that for `/version`.
  const path = (cut < 0 ? target : target.slice(0, cut)).replace(/^\/+/, '/')
  return { path, query: new URLSearchParams(cut < 0 ? '' : target.slice(cut + 1)) }
}

function readRequest(
  options: AdminServerOptions,
  request: http.IncomingMessage,
  signal: AbortSignal
): AdminRequest {
  const { path, query } = splitTarget(request.url)
  const body = (): Promise<Buffer> => readBody(request, options.maxBodyBytes ?? 1 << 20)
  const json = async (): Promise<unknown> => {
    const text = (await body()).toString('utf8')
    if (text.trim() === '') return undefined
    try {
      return JSON.parse(text)
    } catch (error) {
      throw new HttpProblem(400, `the body is not JSON: ${messageOf(error)}`)
    }
  }
  return {
    method: request.method ?? 'GET',
    path,
    query,
    headers: request.headers,
    remoteAddress: request.socket.remoteAddress ?? '',
    signal,
    body,
    json
  }
}

async function readBody(request: http.IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > limit) throw new HttpProblem(413, `the body is larger than ${limit} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

async function writeWhole(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  result: Answer
): Promise<void> {
  let body = typeof result.body === 'string' ? Buffer.from(result.body) : result.body
  const headers: Record<string, string> = {
    'content-type': result.contentType ?? 'text/plain; charset=utf-8',
    ...result.headers
  }
  const encoding = result.compress === true ? acceptedEncoding(request.headers['accept-encoding']) : undefined
  if (encoding !== undefined) {
    body = await compress[encoding](body)
    headers['content-encoding'] = encoding
    headers['vary'] = 'accept-encoding'
  }
  headers['content-length'] = String(body.length)
  response.writeHead(result.status ?? 200, headers)
  response.end(request.method === 'HEAD' ? undefined : body)
}

async function writeStream(
  response: http.ServerResponse,
  result: StreamedAnswer,
  signal: AbortSignal
): Promise<void> {
  response.writeHead(200, { 'content-type': result.contentType, 'cache-control': 'no-store' })
  response.flushHeaders()
  const drained = async (): Promise<void> =>
    new Promise(resolve => {
      if (!response.writableNeedDrain || signal.aborted) {
        resolve()
        return
      }
      const done = (): void => {
        response.off('drain', done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      response.on('drain', done)
      signal.addEventListener('abort', done, { once: true })
    })
  const write = (text: string): boolean => !signal.aborted && response.write(text)
  await result.run({ write, drained }, signal)
  response.end()
}

const compress = {
  zstd: promisify(zlib.zstdCompress),
  br: async (body: Buffer): Promise<Buffer> =>
    promisify<Buffer, zlib.BrotliOptions, Buffer>(zlib.brotliCompress)(body, {
      params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } // the default, 11, takes seconds on large bodies
    }),
  gzip: promisify<Buffer, Buffer>(zlib.gzip)
} as const

type Encoding = keyof typeof compress

/** The best encoding that the client did not rule out with `q=0` (RFC 9110 section 12.5.3). */
export function acceptedEncoding(header: string | string[] | undefined): Encoding | undefined {
  const offers = new Map<string, number>()
  for (const part of String(header ?? '').split(',')) {
    const [name = '', ...parameters] = part.split(';').map(piece => piece.trim().toLowerCase())
    const quality = parameters.find(parameter => parameter.startsWith('q='))?.slice(2)
    if (name !== '') offers.set(name, quality === undefined ? 1 : Number(quality))
  }
  const known: readonly Encoding[] = ['zstd', 'br', 'gzip']
  return known.find(name => (offers.get(name) ?? 0) > 0)
}

function boundAddress(server: http.Server): SocketAddress {
  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new Error('the server is not bound')
  return { ip: ip(bound.address), port: bound.port }
}

async function bind(server: http.Server, address: SocketAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => {
      reject(new Error(`cannot listen on ${formatSocketAddress(address)}`, { cause: error }))
    }
    server.once('error', onError)
    const dual = ipFamily(address.ip) === 6 && isAny(address.ip)
    server.listen({ host: address.ip, port: address.port, ipv6Only: !dual }, () => {
      server.off('error', onError)
      resolve()
    })
  })
}

function isAny(address: Ip): boolean {
  return address === '::'
}

async function closeServer(server: http.Server, graceMs: number): Promise<void> {
  await new Promise<void>(resolve => {
    const cut = setTimeout(() => server.closeAllConnections(), graceMs)
    server.close(() => {
      clearTimeout(cut)
      resolve()
    })
    server.closeIdleConnections()
  })
}
