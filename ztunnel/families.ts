/** Every metric of ztunnel, in the order of its exposition. Source: the metrics that Istio's ztunnel exports. */
import type { MetricFamilies } from '../shared/telemetry/metrics.ts'
import { trafficFamilies } from '../shared/telemetry/traffic-metrics.ts'

const sourceLabels = [
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster'
] as const

const dnsLabels = [
  'request_query_type',
  'request_protocol',
  'source_canonical_service',
  'source_canonical_revision'
] as const

/** Counted by the workers. */
export const workerFamilies = {
  ...trafficFamilies,
  istio_on_demand_dns_total: {
    type: 'counter',
    help: 'The total number of requests that used on-demand DNS (unstable).',
    labels: [...sourceLabels, 'hostname']
  },
  istio_dns_requests_total: {
    type: 'counter',
    help: 'Total number of DNS requests (unstable).',
    labels: dnsLabels
  },
  istio_dns_upstream_requests_total: {
    type: 'counter',
    help: 'Total number of DNS requests forwarded to upstream (unstable).',
    labels: dnsLabels
  },
  istio_dns_upstream_failures_total: {
    type: 'counter',
    help: 'Total number of DNS requests failed to forward to upstream (unstable).',
    labels: dnsLabels
  },
  istio_dns_upstream_request_duration_seconds: {
    type: 'histogram',
    help: 'Total time in seconds Istio takes to get DNS response from upstream (unstable).',
    labels: dnsLabels,
    buckets: [0.0005, 0.001, 0.01, 0.1, 1, 5]
  },
  istio_crl_policy_rejections_total: {
    type: 'counter',
    help: 'The total number of connections rejected due to CRL certificate revocation (unstable).',
    labels: ['reporter']
  },
  istio_crl_untracked_connections_total: {
    type: 'counter',
    help: 'The total number of connections not tracked for CRL enforcement (unstable).',
    labels: ['reporter']
  },
  underpass_spoof_fallback_total: {
    type: 'counter',
    help: "Connections to applications made from the proxy's own address, because no port of the client's address was free.",
    labels: []
  },
  underpass_long_connections: {
    type: 'gauge',
    help: 'Open connections older than 30 s: replacing this ztunnel cuts those that do not end by themselves.',
    labels: []
  },
  underpass_dial_retries_total: {
    type: 'counter',
    help: 'Dials that failed and were tried again with the next endpoint.',
    labels: []
  }
} as const satisfies MetricFamilies

/** Counted by the main thread. */
export const mainFamilies = {
  workload_manager_active_proxy_count: {
    type: 'gauge',
    help: 'The total number current workloads with active proxies (unstable).',
    labels: []
  },
  workload_manager_pending_proxy_count: {
    type: 'gauge',
    help: 'The total number current workloads with pending proxies (unstable).',
    labels: []
  },
  workload_manager_proxies_started_total: {
    type: 'counter',
    help: 'The total number of proxies that were started (unstable).',
    labels: []
  },
  workload_manager_proxies_stopped_total: {
    type: 'counter',
    help: 'The total number of proxies that were stopped (unstable).',
    labels: []
  },
  istio_xds_connection_terminations_total: {
    type: 'counter',
    help: 'The total number of completed connections to xds server (unstable).',
    labels: ['reason']
  },
  istio_xds_message_total: {
    type: 'counter',
    help: 'Total number of messages received (unstable).',
    labels: ['url']
  },
  istio_xds_message_bytes_total: {
    type: 'counter',
    help: 'Total number of bytes received (unstable).',
    labels: ['url']
  },
  istio_build: { type: 'gauge', help: 'Istio component build info.', labels: ['component', 'tag'] },
  process_open_fds: { type: 'gauge', help: 'Number of open file descriptors', labels: [] },
  process_max_fds: { type: 'gauge', help: 'Maximum number of file descriptors', labels: [] },
  underpass_workers: { type: 'gauge', help: 'Threads that carry traffic.', labels: [] }
} as const satisfies MetricFamilies

export const families = { ...mainFamilies, ...workerFamilies } as const satisfies MetricFamilies
