/** One line of the access log, in the forms that Istio's proxies write. Source: Istio's default formats, text and JSON. */
import type { RelayCounters } from '../shared/net/relay.ts'
import type { RequestHead } from './http/exchange.ts'

export interface AccessLine {
  /** Undefined: of a connection that is carried as it is. */
  readonly head: RequestHead | undefined
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly durationMs: number
  readonly status: number
  readonly flag: string
  readonly details: string
  /** Why the connection was ended here. */
  readonly termination: string
  /** Why no pod could be talked to. */
  readonly failure: string
  readonly bytes: RelayCounters
  readonly serviceTime: string
  readonly upstreamHost: string
  readonly upstreamCluster: string
  /** As the client addressed it, and the client. */
  readonly local: string
  readonly remote: string
  /** Of the client's TLS; empty where there is none. */
  readonly serverName: string
  readonly route: string
}

/** Without the end of the line. What a client sent cannot end a line or a quoted field. */
export function accessLine(line: AccessLine): string {
  const { head, bytes } = line
  const headers = head?.headers
  const path = headers?.get('x-envoy-original-path') ?? head?.target ?? '-'
  return [
    `[${new Date(line.startedAt).toISOString()}]`,
    quoted(`${head?.method ?? '-'} ${path} ${head?.version ?? '-'}`),
    line.status,
    line.flag,
    line.details,
    line.termination,
    quoted(line.failure),
    bytes.aToB,
    bytes.bToA,
    Math.round(line.durationMs),
    line.serviceTime,
    quoted(headers?.get('x-forwarded-for')),
    quoted(headers?.get('user-agent')),
    quoted(headers?.get('x-request-id')),
    quoted(head?.authority),
    quoted(line.upstreamHost),
    line.upstreamCluster,
    '-',
    line.local,
    line.remote,
    line.serverName === '' ? '-' : line.serverName,
    line.route
  ].join(' ')
}

/** The same as one JSON object; what is not there is null. */
export function accessObject(line: AccessLine): string {
  const { head, bytes } = line
  const headers = head?.headers
  const found = (text: string | undefined): string | null =>
    text === undefined || text === '' || text === '-' ? null : text
  return JSON.stringify({
    start_time: new Date(line.startedAt).toISOString(),
    method: found(head?.method),
    path: found(headers?.get('x-envoy-original-path') ?? head?.target),
    protocol: found(head?.version),
    response_code: line.status,
    response_flags: line.flag,
    response_code_details: found(line.details),
    connection_termination_details: found(line.termination),
    upstream_transport_failure_reason: found(line.failure),
    bytes_received: bytes.aToB,
    bytes_sent: bytes.bToA,
    duration: Math.round(line.durationMs),
    upstream_service_time: found(line.serviceTime),
    x_forwarded_for: found(headers?.get('x-forwarded-for')),
    user_agent: found(headers?.get('user-agent')),
    request_id: found(headers?.get('x-request-id')),
    authority: found(head?.authority),
    upstream_host: found(line.upstreamHost),
    upstream_cluster: found(line.upstreamCluster),
    upstream_local_address: null,
    downstream_local_address: line.local,
    downstream_remote_address: line.remote,
    requested_server_name: found(line.serverName),
    route_name: found(line.route)
  })
}

function quoted(text: string | undefined): string {
  if (text === undefined || text === '') return '"-"'
  let safe = ''
  for (const character of text) {
    const code = character.charCodeAt(0)
    const plain = code >= 0x20 && code !== 0x7f && character !== '"' && character !== '\\'
    safe += plain ? character : `\\x${code.toString(16).padStart(2, '0')}`
  }
  return `"${safe}"`
}
