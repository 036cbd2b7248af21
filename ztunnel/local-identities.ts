/**
 * The identities of workloads on this node: their certificates are fetched before the first connection, and
 * dropped with the last workload that has them.
 */
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import { workloadIdentity, type Workload } from '../shared/mesh/model.ts'

export interface LocalIdentitiesDeps {
  readonly nodeName: string
  readonly certificates: { prefetch(identity: SpiffeId): void; forget(identity: SpiffeId): void }
}

export class LocalIdentities {
  readonly #deps: LocalIdentitiesDeps
  readonly #uses = new Map<SpiffeId, number>()

  constructor(deps: LocalIdentitiesDeps) {
    this.#deps = deps
  }

  /** A workload came (no previous), changed, or went (no current). */
  changed(previous: Workload | undefined, current: Workload | undefined): void {
    const before = this.#identityOf(previous)
    const now = this.#identityOf(current)
    if (before === now) return
    if (now !== undefined) this.#use(now)
    if (before !== undefined) this.#release(before)
  }

  #identityOf(workload: Workload | undefined): SpiffeId | undefined {
    if (workload === undefined || workload.node === '' || workload.node !== this.#deps.nodeName)
      return undefined
    return workload.protocol === 'HBONE' || workload.nativeTunnel ? workloadIdentity(workload) : undefined
  }

  #use(identity: SpiffeId): void {
    const uses = this.#uses.get(identity) ?? 0
    this.#uses.set(identity, uses + 1)
    if (uses === 0) this.#deps.certificates.prefetch(identity)
  }

  #release(identity: SpiffeId): void {
    const uses = (this.#uses.get(identity) ?? 1) - 1
    if (uses > 0) {
      this.#uses.set(identity, uses)
      return
    }
    this.#uses.delete(identity)
    this.#deps.certificates.forget(identity)
  }
}
