/**
 * What runs a waypoint: a ServiceAccount, a Deployment and a Service, owned by its Gateway so that they go
 * with it. Labels, ports and probes are those that Istio's tools look for.
 */
import type { Deployment } from '../../shared/kube/apps-api.ts'
import type { Service, ServiceAccount } from '../../shared/kube/core-api.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import type { GatewayObject } from '../cluster/objects.ts'

export const waypointClass = 'underpass-waypoint'
export const waypointController = 'underpass.dev/waypoint-controller'
const istioWaypointClass = 'istio-waypoint'
export const managedLabel = 'gateway.istio.io/managed'
export const managedBy = 'istio.io-mesh-controller'

export type IstioClasses = 'auto' | 'on' | 'off'

/** Whether we run this Gateway: of our class, or of Istio's where no istiod does. */
export function runsWaypoint(view: ClusterView, gateway: GatewayObject, istioClasses: IstioClasses): boolean {
  if (!view.discovers(gateway.meta.namespace)) return false
  if (gateway.className === waypointClass) return true
  if (gateway.className !== istioWaypointClass || istioClasses === 'off') return false
  return istioClasses === 'on' || !istiodRuns(view)
}

export function istiodRuns(view: ClusterView): boolean {
  for (const { phase, terminating } of view.istiodPods()) if (phase === 'Running' && !terminating) return true
  return false
}

export interface WaypointSettings {
  readonly image: string
  /** Namespace and Service of the control plane. */
  readonly systemNamespace: string
  readonly revision: string
  readonly clusterId: string
  readonly trustDomain: string
  readonly domain: string
}

export interface WaypointWorkload {
  readonly serviceAccount: ServiceAccount
  readonly deployment: Deployment & { readonly spec: object }
  readonly service: Service
}

const statusPort = 15021
const hbonePort = 15008
const metricsPort = 15020
const user = 1337

export function waypointWorkload(gateway: GatewayObject, settings: WaypointSettings): WaypointWorkload {
  const { namespace, name, uid } = gateway.meta
  const labels = {
    [gatewayNameLabel]: name,
    'gateway.networking.k8s.io/gateway-class-name': gateway.className,
    [managedLabel]: managedBy
  }
  const metadata = {
    namespace,
    name,
    labels,
    ownerReferences: [{ apiVersion: 'gateway.networking.k8s.io/v1', kind: 'Gateway', name, uid }]
  }
  const selector = { [gatewayNameLabel]: name }
  const template = {
    metadata: {
      labels: {
        ...labels,
        'istio.io/dataplane-mode': 'none',
        'sidecar.istio.io/inject': 'false',
        'service.istio.io/canonical-name': name,
        'service.istio.io/canonical-revision': 'latest'
      },
      annotations: {
        'prometheus.io/scrape': 'true',
        'prometheus.io/port': String(metricsPort),
        'prometheus.io/path': '/stats/prometheus'
      }
    },
    spec: podSpec(name, settings)
  }
  return {
    serviceAccount: { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    deployment: {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: { selector: { matchLabels: selector }, template }
    },
    service: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { ...metadata, annotations: { 'networking.istio.io/traffic-distribution': 'PreferClose' } },
      spec: {
        type: 'ClusterIP',
        ipFamilyPolicy: 'PreferDualStack',
        selector,
        ports: [
          { name: 'status-port', port: statusPort, protocol: 'TCP', appProtocol: 'tcp' },
          { name: 'mesh', port: hbonePort, protocol: 'TCP', appProtocol: 'all' }
        ]
      }
    }
  }
}

/** The name by which the mesh reaches a waypoint. */
export function waypointHostname(gateway: GatewayObject, domain: string): string {
  return `${gateway.meta.name}.${gateway.meta.namespace}.svc.${domain}`
}

function podSpec(name: string, settings: WaypointSettings): object {
  const istiod = settings.revision === 'default' ? 'istiod' : `istiod-${settings.revision}`
  const controlPlane = `https://${istiod}.${settings.systemNamespace}.svc:15012`
  return {
    serviceAccountName: name,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: user,
      runAsGroup: user,
      fsGroup: user, // the token is readable to the group
      seccompProfile: { type: 'RuntimeDefault' }
    },
    containers: [
      {
        name: 'istio-proxy',
        image: settings.image,
        imagePullPolicy: 'IfNotPresent',
        args: ['/app/waypoint/main.js'],
        env: [
          ...fromPod('POD_NAME', 'metadata.name'),
          ...fromPod('POD_NAMESPACE', 'metadata.namespace'),
          ...fromPod('INSTANCE_IP', 'status.podIP'),
          ...fromPod('NODE_NAME', 'spec.nodeName'),
          ...fromPod('SERVICE_ACCOUNT', 'spec.serviceAccountName'),
          { name: 'XDS_ADDRESS', value: controlPlane },
          { name: 'CA_ADDRESS', value: controlPlane },
          { name: 'CLUSTER_ID', value: settings.clusterId },
          { name: 'TRUST_DOMAIN', value: settings.trustDomain },
          { name: 'CLUSTER_DOMAIN', value: settings.domain }
        ],
        ports: [
          { name: 'metrics', containerPort: metricsPort, protocol: 'TCP' },
          { name: 'status-port', containerPort: statusPort, protocol: 'TCP' },
          { name: 'mesh', containerPort: hbonePort, protocol: 'TCP' }
        ],
        startupProbe: probe({ periodSeconds: 1, failureThreshold: 30, initialDelaySeconds: 1 }),
        readinessProbe: probe({ periodSeconds: 15, failureThreshold: 4 }),
        securityContext: {
          privileged: false,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          runAsNonRoot: true,
          capabilities: { drop: ['ALL'] }
        },
        volumeMounts: [
          { name: 'istiod-ca-cert', mountPath: '/var/run/secrets/istio', readOnly: true },
          { name: 'istio-token', mountPath: '/var/run/secrets/tokens', readOnly: true }
        ]
      }
    ],
    volumes: [
      {
        name: 'istio-token',
        projected: {
          sources: [
            { serviceAccountToken: { audience: 'istio-ca', expirationSeconds: 43_200, path: 'istio-token' } }
          ]
        }
      },
      { name: 'istiod-ca-cert', configMap: { name: 'istio-ca-root-cert' } }
    ]
  }
}

function fromPod(name: string, fieldPath: string): readonly object[] {
  return [{ name, valueFrom: { fieldRef: { fieldPath } } }]
}

function probe(timing: object): object {
  return { httpGet: { path: '/healthz/ready', port: statusPort }, timeoutSeconds: 1, ...timing }
}
