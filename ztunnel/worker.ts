/** A thread that carries connections: listens in every pod, answers the main thread. Imports little, so it is cheap. */
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { RevocationList } from '../shared/identity/revocation.ts'
import { openSharedMesh } from '../shared/mesh/shared-view.ts'
import type { Workload } from '../shared/mesh/model.ts'
import { DatagramReader } from '../shared/net/datagrams.ts'
import { SharedPoller } from '../shared/net/poll.ts'
import { MeshError, messageOf } from '../shared/runtime/errors.ts'
import { sleep, steadyClock, systemClock } from '../shared/runtime/clock.ts'
import { AccessLog } from '../shared/telemetry/access-log.ts'
import { LogOutput, parseLogFilter, type LogFilter } from '../shared/telemetry/logger.ts'
import { Metrics } from '../shared/telemetry/metrics.ts'
import { Reports } from '../shared/telemetry/report.ts'
import { AddressLookup } from './address-lookup.ts'
import { recheck } from './authorize.ts'
import { CertificateCache } from './certificate-cache.ts'
import { EventOutbox } from './event-outbox.ts'
import { workerFamilies } from './families.ts'
import { LineOutbox } from './line-outbox.ts'
import type { Pod, PodDescription } from './pod.ts'
import { PodProxy, type PodSurroundings } from './pod-proxy.ts'
import { cpuProfile, heapProfile } from './profile.ts'
import { Revocations } from './revocation.ts'
import { Spoofer } from './spoof.ts'
import { UnknownPolicies } from './unknown-policies.ts'
import type {
  FromWorker,
  PodStarted,
  QuestionKind,
  Questions,
  Successors,
  ToWorker,
  WorkerData
} from './worker-protocol.ts'

/** A handshake whose last packet was lost is completed when the first retransmission is answered, after a second. */
const LINGER_MS = 2000

/** Connections of this age are taken to be ones that last. */
const LONG_MS = 30_000

class Worker {
  readonly #pods = new Map<string, PodProxy>()
  readonly #surroundings: PodSurroundings
  readonly #certificates: CertificateCache
  readonly #addresses: AddressLookup
  readonly #events: EventOutbox
  readonly #lines: LineOutbox
  readonly #log: LogOutput
  readonly #metrics = new Metrics(workerFamilies)
  readonly #revocations = new Revocations(this.#metrics)
  readonly #post: (message: FromWorker) => void
  readonly #workers: number

  constructor(data: WorkerData, post: (message: FromWorker) => void) {
    const { config, index, workers, transparent } = data
    this.#lines = new LineOutbox(text => post({ kind: 'log', lines: text }))
    this.#post = post
    this.#workers = workers
    this.#log = new LogOutput({ filter: filterOf(data.logFilter), format: data.logFormat, sink: this.#lines })
    this.#certificates = new CertificateCache(
      (id, identity) => post({ kind: 'certificate-wanted', id, identity }),
      systemClock.now
    )
    this.#addresses = new AddressLookup((id, name) => post({ kind: 'address-wanted', id, name }))
    this.#events = new EventOutbox((events, lost) => post({ kind: 'events', events, lost }))
    const reports = new Reports({
      metrics: this.#metrics,
      accessLog: new AccessLog(this.#log.logger('access')),
      events: this.#events,
      now: systemClock.now,
      elapsed: steadyClock.now
    })
    const spoofer = new Spoofer({
      index,
      of: workers,
      random: Math.random,
      onFallback: () => this.#metrics.series('underpass_spoof_fallback_total').add()
    })
    this.#surroundings = {
      config,
      mesh: openSharedMesh(data.mesh),
      certificates: this.#certificates,
      addresses: this.#addresses,
      reports,
      spoofer: transparent && config.originalSource !== 'never' ? spoofer : undefined,
      log: this.#log.logger('proxy'),
      random: Math.random,
      metrics: this.#metrics,
      revocations: this.#revocations,
      unknownPolicies: new UnknownPolicies(),
      neighbour: destination => this.#neighbour(destination),
      transparent,
      now: steadyClock.now,
      dns:
        data.poll === undefined
          ? undefined
          : {
              poller: new SharedPoller(data.poll),
              reader: new DatagramReader(),
              log: this.#log.logger('dns')
            }
    }
    this.#metrics.onCollect(() => this.#countLong())
    this.#closeIdleNowAndThen(config.idleTimeoutMs)
  }

  handle(message: ToWorker): void {
    switch (message.kind) {
      case 'ask':
        void this.#answer(message.id, message.question, message.value)
        return
      case 'policies-changed':
        for (const { pod } of this.#pods.values()) recheck(pod)
        return
      case 'revocation-lists':
        this.#revoke(message.bytes)
        return
      case 'certificate':
        this.#certificates.answered(message.id, message.certificate)
        return
      case 'certificate-failed':
        this.#certificates.failed(message.id, message.error)
        return
      case 'certificate-renewed':
        this.#certificates.renewed(message.certificate)
        return
      case 'certificate-forgotten':
        this.#certificates.forget(message.identity)
        return
      case 'address-answered':
        this.#addresses.answered(message.id)
        return
      case 'log-filter':
        this.#log.setFilter(filterOf(message.filter))
        return
      case 'watch':
        this.#events.active = message.active
        return
      default:
        message satisfies never
    }
  }

  async #answer(id: number, question: QuestionKind, value: unknown): Promise<void> {
    try {
      const answers: { [K in QuestionKind]: (ask: Questions[K]['ask']) => Promise<Questions[K]['answer']> } =
        {
          startPod: async description => this.#startPod(description),
          stopPod: async ({ uid }) => this.#stopPod(uid),
          drain: async ({ deadlineMs, successors }) => this.#drain(deadlineMs, successors),
          metrics: async () => this.#metrics.snapshot(),
          connections: async () =>
            [...this.#pods].map(([uid, { pod }]) => ({ uid, connections: pod.connections.list() })),
          cpuProfile: async ({ seconds, frequency }) => cpuProfile(seconds, frequency),
          heapProfile: async () => heapProfile()
        }
      const answer = answers[question] as (ask: unknown) => Promise<unknown>
      this.#post({ kind: 'answer', id, value: await answer(value) })
    } catch (error) {
      this.#post({ kind: 'answer-failed', id, error: messageOf(error) })
    }
  }

  #startPod(description: PodDescription): PodStarted {
    const proxy = new PodProxy(this.#surroundings, description)
    this.#pods.set(description.uid, proxy)
    return { ports: proxy.ports }
  }

  #stopPod(uid: string): undefined {
    this.#pods.get(uid)?.close(new MeshError('DRAINED', 'connection closed due to connection drain'))
    this.#pods.delete(uid)
  }

  async #drain(deadlineMs: number, successors: Successors): Promise<{ inTime: boolean }> {
    const proxies = [...this.#pods.values()]
    const lingerMs = Math.min(LINGER_MS, deadlineMs / 2)
    for (const [uid, proxy] of this.#pods) {
      const others = successors.get(uid)
      proxy.drain(others && { own: this.#workers, others, lingerMs })
    }
    const idle = Promise.all(proxies.map(async proxy => proxy.idle()))
    const inTime = await Promise.race([idle.then(() => true), sleep(deadlineMs).then(() => false)])
    const reason = new MeshError('DRAINED', 'connection closed due to connection drain')
    for (const proxy of proxies) proxy.close(reason)
    // What was cut still has its last lines to write; a connection is forgotten after its line.
    await Promise.race([idle, sleep(1000)])
    this.#lines.flush()
    return { inTime }
  }

  /** Main has read these bytes before, so they are lists. */
  #revoke(bytes: Uint8Array): void {
    const ended = this.#revocations.replace(RevocationList.read(bytes))
    if (ended > 0) this.#log.logger('proxy').warn('sessions of revoked peers closed', { sessions: ended })
  }

  #neighbour(destination: Workload): Pod | undefined {
    for (const { pod } of this.#pods.values()) {
      const { info, self } = pod.description
      const same = info.name === destination.name && info.namespace === destination.namespace
      if (same && info.serviceAccount === destination.serviceAccount && !self) return pod
    }
    return undefined
  }

  #countLong(): void {
    let count = 0
    for (const { pod } of this.#pods.values()) count += pod.connections.countOlderThan(LONG_MS)
    this.#metrics.series('underpass_long_connections').set(count)
  }

  #closeIdleNowAndThen(idleMs: number): void {
    if (idleMs === 0) return
    const timer = setInterval(
      () => {
        for (const { pod } of this.#pods.values()) pod.connections.closeIdle(idleMs)
      },
      Math.max(10, Math.min(idleMs / 4, 10_000))
    )
    timer.unref()
  }
}

function filterOf(text: string): LogFilter {
  return parseLogFilter(text) ?? { fallback: 'info', targets: new Map() }
}

function run(port: MessagePort, data: WorkerData): void {
  const worker = new Worker(data, message => port.postMessage(message))
  port.on('message', (message: ToWorker) => worker.handle(message))
}

if (parentPort !== null) run(parentPort, workerData as WorkerData)
