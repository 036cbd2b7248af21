/** Reads Istio's kinds. */
import { parseCidr, parseIp } from '../../shared/net/address.ts'
import type {
  AuthorizationPolicyObject,
  Locality,
  PeerAuthenticationObject,
  PolicyRule,
  RateLimitPolicyObject,
  RequestAuthenticationObject,
  TelemetryObject,
  ServiceEntryObject,
  TargetReference,
  TlsMode,
  WorkloadEntryObject,
  WorkloadSpec
} from '../cluster/objects.ts'
import { canaryWeightAnnotation, connectStrategyAnnotation, trafficDistributionAnnotation } from './core.ts'
import type { Fields } from './fields.ts'
import { readMeta } from './meta.ts'

const tlsModes: readonly TlsMode[] = ['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT']

export function readServiceEntry(object: Fields): ServiceEntryObject {
  const spec = object.at('spec')
  return {
    kind: 'ServiceEntry',
    meta: readMeta(object, [
      trafficDistributionAnnotation,
      canaryWeightAnnotation,
      connectStrategyAnnotation
    ]),
    hosts: spec.texts('hosts'),
    addresses: spec.texts('addresses').map((text, index) => {
      if (parseCidr(text) === undefined)
        spec.fail(`addresses[${index}]`, `${JSON.stringify(text)} is no IP address or block`)
      return text
    }),
    allocated: object
      .at('status')
      .list('addresses')
      .map(entry => ({ host: entry.text('host'), address: entry.text('value') })),
    ports: spec.list('ports').map(port => ({
      name: port.text('name'),
      port: port.port('number'),
      target: port.port('targetPort'),
      protocol: port.text('protocol')
    })),
    resolution: spec.oneOf('resolution', ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'], 'NONE'),
    endpoints: spec.list('endpoints').map(readWorkloadSpec),
    selector: spec.has('workloadSelector') ? spec.at('workloadSelector').labels('labels') : undefined,
    subjectAltNames: spec.texts('subjectAltNames')
  }
}

export function readWorkloadEntry(object: Fields): WorkloadEntryObject {
  const meta = readMeta(object, [canaryWeightAnnotation])
  const spec = readWorkloadSpec(object.at('spec'))
  return {
    kind: 'WorkloadEntry',
    // Labels may stand in the spec too; selectors and telemetry see both.
    meta: { ...meta, labels: { ...meta.labels, ...spec.labels } },
    spec,
    healthy: !object
      .at('status')
      .list('conditions')
      .some(condition => condition.text('type') === 'Healthy' && condition.text('status') === 'False')
  }
}

function readWorkloadSpec(spec: Fields): WorkloadSpec {
  const address = spec.text('address')
  const ports = spec.at('ports')
  return {
    address,
    ip: parseIp(address),
    ports: new Map(ports.names().map(name => [name, ports.port(name)])),
    labels: spec.labels('labels'),
    network: spec.text('network'),
    locality: readLocality(spec.text('locality')),
    weight: spec.whole('weight'),
    serviceAccount: spec.text('serviceAccount')
  }
}

function readLocality(text: string): Locality | undefined {
  if (text === '') return undefined
  const [region = '', zone = '', subzone = ''] = text.split('/')
  return { region, zone, subzone }
}

const layer7Sources = [
  'remoteIpBlocks',
  'notRemoteIpBlocks',
  'requestPrincipals',
  'notRequestPrincipals',
  'trustDomains',
  'notTrustDomains'
]
const layer7Operations = ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths']

export function readAuthorizationPolicy(object: Fields): AuthorizationPolicyObject {
  const spec = object.at('spec')
  return {
    kind: 'AuthorizationPolicy',
    meta: readMeta(object, ['istio.io/dry-run']),
    selector: spec.has('selector') ? spec.at('selector').labels('matchLabels') : undefined,
    action: spec.oneOf('action', ['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'], 'ALLOW'),
    rules: spec.list('rules').map(readRule),
    ...readTargets(spec)
  }
}

export function readRequestAuthentication(object: Fields): RequestAuthenticationObject {
  return {
    kind: 'RequestAuthentication',
    meta: readMeta(object),
    ...readTargets(object.at('spec'))
  }
}

export function readTelemetry(object: Fields): TelemetryObject {
  const spec = object.at('spec')
  const { targets } = readTargets(spec)
  return {
    kind: 'Telemetry',
    meta: readMeta(object),
    targets,
    spec: spec.has('selector') ? undefined : spec.json()
  }
}

export function readRateLimitPolicy(object: Fields): RateLimitPolicyObject {
  return { kind: 'RateLimitPolicy', meta: readMeta(object), ...readTargets(object.at('spec')) }
}

function readTargets(spec: Fields): Pick<RequestAuthenticationObject, 'targets' | 'spec'> {
  const listed = [...(spec.has('targetRef') ? [spec.at('targetRef')] : []), ...spec.list('targetRefs')]
  return { targets: listed.map(readTarget), spec: listed.length === 0 ? undefined : spec.json() }
}

function readTarget(target: Fields): TargetReference {
  return {
    group: target.text('group'),
    kind: target.text('kind'),
    name: target.text('name'),
    namespace: target.text('namespace')
  }
}

function readRule(rule: Fields): PolicyRule {
  return {
    from: rule.list('from').map(from => {
      const source = from.at('source')
      return {
        principals: source.texts('principals'),
        notPrincipals: source.texts('notPrincipals'),
        namespaces: source.texts('namespaces'),
        notNamespaces: source.texts('notNamespaces'),
        serviceAccounts: source.texts('serviceAccounts'),
        notServiceAccounts: source.texts('notServiceAccounts'),
        ipBlocks: source.texts('ipBlocks'),
        notIpBlocks: source.texts('notIpBlocks'),
        layer7: layer7Sources.filter(name => source.texts(name).length > 0)
      }
    }),
    to: rule.list('to').map(to => {
      const operation = to.at('operation')
      return {
        ports: operation.texts('ports'),
        notPorts: operation.texts('notPorts'),
        layer7: layer7Operations.filter(name => operation.texts(name).length > 0)
      }
    }),
    when: rule.list('when').map(condition => ({
      key: condition.text('key'),
      values: condition.texts('values'),
      notValues: condition.texts('notValues')
    }))
  }
}

export function readPeerAuthentication(object: Fields): PeerAuthenticationObject {
  const spec = object.at('spec')
  const ports = spec.at('portLevelMtls')
  return {
    kind: 'PeerAuthentication',
    meta: readMeta(object),
    selector: spec.has('selector') ? spec.at('selector').labels('matchLabels') : undefined,
    mode: spec.at('mtls').oneOf('mode', tlsModes, 'UNSET'),
    ports: ports.names().map(name => {
      const port = /^\d{1,5}$/.test(name) ? Number(name) : NaN
      if (!(port >= 1 && port <= 65535)) ports.fail(name, 'is no port number')
      return { port, mode: ports.at(name).oneOf('mode', tlsModes, 'UNSET') }
    })
  }
}
