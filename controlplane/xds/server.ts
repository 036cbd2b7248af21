/**
 * Delta xDS to any number of clients: one {@link ClientStream} each, with a subscription per resource type.
 * Policies, and the configuration of waypoints, go out before the addresses that they are for and are taken back after
 * these, so that no client is ever without a policy that it should enforce.
 * Source: xDS protocol (`DeltaAggregatedResources`); Istio's published conventions for ztunnel.
 */
import { message, type Message } from '../../shared/xds/schema.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { metricFamilies } from '../metrics.ts'
import { Responses, servedTypes, type ServedType } from './responses.ts'
import { tables, type Changes, type Snapshot } from '../desired/snapshot.ts'
import { Subscription, type DeltaRequest } from './subscription.ts'
import { isProxy, nodeProblem, readNode, type ClientNode } from './client-node.ts'
import type { Caller } from '../access/token.ts'

/** The transport of one client, as `serve/grpc-server.ts` gives it. */
export interface ClientStream {
  /** For logs: the address of the peer. */
  readonly remote: string
  /** Who authenticated; undefined when authentication is off. */
  readonly caller: Caller | undefined
  send(response: Buffer): void
  /** Ends the stream with a gRPC status. */
  close(
    status: 'INVALID_ARGUMENT' | 'UNAUTHENTICATED' | 'PERMISSION_DENIED' | 'UNAVAILABLE',
    reason: string
  ): void
}

export interface XdsServerOptions {
  readonly snapshot: Snapshot
  /** For a client that is to get a part of the addresses only; see {@link Subscription}. */
  readonly scopeOf: (
    node: ClientNode,
    caller: Caller | undefined,
    purpose: 'addresses' | 'configuration'
  ) => (() => string | undefined) | undefined
  /** Of the workloads that are sent. */
  readonly clusterId: () => string
  readonly log: Logger
  readonly metrics: Metrics<typeof metricFamilies>
  /** How long the first request of a client waits for that of the other type, so that policies go first; milliseconds. */
  readonly orderMs?: number
}

/** What `/debug/syncz` tells of one type of one client. */
export interface TypeStatus {
  readonly typeUrl: string
  readonly wildcard: boolean
  readonly sent: string
  readonly acked: string
  readonly rejected: string | undefined
  /** When a response went out last; milliseconds, 0 = never. */
  readonly sentAt: number
}

export interface ClientStatus {
  /** Undefined until the first request. */
  readonly node: ClientNode | undefined
  readonly remote: string
  readonly connectedAt: number
  readonly types: readonly TypeStatus[]
}

/** How far a client is with a type, by Envoy's names of `ConfigStatus`. */
export function syncStatus(type: TypeStatus): 'SYNCED' | 'NOT_SENT' | 'STALE' | 'ERROR' {
  if (type.rejected !== undefined) return 'ERROR'
  if (type.sent === '') return 'NOT_SENT'
  return type.sent === type.acked ? 'SYNCED' : 'STALE'
}

const discoveryRequest: Message<DeltaRequest> = message('envoy.service.discovery.v3.DeltaDiscoveryRequest')

const nowhere = (): undefined => undefined

/** Policies and addresses are asked for together by ztunnels; configuration is asked for by waypoints, first. */
function isOrdered(type: ServedType | undefined): type is ServedType {
  return type?.scopedOnly === false
}

const defaultOrderMs = 100
/** ztunnels take this text for an ordinary end and come back at once. */
const goodbye = 'the control plane is shutting down: transport is closing'

export class XdsServer {
  readonly #options: XdsServerOptions
  readonly #connections = new Set<Connection>()
  readonly #responses: Responses
  #nonces = 0
  #closed = false

  constructor(options: XdsServerOptions) {
    this.#options = options
    this.#responses = new Responses(options.snapshot)
    options.metrics.onCollect(() => options.metrics.series('pilot_xds').set(this.#connections.size))
  }

  /** Takes a new stream; the caller passes on each request as it comes, and that the stream ended. */
  connect(stream: ClientStream): { request(bytes: Buffer): void; ended(): void } {
    const connection = new Connection(stream, {
      ...this.#options,
      responses: this.#responses,
      nonce: () => String((this.#nonces += 1))
    })
    if (this.#closed) stream.close('UNAVAILABLE', goodbye)
    else this.#connections.add(connection)
    return {
      request: bytes => connection.request(bytes),
      ended: () => {
        this.#connections.delete(connection)
        connection.end()
      }
    }
  }

  /** Tells every client what changed, each only what it asked for. */
  push(changes: Changes): void {
    this.#responses.forget(changes)
    const { metrics } = this.#options
    for (const table of tables) {
      const { changed, removed } = changes[table]
      if (changed.size + removed.size > 0) metrics.series('underpass_pushes_total', table).add()
    }
    for (const connection of this.#connections) connection.push(changes)
  }

  clients(): readonly ClientStatus[] {
    return [...this.#connections].map(connection => connection.status())
  }

  /** Ends every stream; clients come back elsewhere. */
  close(): void {
    this.#closed = true
    for (const connection of this.#connections) connection.refuse('UNAVAILABLE', goodbye)
  }
}

interface ConnectionDeps extends XdsServerOptions {
  readonly responses: Responses
  nonce(): string
}

class Connection {
  readonly #stream: ClientStream
  readonly #deps: ConnectionDeps
  readonly #connectedAt = Date.now()
  readonly #subscriptions = new Map<string, Subscription>()
  readonly #unknownTypes = new Set<string>()
  #node: ClientNode | undefined
  /** Set while the first request of a client waits for that of the other table. */
  #holding: NodeJS.Timeout | undefined
  #over = false

  constructor(stream: ClientStream, deps: ConnectionDeps) {
    this.#stream = stream
    this.#deps = deps
  }

  request(bytes: Buffer): void {
    if (this.#over) return
    let request: DeltaRequest
    try {
      request = discoveryRequest.decode(bytes)
    } catch {
      // The text of a decoder means nothing to whoever reads it on the other side.
      this.refuse('INVALID_ARGUMENT', 'the request is no DeltaDiscoveryRequest')
      return
    }
    if (this.#node === undefined && !this.#identify(request)) return
    const typeUrl = request.typeUrl ?? ''
    const type = servedTypes.get(typeUrl)
    if (type === undefined) {
      this.#unknownType(typeUrl)
      return
    }
    const known = this.#subscriptions.get(typeUrl)
    if (known === undefined) this.#subscribe(typeUrl, type, request)
    else this.#answered(typeUrl, known.request(request), request)
    this.#flush()
  }

  push(changes: Changes): void {
    for (const [typeUrl, subscription] of this.#subscriptions) {
      const table = servedTypes.get(typeUrl)?.table
      if (table !== undefined) subscription.note(changes[table])
    }
    this.#flush()
  }

  refuse(status: Parameters<ClientStream['close']>[0], reason: string): void {
    this.end()
    this.#stream.close(status, reason)
  }

  end(): void {
    this.#over = true
    clearTimeout(this.#holding)
  }

  status(): ClientStatus {
    return {
      node: this.#node,
      remote: this.#stream.remote,
      connectedAt: this.#connectedAt,
      types: [...this.#subscriptions].map(([typeUrl, subscription]) => ({
        typeUrl,
        wildcard: subscription.wildcard,
        sent: subscription.lastSent,
        acked: subscription.lastAcked,
        rejected: subscription.rejected,
        sentAt: subscription.sentAt
      }))
    }
  }

  #identify(request: DeltaRequest): boolean {
    const { log } = this.#deps
    const node = readNode(request.node)
    if (node === undefined) {
      this.refuse('INVALID_ARGUMENT', 'the first request must carry a node with an id')
      return false
    }
    const problem = nodeProblem(node, this.#stream.caller)
    if (problem !== undefined) {
      log.warn('refused an xDS client', { remote: this.#stream.remote, node: node.id, reason: problem })
      this.refuse('PERMISSION_DENIED', problem)
      return false
    }
    this.#node = node
    if (node.clusterId !== '' && node.clusterId !== this.#deps.clusterId()) {
      log.warn(
        'an xDS client is of another cluster and will not find itself: compare ISTIO_META_CLUSTER_ID and CLUSTER_ID',
        {
          node: node.id,
          cluster: node.clusterId
        }
      )
    }
    log.info('xDS client connected', { remote: this.#stream.remote, node: node.id })
    return true
  }

  #unknownType(typeUrl: string): void {
    if (this.#unknownTypes.size > 16 || this.#unknownTypes.has(typeUrl)) return
    this.#unknownTypes.add(typeUrl)
    const { log } = this.#deps
    log.info('an xDS client asks for a type that is not served', { node: this.#node?.id, typeUrl })
    if (!isProxy(this.#node)) return
    // A newer waypoint or gateway waits for every kind of configuration; we have none of this one.
    const nothing = { everything: false, resources: [], removed: [] }
    this.#stream.send(this.#deps.responses.encode(typeUrl, this.#deps.nonce(), nothing))
  }

  #subscribe(typeUrl: string, type: ServedType, request: DeltaRequest): void {
    const node = this.#node
    const purpose = type.scopedOnly ? 'configuration' : 'addresses'
    const known =
      node === undefined || type.table === 'authorization'
        ? undefined
        : this.#deps.scopeOf(node, this.#stream.caller, purpose)
    const scope = type.scopedOnly ? (known ?? nowhere) : known
    const options = { ...type, snapshot: this.#deps.snapshot, node: node?.nodeName ?? '', scope }
    this.#subscriptions.set(typeUrl, new Subscription(options, request))
    if (type.scopedOnly) return
    const ordered = [...this.#subscriptions.keys()].map(url => servedTypes.get(url)).filter(isOrdered)
    if (new Set(ordered.map(({ table }) => table)).size === 2) this.#release()
    else if (ordered.length === 1) this.#hold()
  }

  /**
   * A ztunnel asks for both types at once, in any order. Until the other one is asked for, but not longer than
   * this, addresses wait for policies and removals of policies for addresses.
   */
  #hold(): void {
    this.#holding = setTimeout(() => {
      this.#release()
      this.#flush()
    }, this.#deps.orderMs ?? defaultOrderMs)
    this.#holding.unref()
  }

  #release(): void {
    clearTimeout(this.#holding)
    this.#holding = undefined
  }

  #answered(typeUrl: string, answer: 'ack' | 'nack' | 'none', request: DeltaRequest): void {
    if (answer !== 'nack') return
    const { log, metrics } = this.#deps
    metrics.series('pilot_total_xds_rejects', typeUrl).add()
    log.error('an xDS client refused resources', {
      node: this.#node?.id,
      typeUrl,
      error: request.errorDetail?.message ?? ''
    })
  }

  /** Sends what may be sent now: new policies and configuration, then addresses, then what of the former is gone. */
  #flush(): void {
    if (this.#over) return
    const subscriptions = [...this.#subscriptions]
    const isAddress = (typeUrl: string): boolean => servedTypes.get(typeUrl)?.table === 'address'
    const addresses = subscriptions.filter(([typeUrl]) => isAddress(typeUrl))
    const rules = subscriptions.filter(([typeUrl]) => !isAddress(typeUrl))
    for (const [typeUrl, subscription] of rules) {
      if (subscription.free) this.#send(typeUrl, subscription, 'changes')
    }
    if (this.#holding === undefined && rules.every(([, { hasChanges }]) => !hasChanges)) {
      for (const [typeUrl, subscription] of addresses) {
        if (subscription.free) this.#send(typeUrl, subscription, 'all')
      }
    }
    const waiting = addresses.some(([, subscription]) => subscription.hasChanges || subscription.hasRemovals)
    if (this.#holding !== undefined || waiting) return
    for (const [typeUrl, subscription] of rules) {
      if (subscription.free && subscription.hasRemovals) this.#send(typeUrl, subscription, 'all')
    }
  }

  #send(typeUrl: string, subscription: Subscription, parts: 'changes' | 'all'): void {
    const batch = subscription.take(parts)
    if (batch === undefined) return
    const { metrics } = this.#deps
    const id = this.#deps.nonce()
    subscription.outstanding = id
    subscription.lastSent = id
    subscription.sentAt = Date.now()
    const response = this.#deps.responses.encode(typeUrl, id, batch)
    metrics.series('pilot_xds_pushes', typeUrl).add()
    metrics.series('underpass_xds_push_bytes_total', typeUrl).add(response.length)
    this.#stream.send(response)
  }
}
