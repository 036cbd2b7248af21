/** The waypoint from start to end, in order; this page is the map of the program. */
import { certificateSource } from '../shared/identity/certificate-source.ts'
import { CertificateStore } from '../shared/identity/certificate-store.ts'
import { MeshStore } from '../shared/mesh/store.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import { raiseFileLimit } from '../shared/net/sockets.ts'
import { loopback, serveAdmin, wildcard, type AdminServer } from '../shared/runtime/admin-http.ts'
import { packageVersion } from '../shared/runtime/package-version.ts'
import { Readiness } from '../shared/runtime/readiness.ts'
import type { LogOutput } from '../shared/telemetry/logger.ts'
import { Metrics } from '../shared/telemetry/metrics.ts'
import { readinessRoute, statsRoutes } from '../shared/telemetry/public-routes.ts'
import { adminRoutes } from './admin.ts'
import { PolicyStore } from './authorization/policy-store.ts'
import type { Config } from './config.ts'
import { configTypes } from './config-types.ts'
import { DestinationRuleStore } from './destination-rules/destination-rule-store.ts'
import { openGateway, openHbone } from './entrance.ts'
import { Egress } from './egress/egress.ts'
import { Names } from './egress/names.ts'
import { familiesHere, resolverOf } from './egress/resolver.ts'
import { explainRequest } from './explain.ts'
import { senderOf } from './external-authorization/send.ts'
import { families } from './families.ts'
import { GatewayState } from './gateway/gateway-state.ts'
import { gatewayTypes } from './gateway/gateway-types.ts'
import { Http1ClientConnection } from './http1/client-connection.ts'
import { Http2ClientConnection } from './http2/client-connection.ts'
import { KeySets } from './jwt/key-sets.ts'
import { JwtPolicyStore } from './jwt/policy-store.ts'
import { loadLocalState } from './local-state.ts'
import { CurrentSettings, defaultTraceSampling } from './mesh-settings.ts'
import { Mirrors } from './mirror.ts'
import { RateLimitStore } from './rate-limit/rate-limit-store.ts'
import { RouteStore } from './routes/route-store.ts'
import { TelemetryStore } from './telemetry/rules/telemetry-store.ts'
import { startTelemetry } from './telemetry/telemetry.ts'
import { PoliciesInForce } from './upstream/backend-tls-in-force.ts'
import { BackendTlsPolicies } from './upstream/backend-tls-policies.ts'
import { Clusters } from './upstream/clusters.ts'
import { Connections } from './upstream/connections.ts'
import { OpenStreams } from './upstream/open-streams.ts'
import { Tunnels } from './upstream/tunnels.ts'
import { VirtualServiceStore } from './virtual-services/virtual-service-store.ts'
import type { Waypoint } from './waypoint.ts'
import { startXds } from './xds.ts'

export interface AppDeps {
  readonly log: LogOutput
  /** Where the access log goes. */
  readonly writeLine: (line: string) => void
}

export interface App extends AsyncDisposable {
  /** `hbone`, `admin`, `stats`, `readiness`. */
  readonly addresses: ReadonlyMap<string, SocketAddress>
  /** Lets requests end for the configured time, then ends. Idempotent. */
  shutDown(): Promise<void>
}

/** Of bodies that are kept to be sent again, all together. */
const replayBytes = 64 << 20

/** For how long others may still send new connections here, once we are not ready any more. */
const farewellMs = 5000

/** Throws when something cannot start; nothing is left behind then. */
export async function startWaypoint(config: Config, { log: output, writeLine }: AppDeps): Promise<App> {
  const log = output.logger('app')
  log.info(`${config.role} starts`, { version: packageVersion(), identity: config.identity })
  const readiness = new Readiness()
  const ending = new AbortController()
  await using resources = new AsyncDisposableStack()
  resources.defer(() => ending.abort(new Error('the waypoint is ending')))
  raiseFileLimit()

  // 1. Who we are, and what is known without asking anybody.
  const source = await certificateSource({ ca: config.ca, credentials: config, impersonate: false })
  const certificates = new CertificateStore({ source })
  resources.defer(() => certificates.close())
  const mesh = new MeshStore()
  const routes = new RouteStore()
  const virtualServices = new VirtualServiceStore(config.self.namespace)
  const { namespace } = config.self
  const gateway = { namespace, ...config.gateway, clusterDomain: config.clusterDomain }
  const policies = new PolicyStore(gateway)
  const jwtPolicies = new JwtPolicyStore(gateway)
  const rateLimits = new RateLimitStore(gateway)
  const destinationRules = new DestinationRuleStore({ namespace, rootNamespace: config.rootNamespace })
  const backendTls = new BackendTlsPolicies()
  const keys = new KeySets({ log: output.logger('jwt'), signal: ending.signal })
  const onJwtRules = (): void => keys.keepOnly(jwtPolicies.allRules())
  const own = {
    trustDomains: [config.trustDomain, ...config.trustDomainAliases],
    pathNormalization: config.pathNormalization,
    providers: new Map(),
    accessLog: undefined,
    accessLogEncoding: 'TEXT' as const,
    traceProviders: new Map(),
    rateLimitProviders: new Map(),
    defaultTraceProvider: undefined,
    traceSampling: defaultTraceSampling
  }
  const settings = new CurrentSettings(own, output.logger('config'))
  const gatewayState = new GatewayState()
  const telemetries = new TelemetryStore({
    ...{ own: gateway, rootNamespace: config.rootNamespace, accessLog: config.accessLog },
    ...{ settings: () => settings.current, log: output.logger('config') }
  })
  const types = new Map([
    ...configTypes(
      {
        ...{ settings, routes, virtualServices, policies, telemetries, jwtPolicies },
        ...{ rateLimits, destinationRules, backendTls, onJwtRules }
      },
      config
    ),
    ...(config.role === 'gateway' ? gatewayTypes(gatewayState, config, output.logger('config')) : [])
  ])
  await loadLocalState(config, mesh, types)

  // 2. The way to the pods, and what is told of requests.
  const view = (): MeshView => mesh.view()
  const metrics = new Metrics(families)
  metrics.series('istio_build', 'proxy', config.istioVersion).set(1)
  const certificate = (signal: AbortSignal): ReturnType<CertificateStore['get']> =>
    certificates.get(config.identity, signal)
  const { identity, connectTimeoutMs } = config
  const tunnels = new Tunnels({ identity, certificate, connectTimeoutMs })
  resources.defer(() => tunnels.close())
  const connections = new Connections({
    open: (target, opening) => {
      metrics.series('underpass_upstream_connects_total').add()
      return tunnels.open(target, opening)
    },
    speak: (protocol, stream, events) =>
      protocol === 'http2'
        ? new Http2ClientConnection(stream, events)
        : new Http1ClientConnection(stream, events),
    idleMs: config.upstreamIdleMs
  })
  resources.defer(() => connections.close())
  const random = Math.random
  const proxyLog = output.logger('proxy')
  const policiesInForce = new PoliciesInForce(
    destinationRules,
    backendTls,
    () => gatewayState.backendCertificate
  )
  const clusters = new Clusters({
    ...{ view, config, random, policies: policiesInForce, subsets: destinationRules },
    eventsOf: cluster => ({
      onEjected: ({ uid, reason, forMs }) => {
        metrics.series('underpass_ejections_total', cluster, reason).add()
        proxyLog.warn('a pod is left out', { cluster, workload: uid, reason, for: `${forMs}ms` })
      },
      onReturned: uid => proxyLog.info('a pod is used again', { cluster, workload: uid })
    })
  })
  const names = new Names({
    ask: resolverOf({
      servers: config.egress.dnsServers,
      families: familiesHere(config.ipv6),
      timeoutMs: config.connectTimeoutMs
    })
  })
  const egress = new Egress({ view, config, names, allowed: config.egress.allowed })
  const telemetry = startTelemetry({
    ...{ config, metrics, view, telemetries, settings, connections, clusters, egress, random },
    ...{ writeLine, output },
    signal: ending.signal
  })
  resources.defer(() => telemetry.close())
  const authorizers = senderOf({ view, config, random, connections, clusters, egress })
  const waypoint: Waypoint = {
    config,
    log: proxyLog,
    metrics,
    view,
    settings,
    routes,
    virtualServices,
    gateway: gatewayState,
    policies,
    jwtPolicies,
    rateLimits,
    keys,
    authorizers,
    certificate,
    tunnels,
    connections,
    clusters,
    egress,
    streams: new OpenStreams(),
    replayBudget: { left: replayBytes },
    mirrors: new Mirrors({ view, config, random, clusters, connections, egress, metrics, log: proxyLog }),
    reports: telemetry.reports,
    connectionReports: telemetry.connectionReports,
    sessions: new Set(),
    clients: new Map(),
    ending: ending.signal,
    random
  }

  // 3. What the control plane says. Nothing is carried before it is known.
  const xds = await startXds(config, {
    mesh,
    types,
    metrics,
    log: output.logger('xds'),
    onConnected: () => certificates.retry(),
    signal: ending.signal
  })
  readiness.set('state manager', false)
  readiness.set('certificate', false)
  readiness.set('listener', false)

  // 4. The ports that people and machines look at.
  const addresses = new Map<string, SocketAddress>()
  const serve = async (name: string, options: Parameters<typeof serveAdmin>[0]): Promise<AdminServer> => {
    const server = await serveAdmin(options)
    resources.defer(() => server.close())
    const [address] = server.addresses
    if (address !== undefined) addresses.set(name, address)
    return server
  }
  const { ports, ipv6 } = config
  const admin = adminRoutes({
    config,
    view,
    routes,
    virtualServices,
    backendTls,
    gateway: gatewayState,
    certificates,
    xds: () => xds.state(),
    explain: request => explainRequest(waypoint, request),
    output
  })
  await serve('admin', { routes: admin, listen: loopback(ports.admin), firstIsEnough: true, logger: log })
  const stats = statsRoutes(families, async () => metrics.snapshot())
  await serve('stats', { routes: stats, listen: wildcard(ports.stats, ipv6), logger: log })
  const ready = [readinessRoute(readiness)]
  await serve('readiness', { routes: ready, listen: wildcard(ports.ready, ipv6), logger: log })

  // 5. Traffic.
  await xds.synced
  readiness.set('state manager', true)
  await certificate(ending.signal)
  readiness.set('certificate', true)
  const entrance = config.role === 'gateway' ? openGateway(waypoint) : await openHbone(waypoint)
  resources.defer(() => entrance.destroy())
  if (entrance.address !== undefined) addresses.set('hbone', entrance.address)
  readiness.set('listener', true)
  for (const [name, address] of addresses) log.info(`listening ${name}=${formatSocketAddress(address)}`)

  // 6. The end: not ready, time for what is on its way, then for what is open, then everything goes.
  const owned = resources.move()
  let over: Promise<void> | undefined
  const end = async (): Promise<void> => {
    const deadline = performance.now() + config.terminationDeadlineMs
    readiness.set('draining', false)
    log.info('shutdown started, letting requests end', { deadline: `${config.terminationDeadlineMs}ms` })
    for (const client of waypoint.clients.keys()) client.drain('stay')
    await waitUntil(() => entrance.open() === 0, Math.min(deadline, performance.now() + farewellMs))
    entrance.stopListening()
    for (const session of waypoint.sessions) session.drain()
    for (const client of waypoint.clients.keys()) client.drain()
    const inTime = await waitUntil(() => entrance.open() === 0, deadline)
    if (!inTime) log.warn('connections were still open at the deadline and have been closed')
    await owned.disposeAsync()
  }
  return {
    addresses,
    shutDown: () => (over ??= end()),
    [Symbol.asyncDispose]: () => owned.disposeAsync()
  }
}

/** Whether it became true before the deadline, in milliseconds of `performance.now`. */
async function waitUntil(check: () => boolean, deadline: number): Promise<boolean> {
  while (!check()) {
    const left = deadline - performance.now()
    if (left <= 0) return false
    await new Promise(resolve => setTimeout(resolve, Math.min(50, left)))
  }
  return true
}
