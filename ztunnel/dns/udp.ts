/** DNS by UDP for one pod: reads queries with the address that they were sent to, and answers from that address. */
import { ipFamily, type Family, type SocketAddress } from '../../shared/net/address.ts'
import { openDatagramListener, sendDatagram, type DatagramReader } from '../../shared/net/datagrams.ts'
import type { Watch, Watcher } from '../../shared/net/poll.ts'
import { boundAddress, closeDescriptor } from '../../shared/net/sockets.ts'
import { openSpoofingSender, sendSpoofed } from '../../shared/net/spoofed-datagrams.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Pod } from '../pod.ts'
import { askResolvers } from './ask.ts'
import type { DnsDesk, Forwarding } from './desk.ts'

/** Queries of a pod that may wait for resolvers at one time, each with a socket. More are told that it failed. */
const mostForwarded = 512
/** Datagrams read before other work of the thread gets its turn. */
const datagramsPerTurn = 32
/** Room for a burst of a few thousand queries while the thread is busy. */
const bufferBytes = 1 << 20

export interface UdpParts {
  readonly poller: Watcher
  readonly reader: DatagramReader
  readonly transparent: boolean
}

export class DnsOverUdp {
  readonly port: number
  readonly #fd: number
  readonly #watch: Watch
  readonly #pod: Pod
  readonly #desk: DnsDesk
  readonly #reader: DatagramReader
  readonly #senders: SpoofingSenders
  #open = true
  #forwarded = 0

  /** Throws SystemCallError when the address cannot be had. */
  constructor(pod: Pod, desk: DnsDesk, address: SocketAddress, { poller, reader, transparent }: UdpParts) {
    const reusePort = pod.config.portReuse
    this.#fd = openDatagramListener(pod.place, { address, reusePort, transparent, bufferBytes })
    this.port = boundAddress(this.#fd)?.port ?? address.port
    this.#pod = pod
    this.#desk = desk
    this.#reader = reader
    this.#senders = new SpoofingSenders(pod)
    this.#watch = poller.watch(this.#fd, () => this.#onReady())
    this.#arm()
  }

  /** Queries that wait for a resolver. */
  get waiting(): number {
    return this.#forwarded
  }

  /** Takes nothing new. What had arrived is still answered, and what resolvers say is still passed on. */
  stop(): void {
    if (!this.#open) return
    this.#serve(Infinity)
    this.#open = false
    this.#watch.stop()
    closeDescriptor(this.#fd)
  }

  close(): void {
    this.stop()
    this.#senders.close()
  }

  #onReady(): void {
    this.#serve(datagramsPerTurn)
    this.#arm()
  }

  #arm(): void {
    if (this.#open) this.#watch.arm({ read: true, write: false })
  }

  #serve(most: number): void {
    try {
      for (let turn = 0; turn < most && this.#open; turn++) {
        const datagram = this.#reader.read(this.#fd)
        if (datagram === undefined) return
        this.#take(datagram.bytes, datagram.from, datagram.to)
      }
    } catch (error) {
      this.#pod.log.error('reading DNS queries failed', { error: messageOf(error) })
    }
  }

  #take(bytes: Buffer, client: SocketAddress, asked: SocketAddress): void {
    const verdict = this.#desk.judge(bytes, 'udp')
    if (verdict.kind === 'reply') this.#send(verdict.reply, client, asked)
    else if (verdict.kind === 'forward') void this.#forward(verdict, Buffer.from(bytes), client, asked)
  }

  async #forward(
    forwarding: Forwarding,
    message: Buffer,
    client: SocketAddress,
    asked: SocketAddress
  ): Promise<void> {
    if (this.#forwarded >= mostForwarded) {
      this.#fail(forwarding, `${mostForwarded} queries wait already`, client, asked)
      return
    }
    this.#forwarded += 1
    try {
      // Rules that translate addresses leave only our own: then those asked whom ztunnel itself would ask.
      const resolvers = asked.port === this.port ? this.#desk.resolvers : [asked]
      const reply = await askResolvers(this.#pod.place, resolvers, message, this.#pod.gone)
      forwarding.answered(reply)
      this.#send(reply, client, asked)
    } catch (error) {
      this.#fail(forwarding, messageOf(error), client, asked)
    } finally {
      this.#forwarded -= 1
    }
  }

  #fail(forwarding: Forwarding, reason: string, client: SocketAddress, asked: SocketAddress): void {
    const reply = forwarding.failed(reason)
    if (reply !== undefined) this.#send(reply, client, asked)
  }

  /** From the address that was asked: nothing else would be taken for an answer. Lost answers are asked for again. */
  #send(reply: Buffer, client: SocketAddress, asked: SocketAddress): void {
    if (asked.port === this.port && this.#open) sendDatagram(this.#fd, reply, client)
    else this.#senders.send(asked, client, reply)
  }
}

/** One descriptor a family, opened when it is first needed. */
class SpoofingSenders {
  readonly #pod: Pod
  readonly #open = new Map<Family, number>()
  #closed = false

  constructor(pod: Pod) {
    this.#pod = pod
  }

  send(from: SocketAddress, to: SocketAddress, payload: Buffer): void {
    if (this.#closed) return
    const family = ipFamily(from.ip)
    try {
      let fd = this.#open.get(family)
      if (fd === undefined) this.#open.set(family, (fd = openSpoofingSender(this.#pod.place, family)))
      sendSpoofed(fd, from, to, payload)
    } catch (error) {
      this.#pod.log.error('a DNS answer could not be sent', { error: messageOf(error) })
    }
  }

  close(): void {
    this.#closed = true
    for (const fd of this.#open.values()) closeDescriptor(fd)
    this.#open.clear()
  }
}
