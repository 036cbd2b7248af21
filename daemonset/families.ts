/** The metrics of the node agent, in one table. Names without `underpass_` are those of istio-cni. */
import type { MetricFamilies } from '../shared/telemetry/metrics.ts'

export const families = {
  istio_cni_plugin_requests_total: {
    type: 'counter',
    help: 'Pods announced by the CNI plug-in, by the status that it got.',
    labels: ['response_code']
  },
  istio_cni_installs_total: {
    type: 'counter',
    help: 'Times that the CNI plug-in or its entry in the network configuration was written.',
    labels: []
  },
  istio_cni_install_ready: {
    type: 'gauge',
    help: '1 while the CNI plug-in is in its place; 0 while it is not, or is left to somebody else.',
    labels: []
  },
  nodeagent_reconcile_events_total: {
    type: 'counter',
    help: 'Events of pods of this node.',
    labels: ['type']
  },
  ztunnel_connected: {
    type: 'gauge',
    help: 'Connections of ztunnels to the node agent.',
    labels: []
  },
  underpass_enrolled_pods: {
    type: 'gauge',
    help: 'Pods of this node that are to be enrolled, by whether that is complete.',
    labels: ['state']
  },
  underpass_unprotected_pods: {
    type: 'gauge',
    help: 'Pods that are to be enrolled and have no capture rules: their traffic is outside of the mesh.',
    labels: []
  },
  underpass_rule_repairs_total: {
    type: 'counter',
    help: 'Rules that somebody else had changed or flushed and that were put back.',
    labels: ['where']
  },
  underpass_enrolment_failures_total: {
    type: 'counter',
    help: 'Attempts to enrol a pod or take it out that have to be repeated.',
    labels: []
  }
} as const satisfies MetricFamilies
