/** The control plane from start to end, in order; this page is the map of the program. */
import { X509Certificate } from 'node:crypto'
import { splitPem } from '../shared/identity/certificate.ts'
import type { KubeClient } from '../shared/kube/client.ts'
import { tokenReviews } from '../shared/kube/resources.ts'
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import type { AdminServer } from '../shared/runtime/admin-http.ts'
import { systemClock, type Clock } from '../shared/runtime/clock.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { Readiness } from '../shared/runtime/readiness.ts'
import type { LogOutput } from '../shared/telemetry/logger.ts'
import { Metrics } from '../shared/telemetry/metrics.ts'
import { authenticate } from './authenticate.ts'
import { CertificateAuthority } from './ca.ts'
import { caServer } from './ca-server.ts'
import { followIssuer, loadIssuer } from './ca-source.ts'
import type { Config } from './config.ts'
import { Debounce } from './debounce.ts'
import { DesiredState } from './desired.ts'
import type { Explain } from './explain.ts'
import { GrpcServer, type MessageStream, type Refusal, type StreamHandler } from './grpc-server.ts'
import { serveHttp } from './http.ts'
import { Leader } from './leader.ts'
import { readMeshConfig } from './mesh-config.ts'
import { metricFamilies } from './metrics.ts'
import { NodeAuthorizer } from './node-authorizer.ts'
import type { Kind } from './objects.ts'
import { PublishedConfigMap } from './published-config-map.ts'
import type { ReadResult } from './read/object.ts'
import { servingCertificate } from './serving-certificate.ts'
import { StatusWriter } from './status.ts'
import { TokenAuthenticator } from './token.ts'
import { watch } from './watch.ts'
import { XdsServer } from './xds-server.ts'

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
  }
  readonly desired: DesiredState
  readonly authority: CertificateAuthority
  /** Resolves when every kind of object has been listed and the first resources can be had. */
  readonly ready: Promise<void>
  /** Ends everything: streams get a GOAWAY, the lease is given back. Idempotent. */
  close(): Promise<void>
}

export async function startApp(options: AppOptions): Promise<App> {
  const { config, client, logs, clock = systemClock } = options
  const log = logs.logger('controlplane')
  const ending = new AbortController()
  const { signal } = ending
  const readiness = new Readiness()
  const metrics = new Metrics(metricFamilies)

  // 1. The root everything is signed with: nothing can be served without it.
  const rootLoaded = readiness.block('certificate authority')
  const issuer = await loadIssuer({ config, client, clock, log, signal })
  const authority = new CertificateAuthority({
    issuer,
    clock,
    maxTtlSeconds: config.maxTtlSeconds,
    overlapMs: config.rootOverlapMs
  })
  rootLoaded()

  // 2. What the cluster holds, and what clients are to know.
  const desired = new DesiredState(config.mesh)
  const xds = new XdsServer({ snapshot: desired.snapshot, log: logs.logger('xds'), metrics })
  const status = new StatusWriter({ client, desired, log: logs.logger('status'), clock, signal })
  let crl: string | undefined
  const publish = (name: string, key: string, text: () => string | undefined): PublishedConfigMap =>
    new PublishedConfigMap({ client, name, key, text, log: logs.logger('published'), signal })
  // Beside another authority its roots are the ones to trust, and it publishes them itself.
  const roots = publish('istio-ca-root-cert', 'root-cert.pem', () =>
    config.caEnabled ? authority.bundlePem : undefined
  )
  const revoked = publish('istio-ca-crl', 'ca-crl.pem', () => crl)
  const published = [roots, revoked]
  authority.onChange(() => roots.changed())
  const debounce = new Debounce({
    quietMs: config.debounceAfterMs,
    maxMs: config.debounceMaxMs,
    run: firstAt => refresh(firstAt)
  })
  let synced = false
  const changed = (): void => {
    if (synced) debounce.touch()
  }
  const refresh = (firstAt: number): void => {
    const started = performance.now()
    const changes = desired.refresh(unit => status.translated(unit))
    metrics.series('underpass_translation_seconds_total').add((performance.now() - started) / 1000)
    xds.push(changes)
    metrics.series('pilot_proxy_convergence_time').observe((performance.now() - firstAt) / 1000)
  }
  metrics.onCollect(() => {
    for (const table of ['address', 'authorization'] as const) {
      metrics.series('underpass_resources', table).set(desired.snapshot.table(table).size)
    }
    metrics.series('citadel_server_root_cert_expiry_timestamp').set(firstExpiry(authority.bundlePem))
    metrics
      .series('citadel_server_cert_chain_expiry_timestamp')
      .set(firstExpiry([authority.issuer.signerPem, ...authority.issuer.chainPem].join('')))
  })

  // 3. Follow the cluster. Nothing is sent before all of it is known: half a mesh would be a wrong one.
  desired.outdateAll()
  const broken = (kind: Kind, key: string, problem: Extract<ReadResult, { kind: 'problem' }>): void => {
    metrics.series('pilot_k8s_object_errors', kind).add()
    log.error('an object cannot be read; what it said before stays in force', {
      kind,
      object: key,
      field: problem.field,
      error: problem.message
    })
    status.broken(kind, key, problem.message)
    changed()
  }
  const watching = watch({
    client,
    signal,
    log: logs.logger('watch'),
    meshConfigMap: { namespace: config.mesh.systemNamespace, name: config.meshConfigMap },
    handlers: {
      put: object => {
        desired.put(object)
        status.readable(object)
        if (object.kind === 'Namespace') {
          status.namespaceChanged(object)
          for (const each of published) each.namespaceAppeared(object.meta.name)
        }
        changed()
      },
      delete: (kind, key) => {
        desired.delete(kind, key)
        status.gone(kind, key)
        if (kind === 'Namespace') for (const each of published) each.namespaceGone(key)
        changed()
      },
      broken,
      meshConfig: text => {
        const read = readMeshConfig(text, config.mesh)
        if (read.kind === 'settings') desired.configure(read.settings)
        else
          log.error('the mesh configuration cannot be read; the former one stays in force', {
            error: read.message
          })
        changed()
      }
    }
  })
  const listed = readiness.block('objects of the cluster')
  const ready = watching.synced.then(() => {
    if (signal.aborted) return
    synced = true
    refresh(performance.now())
    log.info('the cluster is known', {
      pods: desired.count('Pod'),
      services: desired.count('Service'),
      addresses: desired.snapshot.table('address').size,
      policies: desired.snapshot.table('authorization').size
    })
    listed()
  })

  // 4. Serve. Streams wait until the cluster is known, so that a restart never takes anything away.
  const tokens = new TokenAuthenticator({
    audiences: config.audiences,
    clock,
    review: async (token, audiences) => {
      const body = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        metadata: { name: '' },
        spec: { token, audiences }
      }
      return (await client.create(tokenReviews, body, { signal })).status
    }
  })
  const trustDomain = (): string => desired.view.settings.trustDomain
  const deltaStream = async (stream: MessageStream): Promise<StreamHandler | Refusal> => {
    const { info } = stream
    const authentication = config.authenticate
      ? await authenticate(info, tokens, trustDomain())
      : ({ kind: 'caller', caller: undefined } as const)
    if (authentication.kind !== 'caller') {
      logs.logger('xds').warn('refused an xDS client', { remote: info.remote, reason: authentication.reason })
      const status = authentication.kind === 'unavailable' ? 'UNAVAILABLE' : 'UNAUTHENTICATED'
      return { kind: 'refused', status, message: authentication.reason }
    }
    await ready
    return xds.connect({
      remote: info.remote,
      caller: authentication.caller,
      send: response => stream.send(response),
      close: (status, reason) => stream.close(status, reason)
    })
  }
  const issue = caServer({
    authority,
    tokens,
    authorizer: new NodeAuthorizer({ view: desired.view, trusted: config.trustedNodeAccounts, clock }),
    trustDomain,
    log: logs.logger('ca'),
    metrics,
    signal
  })
  // The trust domain is not known before the mesh configuration is, nor are the pods of a node.
  const createCertificate: typeof issue = async (info, request) => {
    await ready
    return issue(info, request)
  }
  const { maxConnectionAgeMs } = config
  const secure = new GrpcServer({
    services: config.caEnabled ? { deltaStream, createCertificate } : { deltaStream },
    maxConnectionAgeMs
  })
  const plain = new GrpcServer({ services: { deltaStream }, maxConnectionAgeMs })
  const serving = await servingCertificate({
    log,
    config,
    authority,
    clock,
    signal,
    onRenewed: pair => secure.renew(pair)
  })
  const xdsAddress = await secure.listenTls({ ip: config.listen, port: config.ports.xds }, serving)
  const plainAddress =
    config.ports.plaintext === undefined
      ? undefined
      : await plain.listenPlain({ ip: config.listen, port: config.ports.plaintext })
  const http = await serveHttp({
    config,
    desired,
    xds,
    metrics,
    readiness,
    tokens,
    authority,
    watching,
    logs,
    explain: options.explain
  })

  // 5. Write: one replica at a time keeps statuses and trust bundles right.
  const leader = new Leader({ client, config, log: logs.logger('leader'), signal })
  leader.onElected(elected => {
    status.lead(elected)
    for (const each of published) each.lead(elected)
  })
  leader.start()
  const onCrl = (pem: string | undefined): void => {
    if (pem === crl) return
    crl = pem
    revoked.changed()
  }
  followIssuer({ config, client, clock, log, signal, authority, onCrl })
  log.info(`listening xds=${formatSocketAddress(xdsAddress)}`)
  for (const [name, server] of Object.entries(http)) announce(name, server)

  function announce(name: string, server: AdminServer): void {
    log.info(`listening ${name}=${server.addresses.map(formatSocketAddress).join(',')}`)
  }

  let closing: Promise<void> | undefined
  const close = async (): Promise<void> => {
    debounce.stop()
    xds.close()
    await leader.resign()
    ending.abort()
    await Promise.all([secure.close(config.shutdownMs), plain.close(config.shutdownMs)])
    await Promise.all([http.monitoring.close(), http.ready.close()])
  }
  ready.catch((error: unknown) => log.error('the first translation failed', { error: messageOf(error) }))
  return {
    addresses: {
      xds: xdsAddress,
      plaintext: plainAddress,
      monitoring: http.monitoring.addresses,
      ready: http.ready.addresses
    },
    desired,
    authority,
    ready,
    close: () => (closing ??= close())
  }
}

/** Seconds since the epoch. */
function firstExpiry(pem: string): number {
  const ends = splitPem(pem).map(each => Date.parse(new X509Certificate(each).validTo))
  return ends.length === 0 ? 0 : Math.min(...ends) / 1000
}
