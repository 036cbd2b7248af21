/**
 * The configuration of a waypoint: environment variables as Istio's proxies read them, and our own, which start with
 * UNDERPASS_. Everything is parsed, defaulted and checked once, when it starts; all problems are reported together.
 */
import { spiffeId, type SpiffeId } from '../shared/identity/spiffe-id.ts'
import { SPIFFE_DEFAULT_TRUST_DOMAIN } from '../shared/mesh/model.ts'
import { parseCidr, parseIp, parseSocketAddress, type Cidr } from '../shared/net/address.ts'
import { EnvReader, type Env, type EnvVariable } from '../shared/runtime/env.ts'
import { formatLogFilter, parseLogFilter } from '../shared/telemetry/logger.ts'
import {
  readControlPlane,
  readNodeMetadata,
  type ControlPlaneAddress
} from '../shared/xds/control-plane-config.ts'
import { pathNormalizations, type PathNormalization } from './normalize-path.ts'

export interface Config {
  /** For whom it works: clients inside the mesh on the way to services, or those at its edge. */
  readonly role: 'waypoint' | 'gateway'
  readonly podName: string
  readonly podNamespace: string
  readonly nodeName: string
  readonly instanceIp: string
  readonly clusterId: string
  readonly clusterDomain: string
  readonly network: string
  readonly trustDomain: string
  /** Other names of the own trust domain, which policies may use. */
  readonly trustDomainAliases: readonly string[]
  /** Where policies for all waypoints of a class stand. */
  readonly rootNamespace: string
  /** Name of the Gateway that it runs for, and of its class where that is known. */
  readonly gateway: { readonly name: string; readonly className: string | undefined }
  /** Who this waypoint is to clients and to the pods behind it. */
  readonly identity: SpiffeId
  /** `namespace/hostname` of the Service by which the mesh knows this waypoint. */
  readonly self: { readonly namespace: string; readonly hostname: string }
  readonly ports: {
    readonly hbone: number
    readonly admin: number
    readonly stats: number
    readonly ready: number
  }
  readonly ipv6: boolean
  readonly xds: ControlPlaneAddress & { readonly metadata: Readonly<Record<string, unknown>> }
  readonly ca: ControlPlaneAddress & { readonly fake: boolean; readonly secretTtlMs: number }
  readonly authToken: string | undefined
  /** YAML file of workloads, services and routes to start with. */
  readonly localXdsPath: string | undefined
  readonly localConfigPath: string | undefined
  readonly connectTimeoutMs: number
  /** After which an unused connection to an application is closed. */
  readonly upstreamIdleMs: number
  /** How long a client may be silent on a port of unknown protocol before it is taken for TCP. */
  readonly detectionTimeoutMs: number
  readonly pathNormalization: PathNormalization
  readonly http10: boolean
  readonly maxStreams: number
  readonly terminationDeadlineMs: number
  /** Of the way out of the mesh. */
  readonly egress: {
    /** `ip` or `ip:port`; undefined: those of the pod. */
    readonly dnsServers: readonly string[] | undefined
    /** Where names under a wildcard may lead though it is not public. */
    readonly allowed: readonly Cidr[]
  }
  readonly accessLog: 'off' | 'errors' | 'all'
  /** Whether each attempt at a pod is a span of its own. */
  readonly traceAttempts: boolean
  /** What `environment` tags of traces tell. */
  readonly environment: (name: string) => string | undefined
  readonly logFilter: string
  readonly logFormat: 'plain' | 'json'
  readonly istioVersion: string
}

export interface ConfigSources {
  readonly env: Env
  /** Undefined when there is no such file. */
  readonly readFile: (path: string) => string | undefined
}

const defaultToken = './var/run/secrets/tokens/istio-token'

/** Throws one ConfigError that lists every problem. */
export function readConfig(sources: ConfigSources): {
  readonly config: Config
  readonly variables: readonly EnvVariable[]
} {
  const env = new EnvReader(sources.env)
  const clusterId =
    env.optional('ISTIO_META_CLUSTER_ID', 'Name of the cluster; wins over CLUSTER_ID') ??
    env.text('CLUSTER_ID', 'Kubernetes', 'Name of the cluster')
  const clusterDomain = env.text('CLUSTER_DOMAIN', 'cluster.local', "The cluster's DNS domain")
  const podNamespace = env.text('POD_NAMESPACE', 'default', "The waypoint's own namespace")
  const serviceAccount = env.text('SERVICE_ACCOUNT', 'default', "The waypoint's own service account")
  const gateway = env.text('UNDERPASS_GATEWAY', serviceAccount, 'Name of the Gateway that it runs for')
  const trustDomain = env.text(
    'TRUST_DOMAIN',
    SPIFFE_DEFAULT_TRUST_DOMAIN,
    'Trust domain of its own identity, and of its clients'
  )
  const config: Config = {
    role: env.choice(
      'UNDERPASS_ROLE',
      ['waypoint', 'gateway'],
      'waypoint',
      'Whether it takes HBONE of the mesh, or what comes to the listeners of its Gateway'
    ),
    podName: env.text('POD_NAME', '', "The waypoint's own pod"),
    podNamespace,
    nodeName: env.text('NODE_NAME', '', 'The node, for choosing near endpoints'),
    instanceIp: env.text('INSTANCE_IP', '127.0.0.1', 'Own address, for the XDS node id'),
    clusterId,
    clusterDomain,
    network: env.text('NETWORK', '', 'Name of the own network'),
    trustDomain,
    trustDomainAliases: env
      .text('UNDERPASS_TRUST_DOMAIN_ALIASES', '', 'Other names of the trust domain in policies, by commas')
      .split(',')
      .filter(Boolean),
    rootNamespace: env.text(
      'UNDERPASS_ROOT_NAMESPACE',
      'istio-system',
      'Where policies for a whole class stand'
    ),
    gateway: { name: gateway, className: env.optional('UNDERPASS_GATEWAY_CLASS', 'Class of its Gateway') },
    identity: spiffeId({ trustDomain, namespace: podNamespace, serviceAccount }),
    self: { namespace: podNamespace, hostname: `${gateway}.${podNamespace}.svc.${clusterDomain}` },
    ports: {
      hbone: env.port('UNDERPASS_INBOUND_PORT', 15008, 'Port of HBONE'),
      admin: env.port('UNDERPASS_ADMIN_PORT', 15000, 'Admin port, loopback only'),
      stats: env.port('UNDERPASS_STATS_PORT', 15020, 'Prometheus port'),
      ready: env.port('UNDERPASS_READY_PORT', 15021, 'Readiness port')
    },
    ipv6: env.flag('IPV6_ENABLED', true, 'Listen on IPv6 too'),
    xds: { ...readControlPlane(env, 'XDS'), metadata: readNodeMetadata(env) },
    ca: {
      ...readControlPlane(env, 'CA'),
      fake: env.flag(
        'FAKE_CA',
        false,
        'Sign certificates with a root that every test program knows; never in production'
      ),
      secretTtlMs: env.duration('SECRET_TTL', '24h', 'Validity to ask for in certificates')
    },
    authToken:
      env.optional('AUTH_TOKEN', 'Bearer token for XDS and CA: a path, or the token') ??
      (sources.readFile(defaultToken) === undefined ? undefined : defaultToken),
    localXdsPath: env.optional('LOCAL_XDS_PATH', 'YAML file of workloads and services to start with'),
    localConfigPath: env.optional('UNDERPASS_LOCAL_CONFIG', 'YAML file of routes and policies to start with'),
    connectTimeoutMs: env.duration('UNDERPASS_CONNECT_TIMEOUT', '10s', 'Time to connect to an endpoint'),
    upstreamIdleMs: env.duration(
      'UNDERPASS_UPSTREAM_IDLE_TIMEOUT',
      '1h',
      'Time after which an unused connection to an application is closed'
    ),
    detectionTimeoutMs: env.duration(
      'UNDERPASS_PROTOCOL_DETECTION_TIMEOUT',
      '5s',
      'How long a client may be silent on a port of unknown protocol before its connection is taken for TCP'
    ),
    pathNormalization: env.choice(
      'UNDERPASS_PATH_NORMALIZATION',
      pathNormalizations,
      'BASE',
      'How paths are written before anything looks at them'
    ),
    http10: env.flag('PILOT_HTTP10', false, 'Take HTTP/1.0 requests'),
    maxStreams: env.integer('UNDERPASS_MAX_STREAMS', 100, 'Connections in one HBONE session of a client', {
      min: 1,
      max: 65_535
    }),
    terminationDeadlineMs: env.duration(
      'CONNECTION_TERMINATION_DEADLINE',
      '25s',
      'Time that requests under way get at shutdown'
    ),
    egress: { dnsServers: dnsServers(env), allowed: allowedBlocks(env) },
    accessLog: env.choice(
      'UNDERPASS_ACCESS_LOG',
      ['off', 'errors', 'all'],
      'errors',
      'Which requests get a line: none, those that failed or were refused, all'
    ),
    traceAttempts: env.flag(
      'UNDERPASS_TRACE_ATTEMPTS',
      false,
      'Whether each attempt at a pod is a span of its own, below the one of the request'
    ),
    environment: name => sources.env[name],
    logFilter: logFilter(env),
    logFormat: env.choice('LOG_FORMAT', ['plain', 'json'], 'plain', 'Form of log lines'),
    istioVersion: sources.env['ISTIO_META_ISTIO_VERSION'] ?? 'unknown'
  }
  env.finish()
  return { config, variables: env.variables }
}

function dnsServers(env: EnvReader): readonly string[] | undefined {
  const name = 'UNDERPASS_DNS_SERVERS'
  const text = env.optional(
    name,
    'Whom names of ServiceEntries are asked of: ip or ip:port, by commas; else resolv.conf'
  )
  const servers = text?.split(',').map(server => server.trim())
  for (const server of servers ?? []) {
    if (parseIp(server) === undefined && parseSocketAddress(server) === undefined)
      env.problem(
        `${name}: ${JSON.stringify(server)} is no address; use 10.96.0.10, 10.96.0.10:53 or [fd00::a]:53`
      )
  }
  return servers
}

function allowedBlocks(env: EnvReader): readonly Cidr[] {
  const name = 'UNDERPASS_EGRESS_ALLOWED_BLOCKS'
  const text = env.text(
    name,
    '',
    'Addresses by commas, such as 10.1.0.0/16, to which names under a wildcard may lead though they are not public'
  )
  return text.split(',').flatMap(part => {
    const block = parseCidr(part.trim())
    if (block === undefined && part.trim() !== '')
      env.problem(`${name}: ${JSON.stringify(part)} is no block of addresses such as 10.1.0.0/16`)
    return block ?? []
  })
}

function logFilter(env: EnvReader): string {
  const text = env.text('RUST_LOG', 'info', 'Log levels: [target=]level,…')
  const filter = parseLogFilter(text)
  if (filter !== undefined) return formatLogFilter(filter)
  env.problem(
    `RUST_LOG=${JSON.stringify(text)}: expected [target=]level,… with off, error, warn, info, debug or trace`
  )
  return 'info'
}
