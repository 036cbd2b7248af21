/**
 * The configuration of ztunnel: environment variables as Istio's ztunnel reads them, and our own, which
 * start with UNDERPASS_. Everything is parsed, defaulted and checked once, when ztunnel starts; all problems are
 * reported together.
 */
import { SPIFFE_DEFAULT_TRUST_DOMAIN } from '../shared/mesh/model.ts'
import { EnvReader, type Env, type EnvVariable } from '../shared/runtime/env.ts'
import { formatLogFilter, parseLogFilter, type LogFilter } from '../shared/telemetry/logger.ts'
import {
  readControlPlane,
  readNodeMetadata,
  type ControlPlaneAddress
} from '../shared/xds/control-plane-config.ts'
import { readDataConfig, type DataConfig } from './data-config.ts'
import { readProxyConfig, type ProxyConfig } from './proxy-config.ts'
import { readWorkerCount } from './worker-count.ts'

export type { ControlPlaneAddress } from '../shared/xds/control-plane-config.ts'
export type { DataConfig } from './data-config.ts'

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

/** What the configuration is read from; `main.ts` passes the real machine. */
export interface ConfigSources {
  readonly env: Env
  /** Undefined when there is no such file. */
  readonly readFile: (path: string) => string | undefined
  readonly cores: number
}

const meshConfigPath = './etc/istio/config/mesh'
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
  const clusterDomain = env.text('CLUSTER_DOMAIN', 'cluster.local', "The cluster's DNS domain")
  const metadata = readNodeMetadata(env, proxyConfig.proxyMetadata)
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
    clusterDomain,
    workers: readWorkerCount(env, proxyConfig, sources.cores),
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
      ...readControlPlane(env, 'XDS', proxyConfig.discoveryAddress),
      metadata
    },
    ca: {
      ...readControlPlane(env, 'CA', proxyConfig.discoveryAddress),
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
    data: readDataConfig(env, {
      mode: proxyMode,
      clusterId,
      nodeName,
      dns: { domain: clusterDomain, metadata, readFile: sources.readFile }
    })
  }
  if (config.crlPath !== undefined && config.data.sameNode === 'direct')
    env.problem('CRL_PATH: without TLS there is no certificate to look up; set UNDERPASS_SAME_NODE=tunnel')
  if (config.data.compliance === 'pqc' && config.data.tls12)
    env.problem('TLS12_ENABLED=true: COMPLIANCE_POLICY=pqc needs TLS 1.3')
  env.finish()
  return { config: deepFreeze(config), variables: env.variables }
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

async function proxyConfigOf(env: EnvReader, sources: ConfigSources): Promise<ProxyConfig> {
  const inline = env.optional(
    'PROXY_CONFIG',
    `ProxyConfig as YAML; wins over defaultConfig in ${meshConfigPath}`
  )
  const file = sources.readFile(meshConfigPath)
  return readProxyConfig({ inline, file, onProblem: text => env.problem(text) })
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const part of Object.values(value)) deepFreeze(part)
  }
  return value
}
