/** The kubelets of all nodes: one worker for every pod that is bound to a node of the lab. */
import { configMaps, secrets } from '../shared/kube/core-api.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import { isFinished, labPods, namespaceOf, refOf, type LabPod } from './kinds.ts'
import { PodWorker, type PodWorkerDeps } from './pod-worker.ts'

/** Tokens in volumes are written again long before the shortest of them (ten minutes) expires. */
const refreshMs = 5 * 60_000
const defaultGraceSeconds = 30

export class Kubelet {
  readonly #deps: PodWorkerDeps
  readonly #logger: Logger
  readonly #workers = new Map<string, PodWorker>()
  readonly #stopping = new AbortController()

  constructor(deps: PodWorkerDeps, logger: Logger) {
    this.#deps = deps
    this.#logger = logger
  }

  start(): void {
    const { objects } = this.#deps
    const { signal } = this.#stopping
    objects.watch(
      labPods,
      {},
      ({ type, object }) => {
        if (type === 'deleted') this.#gone(object)
        else this.#seen(object)
      },
      signal
    )
    for (const type of [configMaps, secrets]) {
      objects.watch(type, {}, ({ object }) => this.#refresh(namespaceOf(object)), signal)
    }
    const timer = setInterval(() => this.#refresh(), refreshMs)
    signal.addEventListener('abort', () => clearInterval(timer), { once: true })
  }

  worker(namespace: string, name: string): PodWorker | undefined {
    return [...this.#workers.values()].find(
      ({ pod }) => namespaceOf(pod) === namespace && pod.metadata.name === name
    )
  }

  /** Ends every pod; what does not end within `graceMs` is killed. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort()
    await Promise.all([...this.#workers.values()].map(worker => worker.stop(graceMs)))
  }

  #seen(pod: LabPod): void {
    const uid = pod.metadata.uid ?? ''
    const known = this.#workers.get(uid)
    if (pod.metadata.deletionTimestamp !== undefined) {
      this.#end(pod, known)
      return
    }
    if (known !== undefined) {
      known.update(pod)
      return
    }
    const node = this.#deps.network.nodes.find(({ name }) => name === pod.spec?.nodeName)
    if (node === undefined || isFinished(pod)) return
    const worker = new PodWorker(this.#deps, node, pod)
    this.#workers.set(uid, worker)
    worker
      .run()
      .catch(error => this.#logger.error(`pod ${namespaceOf(pod)}/${pod.metadata.name}: ${messageOf(error)}`))
  }

  /** Ends the containers in the time that the pod has, then lets the object go. */
  #end(pod: LabPod, worker: PodWorker | undefined): void {
    if (worker === undefined && this.#deps.network.nodes.every(({ name }) => name !== pod.spec?.nodeName))
      return
    const graceSeconds = pod.metadata.deletionGracePeriodSeconds ?? defaultGraceSeconds
    const ended = worker?.stop(graceSeconds * 1000) ?? Promise.resolve()
    ended
      .then(() => {
        this.#workers.delete(pod.metadata.uid ?? '')
        const uid = pod.metadata.uid
        this.#deps.objects.delete(labPods, refOf(pod), {
          gracePeriodSeconds: 0,
          ...(uid === undefined ? {} : { uid })
        })
      })
      .catch(error =>
        this.#logger.error(`pod ${namespaceOf(pod)}/${pod.metadata.name} does not end: ${messageOf(error)}`)
      )
  }

  /** The object is gone without waiting for its containers (`kubectl delete --force`). */
  #gone(pod: LabPod): void {
    const uid = pod.metadata.uid ?? ''
    const worker = this.#workers.get(uid)
    if (worker === undefined) return
    this.#workers.delete(uid)
    worker
      .stop(0)
      .catch(error => this.#logger.error(`pod ${pod.metadata.name} does not end: ${messageOf(error)}`))
  }

  #refresh(namespace?: string): void {
    for (const worker of this.#workers.values()) {
      if (namespace === undefined || namespaceOf(worker.pod) === namespace) worker.refresh()
    }
  }
}
