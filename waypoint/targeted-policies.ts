/** Policies of one kind, and what those for a destination come to, put together when they are first asked for. */
import { isTarget, type OwnGateway, type PolicyService, type PolicyTarget } from './policy-target.ts'

export abstract class TargetedPolicies<Policy extends { readonly targets: readonly PolicyTarget[] }, Sum> {
  readonly #own: OwnGateway
  readonly #together: (policies: readonly Policy[]) => Sum
  readonly #ofNone: Sum
  /** By the name of their resource. */
  readonly #policies = new Map<string, Policy>()
  /** By destination; the empty text stands for what is no service. */
  readonly #sums = new Map<string, Sum>()
  #version = 0

  constructor(own: OwnGateway, together: (policies: readonly Policy[]) => Sum) {
    this.#own = own
    this.#together = together
    this.#ofNone = together([])
  }

  /** Changes whenever what was given may not be the right thing any more. */
  get version(): number {
    return this.#version
  }

  has(key: string): boolean {
    return this.#policies.has(key)
  }

  put(key: string, policy: Policy): void {
    this.#policies.set(key, policy)
    this.#changed()
  }

  remove(key: string): void {
    if (this.#policies.delete(key)) this.#changed()
  }

  all(): Iterable<Policy> {
    return this.#policies.values()
  }

  /** Undefined: of what is addressed as a pod, for which only policies of the whole waypoint count. */
  protected sumFor(service: PolicyService | undefined): Sum {
    if (this.#policies.size === 0) return this.#ofNone
    const key = service === undefined ? '' : `${service.namespace}/${service.name}/${service.hostname}`
    const known = this.#sums.get(key)
    if (known !== undefined) return known
    const chosen = [...this.#policies.values()].filter(({ targets }) =>
      targets.some(target => isTarget(target, service, this.#own))
    )
    const sum = chosen.length === 0 ? this.#ofNone : this.#together(chosen)
    this.#sums.set(key, sum)
    return sum
  }

  #changed(): void {
    this.#version += 1
    this.#sums.clear()
  }
}
