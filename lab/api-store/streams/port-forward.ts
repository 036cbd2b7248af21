/** Connections to ports of a pod, over channels of a WebSocket or over SPDY. */
import { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { messageOf } from '../../../shared/runtime/errors.ts'
import type { PodRuntime } from '../pod-runtime.ts'
import type { Channels } from '../websocket.ts'
import { SpdyConnection, type SpdyStream } from './spdy.ts'

export const channelProtocols = ['v4.channel.k8s.io']
/** SPDY/3.1 inside WebSocket messages, as kubectl forwards ports since 1.31. */
export const tunnelProtocols = ['SPDY/3.1+portforward.k8s.io']

export interface PodRef {
  readonly namespace: string
  readonly pod: string
}

/**
 * Two channels a port, in the order of the request: 2n carries data, 2n+1 an error text. The server's first
 * message on each is the port, two bytes, little-endian.
 */
export async function forwardChannels(
  channels: Channels,
  runtime: PodRuntime,
  pod: PodRef,
  ports: readonly number[],
  closing: AbortSignal
): Promise<void> {
  const signal = AbortSignal.any([channels.closed, closing])
  const streams = ports.map(
    (_port, index) =>
      new Duplex({
        read: () => channels.resume(),
        write: (data: Buffer, _encoding, done) => channels.send(index * 2, data, () => done())
      })
  )
  channels.onMessage((channel, data) => {
    const stream = channel % 2 === 0 ? streams[channel / 2] : undefined
    if (stream !== undefined && !stream.readableEnded && data.length > 0 && !stream.push(data))
      channels.pause()
  })
  channels.closed.addEventListener('abort', () => streams.forEach(stream => stream.push(null)), {
    once: true
  })
  for (const [index, port] of ports.entries()) {
    const number = Buffer.of(port & 0xff, port >> 8)
    channels.send(index * 2, number)
    channels.send(index * 2 + 1, number)
  }
  await Promise.all(
    streams.map(async (stream, index) => {
      // one channel cannot end in one direction only: when the pod has ended, so does the connection
      stream.once('finish', () => stream.push(null))
      const problem = await forward(stream, runtime, pod, ports[index] ?? 0, signal)
      if (problem !== undefined) channels.send(index * 2 + 1, Buffer.from(problem))
    })
  )
  channels.close()
}

/**
 * A pair of streams for each connection, `error` and `data`, joined by their header `requestid`. Ends with the
 * client's connection.
 */
export async function forwardSpdy(
  transport: Duplex,
  runtime: PodRuntime,
  pod: PodRef,
  closing: AbortSignal
): Promise<void> {
  const errors = new Map<string, SpdyStream>()
  const closed = new AbortController()
  const signal = AbortSignal.any([closed.signal, closing])
  signal.addEventListener('abort', () => transport.destroy(), { once: true })
  const connection = new SpdyConnection(transport, stream => {
    const id = stream.headers.get('requestid') ?? ''
    const port = Number(stream.headers.get('port'))
    if (stream.headers.get('streamtype') === 'error') {
      errors.set(id, stream)
      stream.duplex.resume()
      return
    }
    const error = errors.get(id)
    errors.delete(id)
    void forward(stream.duplex, runtime, pod, port, signal).then(problem => error?.duplex.end(problem ?? ''))
  })
  await connection.run()
  closed.abort()
}

/** Copies both ways until both ended; a text when the port could not be reached or the copy broke off. */
async function forward(
  client: Duplex,
  runtime: PodRuntime,
  pod: PodRef,
  port: number,
  signal: AbortSignal
): Promise<string | undefined> {
  const failed = (error: unknown): string =>
    `error forwarding port ${port} to pod ${pod.pod}: ${messageOf(error)}`
  let target: Duplex
  try {
    target = await runtime.portForward(pod, port, signal)
  } catch (error) {
    client.destroy()
    return failed(error)
  }
  try {
    await Promise.all([pipeline(client, target, { signal }), pipeline(target, client, { signal })])
    return undefined
  } catch (error) {
    target.destroy()
    client.destroy()
    return signal.aborted ? undefined : failed(error)
  }
}
