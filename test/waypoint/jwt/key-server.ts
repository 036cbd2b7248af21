/** A server of keys on loopback that does what a test says. */
import { generateKeyPairSync } from 'node:crypto'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { openssl } from '../../support/openssl.ts'

export interface KeyServer {
  /** With its port, without a path. */
  readonly origin: string
  /** Paths that were asked for. */
  readonly asked: string[]
  /** What it does from now on. */
  answer: http.RequestListener
  close(): void
}

export async function keyServer(answer: http.RequestListener, tls?: https.ServerOptions): Promise<KeyServer> {
  const made: { asked: string[]; answer: http.RequestListener } = { asked: [], answer }
  const listener: http.RequestListener = (request, response) => {
    made.asked.push(request.url ?? '')
    made.answer(request, response)
  }
  const server = tls === undefined ? http.createServer(listener) : https.createServer(tls, listener)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return Object.assign(made, {
    origin: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    close: () => {
      server.close()
      server.closeAllConnections()
    }
  })
}

export function text(body: string): http.RequestListener {
  return (_, response) => response.end(body)
}

export function status(code: number, headers: http.OutgoingHttpHeaders = {}): http.RequestListener {
  return (_, response) => response.writeHead(code, headers).end()
}

/** For 127.0.0.1, signed by itself. */
export function loopbackCertificate(): { readonly cert: string; readonly key: string } {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const name = ['-subj', '/CN=keys', '-addext', 'subjectAltName=IP:127.0.0.1']
  const { output } = openssl(['req', '-x509', '-days', '1', '-key', 'key.pem', ...name], { 'key.pem': key })
  return { cert: output, key }
}
