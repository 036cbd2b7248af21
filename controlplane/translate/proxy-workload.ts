/**
 * What runs the proxy of a Gateway: a ServiceAccount, a Deployment and a Service, owned by the Gateway so that they go
 * with it. Labels, ports and probes are those that Istio's tools look for. What differs between a waypoint and a
 * gateway, each says itself.
 */
import { hash } from 'node:crypto'
import type { Deployment } from '../../shared/kube/apps-api.ts'
import type { Service, ServiceAccount, ServicePort } from '../../shared/kube/core-api.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import type { GatewayObject, Labels } from '../cluster/objects.ts'

export const managedLabel = 'gateway.istio.io/managed'

export interface ProxySettings {
  readonly image: string
  /** Namespace and Service of the control plane. */
  readonly systemNamespace: string
  readonly revision: string
  readonly clusterId: string
  readonly trustDomain: string
  readonly domain: string
}

export interface ProxyWorkload {
  readonly serviceAccount: ServiceAccount
  readonly deployment: Deployment & { readonly spec: object }
  readonly service: Service
}

/** What is not the same for every proxy. */
export interface ProxyRole {
  /** Of all three objects. */
  readonly name: string
  /** Value of {@link managedLabel}. */
  readonly managedBy: string
  /** Beside those that every proxy has. */
  readonly env: Labels
  readonly podSecurity: object
  readonly containerPorts: readonly object[]
  readonly service: {
    readonly type: string
    readonly annotations: Labels
    readonly ports: readonly (ServicePort & { readonly appProtocol: string })[]
    /** Which address it would like to have of its load balancer; '' = any. */
    readonly loadBalancerIp: string
  }
}

const statusPort = 15021
const metricsPort = 15020
const user = 1337

export function proxyWorkload(
  gateway: GatewayObject,
  role: ProxyRole,
  settings: ProxySettings
): ProxyWorkload {
  const { meta, className, infrastructure } = gateway
  const { name, service } = role
  const selector = { [gatewayNameLabel]: labelValue(meta.name) }
  const labels = {
    ...infrastructure.labels,
    ...selector,
    'gateway.networking.k8s.io/gateway-class-name': className,
    [managedLabel]: role.managedBy
  }
  const { annotations } = infrastructure
  const metadata = {
    namespace: meta.namespace,
    name,
    labels,
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
    ownerReferences: [
      { apiVersion: 'gateway.networking.k8s.io/v1', kind: 'Gateway', name: meta.name, uid: meta.uid }
    ]
  }
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
        ...annotations,
        'prometheus.io/scrape': 'true',
        'prometheus.io/port': String(metricsPort),
        'prometheus.io/path': '/stats/prometheus'
      }
    },
    spec: podSpec(role, settings)
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
      metadata: { ...metadata, annotations: { ...annotations, ...service.annotations } },
      spec: {
        type: service.type as 'ClusterIP',
        ipFamilyPolicy: 'PreferDualStack',
        selector,
        ports: [
          { name: 'status-port', port: statusPort, protocol: 'TCP', appProtocol: 'tcp' },
          ...service.ports
        ],
        ...(service.loadBalancerIp === '' ? {} : { loadBalancerIP: service.loadBalancerIp })
      }
    }
  }
}

const longestLabel = 63

/** A name as the value of a label, and as that of a Service: shortened, with a mark of the whole, where it is too long. */
export function labelValue(name: string): string {
  return name.length <= longestLabel ? name : marked(name)
}

/** The same without dots, which a Service may not have. */
export function serviceName(name: string): string {
  return name.length <= longestLabel && !name.includes('.') ? name : marked(name)
}

function marked(name: string): string {
  const mark = hash('sha256', name).slice(0, 8)
  const rest = name.slice(0, longestLabel - mark.length - 1).replaceAll('.', '-')
  return `${rest.replace(/-+$/, '')}-${mark}`
}

/** The Gateway (`namespace/name`) that a label on one of its pods names. */
export function labelledGateway(view: ClusterView, namespace: string, label: string): string {
  if (label.length === longestLabel || view.get('Gateway', `${namespace}/${label}`) === undefined) {
    for (const { meta } of view.inNamespace('Gateway', namespace)) {
      if (labelValue(meta.name) === label) return `${namespace}/${meta.name}`
    }
  }
  return `${namespace}/${label}`
}

function podSpec({ name, env, podSecurity, containerPorts }: ProxyRole, settings: ProxySettings): object {
  const istiod = settings.revision === 'default' ? 'istiod' : `istiod-${settings.revision}`
  const controlPlane = `https://${istiod}.${settings.systemNamespace}.svc:15012`
  const values = {
    XDS_ADDRESS: controlPlane,
    CA_ADDRESS: controlPlane,
    CLUSTER_ID: settings.clusterId,
    TRUST_DOMAIN: settings.trustDomain,
    CLUSTER_DOMAIN: settings.domain,
    ...env
  }
  return {
    serviceAccountName: name,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: user,
      runAsGroup: user,
      fsGroup: user, // the token is readable to the group
      seccompProfile: { type: 'RuntimeDefault' },
      ...podSecurity
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
          ...Object.entries(values).map(([name, value]) => ({ name, value }))
        ],
        ports: [
          { name: 'metrics', containerPort: metricsPort, protocol: 'TCP' },
          { name: 'status-port', containerPort: statusPort, protocol: 'TCP' },
          ...containerPorts
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
