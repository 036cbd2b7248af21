/** A control plane that does what a test tells it: real gRPC over TLS, with delta xDS and the certificate service. */
import * as grpc from '@grpc/grpc-js'
import { EventEmitter, once } from 'node:events'
import net from 'node:net'
import { message } from '../../shared/xds/schema.ts'
import { openssl } from './openssl.ts'

/** A request as it arrived. */
export interface SeenRequest {
  readonly typeUrl: string
  readonly node?: { readonly id: string; readonly metadata: unknown }
  readonly resourceNamesSubscribe: readonly string[]
  readonly resourceNamesUnsubscribe: readonly string[]
  readonly initialResourceVersions: Readonly<Record<string, string>>
  readonly responseNonce?: string
  readonly errorDetail?: { readonly code?: number; readonly message?: string }
}

export interface PushedResource {
  readonly name: string
  readonly version?: string
  readonly bytes: Uint8Array
  readonly aliases?: readonly string[]
}

interface CertificateRequest {
  readonly csr: string
  readonly validityDuration: number
  readonly metadata?: { readonly fields: Readonly<Record<string, { readonly stringValue?: string }>> }
}

export type CertificateAnswer =
  | { readonly certChain: readonly string[] }
  | { readonly status: grpc.status; readonly details: string }

const requestMessage = message<SeenRequest>('envoy.service.discovery.v3.DeltaDiscoveryRequest')
const responseMessage = message<object>('envoy.service.discovery.v3.DeltaDiscoveryResponse')
const csrMessage = message<CertificateRequest>('istio.v1.auth.IstioCertificateRequest')
const certificateMessage = message<object>('istio.v1.auth.IstioCertificateResponse')
const raw = (bytes: Buffer): Buffer => bytes
const codecs = {
  requestSerialize: raw,
  requestDeserialize: raw,
  responseSerialize: raw,
  responseDeserialize: raw
}

/** One client's stream. */
export class FakeStream {
  readonly requests: SeenRequest[] = []
  readonly metadata: grpc.Metadata
  readonly #call: grpc.ServerDuplexStream<Buffer, Buffer>
  readonly #arrivals = new EventEmitter()
  #nonce = 0
  ended = false

  constructor(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
    this.#call = call
    this.metadata = call.metadata
    call.on('data', (bytes: Buffer) => {
      this.requests.push(requestMessage.decode(bytes))
      this.#arrivals.emit('change')
    })
    const end = (): void => {
      this.ended = true
      this.#arrivals.emit('change')
    }
    call.on('end', end).on('cancelled', end).on('error', end)
  }

  /** Waits until so many requests came in all; fails loudly with those that did. */
  async received(count: number): Promise<readonly SeenRequest[]> {
    const deadline = AbortSignal.timeout(10_000)
    while (this.requests.length < count) {
      await once(this.#arrivals, 'change', { signal: deadline }).catch(() => {
        throw new Error(`${count} requests expected, got ${JSON.stringify(this.requests)}`)
      })
    }
    return this.requests
  }

  async closed(): Promise<void> {
    while (!this.ended) await once(this.#arrivals, 'change', { signal: AbortSignal.timeout(10_000) })
  }

  /** Sends a push; returns its nonce. */
  push(
    typeUrl: string,
    resources: readonly PushedResource[],
    removedResources: readonly string[] = []
  ): string {
    this.#nonce += 1
    const nonce = `n${this.#nonce}`
    const wire = resources.map(({ name, version = 'v1', bytes, aliases = [] }) => ({
      name,
      version,
      aliases,
      resource: { type_url: typeUrl, value: bytes }
    }))
    this.#call.write(responseMessage.encode({ typeUrl, nonce, resources: wire, removedResources }))
    return nonce
  }

  sendRaw(bytes: Buffer): void {
    this.#call.write(bytes)
  }

  end(): void {
    this.#call.end()
  }

  fail(code: grpc.status, details: string): void {
    this.#call.emit('error', { code, details })
  }
}

export class FakeControlPlane {
  readonly streams: FakeStream[] = []
  readonly csrs: { readonly request: CertificateRequest; readonly metadata: grpc.Metadata }[] = []
  /** Self-signed for localhost and 127.0.0.1: also the root to trust. */
  readonly certificatePem: string
  answerCsr: (request: CertificateRequest) => CertificateAnswer | Promise<CertificateAnswer> = () => ({
    status: grpc.status.UNIMPLEMENTED,
    details: 'no CA in this test'
  })
  readonly keyPem: string
  readonly #arrivals = new EventEmitter()
  #server: grpc.Server | undefined
  #port = 0

  constructor(names = 'DNS:localhost,IP:127.0.0.1') {
    const pair = selfSigned(names)
    this.certificatePem = pair.certificatePem
    this.keyPem = pair.keyPem
  }

  /** Starts, on the port of the last time. */
  async start(): Promise<void> {
    const server = new grpc.Server({
      'grpc.max_receive_message_length': 200 << 20,
      'grpc.max_send_message_length': 200 << 20
    })
    server.addService(
      {
        Delta: {
          path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
          requestStream: true,
          responseStream: true,
          ...codecs
        },
        Create: {
          path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
          requestStream: false,
          responseStream: false,
          ...codecs
        }
      },
      {
        Delta: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
          this.streams.push(new FakeStream(call))
          this.#arrivals.emit('change')
        },
        Create: (call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) =>
          void this.#create(call, answer)
      }
    )
    const credentials = grpc.ServerCredentials.createSsl(null, [
      { cert_chain: Buffer.from(this.certificatePem), private_key: Buffer.from(this.keyPem) }
    ])
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    server.bindAsync(`127.0.0.1:${this.#port}`, credentials, (error, port) =>
      error === null ? resolve(port) : reject(error)
    )
    this.#port = await promise
    this.#server = server
  }

  get address(): string {
    return `https://localhost:${this.#port}`
  }

  /** The stream of this number, from 0, once a client has opened it. */
  async stream(number: number): Promise<FakeStream> {
    const deadline = AbortSignal.timeout(10_000)
    for (;;) {
      const found = this.streams[number]
      if (found !== undefined) return found
      await once(this.#arrivals, 'change', { signal: deadline }).catch(() => {
        throw new Error(`stream ${number} was not opened; there are ${this.streams.length}`)
      })
    }
  }

  /** Cuts every connection and stops listening. */
  stop(): void {
    this.#server?.forceShutdown()
    this.#server = undefined
  }

  async #create(
    call: grpc.ServerUnaryCall<Buffer, Buffer>,
    answer: grpc.sendUnaryData<Buffer>
  ): Promise<void> {
    const request = csrMessage.decode(call.request)
    this.csrs.push({ request, metadata: call.metadata })
    const made = await this.answerCsr(request)
    if ('certChain' in made) answer(null, certificateMessage.encode(made))
    else answer({ code: made.status, details: made.details })
  }
}

/** A port on loopback where nobody listens. */
export async function closedPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function selfSigned(names: string): { certificatePem: string; keyPem: string } {
  const { output } = openssl([
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/O=fake control plane', '-addext', `subjectAltName=${names}`, '-keyout', '-', '-out', '-']
  ])
  const part = (label: string): string =>
    new RegExp(`-----BEGIN ${label}-----[\\s\\S]*?-----END ${label}-----`).exec(output)?.[0] ?? ''
  return { certificatePem: `${part('CERTIFICATE')}\n`, keyPem: `${part('PRIVATE KEY')}\n` }
}
