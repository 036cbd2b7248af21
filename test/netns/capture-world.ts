/**
 * A pod and its peer in two namespaces, with a proxy as small as can be: it accepts what the rules divert, says so,
 * and dials the original destination, towards the application with the client's own address.
 */
import net from 'node:net'
import { once } from 'node:events'
import { type Ip, ip, ipFamily, parseIp, type SocketAddress } from '../../shared/net/address.ts'
import {
  boundAddress,
  dialerSocket,
  listenBacklog,
  openDialer,
  openListener,
  originalDestination,
  socketFd
} from '../../shared/net/sockets.ts'
import { joinNamespaces, makeNamespace, type Namespace } from '../support/namespaces.ts'
import type { RuleOptions } from '../../daemonset/rules/desired.ts'

const proxyMark = 0x539

export const addresses = {
  4: { pod: ip('10.77.0.2'), peer: ip('10.77.0.1'), probe: ip('169.254.7.127') },
  6: { pod: ip('fd77::2'), peer: ip('fd77::1'), probe: ip('fd16:9254:7127:1337:ffff:ffff:ffff:ffff') }
} as const

export const ruleOptions: Omit<RuleOptions, 'mode'> = {
  inbound: true,
  dns: false,
  virtualInterfaces: [],
  probeAddresses: [addresses[4].probe, addresses[6].probe],
  leakGuard: true
}

interface Teardown {
  teardown(done: () => unknown): void
}

export interface World {
  readonly pod: Namespace
  readonly peer: Namespace
}

export function makeWorld(t: Teardown): World {
  const pod = makeNamespace(t, 'uph3')
  const peer = makeNamespace(t, 'uph3')
  joinNamespaces(
    { namespace: pod, device: 'eth0', addresses: ['10.77.0.2/24', 'fd77::2/64'] },
    { namespace: peer, device: 'eth0', addresses: ['10.77.0.1/24', 'fd77::1/64'] }
  )
  pod.run('ip', 'route', 'add', 'default', 'via', '10.77.0.1')
  pod.run('ip', '-6', 'route', 'add', 'default', 'via', 'fd77::1')
  return { pod, peer }
}

/** A server inside a namespace that answers each line with `NAME saw ADDRESS: LINE`. Its port. */
export function serveLines(
  t: Teardown,
  namespace: Namespace,
  name: string,
  at: Ip = ip('::')
): Promise<number> {
  const fd = openListener(
    { netns: namespace.fd },
    { address: { ip: at, port: 0 }, dualStack: ipFamily(at) === 6 }
  )
  const port = boundAddress(fd)?.port ?? 0
  const server = net.createServer({ allowHalfOpen: false }, socket => {
    const from = parseIp(socket.remoteAddress ?? '')
    socket.setEncoding('utf8').on('data', (line: string) => socket.write(`${name} saw ${from}: ${line}`))
    socket.on('error', () => undefined)
  })
  const sockets = trackSockets(server)
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return new Promise(resolve => server.listen({ fd }, () => resolve(port)))
}

export interface Accepted {
  readonly listener: 'inbound' | 'outbound'
  readonly client: SocketAddress
  readonly destination: SocketAddress
}

export class TestProxy {
  readonly accepted: Accepted[] = []
  readonly #netns: number
  readonly #servers: net.Server[] = []
  readonly #sockets = new Set<net.Socket>()

  constructor(netns: number) {
    this.#netns = netns
  }

  async start(): Promise<void> {
    for (const [listener, port] of [
      ['outbound', 15001],
      ['inbound', 15006]
    ] as const) {
      const fd = openListener(
        { netns: this.#netns, mark: proxyMark },
        { address: { ip: ip('::'), port }, dualStack: true, transparent: true, reusePort: true }
      )
      const server = net.createServer({ allowHalfOpen: true }, socket => this.#accept(listener, socket))
      this.#servers.push(server)
      server.listen({ fd }, listenBacklog)
      await once(server, 'listening')
    }
  }

  /** Stops listening; connections stay unless `cut`. */
  stop({ cut = true } = {}): void {
    for (const server of this.#servers.splice(0)) server.close()
    if (cut) for (const socket of this.#sockets) socket.destroy()
  }

  #accept(listener: Accepted['listener'], socket: net.Socket): void {
    const fd = socketFd(socket) ?? -1
    const client = { ip: ip(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 }
    const local = { ip: ip(socket.localAddress ?? ''), port: socket.localPort ?? 0 }
    const redirected = local.port === 15001 || local.port === 15006
    const destination = redirected ? (originalDestination(fd) ?? local) : local
    this.accepted.push({ listener, client, destination })
    const upstream = dialerSocket(
      openDialer(
        { netns: this.#netns, mark: proxyMark },
        {
          family: ipFamily(destination.ip),
          ...(listener === 'inbound' ? { transparent: true, bind: { ip: client.ip, port: 0 } } : {})
        }
      )
    )
    for (const one of [socket, upstream]) {
      this.#sockets.add(one)
      one.on('error', () => {
        socket.destroy()
        upstream.destroy()
      })
      one.on('close', () => this.#sockets.delete(one))
    }
    upstream.connect({ host: destination.ip, port: destination.port }, () => {
      socket.pipe(upstream)
      upstream.pipe(socket)
    })
  }
}

/** One connection of a client; `ask` sends a line and resolves to the answer. */
export class Client {
  readonly socket: net.Socket

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.setEncoding('utf8')
    socket.on('error', () => undefined)
  }

  /** Rejects when the connection is refused, and with `no answer` when it is not there after `timeoutMs`. */
  static async connect(
    namespace: Namespace,
    to: SocketAddress,
    options: { readonly from?: Ip; readonly device?: string; readonly timeoutMs?: number } = {}
  ): Promise<Client> {
    const fd = openDialer(
      { netns: namespace.fd },
      {
        family: ipFamily(to.ip),
        ...(options.from === undefined ? {} : { bind: { ip: options.from, port: 0 } }),
        ...(options.device === undefined ? {} : { device: options.device })
      }
    )
    const socket = dialerSocket(fd)
    const client = new Client(socket)
    await withTimeout(
      new Promise<void>((resolve, reject) => {
        socket.once('error', reject)
        socket.connect({ host: to.ip, port: to.port }, resolve)
      }),
      options.timeoutMs ?? 10_000
    ).catch((error: unknown) => {
      socket.destroy()
      throw error
    })
    return client
  }

  async ask(line: string, timeoutMs = 10_000): Promise<string> {
    const answer = withTimeout(
      new Promise<string>((resolve, reject) => {
        this.socket.once('data', resolve as (data: unknown) => void)
        this.socket.once('close', () => reject(new Error('closed')))
      }),
      timeoutMs
    )
    this.socket.write(line)
    return answer
  }

  close(): void {
    this.socket.destroy()
  }
}

/** Connects, asks once, closes. */
export async function askOnce(
  namespace: Namespace,
  to: SocketAddress,
  options?: Parameters<typeof Client.connect>[2]
): Promise<string> {
  const client = await Client.connect(namespace, to, options)
  try {
    return await client.ask('hello')
  } finally {
    client.close()
  }
}

function trackSockets(server: net.Server): Set<net.Socket> {
  const sockets = new Set<net.Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return sockets
}

async function withTimeout<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
