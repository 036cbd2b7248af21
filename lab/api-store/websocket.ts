/** WebSockets (RFC 6455) of the API store. The only file here that imports `ws`. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer, createWebSocketStream, type RawData } from 'ws'

/** A message on a channel of a `*.channel.k8s.io` connection; `undefined` = the connection ended. */
export type ChannelListener = (channel: number, data: Buffer) => void

/** Longest message that a client may send, in bytes. */
const maxMessageBytes = 4 << 20
/** Bytes that wait for the client before writers have to. */
const highWaterMark = 1 << 20

const server = new WebSocketServer({ noServer: true, maxPayload: maxMessageBytes, clientTracking: false })
const protocols = new WeakMap<IncomingMessage, string>()
server.on('headers', (headers, request) =>
  headers.push(`Sec-WebSocket-Protocol: ${protocols.get(request) ?? ''}`)
)

/** Takes the upgrade with this sub-protocol, which the client must have offered; `closing` ends the connection. */
export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
  closing: AbortSignal
): Promise<Channels> {
  // said by us, as ws refuses names with a slash, which Kubernetes uses
  delete request.headers['sec-websocket-protocol']
  protocols.set(request, protocol)
  return new Promise((resolve, reject) => {
    const refused = (): void => reject(new Error('the WebSocket handshake failed'))
    socket.once('close', refused)
    server.handleUpgrade(request, socket, head, webSocket => {
      socket.off('close', refused)
      const end = (): void => webSocket.terminate()
      closing.addEventListener('abort', end, { once: true })
      webSocket.once('close', () => closing.removeEventListener('abort', end))
      resolve(new Channels(webSocket))
    })
  })
}

/** Binary messages whose first byte says which channel they belong to. */
export class Channels {
  readonly #socket: WebSocket
  readonly #closed = new AbortController()

  constructor(socket: WebSocket) {
    this.#socket = socket
    socket.on('close', () => this.#closed.abort())
    socket.on('error', () => socket.terminate()) // a broken frame or connection: nothing more can be said
  }

  /** Aborts when the connection has ended. */
  get closed(): AbortSignal {
    return this.#closed.signal
  }

  onMessage(listener: ChannelListener): void {
    this.#socket.on('message', (data: RawData) => {
      const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data as Buffer)
      const [channel] = bytes
      if (channel !== undefined) listener(channel, bytes.subarray(1))
    })
  }

  /** `done` is called when there is room for more, or at once when the connection has ended. */
  send(channel: number, data: Uint8Array, done: () => void = () => undefined): void {
    if (this.#socket.readyState !== WebSocket.OPEN) {
      done()
      return
    }
    const message = Buffer.concat([Buffer.of(channel), data])
    const wait = this.#socket.bufferedAmount > highWaterMark
    this.#socket.send(message, () => {
      if (wait) done()
    })
    if (!wait) done()
  }

  /** Stops reading from the client until {@link resume}. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Ends the connection after what was sent. */
  close(): void {
    this.#socket.close(1000)
  }

  /** The connection as one stream of bytes, for protocols that are tunnelled in it. */
  byteStream(): Duplex {
    return createWebSocketStream(this.#socket, { highWaterMark: 64 << 10 })
  }
}
