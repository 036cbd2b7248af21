/**
 * DNS by TCP for one pod. What the mesh knows is answered at once; everything else goes through one connection to
 * the resolver that the client connected to, and comes back message by message, however many there are to a query.
 */
import type net from 'node:net'
import { ipFamily, isLoopback, type SocketAddress } from '../../shared/net/address.ts'
import { dialerSocket, openDialer } from '../../shared/net/sockets.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { capturedFlow } from '../capture.ts'
import type { Pod } from '../pod.ts'
import { patienceMs } from './ask.ts'
import type { DnsDesk, Forwarding } from './desk.ts'
import { frame, FrameReader } from './frames.ts'

/** Queries of one connection that may wait for the resolver; then nothing more is read from the client. */
const mostWaiting = 64

/** Serves a connection until either side has had enough. */
export function serveDnsOverTcp(pod: Pod, desk: DnsDesk, socket: net.Socket, listenPort: number): void {
  const destination = capturedFlow(socket, listenPort)?.destination
  if (destination === undefined) {
    socket.destroy() // gone already
    return
  }
  const direct = destination.port === listenPort && isLoopback(destination.ip)
  new DnsConnection(pod, desk, socket, direct ? desk.resolvers : [destination]).start()
}

class DnsConnection {
  readonly #pod: Pod
  readonly #desk: DnsDesk
  readonly #client: net.Socket
  readonly #resolvers: readonly SocketAddress[]
  /** By message id; what has the same id is answered together. */
  readonly #waiting = new Map<number, Forwarding[]>()
  /** Frames for a connection that is not there yet; as many as may wait. */
  readonly #unsent: Buffer[] = []
  #upstream: net.Socket | undefined
  #reached = false
  #ended = false

  constructor(pod: Pod, desk: DnsDesk, client: net.Socket, resolvers: readonly SocketAddress[]) {
    this.#pod = pod
    this.#desk = desk
    this.#client = client
    this.#resolvers = resolvers
  }

  start(): void {
    const client = this.#client
    const frames = new FrameReader()
    client.setTimeout(patienceMs, () => client.destroy())
    client.on('data', (chunk: Buffer) => {
      for (const message of frames.push(chunk)) this.#take(message)
      this.#throttle()
    })
    client.on('drain', () => this.#upstream?.resume())
    client.on('end', () => {
      this.#ended = true
      this.#endWhenDone()
    })
    client.on('close', () => this.#upstream?.destroy())
    client.resume()
  }

  #take(message: Buffer): void {
    const verdict = this.#desk.judge(message, 'tcp')
    if (verdict.kind === 'reply') this.#reply(verdict.reply)
    if (verdict.kind !== 'forward') return
    const id = idOf(message)
    const same = this.#waiting.get(id)
    if (same === undefined) this.#waiting.set(id, [verdict])
    else same.push(verdict)
    if (this.#reached) {
      this.#upstream?.write(frame(message))
      return
    }
    this.#unsent.push(frame(message))
    if (this.#upstream === undefined) this.#connect(this.#resolvers, 'no resolver is configured')
  }

  /** Connects to the first resolver that can be reached; `problem` is why there is none when there is none left. */
  #connect([resolver, ...others]: readonly SocketAddress[], problem: string): void {
    if (resolver === undefined || this.#client.destroyed) {
      this.#unsent.length = 0
      this.#fail(problem)
      return
    }
    let reason = `${resolver.ip} closed the connection`
    let upstream: net.Socket
    try {
      const options = { family: ipFamily(resolver.ip), noDelay: true }
      upstream = dialerSocket(openDialer(this.#pod.place, options), { allowHalfOpen: false })
    } catch (error) {
      this.#connect(others, messageOf(error))
      return
    }
    this.#upstream = upstream
    const frames = new FrameReader()
    upstream.setTimeout(patienceMs, () =>
      upstream.destroy(new Error(`${resolver.ip} did not answer in time`))
    )
    upstream.on('data', (chunk: Buffer) => {
      for (const message of frames.push(chunk)) this.#pass(message)
    })
    upstream.on('error', error => (reason = messageOf(error)))
    upstream.on('close', () => {
      const reached = this.#reached
      this.#upstream = undefined
      this.#reached = false
      if (reached) this.#fail(reason)
      else this.#connect(others, reason)
    })
    upstream.connect({ host: resolver.ip, port: resolver.port }, () => {
      this.#reached = true
      for (const bytes of this.#unsent.splice(0)) upstream.write(bytes)
    })
  }

  #pass(message: Buffer): void {
    const id = idOf(message)
    for (const forwarding of this.#waiting.get(id) ?? []) forwarding.answered(message)
    this.#waiting.delete(id)
    if (!this.#reply(message)) this.#upstream?.pause()
    this.#throttle()
    this.#endWhenDone()
  }

  #fail(reason: string): void {
    const waiting = [...this.#waiting.values()].flat()
    this.#waiting.clear()
    for (const forwarding of waiting) {
      const reply = forwarding.failed(reason)
      if (reply !== undefined) this.#reply(reply)
    }
    this.#throttle()
    this.#endWhenDone()
  }

  /** False when the client does not read what it asked for. */
  #reply(message: Buffer): boolean {
    return this.#client.destroyed || this.#client.write(frame(message))
  }

  #throttle(): void {
    if (this.#waiting.size >= mostWaiting) this.#client.pause()
    else if (this.#client.isPaused()) this.#client.resume()
  }

  #endWhenDone(): void {
    if (!this.#ended || this.#waiting.size > 0) return
    this.#client.end()
    this.#upstream?.end()
  }
}

/** A frame may be too short to have one. */
function idOf(message: Buffer): number {
  return message.length < 2 ? -1 : message.readUInt16BE(0)
}
