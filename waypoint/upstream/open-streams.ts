/** How many connections that are carried as they are go to each port of each pod. */
import type { WorkloadUid } from '../../shared/mesh/model.ts'
import type { Target } from './tunnels.ts'

export class OpenStreams {
  readonly #counts = new Map<string, number>()

  of(uid: WorkloadUid, port: number): number {
    return this.#counts.get(`${port} ${uid}`) ?? 0
  }

  opens({ workload, port }: Target): void {
    this.#counts.set(`${port} ${workload.uid}`, this.of(workload.uid, port) + 1)
  }

  closes({ workload, port }: Target): void {
    const left = this.of(workload.uid, port) - 1
    if (left > 0) this.#counts.set(`${port} ${workload.uid}`, left)
    else this.#counts.delete(`${port} ${workload.uid}`)
  }
}
