/**
 * A ConfigMap that is the same in every namespace: `istio-ca-root-cert` with the roots by which pods verify
 * the control plane and each other, and `istio-ca-crl` with what was revoked. Written by the leader only; made
 * again when deleted, put right when changed.
 */
import type { KubeClient } from '../../shared/kube/client.ts'
import { isConflict, isNotFound } from '../../shared/kube/errors.ts'
import { informer, type Informer } from '../../shared/kube/informer.ts'
import { configMaps, type ConfigMap } from '../../shared/kube/core-api.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { WorkQueue } from './work-queue.ts'

/** Namespaces whose objects are not for pods. */
const excluded = new Set(['kube-public', 'kube-node-lease', 'local-path-storage'])

export interface PublishedOptions {
  readonly client: KubeClient
  readonly name: string
  readonly key: string
  /** What it shall hold; undefined = nothing is published, and what is there is left alone. */
  readonly text: () => string | undefined
  readonly log: Logger
  readonly signal: AbortSignal
}

export class PublishedConfigMap {
  readonly #options: PublishedOptions
  readonly #namespaces = new Set<string>()
  readonly #queue: WorkQueue
  #existing: Informer<ConfigMap> | undefined
  #leading: AbortController | undefined

  constructor(options: PublishedOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 4,
      work: async namespace => this.#reconcile(namespace),
      onFailure: (namespace, error) => {
        const { log, name } = options
        log.warn('writing a ConfigMap failed, trying again', { name, namespace, error: messageOf(error) })
      }
    })
  }

  namespaceAppeared(name: string): void {
    this.#namespaces.add(name)
    if (this.#leading !== undefined) this.#queue.add(name)
  }

  namespaceGone(name: string): void {
    this.#namespaces.delete(name)
  }

  /** The text is another one now. */
  changed(): void {
    if (this.#leading !== undefined) for (const namespace of this.#namespaces) this.#queue.add(namespace)
  }

  /** Starts or stops writing. */
  lead(leading: boolean): void {
    this.#leading?.abort()
    this.#leading = undefined
    if (!leading) return
    this.#leading = new AbortController()
    const { client, name, log, signal } = this.#options
    this.#existing = informer(client, configMaps, {
      fieldSelector: `metadata.name=${name}`,
      signal: AbortSignal.any([signal, this.#leading.signal]),
      log,
      onChange: ({ object }) => this.#queue.add(object.metadata.namespace ?? ''),
      onSynced: () => this.changed()
    })
  }

  async #reconcile(namespace: string): Promise<void> {
    if (this.#leading === undefined || !this.#namespaces.has(namespace) || excluded.has(namespace)) return
    const { client, name, key, signal } = this.#options
    const text = this.#options.text()
    if (this.#existing?.isSynced !== true || text === undefined) return
    const found = this.#existing.get(`${namespace}/${name}`)
    if (found?.data?.[key] === text && found.metadata.labels?.['istio.io/config'] === 'true') return
    const body: ConfigMap = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace, labels: { 'istio.io/config': 'true' } },
      data: { [key]: text }
    }
    try {
      if (found === undefined) await client.create(configMaps, body, { signal })
      else await client.patch(configMaps, { namespace, name }, body, { kind: 'merge', signal })
    } catch (error) {
      // Somebody was faster, or the namespace is going; the watch brings what is true.
      if (isConflict(error) || isNotFound(error) || isTerminating(error)) return
      throw error
    }
  }
}

function isTerminating(error: unknown): boolean {
  return error instanceof Error && error.message.includes('being terminated')
}
