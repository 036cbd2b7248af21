/** The control plane from start to end, in order; this page is the map of the program. */
import { X509Certificate } from 'node:crypto'
import { splitPem } from '../shared/identity/certificate.ts'
import type { KubeClient } from '../shared/kube/client.ts'
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import { systemClock, type Clock } from '../shared/runtime/clock.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { packageVersion } from '../shared/runtime/package-version.ts'
import { Readiness } from '../shared/runtime/readiness.ts'
import type { LogOutput } from '../shared/telemetry/logger.ts'
import { Metrics } from '../shared/telemetry/metrics.ts'
import { AddressAllocator } from './write/address-allocator.ts'
import { CertificateAuthority } from './ca/authority.ts'
import { followIssuer, loadIssuer } from './ca/source.ts'
import type { Config } from './config.ts'
import { DesiredState } from './desired/desired-state.ts'
import { tables } from './desired/snapshot.ts'
import { debugPages } from './serve/debug.ts'
import type { Explain } from './serve/explain.ts'
import { GrpcServer, type ServingCertificate } from './serve/grpc-server.ts'
import { serveHttp } from './serve/http.ts'
import { Leader } from './write/leader.ts'
import { listenAddress } from './serve/listen-address.ts'
import { metricFamilies } from './metrics.ts'
import { propagate } from './propagate.ts'
import { PublishedConfigMap } from './write/published-config-map.ts'
import { services, tokenAuthenticator } from './serve/services.ts'
import { servingCertificate } from './serve/serving-certificate.ts'
import { serveWebhook, type WebhookServer } from './serve/webhook.ts'
import { StatusWriter } from './write/status.ts'
import { GatewayClassWriter } from './write/gateway-class.ts'
import { GatewayDeployer } from './write/gateway-deployer.ts'
import { WebhookConfiguration } from './write/webhook-configuration.ts'
import { waypointScope } from './xds/waypoint-scope.ts'
import { XdsServer } from './xds/server.ts'

export interface AppOptions {
  readonly config: Config
  readonly client: KubeClient
  readonly logs: LogOutput
  readonly clock?: Clock
  /** Answers `POST /v1/explain`; left out, the path does not exist. */
  readonly explain?: Explain
}

export interface App {
  readonly addresses: {
    readonly xds: SocketAddress
    readonly plaintext: SocketAddress | undefined
    readonly monitoring: readonly SocketAddress[]
    readonly ready: readonly SocketAddress[]
    readonly webhook: SocketAddress
  }
  readonly desired: DesiredState
  readonly authority: CertificateAuthority
  /** Resolves when every kind of object has been listed and the first resources can be had. */
  readonly ready: Promise<void>
  /** Ends everything: streams get a GOAWAY, the lease is given back. Idempotent. */
  close(): Promise<void>
}

export async function startApp(options: AppOptions): Promise<App> {
  const { config, client, logs, clock = systemClock, explain } = options
  const log = logs.logger('controlplane')
  // What was started ends in the opposite order, also when a later step fails.
  await using started = new AsyncDisposableStack()
  const ending = new AbortController()
  const { signal } = ending
  started.defer(() => ending.abort())
  const readiness = new Readiness()
  const metrics = new Metrics(metricFamilies)

  // 1. The root everything is signed with: nothing can be served without it.
  const issuer = await loadIssuer({ config, client, clock, log, signal })
  const { maxTtlSeconds, rootOverlapMs: overlapMs } = config
  const authority = new CertificateAuthority({ issuer, clock, maxTtlSeconds, overlapMs })

  // 2. What clients are to know, and those who are told.
  const desired = new DesiredState(config.mesh)
  const clusterId = (): string => desired.view.settings.clusterId
  const xds = new XdsServer({
    snapshot: desired.snapshot,
    scopeOf: (...client) => waypointScope(desired.view, ...client),
    clusterId,
    log: logs.logger('xds'),
    metrics
  })
  const { istioClasses } = config.waypoints
  const status = new StatusWriter({
    client,
    desired,
    istioClasses,
    log: logs.logger('status'),
    clock,
    signal
  })
  const allocator = new AddressAllocator({ client, desired, log: logs.logger('addresses'), signal })
  const deployer = new GatewayDeployer({
    client,
    config,
    desired,
    log: logs.logger('gateways'),
    clock,
    signal
  })
  const classes = new GatewayClassWriter({
    client,
    config,
    desired,
    log: logs.logger('gateways'),
    clock,
    signal
  })
  let crl: string | undefined
  const publish = (name: string, key: string, text: () => string | undefined): PublishedConfigMap =>
    new PublishedConfigMap({ client, name, key, text, log: logs.logger('published'), signal })
  // Beside another authority its roots are the ones to trust, and it publishes them itself.
  const bundle = (): string | undefined => (config.caEnabled ? authority.bundlePem : undefined)
  const roots = publish('istio-ca-root-cert', 'root-cert.pem', bundle)
  const revoked = publish('istio-ca-crl', 'ca-crl.pem', () => crl)
  const published = [roots, revoked]
  authority.onChange(() => roots.changed())
  collect(metrics, desired, authority)

  // 3. Follow the cluster.
  const listed = readiness.block('objects of the cluster')
  const { watching, ready } = propagate({
    client,
    config,
    desired,
    xds,
    status,
    published,
    allocator,
    deployer,
    classes,
    metrics,
    logs,
    signal
  })
  ready.then(listed, (error: unknown) =>
    log.error('the first translation failed', { error: messageOf(error) })
  )

  // 4. Serve. Calls wait until the cluster is known, so that a restart never takes anything away.
  const tokens = tokenAuthenticator(client, { config, clock, signal })
  const debug = debugPages({ desired, xds, watching, authority })
  const offered = services({
    config,
    desired,
    xds,
    debug,
    authority,
    tokens,
    ready,
    metrics,
    logs,
    clock,
    signal
  })
  const { maxConnectionAgeMs } = config
  const { createCertificate: _, ...streams } = offered
  const secure = new GrpcServer({ services: offered, maxConnectionAgeMs })
  const plain = new GrpcServer({ services: streams, maxConnectionAgeMs })
  started.defer(async () => {
    await Promise.all([secure.close(config.shutdownMs), plain.close(config.shutdownMs)])
  })
  let webhook: WebhookServer | undefined
  const onRenewed = (renewed: ServingCertificate): void => {
    serving = renewed
    secure.renew(renewed)
    webhook?.renew(renewed)
    registration.changed()
  }
  let serving = await servingCertificate({ config, authority, clock, log, signal, onRenewed })
  const registration = new WebhookConfiguration({
    client,
    namespace: config.mesh.systemNamespace,
    revision: config.mesh.revision,
    bundle: () => (webhook === undefined ? undefined : serving.clientRootsPem),
    log: logs.logger('webhook'),
    signal
  })
  const { ports } = config
  const ip = await listenAddress(config.listen)
  const addresses = {
    xds: await secure.listenTls({ ip, port: ports.xds }, serving),
    plaintext:
      ports.plaintext === undefined ? undefined : await plain.listenPlain({ ip, port: ports.plaintext })
  }
  const http = await serveHttp({
    config,
    listen: ip,
    desired,
    debug,
    metrics,
    readiness,
    tokens,
    watching,
    logs,
    explain
  })
  started.defer(async () => {
    await Promise.all([http.monitoring.close(), http.ready.close()])
  })

  webhook = await serveWebhook({
    listen: { ip, port: ports.webhook },
    certificate: serving,
    metrics,
    log: logs.logger('webhook')
  })
  started.defer(async () => webhook?.close())

  // 5. Write: one replica at a time keeps statuses and ConfigMaps right.
  const leader = new Leader({ client, config, log: logs.logger('leader'), signal })
  leader.onElected(elected => {
    for (const writer of [status, registration, allocator, deployer, classes, ...published])
      writer.lead(elected)
  })
  started.defer(async () => leader.resign())
  // Who knows half of the cluster would write half of the truth.
  ready.then(
    () => leader.start(),
    () => undefined // which is told above
  )
  const onCrl = (pem: string | undefined): void => {
    if (pem === crl) return
    crl = pem
    revoked.changed()
  }
  followIssuer({ config, client, clock, log, signal, authority, onCrl })

  started.defer(() => xds.close())
  const bound = {
    ...addresses,
    monitoring: http.monitoring.addresses,
    ready: http.ready.addresses,
    webhook: webhook.address
  }
  for (const [name, address] of Object.entries(bound)) {
    for (const each of [address ?? []].flat()) log.info(`listening ${name}=${formatSocketAddress(each)}`)
  }
  const running = started.move()
  let closing: Promise<void> | undefined
  return { addresses: bound, desired, authority, ready, close: () => (closing ??= running.disposeAsync()) }
}

/** What is not counted as it happens. */
function collect(
  metrics: Metrics<typeof metricFamilies>,
  desired: DesiredState,
  authority: CertificateAuthority
): void {
  metrics.series('istio_build', 'pilot', packageVersion()).set(1)
  metrics.onCollect(() => {
    const { user, system } = process.cpuUsage()
    metrics.series('process_cpu_seconds_total').set((user + system) / 1e6)
    metrics.series('process_resident_memory_bytes').set(process.memoryUsage.rss())
    for (const table of tables) {
      metrics.series('underpass_resources', table).set(desired.snapshot.table(table).size)
    }
    const { signerPem, chainPem } = authority.issuer
    metrics.series('citadel_server_root_cert_expiry_timestamp').set(firstExpiry(authority.bundlePem))
    metrics
      .series('citadel_server_cert_chain_expiry_timestamp')
      .set(firstExpiry([signerPem, ...chainPem].join('')))
  })
}

/** Seconds since the epoch. */
function firstExpiry(pem: string): number {
  const ends = splitPem(pem).map(each => Date.parse(new X509Certificate(each).validTo))
  return ends.length === 0 ? 0 : Math.min(...ends) / 1000
}
