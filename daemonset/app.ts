/**
 * The node agent, put together. Order of the start: find out how to capture; learn the pods; make those known that
 * belong to the mesh; only then let ztunnel and the CNI plug-in in, as the first snapshot has to name every pod.
 */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import type { KubeClient } from '../shared/kube/client.ts'
import { formatSocketAddress, type SocketAddress } from '../shared/net/address.ts'
import { closeNetns, netnsProblem, openNetns } from '../shared/net/netns.ts'
import { Poller } from '../shared/net/poll.ts'
import { raiseFileLimit } from '../shared/net/sockets.ts'
import { loopback, serveAdmin, wildcard, type AdminServer, type Route } from '../shared/runtime/admin-http.ts'
import { sleep, steadyClock, systemClock } from '../shared/runtime/clock.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { packageRevision, packageVersion } from '../shared/runtime/package-version.ts'
import { Readiness } from '../shared/runtime/readiness.ts'
import { metricsAnswer } from '../shared/telemetry/exposition.ts'
import type { LogOutput } from '../shared/telemetry/logger.ts'
import { Metrics } from '../shared/telemetry/metrics.ts'
import { adminRoutes } from './admin.ts'
import { annotatePod, warnAboutPod } from './cluster.ts'
import { keepInstalled } from './cni-install/keep-installed.ts'
import { serveCni } from './cni-server.ts'
import type { Config } from './config.ts'
import type { EnablementSelector } from './decide.ts'
import { Enroller, type EnrolDeps, WaitsForZtunnel } from './enrol.ts'
import { families } from './families.ts'
import { HostProbes } from './host-probes.ts'
import { findOnMachine } from './inventory.ts'
import { addressesIn, findPodNetns, openGivenNetns, surveyNetns } from './pod-netns.ts'
import { findCaptureMethod } from './probe-method.ts'
import { ReconcileQueue } from './reconcile-queue.ts'
import {
  type Applied,
  applyCapture,
  type CaptureMethod,
  hasCapture,
  readCapture,
  removeCapture,
  repairCapture
} from './rules/capture.ts'
import type { RuleOptions } from './rules/desired.ts'
import { probeRules, removeProbeRules } from './rules/host-probes.ts'
import { PodWatch } from './watch-pods.ts'
import { ZdsServer } from './zds-server.ts'

export interface AppOptions {
  readonly config: Config
  readonly selectors: readonly EnablementSelector[]
  readonly client: KubeClient
  readonly output: LogOutput
}

export interface App {
  readonly addresses: Readonly<Record<'health' | 'metrics' | 'admin', readonly SocketAddress[]>>
  readonly method: CaptureMethod
  /** Stops serving; rules stay in force and pods captured. */
  close(): Promise<void>
}

/** Rejects when this machine cannot capture traffic, with what was tried. */
export async function startApp({ config, selectors, client, output }: AppOptions): Promise<App> {
  const log = output.logger('agent')
  log.info('node agent starts', { version: packageVersion(), revision: packageRevision() })
  raiseFileLimit()
  const problem = netnsProblem()
  if (problem !== undefined) throw new Error(problem)
  const readiness = new Readiness()
  readiness.block('capture method')
  readiness.block('pods')
  readiness.block('sockets')
  if (config.cniInstall !== undefined) readiness.block('CNI plug-in')
  const metrics = new Metrics(families)
  const stopping = new AbortController()
  const { signal } = stopping
  const servers = await serveStatus(config, readiness, metrics)

  const method = await chooseMethod(config, output)
  readiness.set('capture method', true)
  const hostNetns = config.hostNetns === undefined ? undefined : openNetns(config.hostNetns)
  const probes = new HostProbes(probeRules(method.backend, config.probeAddresses, hostNetns))

  const optionsOf = (capture: Parameters<EnrolDeps['rules']['apply']>[1]): RuleOptions => ({
    ...capture,
    mode: method.mode,
    probeAddresses: config.probeAddresses,
    leakGuard: config.leakGuard
  })
  const noteRefusals = ({ refusedSettings }: Applied): void => {
    if (refusedSettings.length > 0)
      log.debug('kernel settings refused', { settings: refusedSettings.join(' ') })
  }
  const enroller: Enroller = new Enroller({
    rules: {
      apply: async (netns, capture) => noteRefusals(await applyCapture(netns, method, optionsOf(capture))),
      repair: async (netns, capture) => noteRefusals(await repairCapture(netns, method, optionsOf(capture))),
      read: async (netns, capture) => readCapture(netns, method, optionsOf(capture)),
      remove: removeCapture,
      leftIn: hasCapture
    },
    ztunnel: {
      add: async uid => zds.add(uid),
      remove: async uid => zds.remove(uid)
    },
    probes,
    netns: {
      find: pod => findPodNetns(config.places, pod),
      open: given => openGivenNetns(config.places, given),
      addresses: addressesIn
    },
    annotate: async (pod, value) => annotatePod(client, pod, value, signal),
    warn: (pod, reason, message) =>
      void warnAboutPod(
        client,
        config.nodeName,
        pod,
        { reason, message, now: systemClock.now() },
        { log, signal }
      ),
    onRepair: () => metrics.series('underpass_rule_repairs_total', 'pod').add(),
    clock: steadyClock,
    log: output.logger('enrol')
  })

  const queue = new ReconcileQueue({
    signal,
    work: async uid => {
      try {
        await watch.reconcile(uid, enroller)
      } catch (error) {
        // Whoever connects gets all pods and says what it makes of them: until then there is nothing to try.
        if (error instanceof WaitsForZtunnel && zds.connected === 0) return
        metrics.series('underpass_enrolment_failures_total').add()
        log.debug('to be tried again', { uid, problem: messageOf(error) })
        throw error
      }
    }
  })
  const watch: PodWatch = new PodWatch({
    client,
    nodeName: config.nodeName,
    settings: { ...config.enrolment, selectors },
    signal,
    log: output.logger('watch'),
    onChange: uid => queue.add(uid),
    onEvent: type => metrics.series('nodeagent_reconcile_events_total', type).add()
  })
  await watch.synced()
  const survey = surveyNetns(config.places)
  for (const facts of watch.candidates()) {
    enroller.adopt(facts, survey.find(facts))
    if (facts.redirection !== undefined) probes.adopt(facts.uid, facts.addresses, facts.probePorts)
  }
  await probes.repair()
  await removeProbeRules(hostNetns, method.backend)
  readiness.set('pods', true)

  const poller = new Poller()
  mkdirSync(path.dirname(config.zdsSocket), { recursive: true })
  mkdirSync(path.dirname(config.cniSocket), { recursive: true })
  const zds: ZdsServer = new ZdsServer({
    poller,
    path: config.zdsSocket,
    pods: () => enroller.zdsPods(),
    pod: uid => enroller.zdsPod(uid),
    onSnapshotAnswer: (uid, outcome) => {
      enroller.noteAnswer(uid, outcome)
      const pod = enroller.pod(uid)
      if (pod?.problem !== undefined || pod?.facts.redirection !== 'enabled') queue.add(uid)
    },
    onFallback: () => {
      loseZtunnel(enroller)
      for (const { facts } of enroller.pods()) queue.add(facts.uid)
    },
    onConnections: count => {
      metrics.series('ztunnel_connected').set(count)
      if (count === 0) loseZtunnel(enroller)
    },
    log: output.logger('zds')
  })
  metrics.series('ztunnel_connected').set(0)
  queue.start()
  const cni = await serveCni({
    path: config.cniSocket,
    onAdd: async ({ netns, namespace, name, addresses }) => {
      const facts = await watch.factsOfNew(namespace, name, addresses)
      if (facts !== undefined) await enroller.enrolNew(facts, netns)
    },
    onAnswer: status => metrics.series('istio_cni_plugin_requests_total', String(status)).add(),
    log: output.logger('cni')
  })
  countPods(metrics, enroller)
  // Last: from here on every new pod of the node waits for the answer of what was started above.
  const installing = installPlugin(config, { metrics, readiness, output }, signal)
  const verifying = verifyForEver(config, { enroller, queue, probes, metrics, log }, signal)
  servers.push(
    await serveAdmin({
      listen: loopback(config.ports.admin),
      firstIsEnough: true,
      logger: log,
      routes: adminRoutes({
        enroller,
        nodeName: config.nodeName,
        method,
        connected: () => zds.connected,
        readRules: async (netns, capture) => readCapture(netns, method, optionsOf(capture)),
        findOnMachine: () => findOnMachine(config)
      })
    })
  )
  readiness.set('sockets', true)
  const [health, statistics, admin] = servers.map(server => server.addresses)
  const addresses = { health: health ?? [], metrics: statistics ?? [], admin: admin ?? [] }
  for (const [name, list] of Object.entries(addresses)) {
    for (const address of list) log.info(`listening ${name}=${formatSocketAddress(address)}`)
  }
  log.info('node agent ready', { node: config.nodeName, capture: method.mode, backend: method.backend })

  return {
    addresses,
    method,
    close: async () => {
      stopping.abort()
      await cni.close()
      zds.close()
      await Promise.all([verifying, installing])
      enroller.close()
      if (hostNetns !== undefined) closeNetns(hostNetns)
      await Promise.all(servers.map(server => server.close(0)))
      await poller.close()
    }
  }
}

async function installPlugin(
  { cniInstall }: Config,
  {
    metrics,
    readiness,
    output
  }: { metrics: Metrics<typeof families>; readiness: Readiness; output: LogOutput },
  signal: AbortSignal
): Promise<void> {
  metrics.series('istio_cni_install_ready').set(0)
  if (cniInstall === undefined) return
  await keepInstalled({
    install: cniInstall,
    clock: steadyClock,
    log: output.logger('cni'),
    signal,
    onState: problem => {
      readiness.set('CNI plug-in', problem === undefined)
      metrics.series('istio_cni_install_ready').set(problem === undefined ? 1 : 0)
    },
    onWrite: () => metrics.series('istio_cni_installs_total').add()
  })
}

async function chooseMethod(config: Config, output: LogOutput): Promise<CaptureMethod> {
  const log = output.logger('capture')
  const { method, failures } = await findCaptureMethod(config.wish)
  for (const failure of failures) {
    log.warn('this way of capturing does not work here', { ...failure.method, problem: failure.problem })
  }
  if (method !== undefined) return method
  const tried = failures.map(({ method, problem }) => `${method.mode} by ${method.backend}: ${problem}`)
  throw new Error(`traffic cannot be captured on this machine\n  ${tried.join('\n  ')}`)
}

async function serveStatus(
  config: Config,
  readiness: Readiness,
  metrics: Metrics<typeof families>
): Promise<AdminServer[]> {
  const healthRoutes: Route[] = [
    { method: 'GET', path: '/healthz', handle: () => ({ body: 'ok\n' }) },
    {
      method: 'GET',
      path: '/readyz',
      handle: () =>
        readiness.ready()
          ? { body: 'ok\n' }
          : { status: 503, body: `waiting for: ${readiness.pending().join(', ')}\n` }
    }
  ]
  const metricsRoutes: Route[] = [
    {
      method: 'GET',
      path: '/metrics',
      handle: async request => metricsAnswer(request, families, metrics.snapshot())
    }
  ]
  const serve = async (port: number, routes: readonly Route[]): Promise<AdminServer> => {
    try {
      return await serveAdmin({ listen: wildcard(port, true), routes })
    } catch {
      return serveAdmin({ listen: wildcard(port, false), routes }) // a machine without IPv6
    }
  }
  return [await serve(config.ports.health, healthRoutes), await serve(config.ports.metrics, metricsRoutes)]
}

function countPods(metrics: Metrics<typeof families>, enroller: Enroller): void {
  metrics.onCollect(() => {
    const pods = [...enroller.pods()]
    const complete = pods.filter(({ problem, rulesWritten }) => problem === undefined && rulesWritten).length
    metrics.series('underpass_enrolled_pods', 'complete').set(complete)
    metrics.series('underpass_enrolled_pods', 'incomplete').set(pods.length - complete)
    const unprotected = pods.filter(({ rulesWritten }) => !rulesWritten).length
    metrics.series('underpass_unprotected_pods').set(unprotected)
  })
}

function loseZtunnel(enroller: Enroller): void {
  for (const { facts } of enroller.pods()) enroller.noteAnswer(facts.uid, { kind: 'absent' })
}

interface Verified {
  readonly enroller: Enroller
  readonly queue: ReconcileQueue
  readonly probes: HostProbes
  readonly metrics: Metrics<typeof families>
  readonly log: ReturnType<LogOutput['logger']>
}

/** Others flush rules without telling. Reconciling a pod compares everything and repairs what differs. */
async function verifyForEver(
  config: Config,
  { enroller, queue, probes, metrics, log }: Verified,
  signal: AbortSignal
): Promise<void> {
  while (await sleep(config.verifyIntervalMs, signal)) {
    for (const { facts } of enroller.pods()) queue.add(facts.uid)
    try {
      if (await probes.repair()) {
        metrics.series('underpass_rule_repairs_total', 'node').add()
        log.warn('rules for probes repaired')
      }
    } catch (error) {
      log.warn('rules for probes cannot be verified', { error: messageOf(error) })
    }
  }
}
