/**
 * Every metric of the control plane, in one table. Names are those that Istio's dashboards read; ours alone
 * are `underpass_…`. Istio's counters here lack the suffix `_total`, so they are printed as gauges.
 */
import type { MetricFamilies, MetricFamily } from '../shared/telemetry/metrics.ts'

const istioCounter = (help: string, ...labels: string[]): MetricFamily => ({ type: 'gauge', help, labels })

export const metricFamilies = {
  pilot_xds: { type: 'gauge', help: 'Clients connected by xDS.', labels: [] },
  pilot_xds_pushes: istioCounter('Responses sent to clients, by resource type.', 'type'),
  pilot_total_xds_rejects: istioCounter('Responses that a client refused, by resource type.', 'type'),
  pilot_k8s_object_errors: istioCounter('Objects that could not be read, by kind.', 'kind'),
  pilot_proxy_convergence_time: {
    type: 'histogram',
    help: 'Seconds from the first change of a batch to its being sent.',
    labels: [],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 3, 10, 30]
  },
  istio_build: { type: 'gauge', help: 'Build information.', labels: ['component', 'tag'] },
  process_resident_memory_bytes: { type: 'gauge', help: 'Resident memory.', labels: [] },
  process_cpu_seconds_total: { type: 'counter', help: 'CPU time, user and system.', labels: [] },
  underpass_pushes_total: { type: 'counter', help: 'Batches of changes, by table.', labels: ['table'] },
  underpass_xds_push_bytes_total: {
    type: 'counter',
    help: 'Bytes of responses sent to clients, by resource type.',
    labels: ['type']
  },
  underpass_resources: { type: 'gauge', help: 'Resources held, by table.', labels: ['table'] },
  underpass_translation_seconds_total: {
    type: 'counter',
    help: 'Time spent translating objects.',
    labels: []
  },
  galley_validation_passed: istioCounter('Objects that the webhook accepted.', 'group', 'resource'),
  galley_validation_failed: istioCounter('Objects that the webhook refused.', 'group', 'resource'),
  citadel_server_csr_count: istioCounter('Signing requests received.'),
  citadel_server_success_cert_issuance_count: istioCounter('Certificates issued.'),
  citadel_server_authentication_failure_count: istioCounter('Calls whose caller could not be authenticated.'),
  citadel_server_csr_sign_error_count: istioCounter('Signing requests refused, by reason.', 'error'),
  citadel_server_root_cert_expiry_timestamp: {
    type: 'gauge',
    help: 'When the first root certificate expires, seconds since the epoch.',
    labels: []
  },
  citadel_server_cert_chain_expiry_timestamp: {
    type: 'gauge',
    help: 'When the first certificate of the signing chain expires, seconds since the epoch.',
    labels: []
  }
} as const satisfies MetricFamilies
