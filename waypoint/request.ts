/**
 * The path of one request: its form, who may ask it, its route, its backend, then forwarding. What can be said without a backend is
 * said here; `forward.ts` does the rest.
 */
import { randomUUID } from 'node:crypto'
import type { Service, Workload } from '../shared/mesh/model.ts'
import { admit, type Admission } from './admission.ts'
import { failureHeader } from './external-authorization/changes.ts'
import { injectFault } from './fault.ts'
import { filterExchange, filterRequest, type Routed } from './filter-request.ts'
import { forward } from './forward.ts'
import { stampEdge } from './gateway/edge-headers.ts'
import { withCopiedBody } from './http/copied-body.ts'
import type { Exchange, RequestHead } from './http/exchange.ts'
import { pathOf, queryOf } from './http/target.ts'
import { keptSession, type KeptSession } from './keep-session.ts'
import { replies, replyLocally, type LocalReply } from './local-reply.ts'
import { normalizePath } from './normalize-path.ts'
import { limitRequest, type Limited } from './rate-limit/limit-request.ts'
import { clientGone, type RequestReport } from './request-report.ts'
import type { Backend, RouteRule } from './routes/route.ts'
import { throughWaypoint, type ThroughWaypoint } from './upstream/through-waypoint.ts'
import { wayOf } from './way.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

/** What only we say; a client's own would be believed. */
const ours = ['x-forwarded-client-cert', 'x-envoy-original-path', 'x-envoy-attempt-count', failureHeader]

/** Where a request goes: one of a service's pods, the pod that was addressed, or through the service's waypoint. */
export type Upstream =
  | {
      readonly kind: 'service'
      readonly service: Service
      readonly port: number
      /** Only those of its pods. */
      readonly subset?: string | undefined
    }
  | { readonly kind: 'workload'; readonly workload: Workload; readonly port: number }
  | ThroughWaypoint

/** `onDefect`: what was thrown where nothing may be; the client must see that its answer is not whole. */
export function serveRequest(
  waypoint: Waypoint,
  arrival: Arrival,
  exchange: Exchange,
  onDefect: (error: unknown) => void
): void {
  const { head } = exchange
  const report = waypoint.reports.begin(arrival, head)
  const refuse = refuser(exchange, report)

  // 1. One form for what policies and routes look at, and what is forwarded.
  if (head.version === 'HTTP/1.0' && !waypoint.config.http10) return refuse(replies.oldVersion)
  if (head.method === 'CONNECT') return refuse(replies.connect) // a tunnel to anywhere, past every policy about paths
  const target = normalizePath(head.target, waypoint.settings.current.pathNormalization)
  if (target === undefined) return refuse(replies.badPath)
  const { headers } = head
  for (const name of ours) headers.remove(name)
  if (!headers.has('x-request-id')) headers.append('x-request-id', randomUUID())
  const { destination } = arrival
  if (destination.kind === 'listener') stampEdge(headers, arrival.client, destination.clientCertificate)
  if (!headers.has('x-forwarded-proto')) headers.append('x-forwarded-proto', head.scheme ?? 'http')

  // 2. Who may ask it.
  const admission = admit(waypoint, arrival, exchange, target)
  const proceed = (admitted: Admission): void => {
    if (admitted.kind === 'refused') return refuse(admitted.reply)
    if (admitted.kind === 'gone') return report.finish(clientGone)
    // 3. How often.
    const limited = limitRequest(waypoint, arrival, admitted)
    const go = (result: Limited): void => {
      if (result.kind === 'limited') return refuser(admitted.exchange, report)(result.reply)
      route(waypoint, arrival, result.exchange, { target: admitted.target, report, onDefect })
    }
    if (limited instanceof Promise) limited.then(go).catch((error: unknown) => onDefect(error))
    else go(limited)
  }
  if (admission instanceof Promise) admission.then(proceed).catch((error: unknown) => onDefect(error))
  else proceed(admission)
}

function refuser(exchange: Exchange, report: RequestReport): (reply: LocalReply) => void {
  return reply => {
    const sent = replyLocally(exchange, reply)
    report.finish({ status: reply.status, flag: reply.flag, details: reply.details, sent })
  }
}

interface Admitted {
  /** Path and query in their form. */
  readonly target: string
  readonly report: RequestReport
  readonly onDefect: (error: unknown) => void
}

function route(waypoint: Waypoint, arrival: Arrival, exchange: Exchange, admitted: Admitted): void {
  const { head } = exchange
  const { target, report } = admitted
  const refuse = refuser(exchange, report)

  // 4. The route.
  const way = wayOf(waypoint, arrival, head.authority)
  if (way.kind === 'refused') return refuse(way.reply)
  if (way.kind === 'straight') {
    const plan = { target, authority: head.authority, upstream: way.upstream, rule: undefined, filters: [] }
    return forward(waypoint, arrival, exchange, plan, report)
  }
  const { port } = arrival.destination
  const found = way.table.find(head, pathOf(target), queryOf(target))
  if (found === undefined) return refuse(replies.noRoute)
  const { rule } = found
  report.routed(rule)
  const routed = { target, port, found }
  injectFault(rule.fault, exchange, { random: waypoint.random, ...admitted }, abort => {
    if (abort !== undefined) return refuse(abort)
    const filtered = filterExchange(rule.filters, exchange, routed)
    if (filtered.reply !== undefined) return refuser(filtered.exchange, report)(filtered.reply)
    sendToBackend(waypoint, arrival, filtered.exchange, routed, report)
  })
}

function sendToBackend(
  waypoint: Waypoint,
  arrival: Arrival,
  ruled: Exchange,
  routed: Routed,
  report: RequestReport
): void {
  // 5. The backend, and what the filters make of the request on its way there.
  const { found } = routed
  const { rule } = found
  const without = { ...replies.unresolvedBackend, status: rule.statusWithoutBackend }
  const session = sessionOf(waypoint, arrival, rule, ruled.head)
  const backend = session?.backend ?? chooseBackend(rule.backends, waypoint.random)
  if (backend === undefined) return refuser(ruled, report)(without)
  const { exchange, reply } = filterExchange(backend.filters, ruled, routed)
  const refuse = refuser(exchange, report)
  if (reply !== undefined) return refuse(reply)
  if (backend.kind === 'unresolved') return refuse(without)
  const service = waypoint.view().service(`${backend.namespace}/${backend.hostname}`)
  if (service === undefined) return refuse(without)
  const { port, subset } = backend
  if (subset !== undefined && !waypoint.clusters.has(service, subset)) return refuse(without)
  const { head } = exchange
  const { requestTimeoutMs } = rule
  const asked = { target: routed.target, authority: head.authority }
  const byRule = filterRequest(rule.filters, asked, head.headers, found)
  const copies = waypoint.mirrors.of(rule.filters.mirrors, head, byRule, requestTimeoutMs)
  const sent = filterRequest(backend.filters, byRule, head.headers, found)
  const more = waypoint.mirrors.of(backend.filters.mirrors, head, sent, requestTimeoutMs)
  const all = copies.concat(more)
  report.towards(service, port)
  const straight = { kind: 'service', service, port, subset } as const
  const upstream = throughWaypoint(waypoint, service, port) ?? straight
  const plan = { ...sent, upstream, rule, filters: [rule.filters, backend.filters], session }
  forward(waypoint, arrival, withCopiedBody(exchange, all), plan, report)
  for (const copy of all) copy.start()
}

function sessionOf(
  waypoint: Waypoint,
  { destination }: Arrival,
  { persistence, backends }: RouteRule,
  { headers }: RequestHead
): KeptSession | undefined {
  const secure = destination.kind === 'listener' && destination.tls
  return persistence && keptSession(waypoint, persistence, { backends, headers, secure })
}

/** By weight; undefined where no backend takes anything. */
export function chooseBackend<B extends Pick<Backend, 'weight'>>(
  backends: readonly B[],
  random: () => number
): B | undefined {
  if (backends.length === 1) return (backends[0]?.weight ?? 0) > 0 ? backends[0] : undefined
  let total = 0
  for (const { weight } of backends) total += weight
  let left = random() * total
  for (const backend of backends) {
    left -= backend.weight
    if (left < 0) return backend
  }
  return undefined
}
