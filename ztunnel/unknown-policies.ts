/** Policies that workloads list but the mesh does not hold: they decide nothing, so an operator has to hear of them. */
import type { PolicyKey, Workload } from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import type { Logger } from '../shared/telemetry/logger.ts'

/** Keys come from the control plane: however many there are, this much memory and this many lines. */
const mostTold = 1000
const none: readonly PolicyKey[] = []

export class UnknownPolicies {
  readonly #told = new Set<PolicyKey>()

  /** Those of the workload that nobody has been told of yet; pure, as reads of the mesh have to be. */
  untold(view: MeshView, { authorizationPolicies }: Workload): readonly PolicyKey[] {
    if (authorizationPolicies.length === 0 || this.#told.size >= mostTold) return none
    return authorizationPolicies.filter(key => !this.#told.has(key) && view.policy(key) === undefined)
  }

  /** One line for each key, once. */
  tell(log: Logger, { namespace, name }: Workload, keys: readonly PolicyKey[]): void {
    for (const key of keys) {
      if (this.#told.has(key)) continue
      this.#told.add(key)
      log.warn('skipping unknown policy', { policy: key, workload: `${namespace}/${name}` })
    }
  }
}
