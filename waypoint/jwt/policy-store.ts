/** All RequestAuthentications that are known, and the rules for one destination, put together when they are first asked for. */
import { isTarget, type OwnGateway, type PolicyService } from '../policy-target.ts'
import type { JwtPolicy, JwtRule } from './jwt-rule.ts'

export class JwtPolicyStore {
  readonly #own: OwnGateway
  readonly #policies = new Map<string, JwtPolicy>()
  /** By destination; the empty text stands for what is no service. */
  readonly #rules = new Map<string, readonly JwtRule[]>()
  #version = 0

  constructor(own: OwnGateway) {
    this.#own = own
  }

  /** Changes whenever rules that were given may not be the right ones any more. */
  get version(): number {
    return this.#version
  }

  put(key: string, policy: JwtPolicy): void {
    this.#policies.set(key, policy)
    this.#changed()
  }

  remove(key: string): void {
    if (this.#policies.delete(key)) this.#changed()
  }

  all(): Iterable<JwtPolicy> {
    return this.#policies.values()
  }

  /** Of every policy, for fetching their keys. */
  *allRules(): Generator<JwtRule> {
    for (const { rules } of this.#policies.values()) yield* rules
  }

  /** By issuer; `service`: undefined for a pod that is addressed itself. */
  rulesFor(service: PolicyService | undefined): readonly JwtRule[] {
    if (this.#policies.size === 0) return noRules
    const key = service === undefined ? '' : `${service.namespace}/${service.name}/${service.hostname}`
    const known = this.#rules.get(key)
    if (known !== undefined) return known
    const rules = [...this.#policies.values()]
      .filter(({ targets }) => targets.some(target => isTarget(target, service, this.#own)))
      .flatMap(policy => policy.rules)
      .toSorted((a, b) => compare(a.issuer, b.issuer) || compare(a.policy, b.policy))
    this.#rules.set(key, rules)
    return rules
  }

  #changed(): void {
    this.#version += 1
    this.#rules.clear()
  }
}

const noRules: readonly JwtRule[] = []

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
