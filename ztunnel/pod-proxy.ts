/** The proxy of one pod on one worker: its listeners, its session pool, its live connections. */
import net from 'node:net'
import type { ServerSession } from '../shared/hbone/server.ts'
import { TunnelPool } from '../shared/hbone/pool.ts'
import { ip } from '../shared/net/address.ts'
import { SystemCallError } from '../shared/net/ffi.ts'
import { closeDescriptor, listenBacklog, openListener, type TcpOptions } from '../shared/net/sockets.ts'
import { sleep } from '../shared/runtime/clock.ts'
import type { MeshError } from '../shared/runtime/errors.ts'
import { BaggageReader } from './baggage.ts'
import { Connections } from './connections.ts'
import { PodDns, type DnsParts } from './dns/pod-dns.ts'
import { acceptHbone } from './inbound.ts'
import { proxyOutbound } from './outbound.ts'
import { OutboundLoad } from './outbound-load.ts'
import { proxyPassthrough } from './passthrough.ts'
import type { Pod, PodDescription } from './pod.ts'
import { dialSession } from './upstream.ts'

/** What all pods of a worker share. */
export type PodSurroundings = Pick<
  Pod,
  | 'config'
  | 'mesh'
  | 'certificates'
  | 'addresses'
  | 'reports'
  | 'spoofer'
  | 'log'
  | 'random'
  | 'metrics'
  | 'revocations'
  | 'unknownPolicies'
  | 'neighbour'
> & {
  /** Listeners take connections that are not addressed to them (TPROXY). */
  readonly transparent: boolean
  /** A clock that only goes forward. */
  readonly now: () => number
  /** Undefined where nobody answers DNS. */
  readonly dns: DnsParts | undefined
}

export class PodProxy {
  readonly pod: Pod
  readonly #gone = new AbortController()
  readonly #servers: net.Server[] = []
  readonly #sessions = new Set<ServerSession>()
  /** Connections that no Connection stands for yet: in a handshake, or waiting for the pod's record. */
  readonly #arriving = new Set<net.Socket>()
  #dns: PodDns | undefined
  #work = 0
  #onIdle: (() => void) | undefined

  /** Throws a SystemCallError when a listener cannot be opened; nothing is left behind then. */
  constructor(surroundings: PodSurroundings, description: PodDescription) {
    const { config, now, transparent, dns, ...shared } = surroundings
    const pool: TunnelPool = new TunnelPool({
      dial: (key, signal) => dialSession(this.pod, key, signal),
      maxStreams: config.pool.maxStreams,
      unusedReleaseMs: config.pool.unusedReleaseMs
    })
    const keepAlive = config.keepAlive === undefined ? {} : { keepAlive: config.keepAlive }
    const userTimeout = config.userTimeoutMs === undefined ? {} : { userTimeoutMs: config.userTimeoutMs }
    const application: TcpOptions = { noDelay: true, ...keepAlive, ...userTimeout }
    this.pod = {
      ...shared,
      config,
      description,
      pool,
      place: {
        ...(description.netns !== undefined && { netns: description.netns }),
        ...(config.packetMark !== undefined && { mark: config.packetMark })
      },
      dialOptions: application,
      baggage: new BaggageReader(),
      connections: new Connections(now),
      load: new OutboundLoad(),
      gone: this.#gone.signal
    }
    const { ports } = config
    try {
      // HBONE has its own PINGs, so its sockets need no keepalive.
      this.#listen(ports.inbound, transparent, { noDelay: true }, socket => this.#acceptSession(socket))
      if (description.self) return
      this.#listen(ports.passthrough, transparent, application, socket => proxyPassthrough(this.pod, socket))
      this.#listen(ports.outbound, transparent, application, socket => proxyOutbound(this.pod, socket))
      if (config.dns !== undefined && dns !== undefined) {
        this.#dns = new PodDns(this.pod, { ...dns, config: config.dns, transparent, now })
      }
    } catch (error) {
      for (const server of this.#servers) server.close()
      throw error
    }
  }

  /** Ports of the listeners, in the order inbound, passthrough, outbound. */
  get ports(): readonly number[] {
    return this.#servers.map(server => (server.address() as net.AddressInfo).port)
  }

  /** Takes nothing new: listeners close, sessions are told to go elsewhere. */
  drain(): void {
    this.#dns?.drain()
    for (const server of this.#servers) server.close()
    for (const session of this.#sessions) session.drain()
    this.pod.pool.close()
  }

  /** Resolves when no connection is left. Call after {@link drain}. */
  async idle(): Promise<void> {
    if (this.#work > 0 || this.#sessions.size > 0) {
      await new Promise<void>(resolve => {
        this.#onIdle = resolve
      })
    }
    await this.#dns?.idle()
    // The last tunnels have just ended; what they carried may still be on its way to the application.
    while (this.pod.connections.size > 0) await sleep(5)
  }

  /** Ends everything now. */
  close(reason: MeshError): void {
    this.drain()
    this.#dns?.close()
    this.#gone.abort(reason)
    this.pod.connections.closeAll(reason)
    for (const session of this.#sessions) session.destroy(reason)
    for (const socket of this.#arriving) socket.destroy()
  }

  #listen(
    port: number,
    transparent: boolean,
    tcp: TcpOptions,
    onConnection: (socket: net.Socket) => Promise<void>
  ): void {
    const fd = openPodListener(this.pod, port, transparent, tcp)
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, socket => {
      this.#work += 1
      socket.on('error', ignore) // before a path listens; a path reports what it sees
      void onConnection(socket).finally(() => this.#done())
    })
    // Only running out of descriptors can fail an open listener; the next connection may work again.
    server.on('error', error => this.pod.log.error('listener failed', { port, error: error.message }))
    try {
      server.listen({ fd }, listenBacklog)
    } catch (error) {
      closeDescriptor(fd)
      throw error
    }
    this.#servers.push(server)
  }

  async #acceptSession(socket: net.Socket): Promise<void> {
    this.#arriving.add(socket)
    const session = await acceptHbone(this.pod, socket)
    this.#arriving.delete(socket)
    if (session === undefined) return
    this.#sessions.add(session)
    session.closed.addEventListener(
      'abort',
      () => {
        this.#sessions.delete(session)
        this.#settle()
      },
      { once: true }
    )
  }

  #done(): void {
    this.#work -= 1
    this.#settle()
  }

  #settle(): void {
    if (this.#work === 0 && this.#sessions.size === 0) this.#onIdle?.()
  }
}

/** On all addresses of the pod; IPv4 only where the namespace has no IPv6. */
function openPodListener(
  { place, config }: Pod,
  port: number,
  transparent: boolean,
  tcp: TcpOptions
): number {
  const options = { reusePort: config.portReuse, transparent, backlog: listenBacklog, ...tcp }
  if (config.ipv6) {
    try {
      return openListener(place, { ...options, address: { ip: ip('::'), port }, dualStack: true })
    } catch (error) {
      if (!(error instanceof SystemCallError && error.code === 'EAFNOSUPPORT')) throw error
    }
  }
  return openListener(place, { ...options, address: { ip: ip('0.0.0.0'), port } })
}

function ignore(): void {
  // see where it is used
}
