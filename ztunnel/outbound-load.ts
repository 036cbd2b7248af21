/** How many connections are open to each workload: what least-request chooses by. */
import type { WorkloadUid } from '../shared/mesh/model.ts'

export class OutboundLoad {
  readonly #open = new Map<WorkloadUid, number>()

  of(uid: WorkloadUid): number {
    return this.#open.get(uid) ?? 0
  }

  /** Counts one connection until it is disposed. */
  hold(uid: WorkloadUid): Disposable {
    this.#open.set(uid, this.of(uid) + 1)
    return {
      [Symbol.dispose]: () => {
        const left = this.of(uid) - 1
        if (left > 0) this.#open.set(uid, left)
        else this.#open.delete(uid)
      }
    }
  }
}
