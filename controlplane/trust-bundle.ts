/**
 * ConfigMap `istio-ca-root-cert` in every namespace: the roots by which pods verify the control plane and
 * each other. Written by the leader only; made again when deleted, put right when changed.
 */
import type { KubeClient } from '../shared/kube/client.ts'
import { isConflict, isNotFound } from '../shared/kube/errors.ts'
import { informer, type Informer } from '../shared/kube/informer.ts'
import { configMaps, type ConfigMap } from '../shared/kube/resources.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { CertificateAuthority } from './ca.ts'
import { WorkQueue } from './work-queue.ts'

export const trustBundleName = 'istio-ca-root-cert'

/** Namespaces whose objects are not for pods. */
const excluded = new Set(['kube-public', 'kube-node-lease', 'local-path-storage'])

export interface TrustBundleOptions {
  readonly client: KubeClient
  readonly authority: CertificateAuthority
  readonly log: Logger
  readonly signal: AbortSignal
}

export class TrustBundle {
  readonly #options: TrustBundleOptions
  readonly #namespaces = new Set<string>()
  readonly #queue: WorkQueue
  #existing: Informer<ConfigMap> | undefined
  #leading: AbortController | undefined

  constructor(options: TrustBundleOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 4,
      work: async namespace => this.#reconcile(namespace),
      onFailure: (namespace, error) => {
        options.log.warn('writing the trust bundle failed, trying again', {
          namespace,
          error: messageOf(error)
        })
      }
    })
    options.authority.onChange(() => this.#all())
  }

  namespaceAppeared(name: string): void {
    this.#namespaces.add(name)
    if (this.#leading !== undefined) this.#queue.add(name)
  }

  namespaceGone(name: string): void {
    this.#namespaces.delete(name)
  }

  /** Starts or stops writing. */
  lead(leading: boolean): void {
    this.#leading?.abort()
    this.#leading = undefined
    if (!leading) return
    this.#leading = new AbortController()
    const { client, log, signal } = this.#options
    this.#existing = informer(client, configMaps, {
      fieldSelector: `metadata.name=${trustBundleName}`,
      signal: AbortSignal.any([signal, this.#leading.signal]),
      log,
      onChange: ({ object }) => this.#queue.add(object.metadata.namespace ?? ''),
      onSynced: () => this.#all()
    })
  }

  #all(): void {
    if (this.#leading !== undefined) for (const namespace of this.#namespaces) this.#queue.add(namespace)
  }

  async #reconcile(namespace: string): Promise<void> {
    if (this.#leading === undefined || !this.#namespaces.has(namespace) || excluded.has(namespace)) return
    if (this.#existing?.isSynced !== true) return
    const { client, authority, signal } = this.#options
    const bundle = authority.bundlePem
    const found = this.#existing.get(`${namespace}/${trustBundleName}`)
    const right =
      found?.data?.['root-cert.pem'] === bundle && found.metadata.labels?.['istio.io/config'] === 'true'
    if (right) return
    const body: ConfigMap = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: trustBundleName, namespace, labels: { 'istio.io/config': 'true' } },
      data: { 'root-cert.pem': bundle }
    }
    try {
      if (found === undefined) await client.create(configMaps, body, { signal })
      else {
        await client.patch(configMaps, { namespace, name: trustBundleName }, body, { kind: 'merge', signal })
      }
    } catch (error) {
      // Somebody was faster, or the namespace is going; the watch brings what is true.
      if (isConflict(error) || isNotFound(error) || isTerminating(error)) return
      throw error
    }
  }
}

function isTerminating(error: unknown): boolean {
  return error instanceof Error && /being terminated/.test(error.message)
}
