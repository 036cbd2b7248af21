/** Every metric of a waypoint, in the order of its exposition. Source: Istio's standard metrics. */
import type { MetricFamilies, MetricFamily } from '../shared/telemetry/metrics.ts'
import { endLabels } from '../shared/telemetry/traffic-metrics.ts'

export const requestLabels = [
  ...endLabels,
  'request_protocol',
  'response_code',
  'grpc_response_status',
  'response_flags',
  'connection_security_policy'
] as const

export const connectionLabels = [
  ...endLabels,
  'request_protocol',
  'response_flags',
  'connection_security_policy'
] as const
const connections = (help: string): MetricFamily => ({ type: 'counter', help, labels: connectionLabels })

const buckets = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000
]
const histogram = (help: string): MetricFamily => ({
  type: 'histogram',
  help,
  labels: requestLabels,
  buckets
})

export const families = {
  istio_requests_total: { type: 'counter', help: 'Requests that were answered.', labels: requestLabels },
  istio_request_duration_milliseconds: histogram('Time from the head of a request to the end of its answer.'),
  istio_request_bytes: histogram('Bytes of the bodies of requests.'),
  istio_response_bytes: histogram('Bytes of the bodies of answers.'),
  istio_tcp_connections_opened_total: connections(
    'Connections that are carried as they are, when they begin.'
  ),
  istio_tcp_connections_closed_total: connections('Connections that were carried as they are, at their end.'),
  istio_tcp_received_bytes_total: connections('Bytes from the clients of such connections.'),
  istio_tcp_sent_bytes_total: connections('Bytes to the clients of such connections.'),
  istio_build: { type: 'gauge', help: 'Istio component build info.', labels: ['component', 'tag'] },
  istio_xds_message_total: { type: 'counter', help: 'Messages of the control plane.', labels: ['url'] },
  underpass_upstream_connects_total: {
    type: 'counter',
    help: 'Connections that were made to applications.',
    labels: []
  },
  underpass_mirrored_requests_total: {
    type: 'counter',
    help: 'Requests that mirrors of routes were sent, by what became of them: answered, failed, timeout, overflow (too slow, or one too many), incomplete (the request itself was).',
    labels: ['outcome']
  },
  underpass_spans_total: {
    type: 'counter',
    help: 'Spans of traces, by what became of them: exported, rejected (by the collector), failed (it could not be reached), overflow (too many waited).',
    labels: ['provider', 'outcome']
  },
  underpass_rate_limited_total: {
    type: 'counter',
    help: 'Requests above a limit of a RateLimitPolicy, by its namespace and name, who counts (Local, Global), and whether they passed all the same (shadow).',
    labels: ['policy', 'scope', 'shadow']
  },
  underpass_rate_limit_failures_total: {
    type: 'counter',
    help: 'Questions about requests that the service which counts for a RateLimitPolicy did not answer.',
    labels: ['policy']
  },
  underpass_ejections_total: {
    type: 'counter',
    help: 'Pods that were left out for what they answered (DestinationRule outlierDetection).',
    labels: ['cluster', 'reason']
  },
  underpass_tunnels_refused_total: {
    type: 'counter',
    help: 'Tunnels for somebody whom this waypoint does not serve.',
    labels: []
  }
} as const satisfies MetricFamilies
