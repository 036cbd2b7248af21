/** Two ends of one TLS connection on loopback, with the sessions under test on one or both. */
import { once } from 'node:events'
import net from 'node:net'
import type tls from 'node:tls'
import { ClientSession, type SessionOptions } from '../../../shared/hbone/session.ts'
import { serveTunnels, type ServerSession, type TunnelRequest } from '../../../shared/hbone/server.ts'
import { acceptTls, connectTls } from '../../../shared/hbone/tls.ts'
import type { ByteStream } from '../../../shared/net/byte-stream.ts'
import { testAuthority } from '../../support/certificates.ts'

export const authority = testAuthority()
export const server = authority.issue({ serviceAccount: 'server' })
export const client = authority.issue({ serviceAccount: 'client' })
export const never = new AbortController().signal

export interface Test {
  teardown(end: () => unknown): void
}

/** Both ends of a TCP connection. */
export async function tcpPair(t: Test): Promise<[net.Socket, net.Socket]> {
  const listener = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as net.AddressInfo
  const near = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const [far] = (await once(listener, 'connection')) as [net.Socket]
  if (near.connecting) await once(near, 'connect')
  listener.close()
  t.teardown(() => {
    near.destroy()
    far.destroy()
  })
  return [near, far]
}

/** Both ends of a mutual TLS connection: the client's, then the server's. */
export async function tlsPair(t: Test): Promise<[tls.TLSSocket, tls.TLSSocket]> {
  const [near, far] = await tcpPair(t)
  const [connected, accepted] = await Promise.all([
    connectTls(near, client.certificate, [server.identity], never),
    acceptTls(far, server.certificate, never)
  ])
  t.teardown(() => {
    connected.socket.destroy()
    accepted.socket.destroy()
  })
  return [connected.socket, accepted.socket]
}

export interface SessionPair {
  readonly client: ClientSession
  readonly server: ServerSession
}

export async function sessionPair(
  t: Test,
  onRequest: (request: TunnelRequest) => void,
  options: { client?: SessionOptions; server?: SessionOptions } = {}
): Promise<SessionPair> {
  const [near, far] = await tlsPair(t)
  return {
    server: serveTunnels(far, options.server ?? {}, onRequest),
    client: new ClientSession(near, options.client ?? {})
  }
}

/** Reads a stream to its end. */
export function readAll(stream: ByteStream): Promise<Buffer> {
  const chunks: Buffer[] = []
  return new Promise((resolve, reject) => {
    stream.attach({
      data: chunk => chunks.push(chunk),
      end: () => resolve(Buffer.concat(chunks)),
      drain: () => undefined,
      close: error => {
        if (error === undefined) resolve(Buffer.concat(chunks))
        else reject(error)
      }
    })
    stream.resume()
  })
}

/** Sends back what comes, and ends when its peer ends. */
export function echo(stream: ByteStream): void {
  stream.attach({
    data: chunk => {
      if (!stream.write(chunk)) stream.pause()
    },
    end: () => stream.end(),
    drain: () => stream.resume(),
    close: () => undefined
  })
  stream.resume()
}
