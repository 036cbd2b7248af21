/** Hands certificates to workers: only for identities of pods that run here, and again when they are renewed. */
import type { CertificateStore } from '../shared/identity/certificate-store.ts'
import { spiffeParts, type SpiffeId } from '../shared/identity/spiffe-id.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { PodInfo } from './config.ts'
import type { Workers, WorkerThread } from './workers.ts'

export interface CertificateDeskDeps {
  readonly store: CertificateStore
  readonly workers: () => Pick<Workers, 'post'>
  readonly pods: { runsAs(account: Omit<PodInfo, 'name'>): boolean }
}

export class CertificateDesk {
  readonly #deps: CertificateDeskDeps
  /** Identities that some worker has asked for. */
  readonly #given = new Set<SpiffeId>()
  readonly #closing = new AbortController()
  readonly #stopListening: () => void

  constructor(deps: CertificateDeskDeps) {
    this.#deps = deps
    this.#stopListening = deps.store.onChange((identity, certificate) => {
      if (!this.#given.has(identity)) return
      if (certificate !== undefined) deps.workers().post({ kind: 'certificate-renewed', certificate })
      else this.#withdraw(identity)
    })
  }

  async answer(worker: WorkerThread, id: number, identity: SpiffeId): Promise<void> {
    const { store, pods } = this.#deps
    if (!pods.runsAs(spiffeParts(identity))) {
      worker.post({ kind: 'certificate-failed', id, error: `no pod of this node runs as ${identity}` })
      return
    }
    try {
      const certificate = await store.get(identity, this.#closing.signal)
      this.#given.add(identity)
      worker.post({ kind: 'certificate', id, certificate })
    } catch (error) {
      worker.post({ kind: 'certificate-failed', id, error: messageOf(error) })
    }
  }

  /** The last pod of that service account has gone. */
  forgetAccount({ namespace, serviceAccount }: Omit<PodInfo, 'name'>): void {
    for (const identity of this.#given) {
      const parts = spiffeParts(identity)
      if (parts.namespace === namespace && parts.serviceAccount === serviceAccount) this.#withdraw(identity)
    }
  }

  close(): void {
    this.#stopListening()
    this.#closing.abort(new Error('ztunnel is ending'))
  }

  #withdraw(identity: SpiffeId): void {
    this.#given.delete(identity)
    this.#deps.workers().post({ kind: 'certificate-forgotten', identity })
  }
}
