/**
 * Sends one request to one pod after another until one answers, and passes the answer on. A request is tried again
 * where no pod can have acted on it, and where its route says so.
 */
import type { KeyHash } from './balancing/hash-key.ts'
import type { WorkloadUid } from '../shared/mesh/model.ts'
import { relay } from '../shared/net/relay.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { anyOf } from './egress/any-of.ts'
import { leadsOut, type WayOut } from './egress/egress.ts'
import type { Body, BodySink } from './http/body.ts'
import type { ClientConnection, ClientRequest, Exchange, ResponseHead } from './http/exchange.ts'
import { ReplayBuffer } from './http/replay-buffer.ts'
import type { KeptSession } from './keep-session.ts'
import { connectFailure, replies, replyLocally, type LocalReply } from './local-reply.ts'
import { pickPod } from './pick-pod.ts'
import { clientGone, type RequestReport } from './request-report.ts'
import type { Upstream } from './request.ts'
import { requestTimeoutOf } from './request-timeout.ts'
import { backoffMs, endOf, mayReplace, mayTryAgain, type AttemptEnd } from './retry.ts'
import { changeHeaders } from './routes/change-request.ts'
import type { Filters, RouteRule } from './routes/route.ts'
import { Waiting, type UpstreamProtocol } from './upstream/place.ts'
import { ClusterUse } from './upstream/cluster-use.ts'
import type { Cluster } from './upstream/cluster.ts'
import { pickWaypointPod } from './upstream/through-waypoint.ts'
import { protocolTowards } from './upstream/protocol.ts'
import type { Target } from './upstream/tunnels.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

export interface Plan {
  /** Path and query as they are sent. */
  readonly target: string
  readonly authority: string
  readonly upstream: Upstream
  /** Undefined where no route applies. */
  readonly rule: RouteRule | undefined
  /** Of the rule, then of the backend: what they make of the answer. */
  readonly filters: readonly Filters[]
  /** That the client is in, where the rule keeps any. */
  readonly session?: KeptSession | undefined
}

/** RFC 9110 section 9.2.2. */
const idempotent = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

interface Failure {
  /** In Envoy's words. */
  readonly reason: string
  /** No pod can have acted on the request. */
  readonly untouched: boolean
  /** There was no connection. */
  readonly connecting?: boolean
}

const nobody: ReadonlySet<WorkloadUid> = new Set()

const noConnection: Failure = { reason: 'connection failure', untouched: true, connecting: true }

export function forward(
  waypoint: Waypoint,
  arrival: Arrival,
  exchange: Exchange,
  plan: Plan,
  report: RequestReport
): void {
  new Forwarding(waypoint, arrival, exchange, plan, report).start()
}

class Forwarding {
  readonly #waypoint: Waypoint
  readonly #arrival: Arrival
  readonly #exchange: Exchange
  readonly #plan: Plan
  readonly #report: RequestReport
  readonly #request: ClientRequest
  readonly #protocol: UpstreamProtocol
  readonly #tried = new Set<WorkloadUid>()
  /** Keeps the body where the route has tries to spare. */
  readonly #replay: ReplayBuffer | undefined
  /** Undefined: no traffic policy applies. */
  readonly #cluster: Cluster | undefined
  readonly #use: ClusterUse
  /** What decides on its pod. */
  readonly #key: KeyHash | undefined
  /** Undefined: the endpoints are those that the mesh knows. */
  #out: Extract<WayOut, { kind: 'endpoints' }> | undefined
  #attempts = 0
  /** Where the latest attempt went. */
  #target: Target | undefined
  /** The number of the attempt that may still answer; 0: none. */
  #live = 0
  #piped = false
  /** For a connection. */
  #waiting: Waiting | undefined
  #writer: BodySink | undefined
  #release: (() => void) | undefined
  #answer: Body | undefined
  /** The client has its answer's head, or is gone. */
  #decided = false
  #timer: NodeJS.Timeout | undefined
  #attemptTimer: NodeJS.Timeout | undefined
  #startedAt = 0

  constructor(waypoint: Waypoint, arrival: Arrival, exchange: Exchange, plan: Plan, report: RequestReport) {
    this.#waypoint = waypoint
    this.#arrival = arrival
    this.#exchange = exchange
    this.#plan = plan
    this.#report = report
    const { head } = exchange
    const upgrade = head.upgrade === 'websocket' ? { upgrade: head.upgrade } : {}
    this.#request = {
      method: head.method,
      target: plan.target,
      authority: plan.authority,
      scheme: head.scheme ?? 'http',
      headers: head.headers,
      framing: head.framing,
      ...upgrade
    }
    const { upstream } = plan
    this.#cluster =
      upstream.kind === 'service'
        ? waypoint.clusters.of(upstream.service, upstream.port, upstream.subset)
        : undefined
    this.#use = new ClusterUse(this.#cluster)
    this.#key = this.#cluster?.keyOf({ head, sourceIp: arrival.client.ip })
    this.#protocol =
      upstream.kind === 'service'
        ? protocolTowards(upstream.service, upstream.port, this.#cluster, head.headers)
        : 'http1'
    const keeps = (plan.rule?.retry?.times ?? 0) > 0 && head.framing.kind !== 'none'
    this.#replay = keeps ? new ReplayBuffer(waypoint.replayBudget) : undefined
  }

  start(): void {
    const { unsupported } = this.#cluster?.policy ?? {}
    if (unsupported !== undefined) return this.#reply(policyNotSupported(unsupported))
    if (!this.#use.begin()) return this.#reply(replies.overflow)
    this.#exchange.onGone(reason => this.#giveUp(reason))
    const { rule } = this.#plan
    const timeoutMs = rule && requestTimeoutOf(rule, this.#request.headers)
    if (timeoutMs !== undefined) this.#timer = setTimeout(() => this.#timeOut(), timeoutMs)
    const { upstream, authority: host } = this.#plan
    if (upstream.kind !== 'service' || !leadsOut(upstream.service)) return this.#attempt()
    const { service, port } = upstream
    const way = this.#waypoint.egress.find(service, port, { host, addressed: this.#arrival.addressed })
    if (!(way instanceof Promise)) return this.#goOut(way)
    way
      .then(found => this.#goOut(found))
      .catch((error: unknown) => {
        this.#report.attemptFailed(messageOf(error))
        this.#reply(connectFailure('connection failure'))
      })
  }

  #goOut(way: WayOut): void {
    if (this.#decided) return
    if (way.kind === 'refused') return this.#reply(way.reply)
    this.#out = way
    this.#attempt()
  }

  #attempt(): void {
    const target = this.#pick()
    if (target === undefined) return this.#reply(replies.noHealthyUpstream)
    const attempt = (this.#attempts += 1)
    this.#live = attempt
    const backendTimeoutMs = this.#plan.rule?.backendTimeoutMs
    if (backendTimeoutMs !== undefined) {
      this.#attemptTimer = setTimeout(() => this.#attemptTimedOut(), backendTimeoutMs)
    }
    this.#target = target
    this.#use.attempt(target)
    this.#tried.add(target.workload.uid)
    this.#report.attempt(target, this.#request.headers)
    this.#request.headers.set('x-envoy-attempt-count', String(this.#attempts))
    const { connections } = this.#waypoint
    this.#release = connections.count(target, this.#protocol)
    const taken = connections.take(target, this.#protocol, this.#cluster?.terms)
    if (taken === 'overflow') return this.#reply(replies.overflow)
    if (!(taken instanceof Waiting)) return this.#send(attempt, taken)
    this.#waiting = taken
    taken.settle(
      connection => this.#send(attempt, connection),
      (error: unknown) => this.#failed(attempt, error, noConnection)
    )
  }

  #pick(): Target | undefined {
    const { upstream } = this.#plan
    if (upstream.kind === 'workload') return upstream
    if (upstream.kind === 'waypoint') return pickWaypointPod(this.#waypoint, upstream, this.#tried)
    const kept = this.#plan.session?.pod
    if (kept !== undefined && this.#tried.size === 0 && this.#cluster?.leavesOut(kept) !== true) return kept
    const { service, port } = upstream
    const tried = this.#plan.rule?.retry?.conditions?.avoidsTried === false ? nobody : this.#tried
    const load = (uid: WorkloadUid, port: number): number =>
      this.#waypoint.connections.active(uid, port, this.#protocol)
    const endpoints = this.#out?.endpoints
    if (endpoints !== undefined && this.#out?.balanced === false) {
      return anyOf(endpoints, tried, this.#waypoint.random)
    }
    if (this.#cluster !== undefined) {
      const hash = this.#key?.hash
      return this.#cluster.pick(service, port, { tried, load, hash, endpoints })
    }
    return pickPod(this.#waypoint, service, port, {
      sourceIp: this.#arrival.client.ip,
      load,
      exclude: tried
    })
  }

  #send(attempt: number, connection: ClientConnection): void {
    this.#waiting = undefined
    const { body } = this.#exchange
    this.#startedAt = performance.now()
    this.#writer = connection.send(this.#request, {
      drained: () => body.resume(),
      informed: ({ status, headers }) => this.#exchange.inform(status, headers),
      answered: (head, answer) => this.#answered(attempt, head, answer),
      switched: (head, stream) => {
        this.#decide()
        const client = this.#exchange.switchProtocols(head.headers)
        const { bytes } = this.#report
        relay(client, stream, bytes, this.#waypoint.ending).then(
          () => this.#report.finish({ status: 101, flag: '-', details: 'via_upstream' }),
          () => this.#report.finish({ status: 101, flag: 'UR', details: 'upgrade_cut' })
        )
        this.#over()
      },
      failed: (error, { untouched }) =>
        this.#failed(attempt, error, {
          reason: 'connection termination',
          untouched: untouched && this.#harmless
        })
    })
    if (this.#request.framing.kind === 'none') return this.#writer.end()
    this.#replay?.sendTo(this.#writer)
    if (this.#piped) return body.resume()
    this.#piped = true
    body.pipe(this.#report.counting(this.#replay ?? this.#writer))
  }

  #answered(attempt: number, head: ResponseHead, answer: Body): void {
    if (this.#live !== attempt) return answer.cancel()
    this.#use.answered(head)
    this.#report.attemptAnswered(head.status)
    const end = endOf(head)
    if (mayReplace(this.#plan.rule?.retry, end)) {
      if (this.#tryAgain(end)) return discard(answer)
      if (this.#attempts > 1) this.#report.exhausted()
    }
    this.#decide()
    this.#answer = answer
    const { headers } = head
    for (const { responseHeaders } of this.#plan.filters) {
      if (responseHeaders !== undefined) changeHeaders(headers, responseHeaders)
    }
    if (this.#key?.setCookie !== undefined) headers.append('set-cookie', this.#key.setCookie)
    if (this.#target !== undefined) this.#plan.session?.mark(this.#target, headers)
    headers.set('x-envoy-upstream-service-time', String(Math.round(performance.now() - this.#startedAt)))
    const sink = this.#exchange.respond(head, () => answer.resume())
    const report = this.#report
    report.answered(head)
    answer.pipe({
      data: bytes => {
        report.bytes.bToA += bytes.length
        return sink.data(bytes)
      },
      end: trailers => {
        sink.end(trailers)
        this.#over()
        report.end(head, trailers)
      },
      fail: error => {
        sink.fail(error)
        this.#over()
        report.finish({ status: head.status, flag: 'UC', details: `upstream_reset_after_response_started` })
      }
    })
  }

  /** A second one would do no harm, or the first was refused unseen. */
  get #harmless(): boolean {
    return this.#protocol === 'http2' || idempotent.has(this.#request.method)
  }

  /** Before any answer. */
  #failed(attempt: number, error: unknown, { reason, untouched, connecting = false }: Failure): void {
    if (this.#live !== attempt) return
    this.#use.failed(error)
    this.#report.attemptFailed(messageOf(error))
    if (!this.#tryAgain({ kind: 'failure', untouched, connecting })) this.#reply(connectFailure(reason))
  }

  #attemptTimedOut(): void {
    const writer = this.#writer
    this.#use.failed()
    this.#report.attemptFailed('the attempt took too long')
    if (!this.#tryAgain({ kind: 'timeout' })) this.#reply(replies.timeout)
    writer?.fail(new Error('the request took too long'))
  }

  /** False: this attempt was the last, and the client is to be told. */
  #tryAgain(end: AttemptEnd): boolean {
    const { rule } = this.#plan
    const { framing } = this.#request
    const replayable = framing.kind === 'none' || !this.#piped || this.#replay?.replayable === true
    if (!mayTryAgain(rule?.retry, end, { attempts: this.#attempts, replayable })) return false
    if (!this.#use.retry()) return false
    this.#stopAttempt()
    this.#writer = undefined
    this.#replay?.detach()
    this.#release?.()
    this.#release = undefined
    if (rule?.retry === undefined) this.#attempt()
    else {
      const waitMs = backoffMs(rule.retry, this.#attempts, this.#waypoint.random)
      this.#attemptTimer = setTimeout(() => this.#attempt(), waitMs)
    }
    return true
  }

  #timeOut(): void {
    if (!this.#decided) {
      this.#use.failed()
      this.#reply(replies.timeout)
      this.#writer?.fail(new Error('the request took too long'))
      return
    }
    // The client has the head of its answer: the rest of it does not come, and it must see that.
    this.#answer?.cancel()
  }

  #reply(reply: LocalReply): void {
    if (this.#decided) return
    this.#decide()
    const sent = replyLocally(this.#exchange, reply)
    this.#over()
    const { status, flag, details } = reply
    this.#report.finish({ status, flag, details, sent })
  }

  #giveUp(reason: Error): void {
    const answered = this.#decided
    this.#decide()
    this.#over()
    this.#report.finish(clientGone)
    if (answered) this.#answer?.cancel()
    else this.#writer?.fail(reason)
  }

  #decide(): void {
    this.#decided = true
    this.#replay?.forget()
    this.#stopAttempt()
  }

  /** What still comes of it is not looked at. */
  #stopAttempt(): void {
    this.#live = 0
    this.#waiting?.cancel()
    this.#waiting = undefined
    clearTimeout(this.#attemptTimer)
  }

  /** Nothing more is under way for this request. */
  #over(): void {
    clearTimeout(this.#timer)
    this.#release?.()
    this.#release = undefined
    this.#use.over()
  }
}

function policyNotSupported(what: string): LocalReply {
  const body = `the traffic policy cannot be carried out: ${what}`
  return { status: 500, body, flag: '-', details: 'traffic_policy_not_supported' }
}

/** Bytes of an answer that are read for nothing, so that its connection can be used again. */
const maxDiscarded = 16 * 1024

function discard(answer: Body): void {
  let left = maxDiscarded
  answer.pipe({
    data: ({ length }) => {
      if (left >= 0 && (left -= length) < 0) answer.cancel()
      return true
    },
    end: () => undefined,
    fail: () => undefined
  })
}
