/**
 * The pods that this ztunnel carries, on the main thread: which are up, which still fail to start. Each pod's
 * listeners run in every worker; a pod is up when all of them have it, and gone from all when one failed.
 */
import { setImmediate } from 'node:timers/promises'
import { listeningPorts } from '../shared/net/listening-ports.ts'
import { closeNetns, sameNetns } from '../shared/net/netns.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import type { PodInfo } from './config.ts'
import type { mainFamilies } from './families.ts'
import type { PodDescription } from './pod.ts'
import type { PodStarted, Successors } from './worker-protocol.ts'
import type { Workers } from './workers.ts'

export const RETRY_MS = 5000

export interface PodState {
  readonly uid: string
  readonly state: 'Up' | 'Pending'
  readonly info: PodInfo
  /** ztunnel itself. */
  readonly self: boolean
  /** Why the pod is pending. */
  readonly error: string | undefined
}

interface Known {
  readonly description: PodDescription
  state: 'Up' | 'Pending'
  error: string | undefined
  ports: PodStarted['ports']
}

export interface PodsDeps {
  readonly workers: Pick<Workers, 'askAll'>
  readonly metrics: Metrics<typeof mainFamilies>
  readonly log: Logger
  /** The last pod with that service account is gone: its certificate need not stay in the workers. */
  readonly onGone: (info: PodInfo) => void
  /** Whether pods are pending may have changed. */
  readonly onChange: () => void
}

export class Pods {
  readonly #deps: PodsDeps
  readonly #known = new Map<string, Known>()
  #retry: NodeJS.Timeout | undefined

  constructor(deps: PodsDeps) {
    this.#deps = deps
    deps.metrics.onCollect(() => {
      const states = [...this.#known.values()].map(({ state }) => state)
      deps.metrics
        .series('workload_manager_active_proxy_count')
        .set(states.filter(state => state === 'Up').length)
      deps.metrics
        .series('workload_manager_pending_proxy_count')
        .set(states.filter(state => state === 'Pending').length)
    })
  }

  has(uid: string): boolean {
    return this.#known.has(uid)
  }

  /** Of the pods that the node agent gave; ztunnel itself is none. */
  uids(): readonly string[] {
    return [...this.#known].flatMap(([uid, { description }]) => (description.self ? [] : [uid]))
  }

  /** Nothing waits to be started again. */
  get settled(): boolean {
    return [...this.#known.values()].every(({ state }) => state === 'Up')
  }

  /**
   * Starts a pod; its namespace descriptor is ours from here on. A pod that is known in the same namespace stays
   * as it is, one in another namespace is replaced. Returns bound ports; throws when a listener cannot be opened,
   * and then tries again every five seconds.
   */
  async add(description: PodDescription): Promise<PodStarted> {
    const { uid, netns } = description
    const known = this.#known.get(uid)
    if (known !== undefined) {
      const same =
        netns === undefined ||
        (known.description.netns !== undefined && sameNetns(netns, known.description.netns))
      if (same && known.state === 'Up') {
        if (netns !== undefined) closeNetns(netns)
        return { ports: known.ports }
      }
      await this.remove(uid)
    }
    const pod: Known = { description, state: 'Pending', error: undefined, ports: [] }
    this.#known.set(uid, pod)
    try {
      return await this.#start(pod)
    } catch (error) {
      this.#retryLater()
      throw error
    } finally {
      this.#deps.onChange()
    }
  }

  /** Ends the pod's connections and listeners at once. Unknown pods are fine. */
  async remove(uid: string): Promise<void> {
    const pod = this.#known.get(uid)
    if (pod === undefined) return
    this.#known.delete(uid)
    await this.#stop(pod)
    const { netns, info } = pod.description
    if (netns !== undefined) closeNetns(netns)
    this.#deps.onChange()
    const { namespace, serviceAccount } = info
    const others = [...this.#known.values()].some(
      ({ description }) =>
        description.info.namespace === namespace && description.info.serviceAccount === serviceAccount
    )
    if (!others) this.#deps.onGone(info)
  }

  /** Whether one of the pods runs as this service account. */
  runsAs({ namespace, serviceAccount }: Omit<PodInfo, 'name'>): boolean {
    return [...this.#known.values()].some(
      ({ description: { info } }) => info.namespace === namespace && info.serviceAccount === serviceAccount
    )
  }

  states(): readonly PodState[] {
    return [...this.#known.values()].map(({ description, state, error }) => ({
      uid: description.uid,
      state,
      info: description.info,
      self: description.self,
      error
    }))
  }

  /** Sockets that listen beside ours, where each port has `own`: those of a ztunnel that is about to take over. */
  async successors(own: number): Promise<Successors> {
    const found = new Map<string, ReadonlyMap<number, number>>()
    for (const { description, ports } of this.#known.values()) {
      const { uid, netns } = description
      if (netns === undefined) continue
      const listening = listeningPorts(netns)
      const others = ports.map(port => [port, listening.filter(each => each === port).length - own] as const)
      if (others.some(([, count]) => count > 0))
        found.set(uid, new Map(others.filter(([, count]) => count > 0)))
      await setImmediate() // a look may take a millisecond, and there may be hundreds of pods
    }
    return found
  }

  /** Stops trying again. */
  close(): void {
    clearTimeout(this.#retry)
  }

  async #start(pod: Known): Promise<PodStarted> {
    const { uid, info } = pod.description
    try {
      const [started = { ports: [] }] = await this.#deps.workers.askAll('startPod', pod.description)
      pod.state = 'Up'
      pod.error = undefined
      pod.ports = started.ports
      this.#deps.metrics.series('workload_manager_proxies_started_total').add()
      this.#deps.log.info('pod proxy started', { uid, pod: `${info.namespace}/${info.name}` })
      return started
    } catch (error) {
      pod.error = messageOf(error)
      await this.#deps.workers.askAll('stopPod', { uid }) // those workers that did start it
      this.#deps.log.error('pod proxy failed to start', {
        uid,
        pod: `${info.namespace}/${info.name}`,
        error: pod.error
      })
      throw error
    }
  }

  async #stop(pod: Known): Promise<void> {
    const { uid, info } = pod.description
    await this.#deps.workers.askAll('stopPod', { uid })
    if (pod.state !== 'Up') return
    this.#deps.metrics.series('workload_manager_proxies_stopped_total').add()
    this.#deps.log.info('pod proxy stopped', { uid, pod: `${info.namespace}/${info.name}` })
  }

  #retryLater(): void {
    if (this.#retry !== undefined) return
    this.#retry = setTimeout(() => void this.#retryPending(), RETRY_MS)
  }

  async #retryPending(): Promise<void> {
    this.#retry = undefined
    for (const pod of this.#known.values()) {
      if (pod.state === 'Up') continue
      try {
        await this.#start(pod)
      } catch {
        this.#retryLater() // logged where it failed
      }
    }
    this.#deps.onChange()
  }
}
