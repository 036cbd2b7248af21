/** An HTTPS server that answers as a test says and remembers what it was asked. */
import { generateKeyPairSync } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import forge from 'node-forge'
import type { ClusterAccess } from '../../../shared/kube/config.ts'

export interface KeyAndCertificate {
  readonly keyPem: string
  readonly certPem: string
}

export interface Asked {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
  readonly client: string
}

export interface ScriptedServer {
  readonly url: string
  readonly caPem: string
  readonly asked: Asked[]
  readonly access: ClusterAccess
  readonly https: https.Server
  /** A client certificate that this server's authority signed. */
  clientCertificate(name: string): KeyAndCertificate
}

/** Made once a process: keys take a while. */
let shared: ReturnType<typeof certificates> | undefined

function certificates(): { readonly authority: KeyAndCertificate; readonly own: KeyAndCertificate } {
  const authority = certificate('test authority', undefined)
  return { authority, own: certificate('127.0.0.1', authority) }
}

type Answer = (asked: Asked, response: ServerResponse) => void | Promise<void>

export async function scriptedServer(
  t: { teardown(fn: () => void): unknown },
  answer: Answer
): Promise<ScriptedServer> {
  const { authority, own } = (shared ??= certificates())
  const asked: Asked[] = []
  const server = https.createServer(
    {
      key: own.keyPem,
      cert: own.certPem,
      ca: authority.certPem,
      requestCert: true,
      rejectUnauthorized: false
    },
    (request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => (body += text))
      request.on('end', () => {
        const peer = (request.socket as TLSSocket).getPeerCertificate()
        const entry: Asked = {
          method: request.method ?? '',
          url: request.url ?? '',
          headers: request.headers,
          body,
          client: String(peer.subject?.CN ?? '')
        }
        asked.push(entry)
        Promise.resolve(answer(entry, response)).catch((error: unknown) => response.destroy(error as Error))
      })
    }
  )
  const sockets = new Set<Duplex>()
  server.on('secureConnection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => undefined) // clients of these tests go away without a word
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    caPem: authority.certPem,
    asked,
    https: server,
    access: {
      server: url,
      context: 'test',
      namespace: 'default',
      tls: { ca: authority.certPem, rejectUnauthorized: true },
      authorization: async () => 'Bearer test-token'
    },
    clientCertificate: name => certificate(name, authority)
  }
}

export function answerJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(value))
}

export function answerStatus(response: ServerResponse, code: number, reason: string, message: string): void {
  answerJson(response, { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, reason, code }, code)
}

/** A certificate for a server, a client or, without an issuer, an authority. */
function certificate(name: string, issuer: KeyAndCertificate | undefined): KeyAndCertificate {
  const keys = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' }
  })
  const made = forge.pki.createCertificate()
  made.publicKey = forge.pki.publicKeyFromPem(keys.publicKey)
  made.serialNumber = `01${Math.floor(Math.random() * 1e9)
    .toString(16)
    .padStart(8, '0')}`
  made.validity.notBefore = new Date(Date.now() - 60_000)
  made.validity.notAfter = new Date(Date.now() + 3_600_000)
  made.setSubject([{ name: 'commonName', value: name }])
  made.setIssuer(
    issuer === undefined
      ? [{ name: 'commonName', value: name }]
      : forge.pki.certificateFromPem(issuer.certPem).subject.attributes
  )
  made.setExtensions([
    { name: 'basicConstraints', cA: issuer === undefined, critical: true },
    { name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }
  ])
  made.sign(forge.pki.privateKeyFromPem(issuer?.keyPem ?? keys.privateKey), forge.md.sha256.create())
  return { keyPem: keys.privateKey, certPem: forge.pki.certificateToPem(made) }
}
