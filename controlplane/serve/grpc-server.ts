/**
 * The gRPC services over TLS (and in the clear, if wanted): the only file that imports @grpc/grpc-js on this
 * side. TLS is ended here and not by grpc-js, so that client certificates are asked for without being
 * demanded and the serving certificate can change while connections go on.
 */
import * as grpc from '@grpc/grpc-js'
import net from 'node:net'
import tls from 'node:tls'
import { uriNames } from '../../shared/identity/certificate.ts'
import { parseSpiffeId, type SpiffeId } from '../../shared/identity/spiffe-id.ts'
import type { SocketAddress } from '../../shared/net/address.ts'
import { ipFamily, ip } from '../../shared/net/address.ts'

/** What a handler learns of a call besides its messages. */
export interface CallInfo {
  readonly remote: string
  metadata(name: string): string | undefined
  /** From a client certificate that our roots verify. */
  readonly peer: SpiffeId | undefined
}

export type Status =
  | 'INVALID_ARGUMENT'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'UNAVAILABLE'
  | 'INTERNAL'
  | 'FAILED_PRECONDITION'

export interface Refusal {
  readonly kind: 'refused'
  readonly status: Status
  readonly message: string
  /** Sent as trailers. */
  readonly details?: Readonly<Record<string, string>>
}

/** A stream of raw messages in both directions. */
export interface MessageStream {
  readonly info: CallInfo
  send(message: Buffer): void
  close(status: Status, reason: string): void
}

export interface StreamHandler {
  request(message: Buffer): void
  ended(): void
}

export interface Services {
  /** `AggregatedDiscoveryService/DeltaAggregatedResources`; nothing is read before it resolves. */
  readonly deltaStream?: (stream: MessageStream) => Promise<StreamHandler | Refusal>
  /** `AggregatedDiscoveryService/StreamAggregatedResources`; likewise. */
  readonly wholeStream?: (stream: MessageStream) => Promise<StreamHandler | Refusal>
  /** `IstioCertificateService/CreateCertificate`. */
  readonly createCertificate?: (
    info: CallInfo,
    request: Buffer
  ) => Promise<{ readonly kind: 'answer'; readonly message: Buffer } | Refusal>
}

/** What the server proves itself with, and the roots that verify client certificates; all PEM. */
export interface ServingCertificate {
  readonly certificatePem: string
  readonly keyPem: string
  readonly clientRootsPem: string
}

export interface GrpcServerOptions {
  readonly services: Services
  /** Connections are closed at this age, so that clients spread over replicas; milliseconds. */
  readonly maxConnectionAgeMs: number
}

/** Names of 100,000 resources with their versions, as a client that reconnects sends them, take 13 MiB. */
const maxReceivedBytes = 32 << 20
const handshakeTimeoutMs = 10_000
const maxConnections = 20_000

/** A handler answers or refuses; that it throws is a fault of ours, which its own log has told. */
const fault: Refusal = {
  kind: 'refused',
  status: 'INTERNAL',
  message: 'the control plane failed; see its log'
}

const raw = (message: Buffer): Buffer => message

const deltaMethod: grpc.MethodDefinition<Buffer, Buffer> = {
  path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
  requestStream: true,
  responseStream: true,
  requestSerialize: raw,
  requestDeserialize: raw,
  responseSerialize: raw,
  responseDeserialize: raw
}

const wholeMethod: grpc.MethodDefinition<Buffer, Buffer> = {
  ...deltaMethod,
  path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources'
}

const certificateMethod: grpc.MethodDefinition<Buffer, Buffer> = {
  ...deltaMethod,
  path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
  requestStream: false,
  responseStream: false
}

export class GrpcServer {
  readonly #server: grpc.Server
  readonly #injector: grpc.ConnectionInjector
  readonly #listeners: (net.Server | tls.Server)[] = []
  #secure: tls.Server | undefined

  constructor({ services, maxConnectionAgeMs }: GrpcServerOptions) {
    this.#server = new grpc.Server({
      'grpc.max_receive_message_length': maxReceivedBytes,
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 10_000,
      'grpc.max_connection_age_ms': maxConnectionAgeMs,
      'grpc.max_connection_age_grace_ms': 10_000,
      'grpc.enable_channelz': 0
    })
    const { deltaStream, wholeStream, createCertificate } = services
    if (deltaStream !== undefined) {
      this.#server.addService(
        { DeltaAggregatedResources: deltaMethod },
        {
          DeltaAggregatedResources: (call: grpc.ServerDuplexStream<Buffer, Buffer>) =>
            void serve(call, deltaStream)
        }
      )
    }
    if (wholeStream !== undefined) {
      this.#server.addService(
        { StreamAggregatedResources: wholeMethod },
        {
          StreamAggregatedResources: (call: grpc.ServerDuplexStream<Buffer, Buffer>) =>
            void serve(call, wholeStream)
        }
      )
    }
    if (createCertificate !== undefined) {
      this.#server.addService(
        { CreateCertificate: certificateMethod },
        {
          CreateCertificate: (
            call: grpc.ServerUnaryCall<Buffer, Buffer>,
            answer: grpc.sendUnaryData<Buffer>
          ) => void answerOnce(call, answer, createCertificate)
        }
      )
    }
    this.#injector = this.#server.createConnectionInjector(grpc.ServerCredentials.createInsecure())
  }

  /** Resolves to the address in use. */
  async listenTls(address: SocketAddress, certificate: ServingCertificate): Promise<SocketAddress> {
    const server = tls.createServer(
      {
        ...contextOf(certificate),
        ALPNProtocols: ['h2'],
        minVersion: 'TLSv1.2',
        requestCert: true,
        // A client without a certificate may show a token; one with a bad certificate counts as without.
        rejectUnauthorized: false,
        handshakeTimeout: handshakeTimeoutMs
      },
      socket => this.#take(socket)
    )
    server.on('tlsClientError', (_error, socket) => socket.destroy())
    this.#secure = server
    return this.#listen(server, address)
  }

  async listenPlain(address: SocketAddress): Promise<SocketAddress> {
    return this.#listen(
      net.createServer(socket => this.#take(socket)),
      address
    )
  }

  /** New connections get the new certificate; those that are open go on. */
  renew(certificate: ServingCertificate): void {
    this.#secure?.setSecureContext(contextOf(certificate))
  }

  /** Stops accepting; sessions get a GOAWAY and, after `graceMs`, are cut. */
  async close(graceMs: number): Promise<void> {
    const closed = this.#listeners.map(async listener => new Promise(resolve => listener.close(resolve)))
    this.#injector.drain(graceMs)
    await Promise.all(closed)
    this.#injector.destroy()
    this.#server.forceShutdown()
  }

  #take(socket: net.Socket): void {
    socket.on('error', () => socket.destroy()) // reported by the session, if there is one yet
    socket.setNoDelay(true)
    this.#injector.injectConnection(socket)
  }

  async #listen(server: net.Server, address: SocketAddress): Promise<SocketAddress> {
    server.maxConnections = maxConnections
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      const ipv6Only = ipFamily(address.ip) === 6 && address.ip !== '::'
      server.listen({ host: address.ip, port: address.port, ipv6Only }, () => {
        server.off('error', reject)
        resolve()
      })
    })
    this.#listeners.push(server)
    const bound = server.address() as net.AddressInfo
    return { ip: ip(bound.address), port: bound.port }
  }
}

function contextOf({ certificatePem, keyPem, clientRootsPem }: ServingCertificate): tls.SecureContextOptions {
  return { cert: certificatePem, key: keyPem, ca: clientRootsPem }
}

async function serve(
  call: grpc.ServerDuplexStream<Buffer, Buffer>,
  handle: NonNullable<Services['deltaStream']>
): Promise<void> {
  let over = false
  const close = (status: Status, reason: string): void => {
    if (over) return
    over = true
    call.emit('error', statusOf(status, reason))
  }
  const stream: MessageStream = {
    info: infoOf(call),
    send: message => {
      if (!over) call.write(message)
    },
    close
  }
  let handler: StreamHandler | undefined
  const end = (): void => {
    over = true
    handler?.ended()
  }
  call.on('cancelled', end)
  call.on('close', end)
  const accepted = await handle(stream).catch(() => fault)
  if ('kind' in accepted) {
    close(accepted.status, accepted.message)
    return
  }
  handler = accepted
  if (over) {
    handler.ended()
    return
  }
  call.on('data', (message: Buffer) => handler?.request(message))
  call.on('error', () => undefined) // the stream closes, and `close` says so
  call.on('end', () => {
    end()
    call.end()
  })
}

async function answerOnce(
  call: grpc.ServerUnaryCall<Buffer, Buffer>,
  answer: grpc.sendUnaryData<Buffer>,
  handle: NonNullable<Services['createCertificate']>
): Promise<void> {
  const result = await handle(infoOf(call), call.request).catch(() => fault)
  if (result.kind === 'answer') answer(null, result.message)
  else answer(statusOf(result.status, result.message, result.details))
}

function statusOf(
  status: Status,
  details: string,
  trailers: Readonly<Record<string, string>> = {}
): Partial<grpc.StatusObject> & { readonly code: grpc.status } {
  const metadata = new grpc.Metadata()
  for (const [name, value] of Object.entries(trailers)) metadata.set(name, value)
  return { code: grpc.status[status], details, metadata }
}

function infoOf(
  call: grpc.ServerUnaryCall<Buffer, Buffer> | grpc.ServerDuplexStream<Buffer, Buffer>
): CallInfo {
  const certificate = call.getAuthContext().sslPeerCertificate
  const peer = uriNames(certificate?.subjectaltname)
    .map(parseSpiffeId)
    .find(id => id !== undefined)
  return {
    remote: call.getPeer(),
    metadata: name => call.metadata.get(name)[0]?.toString(),
    peer
  }
}
