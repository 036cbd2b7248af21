/** The validating webhook: HTTPS, one path, one AdmissionReview a request. Source of port and path: istiod's. */
import type http from 'node:http'
import https from 'node:https'
import type net from 'node:net'
import { formatSocketAddress, ip, type SocketAddress } from '../../shared/net/address.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import type { metricFamilies } from '../metrics.ts'
import { reviewAdmission } from '../validate/admission.ts'
import type { ServingCertificate } from './grpc-server.ts'

export interface WebhookOptions {
  readonly listen: SocketAddress
  readonly certificate: ServingCertificate
  readonly metrics: Metrics<typeof metricFamilies>
  readonly log: Logger
}

/** An object may be 1.5 MiB in etcd; an update carries two of them. */
const maxBodyBytes = 8 << 20
const requestTimeoutMs = 10_000
const maxConnections = 512
const closeGraceMs = 500

export class WebhookServer {
  readonly address: SocketAddress
  readonly #server: https.Server

  constructor(server: https.Server) {
    this.#server = server
    const { address, port } = server.address() as net.AddressInfo
    this.address = { ip: ip(address), port }
  }

  /** New connections get this certificate. */
  renew({ certificatePem, keyPem }: ServingCertificate): void {
    this.#server.setSecureContext({ cert: certificatePem, key: keyPem, minVersion: 'TLSv1.2' })
  }

  async close(): Promise<void> {
    await new Promise<void>(resolve => {
      const cut = setTimeout(() => this.#server.closeAllConnections(), closeGraceMs)
      this.#server.close(() => {
        clearTimeout(cut)
        resolve()
      })
      this.#server.closeIdleConnections()
    })
  }
}

/** Rejects when the address cannot be bound. */
export async function serveWebhook(options: WebhookOptions): Promise<WebhookServer> {
  const { certificatePem, keyPem } = options.certificate
  const server = https.createServer(
    { cert: certificatePem, key: keyPem, minVersion: 'TLSv1.2', handshakeTimeout: requestTimeoutMs },
    (request, response) => void answer(options, request, response)
  )
  server.requestTimeout = requestTimeoutMs
  server.maxConnections = maxConnections
  await new Promise<void>((resolve, reject) => {
    const { listen } = options
    server.once('error', cause =>
      reject(new Error(`cannot listen on ${formatSocketAddress(listen)} (UNDERPASS_WEBHOOK_PORT)`, { cause }))
    )
    server.listen({ host: listen.ip, port: listen.port }, resolve)
  })
  return new WebhookServer(server)
}

async function answer(
  { metrics, log }: WebhookOptions,
  request: http.IncomingMessage,
  response: http.ServerResponse
): Promise<void> {
  try {
    const [path] = (request.url ?? '').split('?')
    if (path !== '/validate' && path?.startsWith('/validate/') !== true) refuse(response, 404, 'no such path')
    else if (request.method !== 'POST') refuse(response, 405, 'send an AdmissionReview by POST')
    else {
      const body = await bodyOf(request)
      const reviewed = body === undefined ? undefined : reviewAdmission(parsed(body))
      if (body === undefined) refuse(response, 413, `more than ${maxBodyBytes} bytes`)
      else if (reviewed === undefined) refuse(response, 400, 'no AdmissionReview of admission.k8s.io/v1')
      else {
        const { verdict, group, resource, review } = reviewed
        if (verdict !== 'not-validated') metrics.series(`galley_validation_${verdict}`, group, resource).add()
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(review))
      }
    }
  } catch (error) {
    log.error('a validation failed', { error: messageOf(error) })
    if (!response.headersSent) refuse(response, 500, 'the control plane failed; see its log')
  }
}

function refuse(response: http.ServerResponse, status: number, text: string): void {
  response
    .writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
    .end(`${text}\n`)
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return undefined // which is no review
  }
}

/** Undefined when it is too large. */
async function bodyOf(request: http.IncomingMessage): Promise<Buffer | undefined> {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length
    if (length > maxBodyBytes) return undefined
    parts.push(part)
  }
  return Buffer.concat(parts)
}
