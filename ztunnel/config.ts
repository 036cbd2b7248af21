/**
 * The configuration of ztunnel: environment variables as Istio's ztunnel reads them, and our own, which
 * start with UNDERPASS_. Everything is parsed, defaulted and checked here, once; all problems are reported
 * together. Plain values only, so that workers get their part of it as a message.
 */
import { SPIFFE_DEFAULT_TRUST_DOMAIN } from '../shared/mesh/model.ts'
import { EnvReader, type Env, type EnvVariable } from '../shared/runtime/env.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { formatLogFilter, parseLogFilter, type LogFilter } from '../shared/telemetry/logger.ts'
import { readProxyConfig, type ProxyConfig } from './proxy-config.ts'

export interface Config {
  readonly proxyMode: 'shared' | 'dedicated'
  /** Whose connections the one proxy of dedicated mode carries. */
  readonly proxyWorkload: PodInfo | undefined
  readonly nodeName: string
  readonly clusterId: string
  readonly clusterDomain: string
  readonly workers: number
  /** V8's young generation of each worker, in MiB; 0 leaves it to Node. */
  readonly workerSemiSpaceMiB: number
  readonly admin: { readonly port: number }
  readonly stats: { readonly port: number }
  readonly readiness: { readonly port: number }
  readonly xds: ControlPlaneAddress & {
    readonly metadata: Readonly<Record<string, unknown>>
  }
  readonly ca: ControlPlaneAddress & { readonly fake: boolean; readonly secretTtlMs: number }
  /** Path of the bearer token, or the token itself; undefined asks without one. */
  readonly authToken: string | undefined
  readonly localXds: { readonly kind: 'none' } | { readonly kind: 'file' | 'inline'; readonly text: string }
  readonly crlPath: string | undefined
  readonly podName: string
  readonly podNamespace: string
  readonly serviceAccount: string
  readonly instanceIp: string
  readonly trustDomain: string
  readonly zdsSocket: string
  readonly terminationDeadlineMs: number
  readonly logFilter: string
  readonly logFormat: 'plain' | 'json'
  readonly istioVersion: string
  /** What workers need. */
  readonly data: DataConfig
}

export interface PodInfo {
  readonly name: string
  readonly namespace: string
  readonly serviceAccount: string
}

/** An istiod-like server. */
export interface ControlPlaneAddress {
  /** `https://host:port`; undefined switches it off. */
  readonly address: string | undefined
  /** A path, `SYSTEM`, or PEM. */
  readonly rootCa: string
  readonly altHostname: string | undefined
  readonly headers: readonly (readonly [string, string])[]
}

export interface DataConfig {
  readonly network: string
  readonly clusterId: string
  /** Ports of the listeners in each pod. Only tests move them. */
  readonly ports: { readonly outbound: number; readonly inbound: number; readonly passthrough: number }
  readonly ipv6: boolean
  /** Mark of every socket that we make in a pod; undefined sets none. */
  readonly packetMark: number | undefined
  readonly portReuse: boolean
  readonly originalSource: 'auto' | 'always' | 'never'
  readonly keepAlive:
    | { readonly idleSeconds: number; readonly intervalSeconds: number; readonly probes: number }
    | undefined
  /** TCP_USER_TIMEOUT in milliseconds; undefined leaves the kernel's. */
  readonly userTimeoutMs: number | undefined
  readonly pool: { readonly maxStreams: number; readonly unusedReleaseMs: number }
  readonly http2: {
    readonly streamWindow: number
    readonly connectionWindow: number
    readonly frameSize: number
  }
  readonly localhostAppTunnel: boolean
  readonly responseBaggage: boolean
  readonly logPolicyDecisions: boolean
  readonly tls12: boolean
  readonly compliance: 'none' | 'pqc'
  readonly sameNode: 'tunnel' | 'direct'
  readonly nodeName: string
  readonly outboundTrafficPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY'
  readonly connectTimeoutMs: number
  /** 0 = connections may be idle for ever. */
  readonly idleTimeoutMs: number
  readonly dialRetries: number
  readonly loadBalancing: 'random' | 'least-request'
  /** Addresses are asked for when connections go to them. */
  readonly onDemand: boolean
}

/** What the configuration is read from; `main.ts` passes the real machine. */
export interface ConfigSources {
  readonly env: Env
  /** Undefined when there is no such file. */
  readonly readFile: (path: string) => string | undefined
  readonly cores: number
}

const meshConfigPath = './etc/istio/config/mesh'
const defaultRootCa = './var/run/secrets/istio/root-cert.pem'
const defaultToken = './var/run/secrets/tokens/istio-token'

/** Reads everything. Throws one ConfigError that lists every problem. */
export async function readConfig(sources: ConfigSources): Promise<Config> {
  return (await withVariables(sources)).config
}

/** As {@link readConfig}, with the variables it looked at, for the reference documentation. */
export async function withVariables(
  sources: ConfigSources
): Promise<{ config: Config; variables: readonly EnvVariable[] }> {
  const env = new EnvReader(sources.env)
  const proxyConfig = await proxyConfigOf(env, sources)
  const proxyMode = env.choice(
    'PROXY_MODE',
    ['shared', 'dedicated'],
    'shared',
    'One proxy for each pod of the node, or one for one workload'
  )
  const clusterId =
    env.optional('ISTIO_META_CLUSTER_ID', 'Name of the cluster; wins over CLUSTER_ID') ??
    env.text('CLUSTER_ID', 'Kubernetes', 'Name of the cluster')
  const nodeName = env.text('NODE_NAME', '', 'The node; certificates of its pods are fetched ahead')
  if (!env.flag('ENABLE_PROXY', true, 'Carry traffic')) {
    env.problem('ENABLE_PROXY=false: there is nothing else to do; unset it')
  }
  const podNamespace = env.text(
    'POD_NAMESPACE',
    '',
    "ztunnel's own namespace, for its node id and self proxy"
  )
  const config: Config = {
    proxyMode,
    proxyWorkload: workloadInfo(env, proxyMode),
    nodeName,
    clusterId,
    clusterDomain: env.text('CLUSTER_DOMAIN', 'cluster.local', "The cluster's DNS domain"),
    workers: workerThreads(env, proxyConfig, sources.cores),
    workerSemiSpaceMiB: env.integer(
      'UNDERPASS_WORKER_SEMI_SPACE',
      8,
      'Young generation of each worker in MiB: more costs memory, less costs CPU',
      { min: 0, max: 64 }
    ),
    admin: {
      port: env.port('UNDERPASS_ADMIN_PORT', proxyConfig.proxyAdminPort ?? 15000, 'Admin port, loopback only')
    },
    stats: { port: env.port('UNDERPASS_STATS_PORT', proxyConfig.statsPort ?? 15020, 'Prometheus port') },
    readiness: { port: env.port('UNDERPASS_READY_PORT', 15021, 'Readiness port') },
    xds: {
      ...controlPlane(env, 'XDS', proxyConfig),
      metadata: nodeMetadata(env, proxyConfig)
    },
    ca: {
      ...controlPlane(env, 'CA', proxyConfig),
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
    localXds: localXds(env),
    crlPath: env.optional('CRL_PATH', 'Revoked certificates: a PEM or DER file'),
    podName: env.text('POD_NAME', '', "ztunnel's own pod"),
    podNamespace,
    serviceAccount: env.text('SERVICE_ACCOUNT', '', "ztunnel's own service account"),
    instanceIp: env.text('INSTANCE_IP', '1.1.1.1', 'Own address, for the XDS node id'),
    trustDomain: env.text(
      'TRUST_DOMAIN',
      SPIFFE_DEFAULT_TRUST_DOMAIN,
      "Trust domain of ztunnel's own identity"
    ),
    zdsSocket: env.text('INPOD_UDS', '/var/run/ztunnel/ztunnel.sock', "The node agent's socket"),
    terminationDeadlineMs: terminationDeadline(env),
    logFilter: logFilter(env),
    logFormat: env.choice('LOG_FORMAT', ['plain', 'json'], 'plain', 'Form of log lines'),
    istioVersion: sources.env['ISTIO_META_ISTIO_VERSION'] ?? 'unknown',
    data: dataConfig(env, proxyMode, clusterId, nodeName)
  }
  if (config.crlPath !== undefined && config.data.sameNode === 'direct')
    env.problem('CRL_PATH: without TLS there is no certificate to look up; set UNDERPASS_SAME_NODE=tunnel')
  if (config.data.compliance === 'pqc' && config.data.tls12)
    env.problem('TLS12_ENABLED=true: COMPLIANCE_POLICY=pqc needs TLS 1.3')
  env.finish()
  return { config: deepFreeze(config), variables: env.variables }
}

/** The effective configuration without secrets, in the camelCase form of config_dump. */
export function printableConfig(config: Config): Record<string, unknown> {
  const { authToken, xds, ca, data, localXds, ...rest } = config
  const hidden = (headers: ControlPlaneAddress['headers']): readonly string[] => headers.map(([name]) => name)
  const root = (text: string): string => (text.includes('-----BEGIN') ? 'PEM' : text)
  return {
    ...rest,
    ...data,
    authToken: authToken === undefined ? null : 'set',
    localXds: localXds.kind === 'file' ? localXds.text : localXds.kind,
    xds: { ...xds, headers: hidden(xds.headers), rootCa: root(xds.rootCa) },
    ca: { ...ca, headers: hidden(ca.headers), rootCa: root(ca.rootCa) }
  }
}

function dataConfig(
  env: EnvReader,
  mode: Config['proxyMode'],
  clusterId: string,
  nodeName: string
): DataConfig {
  const keepAlive = env.flag('KEEPALIVE_ENABLED', true, 'TCP keepalive on application connections')
  const idle = env.duration('KEEPALIVE_TIME', '180s', 'Idle time before the first keepalive probe')
  const interval = env.duration('KEEPALIVE_INTERVAL', '180s', 'Time between keepalive probes')
  const probes = env.integer('KEEPALIVE_RETRIES', 9, 'Unanswered probes before a connection is dead', {
    min: 1,
    max: 127
  })
  const userTimeout = env.flag(
    'USER_TIMEOUT_ENABLED',
    false,
    'Also give up sent data that stays unacknowledged as long'
  )
  const mark = env.optional('PACKET_MARK', 'SO_MARK of our sockets; 1337 in shared mode, else none')
  const packetMark = mark === undefined ? (mode === 'shared' ? 1337 : undefined) : Number(mark)
  if (
    packetMark !== undefined &&
    !(Number.isInteger(packetMark) && packetMark >= 0 && packetMark <= 0xffffffff)
  ) {
    env.problem(`PACKET_MARK=${JSON.stringify(mark)}: expected a number of 32 bits`)
  }
  return {
    network: env.text('NETWORK', '', 'Name of the own network'),
    clusterId,
    nodeName,
    ports: {
      outbound: env.port('UNDERPASS_OUTBOUND_PORT', 15001, 'Port of captured outgoing connections'),
      inbound: env.port('UNDERPASS_INBOUND_PORT', 15008, 'Port of HBONE'),
      passthrough: env.port(
        'UNDERPASS_PASSTHROUGH_PORT',
        15006,
        'Port of captured incoming plaintext connections'
      )
    },
    ipv6: env.flag('IPV6_ENABLED', true, 'Listen on IPv6 too'),
    packetMark,
    portReuse: env.flag(
      'INPOD_PORT_REUSE',
      true,
      'SO_REUSEPORT, so that an old and a new ztunnel overlap in an upgrade'
    ),
    originalSource: originalSource(env),
    keepAlive: keepAlive
      ? { idleSeconds: seconds(idle), intervalSeconds: seconds(interval), probes }
      : undefined,
    userTimeoutMs: userTimeout ? idle + interval * probes : undefined,
    pool: {
      maxStreams: env.integer('POOL_MAX_STREAMS_PER_CONNECTION', 100, 'Connections in one HBONE session', {
        min: 1,
        max: 65_535
      }),
      unusedReleaseMs: env.duration(
        'POOL_UNUSED_RELEASE_TIMEOUT',
        '5m',
        'Idle time after which a session is let go'
      )
    },
    http2: http2(env),
    localhostAppTunnel: env.flag('LOCALHOST_APP_TUNNEL', true, 'Dial a sandboxed waypoint over loopback'),
    responseBaggage: env.flag(
      'ENABLE_RESPONSE_BAGGAGE',
      true,
      'Describe the destination in the CONNECT response, and read it'
    ),
    logPolicyDecisions: env.flag('AUTHZ_POLICY_INFO_LOGGING', false, 'Log policy decisions at info'),
    tls12: env.flag('TLS12_ENABLED', false, 'Take TLS 1.2 too'),
    compliance: env.choice(
      'COMPLIANCE_POLICY',
      ['none', 'pqc'],
      'none',
      'pqc allows the key exchange X25519MLKEM768 only'
    ),
    sameNode: env.choice(
      'UNDERPASS_SAME_NODE',
      ['tunnel', 'direct'],
      'tunnel',
      'How two pods of one node talk: by TLS like all others, or inside ztunnel with the same checks'
    ),
    outboundTrafficPolicy: env.choice(
      'UNDERPASS_OUTBOUND_TRAFFIC_POLICY',
      ['ALLOW_ANY', 'REGISTRY_ONLY'],
      'ALLOW_ANY',
      'What happens with destinations that nobody registered'
    ),
    connectTimeoutMs: env.duration(
      'UNDERPASS_CONNECT_TIMEOUT',
      '10s',
      'Longest time to wait for a connection'
    ),
    idleTimeoutMs: env.duration(
      'UNDERPASS_IDLE_TIMEOUT',
      '0',
      'Close connections without a byte for so long; 0 never'
    ),
    dialRetries: env.integer('UNDERPASS_DIAL_RETRIES', 2, 'Other endpoints to try when a dial fails', {
      max: 10
    }),
    loadBalancing: env.choice(
      'UNDERPASS_LOAD_BALANCING',
      ['random', 'least-request'],
      'random',
      'How an endpoint is chosen'
    ),
    onDemand: env.flag('XDS_ON_DEMAND', false, 'Ask only for the addresses that connections go to')
  }
}

function http2(env: EnvReader): DataConfig['http2'] {
  const streamWindow = env.integer(
    'HTTP2_STREAM_WINDOW_SIZE',
    4 << 20,
    'Unread bytes of one connection in a session',
    { min: 65_535, max: 0x7fffffff }
  )
  const connectionWindow = env.integer(
    'HTTP2_CONNECTION_WINDOW_SIZE',
    16 << 20,
    'Unread bytes of a whole session',
    { min: 65_535, max: 0x7fffffff }
  )
  const frameSize = env.integer('HTTP2_FRAME_SIZE', 1 << 20, 'Largest HTTP/2 frame to take', {
    min: 16_384,
    max: 16_777_215
  })
  if (connectionWindow <= streamWindow) {
    env.problem(
      'HTTP2_CONNECTION_WINDOW_SIZE must be larger than HTTP2_STREAM_WINDOW_SIZE, or one slow reader stops its whole session'
    )
  }
  return { streamWindow, connectionWindow, frameSize }
}

function originalSource(env: EnvReader): DataConfig['originalSource'] {
  const text = env.optional(
    'ENABLE_ORIG_SRC',
    "Connect to applications from the client's address; unset = where it is allowed"
  )
  if (text === undefined) return 'auto'
  if (text === 'true') return 'always'
  if (text !== 'false') env.problem(`ENABLE_ORIG_SRC=${JSON.stringify(text)}: expected true or false`)
  return 'never'
}

function workloadInfo(env: EnvReader, mode: Config['proxyMode']): PodInfo | undefined {
  const text = env.optional(
    'PROXY_WORKLOAD_INFO',
    'namespace/name/serviceaccount of the workload, in dedicated mode'
  )
  const [namespace = '', name = '', serviceAccount = '', ...rest] = text?.split('/') ?? []
  if (mode === 'shared') return undefined
  if (text === undefined)
    env.problem('PROXY_WORKLOAD_INFO is not set: dedicated mode needs namespace/name/serviceaccount')
  else if (namespace === '' || name === '' || serviceAccount === '' || rest.length > 0) {
    env.problem(`PROXY_WORKLOAD_INFO=${JSON.stringify(text)}: expected namespace/name/serviceaccount`)
  }
  return { namespace, name, serviceAccount }
}

function controlPlane(env: EnvReader, kind: 'XDS' | 'CA', proxyConfig: ProxyConfig): ControlPlaneAddress {
  const inCluster = env.optional('KUBERNETES_SERVICE_HOST', 'Set by Kubernetes in every pod') !== undefined
  const fallback =
    proxyConfig.discoveryAddress ??
    (inCluster ? 'https://istiod.istio-system.svc:15012' : 'https://localhost:15012')
  const text = env.text(
    `${kind}_ADDRESS`,
    fallback,
    kind === 'XDS'
      ? 'The control plane; empty switches it off'
      : 'The certificate authority; empty switches it off'
  )
  return {
    address: text === '' ? undefined : httpsAddress(env, `${kind}_ADDRESS`, text),
    rootCa: env.text(
      `${kind}_ROOT_CA`,
      defaultRootCa,
      'Root certificates of that server: a path, SYSTEM, or PEM'
    ),
    altHostname: env.optional(`ALT_${kind}_HOSTNAME`, "Name to expect in that server's certificate"),
    headers: [...env.withPrefix(`${kind}_HEADER_`)]
  }
}

function httpsAddress(env: EnvReader, name: string, text: string): string | undefined {
  const url = URL.parse(text.includes('://') ? text : `https://${text}`)
  if (url === null || url.host === '')
    env.problem(`${name}=${JSON.stringify(text)}: expected host:port or https://host:port`)
  else if (url.protocol !== 'https:')
    env.problem(`${name}=${JSON.stringify(text)}: TLS is required, write https://${url.host}`)
  else return `https://${url.hostname}:${url.port === '' ? 443 : url.port}`
  return undefined
}

/** Names and values that istiod sees of this proxy: ProxyConfig first, then ISTIO_META_*, then ISTIO_METAJSON_*. */
function nodeMetadata(env: EnvReader, proxyConfig: ProxyConfig): Record<string, unknown> {
  const metadata: Record<string, unknown> = { ...proxyConfig.proxyMetadata }
  for (const [name, value] of env.withPrefix('ISTIO_META_')) metadata[name] = value
  for (const [name, value] of env.withPrefix('ISTIO_METAJSON_')) {
    try {
      metadata[name] = JSON.parse(value)
    } catch (error) {
      env.problem(`ISTIO_METAJSON_${name}: expected JSON: ${messageOf(error)}`)
    }
  }
  return metadata
}

function localXds(env: EnvReader): Config['localXds'] {
  const file = env.optional('LOCAL_XDS_PATH', 'YAML file of workloads, services and policies to start with')
  const inline = env.optional('LOCAL_XDS', 'The same as text')
  if (file !== undefined && inline !== undefined)
    env.problem('LOCAL_XDS and LOCAL_XDS_PATH are both set: choose one')
  if (file !== undefined) return { kind: 'file', text: file }
  return inline === undefined ? { kind: 'none' } : { kind: 'inline', text: inline }
}

/** CONNECTION_TERMINATION_DEADLINE, else a little less than the time Kubernetes gives before it kills. */
function terminationDeadline(env: EnvReader): number {
  const grace = env.integer('TERMINATION_GRACE_PERIOD_SECONDS', 0, 'Time that Kubernetes gives a pod to end')
  const left = grace > 10 ? grace - 5 : Math.max(1, grace - 1)
  return env.duration(
    'CONNECTION_TERMINATION_DEADLINE',
    grace === 0 ? '5s' : `${left}s`,
    'Time that open connections get at shutdown'
  )
}

function logFilter(env: EnvReader): string {
  const text = env.text('RUST_LOG', 'info', 'Log levels: [target=]level,…')
  const filter: LogFilter | undefined = parseLogFilter(text)
  if (filter === undefined)
    env.problem(
      `RUST_LOG=${JSON.stringify(text)}: expected [target=]level,… with off, error, warn, info, debug or trace`
    )
  return filter === undefined ? 'info' : formatLogFilter(filter)
}

/**
 * How many threads carry traffic. Source: Istio ztunnel: an explicit number or share of the cores, else
 * ProxyConfig concurrency (0 = all cores), else the CPU limit, else a quarter of the cores and at least 2.
 */
function workerThreads(env: EnvReader, proxyConfig: ProxyConfig, machineCores: number): number {
  const limit = env.integer('ZTUNNEL_CPU_LIMIT', 0, 'Number of cores to count on; 0 = those of the machine')
  const cores = limit > 0 ? Math.min(limit, machineCores) : machineCores
  const wanted = env.optional(
    'ZTUNNEL_WORKER_THREADS',
    'Threads that carry traffic: a number (0 = one for each core) or N%'
  )
  const resourceLimit = env.integer('ZTUNNEL_RESOURCE_CPU_LIMIT', 0, "The container's CPU limit in cores")
  const resourceRequest = env.integer(
    'ZTUNNEL_RESOURCE_CPU_REQUEST',
    0,
    "The container's CPU request in cores"
  )
  if (wanted !== undefined) {
    const [, number, percent] = /^(\d+)(%?)$/.exec(wanted) ?? []
    if (number === undefined || (percent === '%' && Number(number) > 100)) {
      env.problem(
        `ZTUNNEL_WORKER_THREADS=${JSON.stringify(wanted)}: expected a number or a percentage up to 100%`
      )
      return 1
    }
    if (percent === '%') return Math.max(1, Math.ceil((cores * Number(number)) / 100))
    return Number(number) === 0 ? cores : Number(number)
  }
  if (proxyConfig.concurrency !== undefined)
    return proxyConfig.concurrency === 0 ? cores : proxyConfig.concurrency
  if (resourceLimit > 0) return Math.max(resourceLimit, resourceRequest)
  return Math.max(Math.ceil(cores / 4), resourceRequest, 2)
}

async function proxyConfigOf(env: EnvReader, sources: ConfigSources): Promise<ProxyConfig> {
  const inline = env.optional(
    'PROXY_CONFIG',
    `ProxyConfig as YAML; wins over defaultConfig in ${meshConfigPath}`
  )
  const file = sources.readFile(meshConfigPath)
  return readProxyConfig({ inline, file, onProblem: text => env.problem(text) })
}

function seconds(ms: number): number {
  return Math.max(1, Math.round(ms / 1000))
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const part of Object.values(value)) deepFreeze(part)
  }
  return value
}
