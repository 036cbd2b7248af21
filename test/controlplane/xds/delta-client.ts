/** A raw delta xDS client for tests: it says exactly what it is told to, and keeps what it hears. */
import * as grpc from '@grpc/grpc-js'
import { message } from '../../../shared/xds/schema.ts'
import { addressType, authorizationType } from '../../../controlplane/desired/snapshot.ts'

export interface Response {
  readonly typeUrl: string
  readonly nonce: string
  readonly resources: readonly {
    readonly name: string
    readonly version: string
    readonly aliases: readonly string[]
    readonly resource: { readonly type_url: string; readonly value: Buffer }
  }[]
  readonly removedResources: readonly string[]
}

export interface Request {
  readonly typeUrl?: string
  readonly node?: object
  readonly resourceNamesSubscribe?: readonly string[]
  readonly resourceNamesUnsubscribe?: readonly string[]
  readonly initialResourceVersions?: Readonly<Record<string, string>>
  readonly responseNonce?: string
  readonly errorDetail?: { readonly code?: number; readonly message: string }
}

export interface DeltaClientOptions {
  /** `host:port`. */
  readonly target: string
  /** Roots of the server; without them the connection is in the clear. */
  readonly rootsPem?: string
  readonly token?: string
  readonly namespace?: string
  readonly serviceAccount?: string
  readonly nodeName?: string
}

const request = message<Request>('envoy.service.discovery.v3.DeltaDiscoveryRequest')
const response = message<Response>('envoy.service.discovery.v3.DeltaDiscoveryResponse')
const messages: Readonly<Record<string, ReturnType<typeof message>>> = {
  [addressType]: message('istio.workload.Address'),
  [authorizationType]: message('istio.security.Authorization')
}

export class DeltaClient {
  readonly node: object
  readonly #client: grpc.Client
  readonly #stream: grpc.ClientDuplexStream<Request, Response>
  readonly #heard: Response[] = []
  readonly #waiting: (() => void)[] = []
  /** Set when the server ended the stream. */
  end: { readonly code: number; readonly details: string } | undefined

  constructor(options: DeltaClientOptions) {
    const { namespace = 'istio-system', serviceAccount, nodeName = 'n1' } = options
    const fields: Record<string, { stringValue: string }> = {
      NAMESPACE: { stringValue: namespace },
      NODE_NAME: { stringValue: nodeName },
      CLUSTER_ID: { stringValue: 'Kubernetes' },
      ISTIO_VERSION: { stringValue: '1.2.3' }
    }
    if (serviceAccount !== undefined) fields['SERVICE_ACCOUNT'] = { stringValue: serviceAccount }
    this.node = {
      id: `ztunnel~127.0.0.1~ztunnel-test.${namespace}~${namespace}.svc.cluster.local`,
      metadata: { fields }
    }
    const credentials =
      options.rootsPem === undefined
        ? grpc.credentials.createInsecure()
        : grpc.credentials.createSsl(Buffer.from(options.rootsPem))
    this.#client = new grpc.Client(options.target, credentials, {
      'grpc.max_receive_message_length': -1,
      'grpc.ssl_target_name_override': 'localhost'
    })
    const metadata = new grpc.Metadata()
    if (options.token !== undefined) metadata.set('authorization', `Bearer ${options.token}`)
    this.#stream = this.#client.makeBidiStreamRequest(
      '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
      (value: Request) => request.encode(value),
      (bytes: Buffer) => response.decode(bytes),
      metadata
    )
    this.#stream.on('data', (heard: Response) => {
      this.#heard.push(heard)
      this.#wake()
    })
    this.#stream.on('error', (error: grpc.ServiceError) => {
      this.end = { code: error.code, details: error.details }
      this.#wake()
    })
    this.#stream.on('end', () => {
      this.end ??= { code: grpc.status.OK, details: '' }
      this.#wake()
    })
  }

  send(value: Request): void {
    this.#stream.write(value)
  }

  /** The first request of a type, with the node. */
  subscribe(typeUrl: string, more: Request = {}): void {
    this.send({ typeUrl, node: this.node, ...more })
  }

  ack(heard: Response): void {
    this.send({ typeUrl: heard.typeUrl, responseNonce: heard.nonce })
  }

  nack(heard: Response, text: string): void {
    this.send({ typeUrl: heard.typeUrl, responseNonce: heard.nonce, errorDetail: { message: text } })
  }

  /** The next response, not acknowledged; undefined when the server ended the stream instead. */
  async next(): Promise<Response | undefined> {
    for (;;) {
      const heard = this.#heard.shift()
      if (heard !== undefined) return heard
      if (this.end !== undefined) return undefined
      await new Promise<void>(resolve => this.#waiting.push(resolve))
    }
  }

  /** Responses that came and were not taken yet. */
  get pending(): number {
    return this.#heard.length
  }

  /** Resolves when the server ended the stream. */
  async ended(): Promise<{ readonly code: number; readonly details: string }> {
    while (this.end === undefined) await new Promise<void>(resolve => this.#waiting.push(resolve))
    return this.end
  }

  /** Everything of one type, as the first answer to a wildcard has it, decoded, by name. */
  async all(typeUrl: string): Promise<Map<string, unknown>> {
    this.subscribe(typeUrl)
    const heard = await this.next()
    if (heard === undefined) throw new Error(`the stream ended: ${JSON.stringify(this.end)}`)
    this.ack(heard)
    return new Map(heard.resources.map(({ name, resource }) => [name, decode(typeUrl, resource.value)]))
  }

  close(): void {
    this.#stream.cancel()
    this.#client.close()
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

export function decode(typeUrl: string, value: Buffer): unknown {
  const type = messages[typeUrl]
  if (type === undefined) throw new Error(`no message for ${typeUrl}`)
  return type.decode(value)
}
