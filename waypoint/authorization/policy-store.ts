/** All policies of a waypoint, and those of one service, made ready when they are first asked for. */
import { isTarget, type OwnGateway, type PolicyService } from '../policy-target.ts'
import { noPolicies, policySet, type PolicySet } from './evaluate.ts'
import type { L7Policy } from './policy.ts'

export class PolicyStore {
  readonly #own: OwnGateway
  /** By the name of their resource. */
  readonly #policies = new Map<string, L7Policy>()
  readonly #sets = new Map<string, PolicySet>()
  #version = 0

  constructor(own: OwnGateway) {
    this.#own = own
  }

  /** Changes whenever a set that was given may not be the right one any more. */
  get version(): number {
    return this.#version
  }

  has(key: string): boolean {
    return this.#policies.has(key)
  }

  put(key: string, policy: L7Policy): void {
    this.#policies.set(key, policy)
    this.#changed()
  }

  remove(key: string): void {
    if (this.#policies.delete(key)) this.#changed()
  }

  all(): Iterable<L7Policy> {
    return this.#policies.values()
  }

  /** Undefined: of what is addressed as a pod, for which only policies of the whole waypoint count. */
  policiesFor(service: PolicyService | undefined): PolicySet {
    if (this.#policies.size === 0) return noPolicies
    const key = service === undefined ? '' : `${service.namespace}/${service.name}/${service.hostname}`
    const known = this.#sets.get(key)
    if (known !== undefined) return known
    const chosen = [...this.#policies.values()].filter(({ targets }) =>
      targets.some(target => isTarget(target, service, this.#own))
    )
    const set = chosen.length === 0 ? noPolicies : policySet(chosen)
    this.#sets.set(key, set)
    return set
  }

  #changed(): void {
    this.#version += 1
    this.#sets.clear()
  }
}
