/**
 * Requests that somebody else gets too: one pod of each mirror of a route. A mirror has no say in the request: it gets
 * the body as it comes, is left behind where it is slow, and what it answers is thrown away. Source: Gateway API v1,
 * HTTPRequestMirrorFilter.
 */
import type { Service, WorkloadUid } from '../shared/mesh/model.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Destined } from './filter-request.ts'
import { anyOf } from './egress/any-of.ts'
import { leadsOut } from './egress/egress.ts'
import type { Body, BodySink } from './http/body.ts'
import type { ClientConnection, ClientRequest, RequestHead } from './http/exchange.ts'
import type { HeaderList } from './http/header-list.ts'
import { QueuedBody } from './http/queued-body.ts'
import { pickPod } from './pick-pod.ts'
import type { BackendReference, Mirror } from './routes/route.ts'
import { ClusterUse } from './upstream/cluster-use.ts'
import type { Cluster } from './upstream/cluster.ts'
import { Waiting, type UpstreamProtocol } from './upstream/place.ts'
import { protocolTowards } from './upstream/protocol.ts'
import type { Target } from './upstream/tunnels.ts'
import type { Waypoint } from './waypoint.ts'

type Means = Pick<
  Waypoint,
  'view' | 'config' | 'random' | 'clusters' | 'connections' | 'egress' | 'metrics' | 'log'
>
type ServiceReference = Extract<BackendReference, { kind: 'service' }>

/** `timeout`: it took too long; `overflow`: it was too slow, or one too many; `incomplete`: the request itself ended early. */
type MirrorOutcome = 'answered' | 'failed' | 'timeout' | 'overflow' | 'incomplete'

/** Of bodies that mirrors have not taken yet: of each, and of all together, bytes. */
const maxQueued = 1 << 20
const maxQueuedOfAll = 64 << 20
/** Mirrored requests under way. */
const maxActive = 1024
/** Of an answer that is read for nothing, so that its connection can be used again, bytes. */
const maxDiscarded = 1 << 20
/** Where the route has no limit. */
const defaultTimeoutMs = 15_000

export class Mirrors {
  readonly means: Means
  readonly queueBudget = { left: maxQueuedOfAll }
  active = 0

  constructor(means: Means) {
    this.means = means
  }

  /**
   * Copies of a request as it is now, one for each mirror whose turn it is. A stream in both directions is not
   * mirrored: it would need both of its ends.
   */
  of(
    mirrors: readonly Mirror[],
    head: RequestHead,
    destined: Destined,
    timeoutMs = defaultTimeoutMs
  ): readonly MirroredRequest[] {
    if (mirrors.length === 0 || head.upgrade !== undefined) return none
    return mirrors.flatMap(({ backend, share, shadowHost }) => {
      if (backend.kind === 'unresolved' || (share < 1 && this.means.random() >= share)) return none
      const { method, scheme = 'http', headers, framing } = head
      const { target } = destined
      const authority = shadowHost === true ? shadowOf(destined.authority) : destined.authority
      const request = { target, authority, method, scheme, headers: headers.copy(), framing }
      return [new MirroredRequest(this, backend, request, timeoutMs)]
    })
  }
}

const none: readonly MirroredRequest[] = []

/** Before the port, where there is one. Source: Istio's published `mirror`. */
function shadowOf(authority: string): string {
  return authority.replace(/(?=:\d+$)|(?<!:\d+)$/, '-shadow')
}

/** Takes the body from the beginning on; goes out with {@link start}. */
export class MirroredRequest implements BodySink {
  readonly #mirrors: Mirrors
  readonly #backend: ServiceReference
  readonly #request: ClientRequest
  readonly #timeoutMs: number
  readonly #body: QueuedBody
  #use: ClusterUse | undefined
  #waiting: Waiting | undefined
  #writer: BodySink | undefined
  #answer: Body | undefined
  #uncount: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined
  #over = false

  constructor(mirrors: Mirrors, backend: ServiceReference, request: ClientRequest, timeoutMs: number) {
    this.#mirrors = mirrors
    this.#backend = backend
    this.#request = request
    this.#timeoutMs = timeoutMs
    this.#body = new QueuedBody({
      most: maxQueued,
      shared: mirrors.queueBudget,
      onOverflow: () => this.#cut('overflow', new Error('the mirror is slower than the request'))
    })
    mirrors.active += 1
    if (mirrors.active > maxActive) this.#finish('overflow')
  }

  start(): void {
    if (this.#over) return
    const { namespace, hostname, port, subset } = this.#backend
    const { means } = this.#mirrors
    const service = means.view().service(`${namespace}/${hostname}`)
    if (service === undefined) return this.#fail('the service is not known to this waypoint')
    const cluster = means.clusters.of(service, port, subset)
    const { unsupported } = cluster?.policy ?? {}
    if (unsupported !== undefined)
      return this.#fail(`its traffic policy cannot be carried out: ${unsupported}`)
    this.#use = new ClusterUse(cluster)
    if (!this.#use.begin()) return this.#finish('overflow')
    const protocol = protocolTowards(service, port, cluster, this.#request.headers)
    this.#timer = setTimeout(
      () => this.#cut('timeout', new Error('the mirror took too long')),
      this.#timeoutMs
    )
    this.#timer.unref()
    if (!leadsOut(service))
      return this.#sendTo(pick(means, service, port, { cluster, protocol }), { cluster, protocol })
    const { authority: host } = this.#request
    const asked = { host, addressed: { kind: 'hostname', hostname, port } } as const
    Promise.resolve(means.egress.find(service, port, asked))
      .then(way => {
        if (this.#over) return
        if (way.kind === 'refused') return this.#fail(way.reply.body)
        this.#sendTo(anyOf(way.endpoints, nobody, means.random), { cluster, protocol })
      })
      .catch((error: unknown) => this.#fail(messageOf(error)))
  }

  #sendTo(target: Target | undefined, { cluster, protocol }: Choosing): void {
    const { means } = this.#mirrors
    if (target === undefined) return this.#fail('no healthy upstream')
    this.#use?.attempt(target)
    this.#uncount = means.connections.count(target, protocol)
    const taken = means.connections.take(target, protocol, cluster?.terms)
    if (taken === 'overflow') return this.#finish('overflow')
    if (!(taken instanceof Waiting)) return this.#send(taken)
    this.#waiting = taken
    taken.settle(
      connection => this.#send(connection),
      (error: unknown) => this.#unanswered(error)
    )
  }

  // ---- as one of those that get the body

  data(bytes: Buffer): boolean {
    return this.#body.data(bytes)
  }

  end(trailers?: HeaderList): void {
    this.#body.end(trailers)
  }

  fail(error: Error): void {
    this.#cut('incomplete', error)
  }

  #send(connection: ClientConnection): void {
    this.#waiting = undefined
    this.#writer = connection.send(this.#request, {
      drained: () => this.#body.drained(),
      answered: (head, answer) => {
        this.#use?.answered(head)
        this.#discard(answer)
      },
      failed: error => this.#unanswered(error)
    })
    if (this.#request.framing.kind === 'none') this.#writer.end()
    else this.#body.sendTo(this.#writer)
  }

  #discard(answer: Body): void {
    if (this.#over) return answer.cancel()
    this.#answer = answer
    let left = maxDiscarded
    answer.pipe({
      data: ({ length }) => {
        left -= length
        if (left < 0) this.#cut('answered', new Error('the answer of a mirror is not read to its end'))
        return true
      },
      end: () => this.#finish('answered'),
      fail: error => this.#fail(error.message)
    })
  }

  /** What its pod is to blame for. */
  #unanswered(error: unknown): void {
    if (this.#over) return
    this.#use?.failed(error)
    this.#fail(messageOf(error))
  }

  #fail(reason: string): void {
    if (this.#over) return
    const { namespace, hostname, port } = this.#backend
    this.#mirrors.means.log.debug('a mirror failed', { mirror: `${namespace}/${hostname}:${port}`, reason })
    this.#finish('failed')
  }

  /** Ends what is under way of it. */
  #cut(outcome: MirrorOutcome, error: Error): void {
    if (this.#over) return
    this.#finish(outcome)
    this.#waiting?.cancel()
    if (this.#answer === undefined) this.#writer?.fail(error)
    else this.#answer.cancel()
  }

  #finish(outcome: MirrorOutcome): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#timer)
    this.#body.drop()
    this.#uncount?.()
    this.#use?.over()
    this.#mirrors.active -= 1
    this.#mirrors.means.metrics.series('underpass_mirrored_requests_total', outcome).add()
  }
}

interface Choosing {
  readonly cluster: Cluster | undefined
  readonly protocol: UpstreamProtocol
}

/** Any pod where requests of one client would keep to theirs: nobody looks at the answer. */
function pick(
  means: Means,
  service: Service,
  port: number,
  { cluster, protocol }: Choosing
): Target | undefined {
  const load = (uid: WorkloadUid, at: number): number => means.connections.active(uid, at, protocol)
  if (cluster === undefined) return pickPod(means, service, port, { load })
  return cluster.pick(service, port, { tried: nobody, load, hash: undefined })
}

const nobody: ReadonlySet<WorkloadUid> = new Set()
