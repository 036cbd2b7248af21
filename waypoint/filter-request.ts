/** What the filters of a rule or of a backend come to: an answer of their own, or changes of the request and its answer. */
import { decideCors, shareAnswer } from './cors.ts'
import { withEditedAnswer } from './http/edited-answer.ts'
import type { Exchange } from './http/exchange.ts'
import { HeaderList } from './http/header-list.ts'
import type { LocalReply } from './local-reply.ts'
import { changeHeaders, changeTarget, redirectLocation } from './routes/change-request.ts'
import type { Filters } from './routes/route.ts'
import type { Matched } from './routes/route-table.ts'
import { ownAnswerTo } from './virtual-services/own-answer.ts'

export interface Routed {
  /** Path and query in their form. */
  readonly target: string
  /** Which the client asked for. */
  readonly port: number
  readonly found: Matched
}

export interface Filtered {
  /** Through which every answer goes from now on. */
  readonly exchange: Exchange
  /** Undefined: the request goes on. */
  readonly reply: LocalReply | undefined
}

/** Before the request goes anywhere. */
export function filterExchange(filters: Filters, exchange: Exchange, routed: Routed): Filtered {
  const { unsupported, cors, redirect, ownAnswer, responseHeaders } = filters
  const { head } = exchange
  if (unsupported !== undefined) return { exchange, reply: cannotCarryOut(unsupported) }
  const decision = cors === undefined ? undefined : decideCors(cors, head.method, head.headers)
  if (decision?.kind === 'preflight') return { exchange, reply: preflight(decision.headers) }
  const shared =
    cors === undefined
      ? exchange
      : withEditedAnswer(exchange, answer => shareAnswer(cors, decision?.origin, answer))
  const { target, port, found } = routed
  if (ownAnswer !== undefined) {
    const reply = ownAnswerTo(
      ownAnswer,
      { ...head, target },
      {
        port,
        prefix: found.prefix,
        responseHeaders
      }
    )
    return { exchange: shared, reply }
  }
  if (redirect === undefined) return { exchange: shared, reply: undefined }
  const location = redirectLocation({ ...head, target }, redirect, { port, prefix: found.prefix })
  const headers = HeaderList.of('location', location)
  const reply = { status: redirect.status, body: '', flag: '-', details: 'direct_response', headers }
  return { exchange: shared, reply }
}

function preflight(headers: HeaderList): LocalReply {
  return { status: 200, body: '', flag: '-', details: 'cors_response', headers }
}

function cannotCarryOut(what: string): LocalReply {
  const body = `the route cannot be carried out: ${what}`
  return { status: 500, body, flag: '-', details: 'route_not_supported' }
}

export interface Destined {
  readonly target: string
  readonly authority: string
}

/** On its way to the backend. Headers are changed in place. */
export function filterRequest(
  { requestHeaders, rewrite }: Filters,
  { target, authority }: Destined,
  headers: HeaderList,
  { prefix }: Matched
): Destined {
  if (requestHeaders !== undefined) changeHeaders(headers, requestHeaders)
  if (rewrite === undefined) return { target, authority }
  if (rewrite.path !== undefined && !headers.has('x-envoy-original-path')) {
    headers.append('x-envoy-original-path', target)
  }
  return {
    target: rewrite.path === undefined ? target : changeTarget(target, rewrite.path, prefix),
    authority: rewrite.hostname ?? authority
  }
}
