import t from 'tap'
import { readConfig, type Config, type ConfigSources } from '../../ztunnel/config.ts'
import { printedConfig } from '../../ztunnel/printed-config.ts'
import { ConfigError } from '../../shared/runtime/env.ts'

type Env = Record<string, string>

t.test('everything has a default that a plain node agent can run with', async t => {
  const config = await read({})
  t.match(config, {
    proxyMode: 'shared',
    clusterId: 'Kubernetes',
    clusterDomain: 'cluster.local',
    workers: 2,
    admin: { port: 15000 },
    stats: { port: 15020 },
    readiness: { port: 15021 },
    xds: {
      address: 'https://localhost:15012',
      rootCa: './var/run/secrets/istio/root-cert.pem'
    },
    ca: { address: 'https://localhost:15012', fake: false, secretTtlMs: 86_400_000 },
    authToken: undefined,
    zdsSocket: '/var/run/ztunnel/ztunnel.sock',
    terminationDeadlineMs: 5000,
    logFilter: 'info',
    data: {
      network: '',
      ports: { outbound: 15001, inbound: 15008, passthrough: 15006 },
      ipv6: true,
      packetMark: 1337,
      portReuse: true,
      originalSource: 'auto',
      keepAlive: { idleSeconds: 180, intervalSeconds: 180, probes: 9 },
      userTimeoutMs: undefined,
      pool: { maxStreams: 100, unusedReleaseMs: 300_000 },
      http2: { streamWindow: 4 << 20, connectionWindow: 16 << 20, frameSize: 1 << 20 },
      sameNode: 'tunnel',
      outboundTrafficPolicy: 'ALLOW_ANY',
      connectTimeoutMs: 10_000,
      idleTimeoutMs: 0,
      dialRetries: 2,
      loadBalancing: 'random'
    }
  })
  t.ok(Object.isFrozen(config.data.pool))
})

const rows: readonly {
  name: string
  env: Env
  expect: (config: Config) => unknown
  is: unknown
  files?: Record<string, string>
  cores?: number
}[] = [
  {
    name: 'a dedicated proxy marks nothing',
    env: dedicated(),
    expect: c => c.data.packetMark,
    is: undefined
  },
  {
    name: 'its workload is namespace, name and service account',
    env: dedicated(),
    expect: c => c.proxyWorkload,
    is: { namespace: 'ns', name: 'web', serviceAccount: 'sa' }
  },
  {
    name: 'in a cluster the control plane is istiod',
    env: { KUBERNETES_SERVICE_HOST: '10.96.0.1' },
    expect: c => c.xds.address,
    is: 'https://istiod.istio-system.svc:15012'
  },
  {
    name: 'an empty address switches xDS off',
    env: { XDS_ADDRESS: '' },
    expect: c => c.xds.address,
    is: undefined
  },
  {
    name: 'an address without scheme is https',
    env: { XDS_ADDRESS: 'control:15012' },
    expect: c => c.xds.address,
    is: 'https://control:15012'
  },
  {
    name: 'https has its own port',
    env: { CA_ADDRESS: 'https://ca' },
    expect: c => c.ca.address,
    is: 'https://ca:443'
  },
  {
    name: 'the metadata wins over the cluster id',
    env: { CLUSTER_ID: 'a', ISTIO_META_CLUSTER_ID: 'b' },
    expect: c => c.clusterId,
    is: 'b'
  },
  {
    name: 'metadata is text, or JSON',
    env: { ISTIO_META_X: '1', ISTIO_METAJSON_Y: '{"a":1}' },
    expect: c => [c.xds.metadata['X'], c.xds.metadata['Y']],
    is: ['1', { a: 1 }]
  },
  {
    name: 'ProxyConfig gives ports and metadata',
    env: { PROXY_CONFIG: 'proxyAdminPort: 1\nstatsPort: 2\nproxyMetadata: {A: b}' },
    expect: c => [c.admin.port, c.stats.port, c.xds.metadata['A']],
    is: [1, 2, 'b']
  },
  {
    name: 'ProxyConfig wins over the mesh configuration',
    env: { PROXY_CONFIG: 'statsPort: 2' },
    files: { './etc/istio/config/mesh': 'defaultConfig: {statsPort: 3, proxyAdminPort: 4}' },
    expect: c => [c.stats.port, c.admin.port],
    is: [2, 4]
  },
  {
    name: 'the token is used where there is one',
    env: {},
    files: { './var/run/secrets/tokens/istio-token': 'x' },
    expect: c => c.authToken,
    is: './var/run/secrets/tokens/istio-token'
  },
  {
    name: 'a grace period leaves five seconds to end',
    env: { TERMINATION_GRACE_PERIOD_SECONDS: '30' },
    expect: c => c.terminationDeadlineMs,
    is: 25_000
  },
  {
    name: 'a short one leaves a second',
    env: { TERMINATION_GRACE_PERIOD_SECONDS: '10' },
    expect: c => c.terminationDeadlineMs,
    is: 9000
  },
  {
    name: 'the shortest still leaves a second',
    env: { TERMINATION_GRACE_PERIOD_SECONDS: '1' },
    expect: c => c.terminationDeadlineMs,
    is: 1000
  },
  {
    name: 'an explicit deadline wins',
    env: { TERMINATION_GRACE_PERIOD_SECONDS: '30', CONNECTION_TERMINATION_DEADLINE: '7s' },
    expect: c => c.terminationDeadlineMs,
    is: 7000
  },
  { name: 'workers: a number', env: { ZTUNNEL_WORKER_THREADS: '5' }, expect: c => c.workers, is: 5 },
  {
    name: 'workers: 0 is every core',
    env: { ZTUNNEL_WORKER_THREADS: '0' },
    cores: 6,
    expect: c => c.workers,
    is: 6
  },
  {
    name: 'workers: a share is rounded up',
    env: { ZTUNNEL_WORKER_THREADS: '30%' },
    cores: 6,
    expect: c => c.workers,
    is: 2
  },
  {
    name: 'workers: the CPU limit caps the cores',
    env: { ZTUNNEL_WORKER_THREADS: '100%', ZTUNNEL_CPU_LIMIT: '3' },
    cores: 6,
    expect: c => c.workers,
    is: 3
  },
  { name: 'workers: concurrency', env: { PROXY_CONFIG: 'concurrency: 3' }, expect: c => c.workers, is: 3 },
  {
    name: 'workers: concurrency 0 is every core',
    env: { PROXY_CONFIG: 'concurrency: 0' },
    cores: 6,
    expect: c => c.workers,
    is: 6
  },
  {
    name: 'workers: the resource limit, raised to the request',
    env: { ZTUNNEL_RESOURCE_CPU_LIMIT: '3', ZTUNNEL_RESOURCE_CPU_REQUEST: '4' },
    expect: c => c.workers,
    is: 4
  },
  { name: 'workers: a quarter of many cores', env: {}, cores: 32, expect: c => c.workers, is: 8 },
  {
    name: 'the source address is kept, or not',
    env: { ENABLE_ORIG_SRC: 'false' },
    expect: c => c.data.originalSource,
    is: 'never'
  },
  {
    name: 'without keepalive there is none',
    env: { KEEPALIVE_ENABLED: 'false' },
    expect: c => c.data.keepAlive,
    is: undefined
  },
  {
    name: 'the user timeout follows from the probes',
    env: {
      USER_TIMEOUT_ENABLED: 'true',
      KEEPALIVE_TIME: '10s',
      KEEPALIVE_INTERVAL: '5s',
      KEEPALIVE_RETRIES: '3'
    },
    expect: c => c.data.userTimeoutMs,
    is: 25_000
  },
  {
    name: 'extra request headers',
    env: { XDS_HEADER_foo: 'bar' },
    expect: c => c.xds.headers,
    is: [['foo', 'bar']]
  }
]
for (const { name, env, files, cores, expect, is } of rows) {
  t.test(name, async t => {
    t.strictSame(expect(await read(env, files, cores)), is)
  })
}

const problems: readonly { name: string; env: Env; says: RegExp }[] = [
  {
    name: 'an unknown mode',
    env: { PROXY_MODE: 'sidecar' },
    says: /PROXY_MODE="sidecar": expected shared \| dedicated/
  },
  {
    name: 'dedicated mode without a workload',
    env: { PROXY_MODE: 'dedicated' },
    says: /PROXY_WORKLOAD_INFO is not set/
  },
  {
    name: 'half a workload',
    env: { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'a/b' },
    says: /PROXY_WORKLOAD_INFO="a\/b"/
  },
  {
    name: 'a control plane without TLS',
    env: { XDS_ADDRESS: 'http://istiod:15010' },
    says: /XDS_ADDRESS.*TLS is required/
  },
  { name: 'two local configurations', env: { LOCAL_XDS: 'a', LOCAL_XDS_PATH: 'b' }, says: /choose one/ },
  {
    name: 'windows that block each other',
    env: { HTTP2_CONNECTION_WINDOW_SIZE: '100000', HTTP2_STREAM_WINDOW_SIZE: '100000' },
    says: /must be larger/
  },
  { name: 'a level that is none', env: { RUST_LOG: 'loud' }, says: /RUST_LOG="loud"/ },
  { name: 'workers beyond all', env: { ZTUNNEL_WORKER_THREADS: '200%' }, says: /ZTUNNEL_WORKER_THREADS/ },
  { name: 'ProxyConfig that is no YAML', env: { PROXY_CONFIG: '{' }, says: /PROXY_CONFIG/ },
  {
    name: 'a port in ProxyConfig that is none',
    env: { PROXY_CONFIG: 'statsPort: many' },
    says: /statsPort is "many"/
  },
  { name: 'metadata that is no JSON', env: { ISTIO_METAJSON_A: '{' }, says: /ISTIO_METAJSON_A/ },
  { name: 'nothing to do', env: { ENABLE_PROXY: 'false' }, says: /ENABLE_PROXY/ },
  {
    name: 'revocation lists for peers that show no certificate',
    env: { CRL_PATH: '/x', UNDERPASS_SAME_NODE: 'direct' },
    says: /CRL_PATH.*UNDERPASS_SAME_NODE=tunnel/
  },
  { name: 'a mark that is none', env: { PACKET_MARK: 'x' }, says: /PACKET_MARK="x"/ }
]
for (const { name, env, says } of problems) {
  t.test(`refuses ${name}`, async t => {
    await t.rejects(read(env), { message: says })
  })
}

t.test('all problems are reported together', async t => {
  const error = await read({
    PROXY_MODE: 'x',
    KEEPALIVE_TIME: 'soon',
    POOL_MAX_STREAMS_PER_CONNECTION: '0'
  }).catch((thrown: unknown) => thrown)
  t.type(error, ConfigError)
  t.equal((error as ConfigError).problems.length, 3)
})

t.test('what is printed holds no secret', async t => {
  const text = JSON.stringify(
    printedConfig(
      await read({ AUTH_TOKEN: 'secret-1', XDS_HEADER_key: 'secret-2', CA_HEADER_key: 'secret-3' })
    )
  )
  t.notMatch(text, /secret-[0-9]/)
  t.match(text, /"authToken":"set"/)
})

function dedicated(): Env {
  return { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/web/sa' }
}

function read(env: Env, files: Record<string, string> = {}, cores = 2): Promise<Config> {
  const sources: ConfigSources = { env, readFile: path => files[path], cores }
  return readConfig(sources)
}
