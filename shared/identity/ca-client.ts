/** Certificates from a CA that speaks Istio's IstioCertificateService. */
import { GrpcClient, GrpcError, readRoots, type ControlPlaneTarget } from '../xds/grpc-client.ts'
import { message } from '../xds/schema.ts'
import { toStruct, type StructMessage } from '../xds/struct.ts'
import { CertificateError, splitPem, workloadCertificate, type WorkloadCertificate } from './certificate.ts'
import type { CertificateSource } from './certificate-store.ts'
import { createCsr } from './csr.ts'
import type { SpiffeId } from './spiffe-id.ts'

export interface CaClientOptions {
  readonly target: ControlPlaneTarget
  /** Lifetime to ask for. */
  readonly ttlSeconds: number
  /** One client asks for many identities (a node's ztunnel), and says for which; else the CA goes by the token. */
  readonly impersonate: boolean
}

interface CertificateRequest {
  readonly csr: string
  readonly validityDuration: number
  readonly metadata?: StructMessage
}

const requestMessage = message<CertificateRequest>('istio.v1.auth.IstioCertificateRequest')
const responseMessage = message<{ certChain: readonly string[] }>('istio.v1.auth.IstioCertificateResponse')
const path = '/istio.v1.auth.IstioCertificateService/CreateCertificate'
const deadlineMs = 15_000

export class CaClient implements CertificateSource {
  readonly #options: CaClientOptions
  /** The connection, for as long as the roots are what they were. */
  #connection: { readonly client: GrpcClient; readonly roots: string } | undefined

  constructor(options: CaClientOptions) {
    this.#options = options
  }

  /** Throws what tells why: {@link CertificateError}, GrpcError, or the signal's reason. */
  async fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    const { ttlSeconds, impersonate } = this.#options
    const { csrPem, keyPem } = createCsr(identity)
    const request = requestMessage.encode({
      csr: csrPem,
      validityDuration: ttlSeconds,
      ...(impersonate && { metadata: toStruct({ ImpersonatedIdentity: identity }) })
    })
    const answer = await this.#ask(request, signal)
    const { certChain } = responseMessage.decode(answer)
    if (certChain.length === 0) throw new CertificateError('the CA answered without a certificate')
    if (certChain.length === 1) throw new CertificateError('the CA answered without a root certificate')
    const certificate = workloadCertificate({
      chainPem: certChain.slice(0, -1).flatMap(splitPem),
      rootsPem: splitPem(certChain.at(-1) ?? ''),
      keyPem
    })
    if (impersonate && certificate.identity !== identity) {
      throw new CertificateError(`the CA answered with a certificate of ${certificate.identity}`)
    }
    return certificate
  }

  close(): void {
    this.#connection?.client.close()
    this.#connection = undefined
  }

  async #ask(request: Buffer, signal: AbortSignal): Promise<Buffer> {
    const client = this.#client()
    try {
      return await client.unary(path, request, deadlineMs, signal)
    } catch (error) {
      // A channel that cannot connect answers for up to two minutes with its last error, without trying:
      // when to try again is for whoever asks.
      const unreachable = error instanceof GrpcError && !error.connected
      if (unreachable && this.#connection?.client === client) this.close()
      throw error
    }
  }

  /** Connects anew when the roots changed; calls in flight end on the old connection. */
  #client(): GrpcClient {
    const roots = [readRoots(this.#options.target.roots)].flat().join('\n')
    if (this.#connection?.roots === roots) return this.#connection.client
    this.#connection?.client.close()
    const client = new GrpcClient({ ...this.#options.target, roots })
    this.#connection = { client, roots }
    return client
  }
}
