/** The proxy of one pod on one worker: its listeners, its session pool, its live connections. */
import type net from 'node:net'
import type { ServerSession } from '../shared/hbone/server.ts'
import { TunnelPool } from '../shared/hbone/pool.ts'
import { ip } from '../shared/net/address.ts'
import { SystemCallError } from '../shared/net/ffi.ts'
import { listenBacklog, openListener, type TcpOptions } from '../shared/net/sockets.ts'
import { sleep } from '../shared/runtime/clock.ts'
import { messageOf, type MeshError } from '../shared/runtime/errors.ts'
import { BaggageReader } from './baggage.ts'
import { Connections } from './connections.ts'
import { SOCKS_PORT } from './data-config.ts'
import { PodDns, type DnsParts } from './dns/pod-dns.ts'
import { acceptHbone } from './inbound.ts'
import { Listener } from './listener.ts'
import { proxyOutbound } from './outbound.ts'
import { OutboundLoad } from './outbound-load.ts'
import { proxyPassthrough } from './passthrough.ts'
import type { Pod, PodDescription } from './pod.ts'
import { proxySocks } from './socks5.ts'
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

/** Another ztunnel listens beside this one, and shall have what comes from now on. */
export interface Handover {
  /** Sockets at each port that this ztunnel has: one a worker. */
  readonly own: number
  /** Those that another one has, by port. */
  readonly others: ReadonlyMap<number, number>
  /** How long connections whose first packet came here may take to arrive. */
  readonly lingerMs: number
}

export class PodProxy {
  readonly pod: Pod
  readonly #gone = new AbortController()
  readonly #listeners: Listener[] = []
  readonly #sessions = new Set<ServerSession>()
  /** Connections that no Connection stands for yet: in a handshake, or waiting for the pod's record. */
  readonly #arriving = new Set<net.Socket>()
  #dns: PodDns | undefined
  #work = 0
  #draining = false
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
      if (config.socks5) this.#listenForSocks(application)
      if (config.dns !== undefined && dns !== undefined) {
        this.#dns = new PodDns(this.pod, { ...dns, config: config.dns, transparent, now })
      }
    } catch (error) {
      this.#closeListeners()
      throw error
    }
  }

  /** Ports of the listeners, in the order inbound, passthrough, outbound, SOCKS5. */
  get ports(): readonly number[] {
    return this.#listeners.map(({ port }) => port)
  }

  /**
   * Takes nothing new: sessions are told to go elsewhere, and listeners close, those that another ztunnel opened too
   * a little later. What was accepted until then is carried as ever, so the pool stays open.
   */
  drain(handover?: Handover): void {
    this.#draining = true
    this.#dns?.drain()
    for (const session of this.#sessions) session.drain()
    const left: Listener[] = []
    for (const listener of [...this.#listeners]) {
      if (handover !== undefined && this.#leave(listener, handover)) left.push(listener)
      else this.#finish(listener)
    }
    if (handover === undefined || left.length === 0) return
    setTimeout(() => left.forEach(listener => this.#finish(listener)), handover.lingerMs).unref()
  }

  /** Resolves when no connection is left. Call after {@link drain}. */
  async idle(): Promise<void> {
    if (!this.#settled) {
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
    this.#closeListeners()
    this.#dns?.close()
    this.pod.pool.close()
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
    this.#serve(openPodListener(this.pod, port, transparent, tcp), port, onConnection)
  }

  #listenForSocks(tcp: TcpOptions): void {
    const { place, config } = this.pod
    const address = { ip: ip('127.0.0.1'), port: SOCKS_PORT }
    const fd = openListener(place, { ...tcp, address, reusePort: config.portReuse, backlog: listenBacklog })
    this.#serve(fd, SOCKS_PORT, socket => proxySocks(this.pod, socket))
  }

  #serve(fd: number, port: number, onConnection: (socket: net.Socket) => Promise<void>): void {
    const listener = new Listener(fd, {
      onConnection: socket => {
        this.#work += 1
        socket.on('error', ignore) // before a path listens; a path reports what it sees
        void onConnection(socket).finally(() => this.#done())
      },
      onError: error => this.pod.log.error('listener failed', { port, error: error.message })
    })
    this.#listeners.push(listener)
  }

  /** Whether another ztunnel gets the listener's new connections from now on. */
  #leave(listener: Listener, { own, others }: Handover): boolean {
    const { port } = listener
    const theirs = others.get(port) ?? 0
    if (theirs === 0) return false
    try {
      listener.leaveTo({ own, others: theirs })
      return true
    } catch (error) {
      this.pod.log.warn('cannot leave a listener to another ztunnel', { port, error: messageOf(error) })
      return false
    }
  }

  #finish(listener: Listener): void {
    const index = this.#listeners.indexOf(listener)
    if (index < 0) return // everything was closed meanwhile
    this.#listeners.splice(index, 1)
    listener.finish()
    this.#settle()
  }

  #closeListeners(): void {
    for (const listener of this.#listeners.splice(0)) listener.close()
  }

  async #acceptSession(socket: net.Socket): Promise<void> {
    this.#arriving.add(socket)
    const session = await acceptHbone(this.pod, socket)
    this.#arriving.delete(socket)
    if (session === undefined) return
    this.#sessions.add(session)
    if (this.#draining) session.drain()
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
    if (this.#settled) this.#onIdle?.()
  }

  get #settled(): boolean {
    return this.#work === 0 && this.#sessions.size === 0 && this.#listeners.length === 0
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
