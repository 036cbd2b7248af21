/**
 * `LOCAL_XDS`: workloads, services and policies as YAML, in the camelCase form of config_dump. Strict: an unknown
 * field anywhere is an error, and the error names it. Source: Istio ztunnel's local configuration.
 */
import { parseCidr, parseIp, type Cidr, type Ip } from '../net/address.ts'
import { parseAllYaml } from '../kube/yaml.ts'
import {
  nameResolutions,
  noLabels,
  type AppProtocol,
  type GatewayAddress,
  type LoadBalancer,
  type NetworkAddress,
  type Policy,
  type PolicyMatch,
  type PortMap,
  type RoutingScope,
  type Service,
  type ServiceAccountMatch,
  type StringMatch,
  type Workload
} from './model.ts'
import { described, Fields, Problems } from './yaml-fields.ts'

export interface LocalConfig {
  readonly workloads: readonly Workload[]
  readonly services: readonly Service[]
  readonly policies: readonly Policy[]
}

/** Every problem of a local configuration, a line each with the path of the field. */
export class LocalConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(`the local configuration is not valid:\n  ${problems.join('\n  ')}`)
    this.name = 'LocalConfigError'
    this.problems = problems
  }
}

/** Throws a {@link LocalConfigError}, or the YAML reader's own error for text that is no YAML. */
export function readLocalConfig(text: string): LocalConfig {
  const problems = new Problems()
  const [document, ...more] = parseAllYaml(text, 'YAML')
  if (more.length > 0) problems.add('', `expected one YAML document, found ${more.length + 1}`)
  const fields = new Fields(document?.value ?? {}, '', problems)
  const config = {
    workloads: fields.list('workloads', (value, path) => workload(new Fields(value, path, problems))),
    services: fields.list('services', (value, path) => service(new Fields(value, path, problems))),
    policies: fields.list('policies', (value, path) => policy(new Fields(value, path, problems)))
  }
  fields.end()
  if (problems.found.length > 0) throw new LocalConfigError(problems.found)
  return config
}

function workload(fields: Fields): Workload {
  const { problems } = fields
  const namespace = fields.text('namespace')
  const name = fields.text('name', '')
  const addresses = fields.list('workloadIps', (value, path) => address(value, path, problems), true)
  const locality = fields.inner('locality')
  const tunnel = fields.inner('applicationTunnel')
  const made: Workload = {
    uid: fields.text('uid', `local/${namespace}/${name === '' ? addresses.join() : name}`),
    name,
    namespace,
    addresses,
    hostname: fields.text('hostname', ''),
    network: fields.text('network', ''),
    networkMode: fields.choice('networkMode', ['Standard', 'HostNetwork'], 'Standard'),
    protocol: fields.choice('protocol', ['TCP', 'HBONE'], 'TCP'),
    nativeTunnel: fields.flag('nativeTunnel', false),
    // Not cluster.local: an identity without a trust domain unless one is given.
    trustDomain: fields.text('trustDomain', ''),
    serviceAccount: fields.text('serviceAccount', 'default'),
    waypoint: gateway(fields.inner('waypoint')),
    networkGateway: gateway(fields.inner('networkGateway')),
    applicationTunnel:
      tunnel === undefined
        ? undefined
        : { protocol: tunnel.choice('protocol', ['NONE', 'PROXY'], 'NONE'), port: port(tunnel, 'port') },
    node: fields.text('node', ''),
    canonicalName: fields.text('canonicalName', ''),
    canonicalRevision: fields.text('canonicalRevision', ''),
    workloadName: fields.text('workloadName', ''),
    workloadType: fields.choice('workloadType', ['deployment', 'cronjob', 'pod', 'job'], 'deployment'),
    clusterId: fields.text('clusterId', 'Kubernetes'),
    locality: {
      region: locality?.text('region', '') ?? '',
      zone: locality?.text('zone', '') ?? '',
      subzone: locality?.text('subzone', '') ?? ''
    },
    services: new Map(
      fields.map('services', (key, value, path) => membership(key, value, path, problems), true)
    ),
    authorizationPolicies: fields.list('authorizationPolicies', (value, path) =>
      plain(value, path, problems)
    ),
    status: fields.choice('status', ['Healthy', 'Unhealthy'], 'Healthy'),
    capacity: fields.integer('capacity', 1, 0xffffffff),
    labels: labels(fields)
  }
  locality?.end()
  tunnel?.end()
  fields.end()
  return made
}

function labels(fields: Fields): Workload['labels'] {
  const found = fields.map('labels', (key, value, path) => {
    const text = plain(value, path, fields.problems)
    return text === undefined ? undefined : ([key, text] as const)
  })
  return found.length === 0 ? noLabels : new Map(found)
}

function service(fields: Fields): Service {
  const { problems } = fields
  const made: Service = {
    name: fields.text('name'),
    namespace: fields.text('namespace'),
    hostname: fields.text('hostname'),
    vips: fields.list('vips', (value, path) => vip(value, path, problems), true),
    cidrVips: fields.list('cidrVips', (value, path) => cidrVip(new Fields(value, path, problems))),
    ports: new Map(fields.map('ports', (key, value, path) => portPair(key, value, path, problems), true)),
    protocols: new Map(
      fields.map('appProtocols', (key, value, path) => protocolOfPort(key, value, path, problems))
    ),
    subjectAltNames: fields.list('subjectAltNames', (value, path) => plain(value, path, problems)),
    waypoint: gateway(fields.inner('waypoint')),
    weightedWaypoints: fields.list('weightedWaypoints', (value, path) =>
      weightedWaypoint(new Fields(value, path, problems))
    ),
    loadBalancer: loadBalancer(fields.inner('loadBalancer')),
    ipFamilies: optionalChoice(fields, 'ipFamilies', ['IPv4', 'IPv6', 'Dual']),
    canonical: fields.flag('canonical', false),
    visibility: fields.choice('visibility', ['Public', 'Namespace'], 'Public'),
    ingressUsesWaypoint: fields.flag('ingressUseWaypoint', false),
    traffic: traffic(fields.inner('traffic'))
  }
  fields.map('endpoints', (_key, _value, path) =>
    problems.add(path, 'endpoints are given as `services` of the workloads')
  )
  fields.end()
  return made
}

function policy(fields: Fields): Policy {
  const { problems } = fields
  const made: Policy = {
    name: fields.text('name'),
    namespace: fields.text('namespace'),
    scope: fields.choice('scope', ['Global', 'Namespace', 'WorkloadSelector']),
    action: fields.choice('action', ['Allow', 'Deny']),
    rules: fields.list(
      'rules',
      (clauses, path) =>
        items(clauses, path, problems, (matches, path) =>
          items(matches, path, problems, (match, path) => policyMatch(new Fields(match, path, problems)))
        ),
      true
    ),
    dryRun: fields.flag('dryRun')
  }
  fields.end()
  return made
}

function policyMatch(fields: Fields): PolicyMatch {
  const { problems } = fields
  const strings = (name: string): StringMatch[] =>
    fields.list(name, (value, path) => stringMatch(value, path, problems))
  const blocks = (name: string): Cidr[] => fields.list(name, (value, path) => block(value, path, problems))
  const ports = (name: string): number[] =>
    fields.list(name, (value, path) => portNumber(value, path, problems))
  const accounts = (name: string): ServiceAccountMatch[] =>
    fields.list(name, (value, path) => {
      const account = new Fields(value, path, problems)
      const made = { namespace: account.text('namespace'), serviceAccount: account.text('serviceAccount') }
      account.end()
      return made
    })
  const made: PolicyMatch = {
    namespaces: strings('namespaces'),
    notNamespaces: strings('notNamespaces'),
    principals: strings('principals'),
    notPrincipals: strings('notPrincipals'),
    serviceAccounts: accounts('serviceAccounts'),
    notServiceAccounts: accounts('notServiceAccounts'),
    sourceIps: blocks('sourceIps'),
    notSourceIps: blocks('notSourceIps'),
    destinationIps: blocks('destinationIps'),
    notDestinationIps: blocks('notDestinationIps'),
    destinationPorts: ports('destinationPorts'),
    notDestinationPorts: ports('notDestinationPorts')
  }
  fields.end()
  return made
}

/** `{Exact: s}`, `{Prefix: s}`, `{Suffix: s}`, or `{Presence: []}` and `Presence`. */
function stringMatch(value: unknown, path: string, problems: Problems): StringMatch | undefined {
  if (value === 'Presence') return { kind: 'presence' }
  const [entry, ...more] = typeof value === 'object' && value !== null ? Object.entries(value) : []
  const [kind, text] = entry ?? []
  if (more.length === 0 && kind === 'Presence') return { kind: 'presence' }
  if (more.length === 0 && typeof text === 'string') {
    if (kind === 'Exact') return { kind: 'exact', value: text }
    if (kind === 'Prefix') return { kind: 'prefix', value: text }
    if (kind === 'Suffix') return { kind: 'suffix', value: text }
  }
  problems.add(
    path,
    `expected one of {Exact: …}, {Prefix: …}, {Suffix: …}, {Presence: []}, found ${described(value)}`
  )
  return undefined
}

function gateway(fields: Fields | undefined): GatewayAddress | undefined {
  if (fields === undefined) return undefined
  const text = fields.text('destination')
  const slash = text.indexOf('/')
  const [first, second] = [text.slice(0, Math.max(0, slash)), text.slice(slash + 1)]
  const ip = parseIp(second)
  if (slash < 0)
    fields.problems.add(`${fields.path}.destination`, 'expected `network/address` or `namespace/hostname`')
  const made: GatewayAddress = {
    destination:
      ip === undefined
        ? { kind: 'hostname', namespace: first, hostname: second }
        : { kind: 'address', network: first, ip },
    hboneMtlsPort: port(fields, 'hboneMtlsPort')
  }
  fields.end()
  return made
}

function weightedWaypoint(fields: Fields): Service['weightedWaypoints'][number] | undefined {
  const destination = gateway(fields.inner('destination'))
  const weight = fields.integer('weight', 0, 0xffffffff)
  if (destination === undefined) fields.problems.add(`${fields.path}.destination`, 'is required')
  fields.end()
  return destination === undefined ? undefined : { destination, weight }
}

const scopes: readonly RoutingScope[] = ['Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network']

function loadBalancer(fields: Fields | undefined): LoadBalancer | undefined {
  if (fields === undefined) return undefined
  const made: LoadBalancer = {
    mode: fields.choice('mode', ['Standard', 'Strict', 'Failover', 'Passthrough'], 'Standard'),
    routingPreferences: fields.list('routingPreferences', (value, path) => {
      const scope = scopes.find(name => name === value)
      if (scope === undefined) {
        fields.problems.add(path, `expected one of ${scopes.join(', ')}, found ${described(value)}`)
      }
      return scope
    }),
    healthPolicy: fields.choice('healthPolicy', ['OnlyHealthy', 'AllowAll'], 'OnlyHealthy')
  }
  fields.end()
  return made
}

function traffic(fields: Fields | undefined): Service['traffic'] {
  if (fields === undefined) return undefined
  const resolution = fields.choice('resolution', ['', ...nameResolutions], '')
  const made = {
    clientIpAffinitySeconds: fields.integer('clientIpAffinitySeconds', 0, 86_400),
    ...(resolution === '' ? {} : { resolution }),
    ...(fields.flag('racing', false) ? ({ racing: true } as const) : {})
  }
  fields.end()
  return made
}

function membership(
  key: string,
  value: unknown,
  path: string,
  problems: Problems
): readonly [string, PortMap] | undefined {
  if (!key.includes('/')) {
    problems.add(path, 'expected a key of the form namespace/hostname')
    return undefined
  }
  const ports = new Fields({ ports: value ?? {} }, '', problems)
  return [
    key,
    new Map(ports.map('ports', (key, value) => portPair(key, value, `${path}["${key}"]`, problems)))
  ]
}

function vip(value: unknown, path: string, problems: Problems): NetworkAddress | undefined {
  const text = typeof value === 'string' ? value : ''
  const slash = text.indexOf('/')
  const ip = parseIp(text.slice(slash + 1))
  if (slash >= 0 && ip !== undefined) return { network: text.slice(0, slash), ip }
  problems.add(
    path,
    `expected network/address, or /address for the default network, found ${described(value)}`
  )
  return undefined
}

function cidrVip(fields: Fields): Service['cidrVips'][number] | undefined {
  const network = fields.text('network', '')
  const cidr = block(fields.text('cidr'), `${fields.path}.cidr`, fields.problems)
  fields.end()
  return cidr === undefined ? undefined : { network, cidr }
}

function address(value: unknown, path: string, problems: Problems): Ip | undefined {
  const ip = typeof value === 'string' ? parseIp(value) : undefined
  if (ip === undefined) problems.add(path, `expected an IP address, found ${described(value)}`)
  return ip
}

function block(value: unknown, path: string, problems: Problems): Cidr | undefined {
  const cidr = typeof value === 'string' ? parseCidr(value) : undefined
  if (cidr === undefined) problems.add(path, `expected a block such as 10.0.0.0/8, found ${described(value)}`)
  return cidr
}

function portPair(
  key: string,
  value: unknown,
  path: string,
  problems: Problems
): readonly [number, number] | undefined {
  const from = portNumber(/^\d+$/.test(key) ? Number(key) : key, path, problems)
  const to = portNumber(value, path, problems)
  return from === undefined || to === undefined ? undefined : [from, to]
}

const protocolNames: readonly AppProtocol[] = ['HTTP11', 'HTTP2', 'GRPC', 'TCP', 'TLS']

function protocolOfPort(
  key: string,
  value: unknown,
  path: string,
  problems: Problems
): readonly [number, AppProtocol] | undefined {
  const port = portNumber(Number(key), path, problems)
  const protocol = protocolNames.find(name => name === value)
  if (protocol === undefined)
    problems.add(path, `expected one of ${protocolNames.join(', ')}, found ${described(value)}`)
  return port === undefined || protocol === undefined ? undefined : [port, protocol]
}

function portNumber(value: unknown, path: string, problems: Problems): number | undefined {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65535) return value
  problems.add(path, `expected a port, 0 to 65535, found ${described(value)}`)
  return undefined
}

function port(fields: Fields, name: string): number {
  return fields.integer(name, 0, 65535)
}

function plain(value: unknown, path: string, problems: Problems): string | undefined {
  if (typeof value === 'string') return value
  problems.add(path, `expected text, found ${described(value)}`)
  return undefined
}

function optionalChoice<T extends string>(fields: Fields, name: string, values: readonly T[]): T | undefined {
  const chosen = fields.choice<T | 'none'>(name, [...values, 'none'], 'none')
  return chosen === 'none' ? undefined : chosen
}

function items<T>(
  value: unknown,
  path: string,
  problems: Problems,
  read: (value: unknown, path: string) => T | undefined
): T[] {
  if (!Array.isArray(value)) {
    problems.add(path, `expected a list, found ${described(value)}`)
    return []
  }
  return value.flatMap((item: unknown, index) => {
    const made = read(item, `${path}[${index}]`)
    return made === undefined ? [] : [made]
  })
}
