/**
 * A connection to a port on the loopback of a pod's network namespace, through the API server.
 * Source: Kubernetes, `pods/portforward` by WebSocket: each message starts with its channel, 0 for data and
 * 1 for errors; the first message on each channel is the port, 2 bytes little-endian.
 */
import { Duplex } from 'node:stream'
import http from 'node:http'
import { pathOf, type KubeClient } from './client.ts'
import { pods } from './core-api.ts'
import { openWebSocket, type ChannelSocket } from './websocket.ts'

export interface ForwardTarget {
  readonly namespace: string
  readonly pod: string
  readonly port: number
}

const protocols = ['v5.channel.k8s.io', 'v4.channel.k8s.io']
const dataChannel = 0
const errorChannel = 1
/** v5: the peer will send no more on the channel that the second byte names. */
const closeChannel = 255

/** Throws KubeError (403: the user lacks `create pods/portforward`), KubeUnreachableError, or the signal's reason. */
export async function portForward(
  client: KubeClient,
  target: ForwardTarget,
  signal: AbortSignal
): Promise<Duplex> {
  const ref = { namespace: target.namespace, name: target.pod }
  const path = pathOf(pods, ref, { ports: String(target.port) }, 'portforward')
  const needs = `create pods/portforward in namespace ${target.namespace}`
  return new ForwardedConnection(await openWebSocket(client.access, path, protocols, needs, signal), target)
}

class ForwardedConnection extends Duplex {
  readonly #socket: ChannelSocket
  readonly #target: ForwardTarget
  /** Channels whose first message, the port, has come. */
  readonly #started = new Set<number>()
  #written: (() => void) | undefined

  constructor(socket: ChannelSocket, target: ForwardTarget) {
    super({ allowHalfOpen: true })
    this.#socket = socket
    this.#target = target
    socket.onMessage = message => this.#take(message)
    socket.onDrain = () => this.#drained()
    socket.onClose = reason => this.#closed(reason)
  }

  override _read(): void {
    this.#socket.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const message = Buffer.allocUnsafe(chunk.length + 1)
    message[0] = dataChannel
    chunk.copy(message, 1)
    if (this.#socket.send(message)) done()
    else this.#written = done
  }

  /** v4 cannot say that one side ended; the requests sent here carry their length, so nothing waits for it. */
  override _final(done: (error?: Error | null) => void): void {
    if (this.#socket.protocol.startsWith('v5')) this.#socket.send(Buffer.from([closeChannel, dataChannel]))
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.close()
    done(error)
  }

  #take(message: Buffer): void {
    const channel = message[0] ?? dataChannel
    if (channel === closeChannel) {
      if (message[1] === dataChannel) this.push(null)
      return
    }
    if (!this.#started.has(channel)) {
      this.#started.add(channel)
      return
    }
    const content = message.subarray(1)
    // an error comes whole, and nothing comes after it
    if (channel === errorChannel) this.destroy(this.#failure(content.toString('utf8').trim()))
    else if (channel === dataChannel && content.length > 0 && !this.push(content)) this.#socket.pause()
  }

  #drained(): void {
    const done = this.#written
    this.#written = undefined
    done?.()
  }

  #closed(reason: string | undefined): void {
    if (this.destroyed) return
    if (reason !== undefined) {
      this.destroy(this.#failure(reason))
      return
    }
    if (!this.readableEnded) this.push(null)
    this.#drained()
  }

  #failure(problem: string): Error {
    const { namespace, pod, port } = this.#target
    return new Error(`port ${port} of pod ${namespace}/${pod}: ${problem}`)
  }
}

export interface ForwardedRequest {
  readonly method: string
  readonly path: string
  readonly body?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** One HTTP/1.1 request over a connection made for it; the answer's body ends with the connection. */
export async function requestThrough(
  connection: Duplex,
  request: ForwardedRequest,
  signal: AbortSignal
): Promise<http.IncomingMessage> {
  const { method, path, body, headers } = request
  return new Promise((resolve, reject) => {
    const outgoing = http.request({
      createConnection: () => connection,
      method,
      path,
      signal,
      headers: {
        host: 'localhost',
        connection: 'close',
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        ...headers
      }
    })
    outgoing.once('response', resolve)
    outgoing.on('error', error => {
      connection.destroy()
      reject(error)
    })
    outgoing.end(body)
  })
}
