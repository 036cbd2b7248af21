/**
 * Answers that we give ourselves. To gRPC clients they are trailers with a gRPC status, as these look at nothing
 * else. Source: Envoy's published mapping of HTTP to gRPC status.
 */
import type { Exchange } from './http/exchange.ts'
import { HeaderList } from './http/header-list.ts'

export interface LocalReply {
  readonly status: number
  readonly body: string
  /** Flag and details of the access log, as Envoy names them. */
  readonly flag: string
  readonly details: string
  readonly headers?: HeaderList
  /** That clients of gRPC are told; absent: what the status means to them. */
  readonly grpcStatus?: number | undefined
}

/** What operators of Istio know by these words. */
export const replies = {
  noRoute: { status: 404, body: '', flag: 'NR', details: 'route_not_found' },
  misdirected: { status: 421, body: '', flag: '-', details: 'misdirected_request' },
  noHealthyUpstream: {
    status: 503,
    body: 'no healthy upstream',
    flag: 'UH',
    details: 'no_healthy_upstream'
  },
  /** A limit of the service is reached. Source: Envoy's reply of its circuit breakers. */
  overflow: {
    status: 503,
    body: 'upstream connect error or disconnect/reset before headers. reset reason: overflow',
    flag: 'UO',
    details: 'upstream_reset_before_response_started{overflow}',
    headers: HeaderList.of('x-envoy-overloaded', 'true')
  },
  unresolvedBackend: { status: 500, body: '', flag: 'NC', details: 'cluster_not_found' },
  timeout: {
    status: 504,
    body: 'upstream request timeout',
    flag: 'UT',
    details: 'upstream_response_timeout',
    grpcStatus: 4 // DEADLINE_EXCEEDED
  },
  badPath: { status: 400, body: '', flag: '-', details: 'path_normalization_failed' },
  connect: { status: 501, body: 'CONNECT is not served', flag: '-', details: 'connect_not_served' },
  oldVersion: { status: 426, body: 'Upgrade Required', flag: '-', details: 'low_version' }
} as const satisfies Record<string, LocalReply>

export function connectFailure(reason: string): LocalReply {
  const body = `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`
  const flag = reason === 'connection failure' ? 'UF' : 'UC'
  const details = `upstream_reset_before_response_started{${reason.replaceAll(' ', '_')}}`
  return { status: 503, body, flag, details }
}

/** Answers, and takes no more of the request. Returns the bytes of the body. */
export function replyLocally(exchange: Exchange, reply: LocalReply): number {
  const { status, body, headers, grpcStatus } = reply
  exchange.body.cancel()
  const all = headers?.copy() ?? new HeaderList()
  const grpc = exchange.head.headers.get('content-type')?.startsWith('application/grpc') === true
  if (grpc && (status >= 400 || grpcStatus !== undefined)) {
    all.set('content-type', 'application/grpc')
    all.set('grpc-status', String(grpcStatus ?? grpcStatusOf(status)))
    if (body !== '') all.set('grpc-message', grpcMessage(body))
    exchange.respond({ status: 200, headers: all, framing: { kind: 'none' } }).end()
    return 0
  }
  const bytes = Buffer.from(body)
  if (bytes.length > 0 && !all.has('content-type')) all.set('content-type', 'text/plain')
  const sink = exchange.respond({ status, headers: all, framing: { kind: 'length', bytes: bytes.length } })
  if (bytes.length > 0) sink.data(bytes)
  sink.end()
  return bytes.length
}

/** Of a header, which is no place for long texts. */
const maxGrpcMessage = 1024

function grpcMessage(text: string): string {
  return encodeURIComponent(text.slice(0, maxGrpcMessage).toWellFormed()).replaceAll('%20', ' ')
}

function grpcStatusOf(status: number): number {
  switch (status) {
    case 400:
      return 13
    case 401:
      return 16
    case 403:
      return 7
    case 404:
      return 12
    case 429:
    case 502:
    case 503:
    case 504:
      return 14
    default:
      return 2
  }
}
