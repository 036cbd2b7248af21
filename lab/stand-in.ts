/**
 * The server that stands in for a container whose image is not on this machine. On each of the container's ports
 * it answers HTTP/1.1, HTTP/2 without TLS, gRPC (health, and any other method by echo) and, for whatever else
 * arrives, echoes the bytes. HTTP answers say who it is and what it received, with the field names of the
 * Gateway API's echo application, and carry what others answered where the pod's annotation
 * `underpass.dev/calls` names them. A program of its own: started by the kubelet inside a pod.
 */
import { createSocket } from 'node:dgram'
import { existsSync, readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { echoGrpc } from './stand-in-grpc.ts'

/** What the kubelet tells it, as JSON in its only argument. */
export interface StandInOptions {
  readonly pod: string
  readonly namespace: string
  readonly container: string
  readonly serviceAccount: string
  readonly node: string
  readonly image: string
  readonly ports: readonly {
    readonly port: number
    readonly protocol: 'TCP' | 'UDP'
    readonly name: string
  }[]
  /** Holds the pod's annotations as the downward API writes them; read again for every request. */
  readonly annotationsFile: string
}

/** One call that a request caused. */
export interface CallResult {
  readonly url: string
  readonly status?: number
  readonly body?: unknown
  readonly error?: string
}

/** Header fields that a caller's request hands on to those that it calls: tracing and the user's identity. */
const handedOn =
  /^(x-request-id|x-b3-.*|b3|traceparent|tracestate|baggage|x-ot-span-context|end-user|user-agent|cookie|authorization|x-test-.*)$/

const callTimeoutMs = 10_000
const largestBody = 1024 * 1024
const preface = 'PRI * HTTP/2.0'

/** Resolves when it listens, to what ends it: at once for whoever is idle, after `graceMs` for the others. */
export async function startStandIn(
  options: StandInOptions,
  log: (line: string) => void
): Promise<(graceMs: number) => Promise<void>> {
  const open = new Set<net.Socket>()
  const http1 = http.createServer((request, response) => void answerHttp1(options, log, request, response))
  const h2c = http2.createServer()
  h2c.on('stream', (stream, headers) => void answerHttp2(options, log, stream, headers))
  h2c.on('session', session => session.on('error', () => undefined))
  const servers = options.ports
    .filter(({ protocol }) => protocol === 'TCP')
    .map(({ port, name }) => {
      const echoOnly = /^(tcp|redis|mongo|mysql|tls)(-|$)/.test(name)
      return listen(port, socket => {
        open.add(socket)
        socket.once('close', () => open.delete(socket))
        if (echoOnly) echo(socket)
        else sniff(socket, http1, h2c)
      })
    })
  const datagrams = options.ports
    .filter(({ protocol }) => protocol === 'UDP')
    .map(({ port }) => echoUdp(port))
  await Promise.all(servers)
  return async graceMs => {
    for (const socket of datagrams) socket.close()
    for (const server of await Promise.all(servers)) server.close()
    http1.closeIdleConnections()
    const timer = setTimeout(() => open.forEach(socket => socket.destroy()), graceMs)
    timer.unref()
  }
}

function listen(port: number, onSocket: (socket: net.Socket) => void): Promise<net.Server> {
  return new Promise((resolve, reject) => {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, onSocket)
    server.once('error', reject)
    // Both families where the pod has IPv6, else IPv4 alone.
    server.listen(port, () => resolve(server))
  })
}

/** Decides by the first bytes what the peer speaks. */
function sniff(socket: net.Socket, http1: http.Server, h2c: http2.Http2Server): void {
  socket.on('error', () => socket.destroy())
  let start = Buffer.alloc(0)
  const onReadable = (): void => {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      start = Buffer.concat([start, chunk])
    }
    const protocol = protocolOf(start)
    if (protocol === 'undecided') return
    socket.off('readable', onReadable)
    socket.off('end', onEnd)
    socket.unshift(start)
    if (protocol === 'http1') http1.emit('connection', socket)
    else if (protocol === 'http2') h2c.emit('connection', socket)
    else socket.pipe(socket)
  }
  // Too little to be a request is still worth an echo.
  const onEnd = (): void => {
    socket.end(start)
  }
  socket.on('readable', onReadable)
  socket.once('end', onEnd)
}

/** `undecided` while the bytes could still become a request. */
export function protocolOf(start: Buffer): 'http1' | 'http2' | 'bytes' | 'undecided' {
  const text = start.subarray(0, 32).toString('latin1')
  if (text.startsWith(preface)) return 'http2'
  if (preface.startsWith(text)) return 'undecided'
  if (/^[A-Z]{3,10} [/*h]/.test(text) || /^CONNECT \S/.test(text)) return 'http1'
  if (/^[A-Z]{1,10} ?$/.test(text)) return 'undecided'
  return 'bytes'
}

function echo(socket: net.Socket): void {
  socket.on('error', () => socket.destroy())
  socket.pipe(socket)
}

function echoUdp(port: number): ReturnType<typeof createSocket> {
  // One socket for both families, where the pod has both.
  const type = existsSync('/proc/net/if_inet6') ? 'udp6' : 'udp4'
  const socket = createSocket({ type, ipv6Only: false })
  socket.on('message', (message, from) => socket.send(message, from.port, from.address))
  socket.on('error', error => process.stderr.write(`udp ${port}: ${error.message}\n`))
  return socket.bind(port)
}

async function answerHttp1(
  options: StandInOptions,
  log: (line: string) => void,
  request: http.IncomingMessage,
  response: http.ServerResponse
): Promise<void> {
  const body = await readBody(request)
  const { method = 'GET', url = '/', httpVersion } = request
  const answer = await describe(options, request.socket, {
    proto: `HTTP/${httpVersion}`,
    method,
    path: url,
    host: request.headers.host ?? '',
    headers: request.headers,
    body
  })
  log(logLine(`${method} ${url}`, request.socket))
  response.writeHead(200, { 'content-type': 'application/json', 'x-served-by': options.pod })
  response.end(method === 'HEAD' ? undefined : `${JSON.stringify(answer, undefined, 2)}\n`)
}

async function answerHttp2(
  options: StandInOptions,
  log: (line: string) => void,
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders
): Promise<void> {
  stream.on('error', () => undefined)
  const { ':method': method = 'GET', ':path': path = '/', ':authority': authority = '' } = headers
  const socket = stream.session?.socket
  if (socket !== undefined) log(logLine(`${method} ${path} (HTTP/2)`, socket))
  if (headers['content-type']?.startsWith('application/grpc')) return echoGrpc(stream, path)
  const body = await readBody(stream)
  if (stream.destroyed || socket === undefined) return
  const plain = Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')))
  const answer = await describe(options, socket, {
    proto: 'HTTP/2.0',
    method,
    path,
    host: authority,
    headers: plain,
    body
  })
  if (stream.destroyed) return
  stream.respond({ ':status': 200, 'content-type': 'application/json', 'x-served-by': options.pod })
  stream.end(`${JSON.stringify(answer, undefined, 2)}\n`)
}

interface Received {
  readonly proto: string
  readonly method: string
  readonly path: string
  readonly host: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

async function describe(
  options: StandInOptions,
  socket: { remoteAddress?: string | undefined; localPort?: number | undefined },
  received: Received
): Promise<object> {
  const { pod, namespace, container, serviceAccount, node, image } = options
  const calls = await callOthers(annotation(options, 'underpass.dev/calls'), received.headers)
  const { body, ...request } = received
  return {
    pod,
    namespace,
    serviceAccount,
    node,
    container,
    image,
    standIn: true,
    port: socket.localPort,
    source: socket.remoteAddress?.replace(/^::ffff:/, ''),
    ...request,
    ...(body === '' ? {} : { body }),
    ...(calls.length === 0 ? {} : { calls })
  }
}

/** Calls every URL in the text, at the same time. */
async function callOthers(text: string, headers: http.IncomingHttpHeaders): Promise<readonly CallResult[]> {
  const urls = text.split(/[\s,]+/).filter(Boolean)
  const forwarded = Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      handedOn.test(name) && value !== undefined ? [[name, String(value)]] : []
    )
  )
  return Promise.all(urls.map(url => call(url.includes('://') ? url : `http://${url}`, forwarded)))
}

function call(url: string, headers: Record<string, string>): Promise<CallResult> {
  return new Promise(resolve => {
    const fail = (error: Error): void => resolve({ url, error: error.message || error.name })
    try {
      const request = http.get(url, { headers, timeout: callTimeoutMs, agent: false }, response => {
        readBody(response)
          .then(text => resolve({ url, status: response.statusCode ?? 0, body: jsonOrText(text) }))
          .catch(fail)
      })
      request.on('timeout', () => request.destroy(new Error(`no answer within ${callTimeoutMs / 1000} s`)))
      request.on('error', fail)
    } catch (error) {
      // A URL that is none, written by the user.
      fail(error as Error)
    }
  })
}

async function readBody(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => {
      if (size < largestBody) chunks.push(chunk)
      size += chunk.length
    })
    stream.once('end', () => resolve(Buffer.concat(chunks).toString()))
    stream.once('error', reject)
    stream.once('close', () => resolve(Buffer.concat(chunks).toString()))
  })
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    // Whoever answered was no stand-in.
    return text
  }
}

/** One annotation, from a file with a line `key="value"` each, the value quoted as in Go. */
function annotation({ annotationsFile }: StandInOptions, key: string): string {
  try {
    const line = readFileSync(annotationsFile, 'utf8')
      .split('\n')
      .find(candidate => candidate.startsWith(`${key}=`))
    return line === undefined ? '' : (JSON.parse(line.slice(key.length + 1)) as string)
  } catch {
    // Without the file, or with an annotation that JSON cannot read, nobody is called.
    return ''
  }
}

function logLine(request: string, socket: { remoteAddress?: string | undefined }): string {
  return `${new Date().toISOString()} ${request} from ${socket.remoteAddress ?? 'unknown'}`
}

if (import.meta.main) {
  const options = JSON.parse(process.argv[2] ?? '{}') as StandInOptions
  const stop = await startStandIn(options, line => process.stdout.write(`${line}\n`))
  process.once('SIGTERM', () => void stop(1000))
}
