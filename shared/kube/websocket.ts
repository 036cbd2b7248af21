/** Message streams to the API server. The only file of this folder that imports `ws`. */
import type { IncomingMessage } from 'node:http'
import { WebSocket, type ClientOptions } from 'ws'
import { messageOf } from '../runtime/errors.ts'
import { kubeErrorFrom } from './client.ts'
import type { ClusterAccess } from './config.ts'
import { KubeError, KubeUnreachableError } from './errors.ts'

/** Starts paused: nothing is told before the first `resume`. */
export interface ChannelSocket {
  /** The protocol that the server chose. */
  readonly protocol: string
  /** False when the peer is slower than we are: wait for `onDrain`. */
  send(message: Buffer): boolean
  pause(): void
  resume(): void
  close(): void
  onMessage: (message: Buffer) => void
  onDrain: () => void
  /** Once, at the end; with a reason unless the peer closed in order. */
  onClose: (reason: string | undefined) => void
}

/** Bytes that may wait in the socket before `send` says no. */
const highWaterBytes = 256 << 10

/** Opens a socket with one of the protocols. Throws KubeError on a refusal, {@link KubeUnreachableError} otherwise. */
export async function openWebSocket(
  access: ClusterAccess,
  path: string,
  protocols: readonly string[],
  needs: string,
  signal: AbortSignal
): Promise<ChannelSocket> {
  signal.throwIfAborted()
  const authorization = await access.authorization(false)
  const options: ClientOptions & { readonly closeTimeout: number } = {
    headers: authorization === undefined ? {} : { authorization },
    perMessageDeflate: false,
    maxPayload: 16 << 20,
    handshakeTimeout: 30_000,
    // both have said that it is over: no use in waiting longer for the other to hang up
    closeTimeout: 1000,
    ...access.tls
  }
  const socket = new WebSocket(access.server.replace(/^http/, 'ws') + path, [...protocols], options)
  const abort = (): void => socket.terminate()
  signal.addEventListener('abort', abort, { once: true })
  try {
    await opened(socket, access.server, needs)
  } catch (error) {
    signal.removeEventListener('abort', abort)
    throw signal.aborted ? signal.reason : error
  }
  socket.once('close', () => signal.removeEventListener('abort', abort))
  return channelSocket(socket)
}

function opened(socket: WebSocket, server: string, needs: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('open', () => {
      // what comes with the answer must wait until the caller listens; `resume` lets it through
      socket.pause()
      resolve()
    })
    socket.once('unexpected-response', (_request, response: IncomingMessage) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        if (body.length < 1 << 20) body += text
      })
      response.once('close', () => {
        reject(refusal(response.statusCode ?? 0, body, needs))
        socket.terminate()
      })
    })
    socket.on('error', error => {
      const text = `cannot open a stream through the API server ${server}: ${messageOf(error)}`
      reject(new KubeUnreachableError(server, text, { cause: error }))
    })
  })
}

/** An API server gives its reasons; an answer without one comes from something in between, or refuses the upgrade. */
function refusal(status: number, body: string, needs: string): KubeError {
  const error = kubeErrorFrom(status, body, needs)
  if (error.reason !== '') return error
  const message = `${error.message}; port-forward needs WebSocket all the way to the API server, through whatever proxies are in between`
  return new KubeError(status, { message }, needs)
}

function channelSocket(socket: WebSocket): ChannelSocket {
  let failure: string | undefined
  const channel: ChannelSocket = {
    protocol: socket.protocol,
    send: message => {
      socket.send(message, error => {
        if (!error && socket.bufferedAmount === 0) channel.onDrain()
      })
      return socket.bufferedAmount < highWaterBytes
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: () => socket.close(1000),
    onMessage: () => undefined,
    onDrain: () => undefined,
    onClose: () => undefined
  }
  socket.on('message', (data: Buffer) => channel.onMessage(data))
  socket.on('error', error => {
    failure = messageOf(error)
  })
  socket.once('close', (code: number, reason: Buffer) => {
    if (code !== 1000 && code !== 1005) failure ??= reason.toString() || `the stream broke (${code})`
    channel.onClose(failure)
  })
  return channel
}
