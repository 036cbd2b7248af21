/** A TLS server that answers in capitals, and keeps what it sees of its clients. */
import type { Test } from 'tap'
import { once } from 'node:events'
import type net from 'node:net'
import tls from 'node:tls'
import type { TestCredentials } from '../../support/certificates.ts'
import { eventually } from '../../support/eventually.ts'

export interface TlsServer {
  readonly port: number
  /** What it was sent by all, inside of TLS. */
  readonly received: string
  /** In the hellos. */
  readonly names: readonly (string | false)[]
  readonly protocols: readonly (string | false)[]
  /** When the last client is gone. */
  quiet(): Promise<void>
}

export async function tlsServer(
  t: Test,
  { certPem: cert, keyPem: key }: TestCredentials,
  options: tls.TlsOptions = {}
): Promise<TlsServer> {
  const sockets = new Set<net.Socket>()
  const names: (string | false)[] = []
  const protocols: (string | false)[] = []
  let received = ''
  let came = 0
  const server = tls.createServer({ cert, key, ...options }, socket => {
    names.push(socket.servername === '' ? false : (socket.servername ?? false))
    protocols.push(socket.alpnProtocol ?? false)
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString()
      socket.write(chunk.toString().toUpperCase())
    })
  })
  server.on('connection', (socket: net.Socket) => {
    came += 1
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    port: (server.address() as net.AddressInfo).port,
    names,
    protocols,
    get received() {
      return received
    },
    quiet: () => eventually('all clients are gone', () => came > 0 && sockets.size === 0)
  }
}
