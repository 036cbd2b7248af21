/**
 * The identities of workloads on this node: their certificates are fetched before the first connection, and
 * dropped with the last workload that has them.
 */
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import { workloadIdentity, type Workload, type WorkloadUid } from '../shared/mesh/model.ts'

export interface LocalIdentitiesDeps {
  readonly nodeName: string
  readonly certificates: { prefetch(identity: SpiffeId): void; forget(identity: SpiffeId): void }
}

export class LocalIdentities {
  readonly #deps: LocalIdentitiesDeps
  readonly #identityOf = new Map<WorkloadUid, SpiffeId>()
  readonly #uses = new Map<SpiffeId, number>()

  constructor(deps: LocalIdentitiesDeps) {
    this.#deps = deps
  }

  /** A workload was added or changed; undefined when it was removed. */
  changed(uid: WorkloadUid, workload: Workload | undefined): void {
    const before = this.#identityOf.get(uid)
    const now = workload !== undefined && this.#isOurs(workload) ? workloadIdentity(workload) : undefined
    if (before === now) return
    if (now !== undefined) {
      this.#identityOf.set(uid, now)
      const uses = this.#uses.get(now) ?? 0
      this.#uses.set(now, uses + 1)
      if (uses === 0) this.#deps.certificates.prefetch(now)
    } else this.#identityOf.delete(uid)
    if (before !== undefined) this.#release(before)
  }

  #isOurs({ node, protocol, nativeTunnel }: Workload): boolean {
    return node === this.#deps.nodeName && node !== '' && (protocol === 'HBONE' || nativeTunnel)
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
