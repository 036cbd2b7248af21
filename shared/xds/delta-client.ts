/**
 * Delta xDS: keeps a subscription to a control plane, through every kind of interruption, and says what it holds
 * when it comes back, so that only changes are sent. Source: Envoy's incremental xDS; reconnection as Istio's ztunnel.
 */
import { Backoff } from '../runtime/backoff.ts'
import { sleep } from '../runtime/clock.ts'
import { messageOf } from '../runtime/errors.ts'
import { silent, type Logger } from '../telemetry/logger.ts'
import { GrpcClient, type ControlPlaneTarget, type GrpcError, type GrpcStream } from './grpc-client.ts'
import { readDeltaResponse, type DeltaResponseMessage } from './delta-response.ts'
import { message } from './schema.ts'
import { toStruct, type StructMessage } from './struct.ts'
import { Subscription, type Rejected, type SubscriptionMode } from './subscription.ts'

export type { Rejected, SubscriptionMode } from './subscription.ts'

/** One push: what came and what went, of one type. */
export interface DeltaResponse {
  readonly typeUrl: string
  readonly resources: readonly DeltaResource[]
  readonly removed: readonly string[]
  /** Size of the message. */
  readonly bytes: number
}

export interface DeltaResource {
  readonly name: string
  /** Body of the Any. */
  readonly bytes: Uint8Array
}

/** Why a connection ended, as the metric istio_xds_connection_terminations_total counts it. */
export type TerminationReason = 'ConnectionError' | 'Error' | 'Reconnect' | 'Complete'

export interface DeltaClientOptions {
  readonly target: ControlPlaneTarget
  readonly node: { readonly id: string; readonly metadata: Readonly<Record<string, unknown>> }
  /**
   * `syncedWithRejections`: of types for whose broken resources something safe stands in. Others are synced by the first
   * push without any.
   */
  readonly types: readonly {
    readonly typeUrl: string
    readonly mode: SubscriptionMode
    readonly syncedWithRejections?: boolean
  }[]
  /** Takes what is valid and returns what is not, each with the reason; never throws. */
  readonly onResponse: (response: DeltaResponse) => readonly Rejected[]
  /** The first message of a connection is there. */
  readonly onConnected?: () => void
  readonly onTermination?: (reason: TerminationReason) => void
  readonly onMessage?: (typeUrl: string, bytes: number) => void
  readonly log?: Logger
}

/** For admin pages and status commands. */
export interface DeltaClientState {
  readonly connected: boolean
  readonly lastError: string | undefined
  readonly types: readonly {
    readonly typeUrl: string
    readonly resources: number
    readonly synced: boolean
    readonly lastRejection: string | undefined
  }[]
}

interface WireRequest {
  readonly node?: { readonly id: string; readonly metadata: StructMessage }
  readonly typeUrl: string
  readonly resourceNamesSubscribe?: readonly string[]
  readonly resourceNamesUnsubscribe?: readonly string[]
  readonly initialResourceVersions?: Readonly<Record<string, string>>
  readonly responseNonce?: string
  readonly errorDetail?: { readonly message: string }
}

const requestMessage = message<WireRequest>('envoy.service.discovery.v3.DeltaDiscoveryRequest')
const path = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources'

const backoffOptions = { initialMs: 10, maxMs: 15_000 }
/** After an end that is part of normal life: servers close streams every half hour, and when they restart. */
const shortWaitMs = 10

export class DeltaClient {
  readonly #options: DeltaClientOptions
  readonly #log: Logger
  readonly #subscriptions: ReadonlyMap<string, Subscription>
  readonly #synced = Promise.withResolvers<void>()
  readonly #backoff = new Backoff(backoffOptions)
  #stream: GrpcStream | undefined
  #connected = false
  #lastError: string | undefined

  constructor(options: DeltaClientOptions) {
    this.#options = options
    this.#log = options.log ?? silent
    this.#subscriptions = new Map(
      options.types.map(({ typeUrl, mode, syncedWithRejections }) => [
        typeUrl,
        new Subscription(typeUrl, mode, syncedWithRejections)
      ])
    )
  }

  /** Resolves when every wildcard type is synced. */
  get synced(): Promise<void> {
    return this.#synced.promise
  }

  /** Connects, and again whenever the connection ends, until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const end = await this.#connectOnce(signal)
      if (signal.aborted) return
      this.#options.onTermination?.(end.reason)
      this.#lastError = end.error
      const level = end.reason === 'Reconnect' || end.reason === 'Complete' ? 'debug' : 'warn'
      this.#log[level](`XDS client connection ended: ${end.error ?? 'stream complete'}`, {
        retry: `${end.waitMs}ms`
      })
      await sleep(end.waitMs, signal)
    }
  }

  /** On-demand types: asks for a name. Resolves when the server answered, with the resource or that there is none. */
  subscribe(typeUrl: string, name: string): Promise<void> {
    const subscription = this.#subscriptions.get(typeUrl)
    if (subscription === undefined) return Promise.reject(new Error(`${typeUrl} is not subscribed to`))
    const { isNew, answered } = subscription.want(name)
    if (isNew) this.#send({ typeUrl, resourceNamesSubscribe: [name] })
    return answered
  }

  state(): DeltaClientState {
    return {
      connected: this.#connected,
      lastError: this.#lastError,
      types: [...this.#subscriptions.values()].map(({ typeUrl, size, synced, lastRejection }) => ({
        typeUrl,
        resources: size,
        synced,
        lastRejection
      }))
    }
  }

  async #connectOnce(signal: AbortSignal): Promise<Ended> {
    let client: GrpcClient
    try {
      client = new GrpcClient(this.#options.target) // roots and token are read anew
    } catch (error) {
      return { reason: 'ConnectionError', error: messageOf(error), waitMs: this.#backoff.next() }
    }
    const ended = Promise.withResolvers<GrpcError | undefined>()
    const onAbort = (): void => ended.resolve(undefined)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const stream = client.stream(path, {
        message: bytes => this.#receive(bytes),
        end: error => ended.resolve(error)
      })
      this.#stream = stream
      for (const subscription of this.#subscriptions.values()) this.#send(this.#firstRequest(subscription))
      const error = await ended.promise
      stream.cancel()
      return this.#classify(error)
    } catch (error) {
      return { reason: 'ConnectionError', error: messageOf(error), waitMs: this.#backoff.next() }
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#stream = undefined
      this.#connected = false
      client.close()
    }
  }

  #firstRequest(subscription: Subscription): WireRequest {
    const { id, metadata } = this.#options.node
    return {
      node: { id, metadata: toStruct(metadata) },
      typeUrl: subscription.typeUrl,
      initialResourceVersions: subscription.versions(),
      // Subscribing and unsubscribing to everything at once subscribes to nothing, where silence means everything.
      ...(subscription.mode === 'on-demand' && {
        resourceNamesSubscribe: ['*'],
        resourceNamesUnsubscribe: ['*']
      })
    }
  }

  #receive(bytes: Buffer): void {
    if (!this.#connected) this.#options.onConnected?.()
    this.#connected = true
    this.#lastError = undefined
    let response: DeltaResponseMessage
    try {
      response = readDeltaResponse(bytes)
    } catch (error) {
      this.#log.error('a message of the control plane cannot be read', { error: messageOf(error) })
      this.#stream?.cancel()
      return
    }
    const { typeUrl, nonce, resources, removedResources } = response
    this.#options.onMessage?.(typeUrl, bytes.length)
    const subscription = this.#subscriptions.get(typeUrl)
    if (subscription === undefined) {
      this.#log.warn('a push of a type that was not asked for', { type: typeUrl })
      this.#send({ typeUrl, responseNonce: nonce })
      return
    }
    const rejected = this.#apply(response, bytes.length)
    subscription.received(resources, removedResources, rejected)
    if ([...this.#subscriptions.values()].every(({ synced }) => synced)) this.#synced.resolve()
    if (rejected.length === 0) return this.#send({ typeUrl, responseNonce: nonce })
    const reasons = rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; ')
    this.#log.error('resources of the control plane are rejected', { type: typeUrl, reasons })
    this.#send({ typeUrl, responseNonce: nonce, errorDetail: { message: reasons } })
  }

  #apply(
    { typeUrl, resources, removedResources: removed }: DeltaResponseMessage,
    bytes: number
  ): readonly Rejected[] {
    try {
      return this.#options.onResponse({ typeUrl, resources, removed, bytes })
    } catch (error) {
      this.#log.error('a push could not be applied', { type: typeUrl, error: messageOf(error) })
      return resources.map(({ name }) => ({ name, reason: messageOf(error) }))
    }
  }

  #send(request: WireRequest): void {
    this.#stream?.send(requestMessage.encode(request))
  }

  #classify(error: GrpcError | undefined): Ended {
    if (error === undefined) return { reason: 'Complete', error: undefined, waitMs: shortWaitMs }
    if (!error.connected) {
      return { reason: 'ConnectionError', error: error.message, waitMs: this.#backoff.next() }
    }
    if (!isRoutine(error)) return { reason: 'Error', error: error.message, waitMs: this.#backoff.next() }
    this.#backoff.reset()
    return { reason: 'Reconnect', error: error.message, waitMs: shortWaitMs }
  }
}

interface Ended {
  readonly reason: TerminationReason
  readonly error: string | undefined
  readonly waitMs: number
}

/** Ends of streams that say nothing about the server's health: it restarted, or closes streams now and then. */
function isRoutine({ status, message }: GrpcError): boolean {
  if (status === 'UNKNOWN' || status === 'CANCELLED' || status === 'DEADLINE_EXCEEDED') return true
  return (
    status === 'UNAVAILABLE' &&
    /transport is closing|received prior goaway|connection dropped|without gRPC status/i.test(message)
  )
}
