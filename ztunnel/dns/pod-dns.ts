/** The DNS proxy of one pod on one worker: where it listens, and how it ends. */
import net from 'node:net'
import { ipFamily, type SocketAddress } from '../../shared/net/address.ts'
import type { DatagramReader } from '../../shared/net/datagrams.ts'
import { SystemCallError } from '../../shared/net/ffi.ts'
import type { Watcher } from '../../shared/net/poll.ts'
import { closeDescriptor, openListener } from '../../shared/net/sockets.ts'
import { sleep } from '../../shared/runtime/clock.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Pod } from '../pod.ts'
import type { DnsConfig } from './config.ts'
import { DnsDesk } from './desk.ts'
import { serveDnsOverTcp } from './tcp.ts'
import { DnsOverUdp } from './udp.ts'

/** What the DNS proxies of a worker share. */
export interface DnsParts {
  readonly poller: Watcher
  readonly reader: DatagramReader
  readonly log: Logger
}

export interface PodDnsOptions extends DnsParts {
  readonly config: DnsConfig
  /** Listeners take what is not addressed to them (TPROXY). */
  readonly transparent: boolean
  /** A clock that only goes forward. */
  readonly now: () => number
}

const tcpBacklog = 128
/** Connections of a pod; clients by TCP are few and soon gone. */
const mostConnections = 128

export class PodDns {
  readonly #pod: Pod
  readonly #desk: DnsDesk
  readonly #options: PodDnsOptions
  readonly #udp: DnsOverUdp[] = []
  readonly #tcp: net.Server[] = []
  readonly #connections = new Set<net.Socket>()

  /** Throws SystemCallError when an address cannot be had; nothing is left behind then. */
  constructor(pod: Pod, options: PodDnsOptions) {
    this.#pod = pod
    this.#options = options
    this.#desk = new DnsDesk(pod, options.config, options.log, options.now)
    try {
      for (const address of options.config.listen) this.#listen(address)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Ports, in the order of the configured addresses. */
  get ports(): readonly number[] {
    return this.#udp.map(({ port }) => port)
  }

  /** Takes nothing new; what was asked is still answered. */
  drain(): void {
    for (const udp of this.#udp) udp.stop()
    for (const server of this.#tcp) server.close()
  }

  /** Resolves when no query waits for a resolver any more; resolvers have a deadline. */
  async idle(): Promise<void> {
    while (this.#udp.some(({ waiting }) => waiting > 0)) await sleep(5)
  }

  close(): void {
    for (const server of this.#tcp) server.close()
    for (const socket of this.#connections) socket.destroy()
    for (const udp of this.#udp) udp.close()
  }

  #listen(address: SocketAddress): void {
    let udp: DnsOverUdp
    try {
      udp = new DnsOverUdp(this.#pod, this.#desk, address, this.#options)
    } catch (error) {
      if (ipFamily(address.ip) === 6 && isWithoutIpv6(error)) return
      throw error
    }
    this.#udp.push(udp)
    this.#listenByTcp({ ip: address.ip, port: udp.port })
  }

  #listenByTcp(address: SocketAddress): void {
    const { place, config, log } = this.#pod
    const { transparent } = this.#options
    const reusePort = config.portReuse
    const fd = openListener(place, { address, reusePort, transparent, backlog: tcpBacklog, noDelay: true })
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, socket => {
      this.#connections.add(socket)
      socket.on('error', () => undefined) // its end is all that matters
      socket.once('close', () => this.#connections.delete(socket))
      serveDnsOverTcp(this.#pod, this.#desk, socket, address.port)
    })
    server.maxConnections = mostConnections
    server.on('error', error => log.error('DNS listener failed', { error: error.message }))
    try {
      server.listen({ fd }, tcpBacklog)
    } catch (error) {
      closeDescriptor(fd)
      throw error
    }
    this.#tcp.push(server)
  }
}

/** The namespace has no IPv6, or none on its loopback. */
function isWithoutIpv6(error: unknown): boolean {
  return error instanceof SystemCallError && (error.code === 'EADDRNOTAVAIL' || error.code === 'EAFNOSUPPORT')
}
