/**
 * The path of one request: its form, who may ask it, its route, its backend, then forwarding. What can be said without a backend is
 * said here; `forward.ts` does the rest.
 */
import { randomUUID } from 'node:crypto'
import { serviceKey, type Service, type Workload } from '../shared/mesh/model.ts'
import { admit, type Admission } from './admission.ts'
import { failureHeader } from './external-authorization/changes.ts'
import { forward } from './forward.ts'
import type { Exchange, RequestHead } from './http/exchange.ts'
import { HeaderList } from './http/header-list.ts'
import { pathOf, queryOf } from './http/target.ts'
import { replies, replyLocally, type LocalReply } from './local-reply.ts'
import { normalizePath } from './normalize-path.ts'
import { clientGone, type RequestReport } from './request-report.ts'
import { changeHeaders, changeTarget, redirectLocation } from './routes/change-request.ts'
import type { Backend, Filters } from './routes/route.ts'
import type { Matched } from './routes/route-table.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

/** What only we say; a client's own would be believed. */
const ours = ['x-forwarded-client-cert', 'x-envoy-original-path', 'x-envoy-attempt-count', failureHeader]

/** Where a request goes: one of a service's pods, or the pod that was addressed. */
export type Upstream =
  | { readonly kind: 'service'; readonly service: Service; readonly port: number }
  | { readonly kind: 'workload'; readonly workload: Workload; readonly port: number }

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
  if (!headers.has('x-forwarded-proto')) headers.append('x-forwarded-proto', head.scheme ?? 'http')

  // 2. Who may ask it.
  const admission = admit(waypoint, arrival, exchange, target)
  const proceed = (admitted: Admission): void => {
    if (admitted.kind === 'refused') return refuse(admitted.reply)
    if (admitted.kind === 'gone') return report.finish(clientGone)
    route(waypoint, arrival, admitted.exchange, { target: admitted.target, report })
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
}

function route(waypoint: Waypoint, arrival: Arrival, exchange: Exchange, { target, report }: Admitted): void {
  const { head } = exchange
  const { headers } = head
  const refuse = refuser(exchange, report)

  // 3. The route.
  const { destination } = arrival
  if (destination.kind === 'workload') {
    const plan = { target, authority: head.authority, upstream: destination, rule: undefined, filters: [] }
    return forward(waypoint, arrival, exchange, plan, report)
  }
  const { port } = destination
  // As it is now: a tunnel may be older than the last change of its service.
  const service = waypoint.view().service(serviceKey(destination.service))
  if (service === undefined) return refuse(replies.noHealthyUpstream)
  const table = waypoint.routes.table(service, port, arrival.peerNamespace)
  if (table === undefined) {
    const upstream = { kind: 'service', service, port } as const
    const plan = { target, authority: head.authority, upstream, rule: undefined, filters: [] }
    return forward(waypoint, arrival, exchange, plan, report)
  }
  const found = table.find(head, pathOf(target), queryOf(target))
  if (found === undefined) return refuse(replies.noRoute)
  const { rule } = found
  report.routed(rule)
  if (rule.filters.unsupported !== undefined) return refuse(unsupported(rule.filters.unsupported))
  const moved = redirectOf(rule.filters, { ...head, target }, { port, found })
  if (moved !== undefined) return refuse(moved)

  // 4. The backend, and what the filters make of the request on its way there.
  const backend = chooseBackend(rule.backends, waypoint.random)
  const without = { ...replies.unresolvedBackend, status: rule.statusWithoutBackend }
  if (backend === undefined) return refuse(without)
  if (backend.filters.unsupported !== undefined) return refuse(unsupported(backend.filters.unsupported))
  const away = redirectOf(backend.filters, { ...head, target }, { port, found })
  if (away !== undefined) return refuse(away)
  if (backend.kind === 'unresolved') return refuse(without)
  const to = waypoint.view().service(`${backend.namespace}/${backend.hostname}`)
  if (to === undefined) return refuse(without)
  const changed = applyFilters([rule.filters, backend.filters], {
    target,
    authority: head.authority,
    headers,
    found
  })
  const upstream = { kind: 'service', service: to, port: backend.port } as const
  forward(
    waypoint,
    arrival,
    exchange,
    { ...changed, upstream, rule, filters: [rule.filters, backend.filters] },
    report
  )
}

/** By weight; undefined where no backend takes anything. */
export function chooseBackend(backends: readonly Backend[], random: () => number): Backend | undefined {
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

interface Changing {
  readonly target: string
  readonly authority: string
  /** Changed in place. */
  readonly headers: HeaderList
  readonly found: Matched
}

function applyFilters(
  filters: readonly Filters[],
  { target, authority, headers, found }: Changing
): { readonly target: string; readonly authority: string } {
  const changed = { target, authority }
  for (const { requestHeaders, rewrite } of filters) {
    if (requestHeaders !== undefined) changeHeaders(headers, requestHeaders)
    if (rewrite?.hostname !== undefined) changed.authority = rewrite.hostname
    if (rewrite?.path !== undefined) {
      if (!headers.has('x-envoy-original-path')) headers.append('x-envoy-original-path', target)
      changed.target = changeTarget(changed.target, rewrite.path, found.prefix)
    }
  }
  return changed
}

function redirectOf(
  { redirect }: Filters,
  head: Pick<RequestHead, 'authority' | 'scheme' | 'target'>,
  { port, found }: { readonly port: number; readonly found: Matched }
): LocalReply | undefined {
  if (redirect === undefined) return undefined
  const location = redirectLocation(head, redirect, { port, prefix: found.prefix })
  const headers = HeaderList.of('location', location)
  return { status: redirect.status, body: '', flag: '-', details: 'direct_response', headers }
}

function unsupported(what: string): LocalReply {
  const body = `the route cannot be carried out: ${what}`
  return { status: 500, body, flag: '-', details: 'route_not_supported' }
}
