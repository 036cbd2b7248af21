/**
 * ztunnel put together, in the order in which it starts: what is bound early, what has to be there before
 * traffic is carried, and how all of it ends.
 */
import { certificateSource } from '../shared/identity/certificate-source.ts'
import { CertificateStore } from '../shared/identity/certificate-store.ts'
import { RevocationFile } from '../shared/identity/revocation-file.ts'
import { MeshStore } from '../shared/mesh/store.ts'
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import { netnsProblem } from '../shared/net/netns.ts'
import { Poller } from '../shared/net/poll.ts'
import { markAllowed, raiseFileLimit, transparentAllowed } from '../shared/net/sockets.ts'
import { loopback, serveAdmin, wildcard, type AdminServer } from '../shared/runtime/admin-http.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { Readiness } from '../shared/runtime/readiness.ts'
import { parseLogFilter, type Logger, type LogOutput } from '../shared/telemetry/logger.ts'
import { Metrics, sumSnapshots } from '../shared/telemetry/metrics.ts'
import { readinessRoute, statsRoutes } from '../shared/telemetry/public-routes.ts'
import { adminRoutes } from './admin.ts'
import { CertificateDesk } from './certificate-desk.ts'
import type { Config } from './config.ts'
import { families, mainFamilies } from './families.ts'
import { LocalIdentities } from './local-identities.ts'
import { loadLocalState } from './local-state.ts'
import type { PodDescription } from './pod.ts'
import { Pods } from './pods.ts'
import { printedConfig } from './printed-config.ts'
import { countProcess } from './process-metrics.ts'
import { Watchers } from './watchers.ts'
import { Workers } from './workers.ts'
import { startXds } from './xds.ts'
import { runZdsClient } from './zds-client.ts'

export interface AppDeps {
  readonly log: LogOutput
  /** Where workers' lines go, beside our own. */
  readonly writeLog: (lines: string) => void
  readonly version: Record<string, string>
}

export interface App extends AsyncDisposable {
  /** `admin`, `stats`, `readiness`, and in dedicated mode `inbound`, `passthrough`, `outbound`. */
  readonly addresses: ReadonlyMap<string, SocketAddress>
  /** Resolves when all is over: after a shutdown, or with the error that ended it. */
  readonly ended: Promise<void>
  /** Stops accepting, drains for the configured time, then ends. Idempotent. */
  shutDown(): Promise<void>
}

/** Throws when something cannot start; nothing is left behind then. */
export async function startZtunnel(config: Config, deps: AppDeps): Promise<App> {
  const { log: output } = deps
  const log = output.logger('app')
  const readiness = new Readiness()
  const stopping = new AbortController()
  const ended = new AbortController()
  const end = Promise.withResolvers<void>()
  end.promise.catch(() => undefined) // whoever waits for `ended` sees it
  await using resources = new AsyncDisposableStack()

  // 1. What the machine allows.
  const limits = raiseFileLimit()
  const transparent = requireCapabilities(config)
  log.info(`version: ${JSON.stringify(deps.version)}`)
  log.info(`set file descriptor limits from ${limits.soft} to ${limits.hard}`)
  log.info(`running with config: ${JSON.stringify(printedConfig(config))}`)

  // 2. Certificates, and the mesh as far as it is known here. Those of this node's workloads are fetched ahead.
  const impersonate = config.proxyMode === 'shared'
  const source = await certificateSource({ ca: config.ca, credentials: config, impersonate })
  const certificates = new CertificateStore({ source })
  resources.defer(() => certificates.close())
  const identities = new LocalIdentities({ nodeName: config.nodeName, certificates })
  const mesh = new MeshStore({
    onWorkload: (previous, current) => {
      if (config.proxyMode === 'shared') identities.changed(previous, current)
    }
  })
  const staticConfig = await loadLocalState(config, mesh)

  // 3. The threads that carry traffic.
  const metrics = new Metrics(mainFamilies)
  const watchers = new Watchers(active => workers.post({ kind: 'watch', active }))
  const workerCount = config.data.portReuse ? config.workers : 1 // without it one thread alone can have a port
  const poller = pollerFor(config, workerCount)
  resources.defer(() => poller?.close())
  const workers = new Workers({
    count: workerCount,
    polls: poller?.shares ?? [],
    semiSpaceMiB: config.workerSemiSpaceMiB,
    data: {
      config: config.data,
      mesh: mesh.shared(),
      logFilter: config.logFilter,
      logFormat: config.logFormat,
      transparent
    },
    events: {
      onCertificateWanted: (worker, { id, identity }) => void desk.answer(worker, id, identity),
      onAddressWanted: (worker, { id, name }) =>
        void xds.ask(name).finally(() => worker.post({ kind: 'address-answered', id })),
      onLog: deps.writeLog,
      onEvents: ({ events, lost }) => watchers.publish(events, lost),
      onFailure: error => end.reject(new Error('a worker thread ended', { cause: error }))
    },
    log
  })
  resources.defer(() => workers.end())
  if (config.crlPath !== undefined) {
    // Before any pod is started: the first lists are the first thing that workers hear.
    const revocations = followRevocations(config.crlPath, workers, output.logger('identity'))
    resources.defer(() => revocations.close())
  }

  // 4. Pods, and certificates for those that run here only.
  const pods: Pods = new Pods({
    workers,
    metrics,
    log: output.logger('pods'),
    onGone: info => desk.forgetAccount(info),
    onChange: () => updatePodReadiness()
  })
  resources.defer(() => pods.close())
  const desk = new CertificateDesk({ store: certificates, workers: () => workers, pods })
  resources.defer(() => desk.close())

  // 5. The ports that people and machines look at; bound before there is anything to see.
  const xds = await startXds(config, {
    mesh,
    metrics,
    log: output.logger('xds'),
    onPoliciesChanged: () => workers.post({ kind: 'policies-changed' }),
    onConnected: () => certificates.retry(), // as a rule the CA is gone with it, and comes back with it
    signal: ended.signal // policies hold for connections that drain, too
  })
  resources.defer(() => ended.abort(new Error('ztunnel has ended')))
  readiness.set('state manager', false)
  const known = xds.synced.then(() => readiness.set('state manager', true))
  const addresses = new Map<string, SocketAddress>()
  const serve = async (name: string, options: Parameters<typeof serveAdmin>[0]): Promise<AdminServer> => {
    const server = await serveAdmin(options)
    resources.defer(() => server.close())
    const [address] = server.addresses
    if (address !== undefined) addresses.set(name, address)
    return server
  }
  const { ipv6 } = config.data
  const admin = adminRoutes({
    config,
    version: deps.version,
    view: () => mesh.view(),
    certificates,
    pods,
    workers,
    watchers,
    readiness,
    staticConfig,
    levels: {
      initial: parseLogFilter(config.logFilter) ?? output.filter,
      current: () => output.filter,
      set: filter => setLogFilter(output, workers, filter)
    },
    xds: () => xds.state(),
    shutDown: () => void shutDown()
  })
  const servers = await Promise.all([
    serve('admin', { routes: admin, listen: loopback(config.admin.port), firstIsEnough: true, logger: log }),
    serve('stats', {
      routes: statsRoutes(families, async () =>
        sumSnapshots([metrics.snapshot(), ...(await workers.askAll('metrics', undefined))])
      ),
      listen: wildcard(config.stats.port, ipv6),
      logger: log
    }),
    serve('readiness', {
      routes: [readinessRoute(readiness)],
      listen: wildcard(config.readiness.port, ipv6),
      logger: log
    })
  ])
  countProcess(metrics, config.istioVersion, workers.threads.length)

  // 6. Traffic, once the mesh is known.
  const podReadiness = config.proxyMode === 'shared' ? 'workload proxy manager' : 'proxy'
  let snapshotArrived = config.proxyMode === 'dedicated'
  function updatePodReadiness(): void {
    readiness.set(podReadiness, snapshotArrived && pods.settled && carrying)
  }
  let carrying = false
  readiness.set(podReadiness, false)
  const carry = async (): Promise<void> => {
    await known
    if (stopping.signal.aborted) return
    carrying = true
    for (const description of ownProxies(config)) {
      const { ports } = await pods.add(description)
      for (const [index, name] of (['inbound', 'passthrough', 'outbound'] as const).entries()) {
        const port = ports[index]
        const [address] = wildcard(port ?? 0, ipv6)
        if (port !== undefined && address !== undefined && !description.self) addresses.set(name, address)
      }
    }
    updatePodReadiness()
    if (poller === undefined || config.proxyMode === 'dedicated') return
    const onSynced = (synced: boolean): void => {
      snapshotArrived = synced
      updatePodReadiness()
    }
    await runZdsClient(
      { path: config.zdsSocket, poller, pods, log: output.logger('zds'), onSynced },
      stopping.signal
    )
  }
  const carried = carry().catch(error => end.reject(error))
  if (config.proxyMode === 'dedicated' && config.xds.address === undefined) await carried
  for (const [name, address] of addresses) log.info(`listening ${name}=${formatSocketAddress(address)}`)

  // 7. The end: nothing new, time for what is open, then everything goes.
  const owned = resources.move()
  let ending: Promise<void> | undefined
  async function shutDown(): Promise<void> {
    ending ??= (async () => {
      const deadlineMs = config.terminationDeadlineMs
      log.info('shutdown started, draining connections', { deadline: `${deadlineMs}ms` })
      readiness.set('draining', false)
      stopping.abort(new Error('ztunnel is ending'))
      pods.close()
      const successors = await pods.successors(workers.threads.length)
      if (successors.size > 0)
        log.info('another ztunnel takes over new connections', { pods: successors.size })
      const drained = workers.askAll('drain', { deadlineMs, successors })
      try {
        const answers = await drained
        if (answers.every(({ inTime }) => inTime)) log.info('all connections ended in time')
        else log.warn('connections were still open at the deadline and have been closed')
      } catch (error) {
        log.error('draining failed', { error: messageOf(error) })
      }
      await Promise.all(servers.map(server => server.close()))
      await owned.disposeAsync()
      end.resolve()
    })()
    await ending
  }
  return { addresses, ended: end.promise, shutDown, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** For the node agent's socket, and for the workers' DNS queries. */
function pollerFor({ proxyMode, data }: Config, workers: number): Poller | undefined {
  if (data.dns !== undefined) return new Poller(workers)
  return proxyMode === 'shared' ? new Poller() : undefined
}

/** Throws when the file is there and holds no list: nobody would know whom to refuse. */
function followRevocations(file: string, workers: Workers, log: Logger): RevocationFile {
  const onChange = (_: unknown, bytes: Uint8Array): void => workers.post({ kind: 'revocation-lists', bytes })
  try {
    return new RevocationFile({ file, onChange, log })
  } catch (cause) {
    throw new Error(`CRL_PATH=${file} cannot be read`, { cause })
  }
}

/** Throws with the capability that is missing; returns whether transparent sockets are allowed. */
function requireCapabilities({ proxyMode, data }: Config): boolean {
  const transparent = transparentAllowed()
  if (data.originalSource === 'always' && !transparent) {
    throw new Error('ENABLE_ORIG_SRC=true needs the capability NET_ADMIN')
  }
  if (data.packetMark !== undefined && !markAllowed(data.packetMark)) {
    throw new Error('marking packets (PACKET_MARK) needs the capability NET_ADMIN')
  }
  const problem = proxyMode === 'shared' ? netnsProblem() : undefined
  if (problem !== undefined) throw new Error(`shared mode enters the network namespaces of pods: ${problem}`)
  return transparent
}

/** The proxies that no pod stands behind: the one of dedicated mode, and ztunnel's own. */
function ownProxies({
  proxyMode,
  proxyWorkload,
  podName,
  podNamespace,
  serviceAccount
}: Config): PodDescription[] {
  if (proxyMode === 'dedicated' && proxyWorkload !== undefined) {
    return [{ uid: 'dedicated', info: proxyWorkload, netns: undefined, self: false }]
  }
  if (podName === '' || podNamespace === '' || serviceAccount === '') return []
  const info = { name: podName, namespace: podNamespace, serviceAccount }
  return [{ uid: 'self', info, netns: undefined, self: true }]
}

function setLogFilter(
  output: LogOutput,
  workers: Workers,
  filter: Parameters<LogOutput['setFilter']>[0]
): void {
  output.setFilter(filter)
  const targets = [...filter.targets].map(([target, level]) => `${target}=${level}`)
  workers.post({ kind: 'log-filter', filter: [...targets, filter.fallback].join(',') })
}
