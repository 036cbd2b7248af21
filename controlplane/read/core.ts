/** Reads Kubernetes' own kinds. */
import { type Ip, parseIp } from '../../shared/net/address.ts'
import type {
  EndpointSliceObject,
  Locality,
  NamespaceObject,
  NodeObject,
  PodObject,
  SecretObject,
  ServiceObject
} from '../cluster/objects.ts'
import type { Fields } from './fields.ts'
import { readMeta } from './meta.ts'
import { workloadName } from './owner.ts'

export const trafficDistributionAnnotation = 'networking.istio.io/traffic-distribution'
/** Source: Istio's published annotation of ServiceEntries. */
export const connectStrategyAnnotation = 'istio.io/connect-strategy'
export const canaryWeightAnnotation = 'istio.io/use-waypoint-canary-weight'

const noPorts: ReadonlyMap<string, number> = new Map()

export function readNamespace(object: Fields): NamespaceObject {
  return {
    kind: 'Namespace',
    meta: readMeta(object, [trafficDistributionAnnotation, canaryWeightAnnotation])
  }
}

export function readNode(object: Fields): NodeObject {
  const meta = readMeta(object)
  return { kind: 'Node', meta: { ...meta, labels: {} }, locality: localityOf(meta.labels) }
}

export function readPod(object: Fields): PodObject {
  const meta = readMeta(object, ['ambient.istio.io/redirection'])
  const spec = object.at('spec')
  const status = object.at('status')
  const ips = status.list('podIPs').map(entry => address(entry, 'ip'))
  if (ips.length === 0 && status.text('podIP') !== '') ips.push(address(status, 'podIP'))
  return {
    kind: 'Pod',
    meta,
    workloadName: workloadName(object.at('metadata'), meta.labels),
    serviceAccount: spec.text('serviceAccountName'),
    node: spec.text('nodeName'),
    hostNetwork: spec.flag('hostNetwork'),
    phase: status.text('phase'),
    ips,
    ready: status
      .list('conditions')
      .some(condition => condition.text('type') === 'Ready' && condition.text('status') === 'True'),
    terminating: object.at('metadata').has('deletionTimestamp'),
    namedPorts: namedPorts(spec)
  }
}

/** As a Service finds them: containers first, then init containers that stay (native sidecars). */
function namedPorts(spec: Fields): ReadonlyMap<string, number> {
  const staying = spec
    .list('initContainers')
    .filter(container => container.text('restartPolicy') === 'Always')
  let ports: Map<string, number> | undefined
  for (const container of [...spec.list('containers'), ...staying]) {
    for (const port of container.list('ports')) {
      const name = port.text('name')
      if (name === '' || port.text('protocol', 'TCP') !== 'TCP') continue
      ports ??= new Map()
      if (!ports.has(name)) ports.set(name, port.port('containerPort'))
    }
  }
  return ports ?? noPorts
}

export function readService(object: Fields): ServiceObject {
  const spec = object.at('spec')
  const vips = spec.texts('clusterIPs')
  const clusterIp = spec.text('clusterIP')
  const affinity = spec.text('sessionAffinity') === 'ClientIP'
  return {
    kind: 'Service',
    meta: readMeta(object, [trafficDistributionAnnotation, canaryWeightAnnotation]),
    external: spec.text('type') === 'ExternalName',
    vips: (vips.length > 0 || clusterIp === '' ? vips : [clusterIp])
      .filter(vip => vip !== 'None' && vip !== '')
      .map(vip => parseIp(vip) ?? spec.fail('clusterIPs', `${JSON.stringify(vip)} is no IP address`)),
    ingress: object
      .at('status')
      .at('loadBalancer')
      .list('ingress')
      .map(given => given.text('ip') || given.text('hostname')),
    ports: spec
      .list('ports')
      .filter(port => port.text('protocol', 'TCP') === 'TCP')
      .map(port => ({
        name: port.text('name'),
        port: port.port('port'),
        target: port.numberOrText('targetPort') ?? 0,
        protocol: port.text('appProtocol')
      })),
    selector: spec.labels('selector'),
    localOnly: spec.text('internalTrafficPolicy') === 'Local',
    trafficDistribution: spec.text('trafficDistribution'),
    publishNotReady: spec.flag('publishNotReadyAddresses'),
    ipFamilies: spec.texts('ipFamilies'),
    affinitySeconds: affinity
      ? spec.at('sessionAffinityConfig').at('clientIP').whole('timeoutSeconds', { fallback: 10_800 })
      : 0
  }
}

export function readSecret(object: Fields): SecretObject {
  const data = object.at('data')
  const decoded = (name: string): string => Buffer.from(data.text(name), 'base64').toString()
  return {
    kind: 'Secret',
    meta: readMeta(object),
    certificate: decoded('tls.crt'),
    key: decoded('tls.key')
  }
}

export function readEndpointSlice(object: Fields): EndpointSliceObject {
  const meta = readMeta(object)
  const usable = object.text('addressType') !== 'FQDN'
  return {
    kind: 'EndpointSlice',
    meta,
    service: meta.labels['kubernetes.io/service-name'] ?? '',
    ports: object
      .list('ports')
      .filter(port => port.has('name') && port.has('port') && port.text('protocol') === 'TCP')
      .map(port => ({ name: port.text('name'), port: port.port('port') })),
    endpoints: usable ? object.list('endpoints').map(readEndpoint) : []
  }
}

function readEndpoint(endpoint: Fields): EndpointSliceObject['endpoints'][number] {
  const target = endpoint.at('targetRef')
  const pod =
    target.text('kind') === 'Pod'
      ? { key: `${target.text('namespace')}/${target.text('name')}`, uid: target.text('uid') }
      : undefined
  // The pods of a Service are known from the pods themselves, so their addresses are not kept.
  return {
    addresses:
      pod === undefined
        ? endpoint
            .texts('addresses')
            .map(
              text => parseIp(text) ?? endpoint.fail('addresses', `${JSON.stringify(text)} is no IP address`)
            )
        : [],
    ready: endpoint.at('conditions').flag('ready', true),
    pod
  }
}

function address(entry: Fields, name: string): Ip {
  const text = entry.text(name)
  return parseIp(text) ?? entry.fail(name, `${JSON.stringify(text)} is no IP address`)
}

function localityOf(labels: Readonly<Record<string, string>>): Locality | undefined {
  const region =
    labels['topology.kubernetes.io/region'] ?? labels['failure-domain.beta.kubernetes.io/region'] ?? ''
  const zone = labels['topology.kubernetes.io/zone'] ?? labels['failure-domain.beta.kubernetes.io/zone'] ?? ''
  const subzone = labels['topology.istio.io/subzone'] ?? ''
  return region === '' && zone === '' && subzone === '' ? undefined : { region, zone, subzone }
}
