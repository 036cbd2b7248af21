/** Every setting of the control plane, read and checked at once. Names as istiod's where it has one. */
import { parseIp, type Ip } from '../shared/net/address.ts'
import { EnvReader, type Env } from '../shared/runtime/env.ts'
import { packageVersion } from '../shared/runtime/package-version.ts'
import { parseLogFilter, type LogFilter } from '../shared/telemetry/logger.ts'
import { defaultWaypointSettings, type MeshSettings } from './cluster/settings.ts'

export interface Ports {
  readonly xds: number
  /** Undefined = not served. */
  readonly plaintext: number | undefined
  readonly monitoring: number
  readonly ready: number
  readonly webhook: number
}

export interface Config {
  /** Defaults that the mesh configuration (ConfigMap `istio`) may change. */
  readonly mesh: MeshSettings
  readonly meshConfigMap: string
  readonly podName: string
  readonly listen: Ip
  readonly ports: Ports
  readonly authenticate: boolean
  readonly audiences: readonly string[]
  readonly caEnabled: boolean
  readonly caFolder: string
  readonly trustedNodeAccounts: ReadonlySet<string>
  readonly maxTtlSeconds: number
  readonly rootOverlapMs: number
  readonly rootRefreshMs: number
  /** Folder with a serving certificate (`tls.crt`, `tls.key`) that somebody else issues, such as istio-csr. */
  readonly servingFolder: string
  /** Further names of the serving certificate of our own. */
  readonly servingNames: readonly string[]
  readonly debounceAfterMs: number
  readonly debounceMaxMs: number
  readonly maxConnectionAgeMs: number
  readonly leaderElection: boolean
  readonly waypoints: {
    readonly enabled: boolean
    readonly istioClasses: 'auto' | 'on' | 'off'
    /** '' = the image of this program's own pod. */
    readonly image: string
    /** Where there is no such pod. */
    readonly defaultImage: string
  }
  /** Whether the gateways that Gateways ask for are run, with certificates of Secrets. */
  readonly gateways: { readonly enabled: boolean }
  readonly debugAuthentication: boolean
  readonly shutdownMs: number
  readonly log: { readonly filter: LogFilter; readonly format: 'plain' | 'json' }
}

export function readConfig(env: Env): {
  readonly config: Config
  readonly variables: EnvReader['variables']
} {
  const reader = new EnvReader(env)
  const systemNamespace = reader.text('POD_NAMESPACE', 'istio-system', 'Namespace of the control plane')
  const revision = reader.text('REVISION', 'default', 'Objects with another `istio.io/rev` are not ours')
  const config: Config = {
    mesh: {
      clusterId: reader.text('CLUSTER_ID', 'Kubernetes', 'Name of the cluster; equals the agents’'),
      systemNamespace,
      rootNamespace: reader.text('ROOT_NAMESPACE', systemNamespace, 'Where policies are for the whole mesh'),
      trustDomain: reader.text('TRUST_DOMAIN', 'cluster.local', 'Trust domain of all identities'),
      domain: reader.text('DOMAIN_SUFFIX', 'cluster.local', 'DNS domain of the cluster'),
      revision,
      discoverySelectors: [],
      serviceEntryVisibility: [],
      ruleExportTo: ['*'],
      virtualServiceExportTo: ['*'],
      forWaypoints: defaultWaypointSettings,
      providerHosts: new Set(),
      allowWaypoints: reader.flag(
        'PILOT_AUTO_ALLOW_WAYPOINT_POLICY',
        true,
        'Workloads that an ALLOW policy protects accept their own waypoint'
      ),
      sendDryRun: reader.flag(
        'AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY',
        false,
        'Send policies in dry run; every ztunnel must know the mark'
      )
    },
    meshConfigMap: reader.text(
      'SHARED_MESH_CONFIG',
      revision === 'default' ? 'istio' : `istio-${revision}`,
      'ConfigMap of the mesh configuration'
    ),
    podName: reader.text('POD_NAME', 'underpass-controlplane', 'Name of this replica'),
    listen: ipOf(reader, 'UNDERPASS_LISTEN', '::', 'Address to listen on'),
    ports: {
      xds: reader.port('UNDERPASS_XDS_PORT', 15012, 'xDS and CA over TLS; 0 = any'),
      plaintext: reader.flag('UNDERPASS_PLAINTEXT_XDS', false, 'Serve xDS in the clear too, for tests')
        ? reader.port('UNDERPASS_PLAINTEXT_PORT', 15010, 'xDS in the clear; 0 = any')
        : undefined,
      monitoring: reader.port('UNDERPASS_MONITORING_PORT', 15014, 'Metrics, /debug and /v1; 0 = any'),
      ready: reader.port('UNDERPASS_READY_PORT', 8080, '/ready and /debug; 0 = any'),
      webhook: reader.port('UNDERPASS_WEBHOOK_PORT', 15017, 'Validating webhook over TLS; 0 = any')
    },
    authenticate: reader.flag('XDS_AUTH', true, 'xDS clients must authenticate'),
    audiences: listOf(reader.text('TOKEN_AUDIENCES', 'istio-ca', 'Audiences of accepted tokens')),
    caEnabled: reader.flag('ENABLE_CA_SERVER', true, 'Serve the certificate authority; off beside istio-csr'),
    caFolder: reader.text(
      'ROOT_CA_DIR',
      '/etc/cacerts',
      'Folder of a signing certificate given by the operator'
    ),
    trustedNodeAccounts: new Set(
      listOf(
        reader.text(
          'CA_TRUSTED_NODE_ACCOUNTS',
          `${systemNamespace}/ztunnel`,
          'Service accounts of node agents, as namespace/name'
        )
      )
    ),
    maxTtlSeconds:
      reader.duration('MAX_WORKLOAD_CERT_TTL', '90d', 'Longest life of a certificate that may be asked for') /
      1000,
    rootOverlapMs: reader.duration(
      'UNDERPASS_ROOT_OVERLAP',
      '24h',
      'How long a new root is announced before it signs, and an old one kept after'
    ),
    rootRefreshMs: reader.duration(
      'UNDERPASS_ROOT_REFRESH',
      '60s',
      'How often the signing certificate is read again, from its files or its Secret'
    ),
    servingFolder: reader.text(
      'UNDERPASS_SERVING_CERTIFICATE_DIR',
      '/var/run/secrets/istiod/tls',
      'Folder of a serving certificate issued by others; without one, our own authority issues it'
    ),
    servingNames: listOf(reader.text('ISTIOD_CUSTOM_HOST', '', 'Further names of the serving certificate')),
    debounceAfterMs: reader.duration(
      'UNDERPASS_DEBOUNCE_AFTER',
      '10ms',
      'Quiet time before changes are sent'
    ),
    debounceMaxMs: reader.duration('UNDERPASS_DEBOUNCE_MAX', '100ms', 'Longest time that changes wait'),
    maxConnectionAgeMs: reader.duration(
      'UNDERPASS_MAX_CONNECTION_AGE',
      '30m',
      'Age at which connections are closed, so that clients spread'
    ),
    leaderElection: reader.flag('ENABLE_LEADER_ELECTION', true, 'Several replicas elect the one that writes'),
    waypoints: {
      enabled: reader.flag('UNDERPASS_WAYPOINTS', true, 'Run the waypoints that Gateways ask for'),
      istioClasses: reader.choice(
        'UNDERPASS_ISTIO_CLASSES',
        ['auto', 'on', 'off'],
        'auto',
        'Run Gateways of classes istio-waypoint and istio too; auto: unless an istiod runs'
      ),
      image: reader.text(
        'UNDERPASS_WAYPOINT_IMAGE',
        '',
        'Image of waypoints and gateways; empty: that of this program'
      ),
      defaultImage: `underpass.dev/underpass:${packageVersion()}`
    },
    gateways: {
      enabled: reader.flag(
        'UNDERPASS_GATEWAYS',
        true,
        'Run the gateways that Gateways ask for; needs to read Secrets of type kubernetes.io/tls'
      )
    },
    debugAuthentication: reader.flag('ENABLE_DEBUG_ENDPOINT_AUTH', true, '/debug takes a token off loopback'),
    shutdownMs: reader.duration('TERMINATION_DRAIN_DURATION', '5s', 'Time that clients get to leave'),
    log: {
      filter: filterOf(reader, 'UNDERPASS_LOG', 'info', 'Log levels, as `info` or `xds=debug,info`'),
      format: reader.choice('LOG_FORMAT', ['plain', 'json'], 'plain', 'Form of the log')
    }
  }
  reader.finish()
  return { config, variables: reader.variables }
}

function listOf(text: string): readonly string[] {
  return text
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '')
}

function ipOf(reader: EnvReader, name: string, fallback: string, meaning: string): Ip {
  const text = reader.text(name, fallback, meaning)
  const address = parseIp(text)
  if (address === undefined) reader.problem(`${name}=${JSON.stringify(text)}: expected an IP address`)
  return address ?? (fallback as Ip)
}

function filterOf(reader: EnvReader, name: string, fallback: string, meaning: string): LogFilter {
  const text = reader.text(name, fallback, meaning)
  const filter = parseLogFilter(text)
  if (filter === undefined)
    reader.problem(`${name}=${JSON.stringify(text)}: expected levels such as info or xds=debug`)
  return filter ?? { fallback: 'info', targets: new Map() }
}
