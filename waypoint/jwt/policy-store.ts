/** All RequestAuthentications that are known, and the rules for one destination, put together when they are first asked for. */
import type { Service } from '../../shared/mesh/model.ts'
import type { JwtPolicy, JwtRule, JwtTarget } from './jwt-rule.ts'

/** What targets of a whole waypoint are compared with. */
export interface OwnPlace {
  /** Of its Gateway. */
  readonly namespace: string
  readonly name: string
  /** Whose policies may be for all waypoints of a class. */
  readonly rootNamespace: string
}

export type JwtDestination = Pick<Service, 'namespace' | 'name' | 'canonical'>

export class JwtPolicyStore {
  readonly #own: OwnPlace
  readonly #policies = new Map<string, JwtPolicy>()
  /** By destination; the empty text stands for what is no service. */
  readonly #rules = new Map<string, readonly JwtRule[]>()
  #version = 0

  constructor(own: OwnPlace) {
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
  rulesFor(service: JwtDestination | undefined): readonly JwtRule[] {
    if (this.#policies.size === 0) return noRules
    const key = service === undefined ? '' : `${service.canonical} ${service.namespace}/${service.name}`
    const known = this.#rules.get(key)
    if (known !== undefined) return known
    const rules = [...this.#policies.values()]
      .filter(({ targets }) => targets.some(target => this.#applies(target, service)))
      .flatMap(policy => policy.rules)
      .toSorted((a, b) => compare(a.issuer, b.issuer) || compare(a.policy, b.policy))
    this.#rules.set(key, rules)
    return rules
  }

  /** Policies come with all of their targets, also those that are another waypoint's, or nobody's. */
  #applies({ kind, namespace, name }: JwtTarget, service: JwtDestination | undefined): boolean {
    switch (kind) {
      case 'Gateway':
        return namespace === this.#own.namespace && name === this.#own.name
      case 'GatewayClass':
        // Only our own class's policies are sent to us.
        return namespace === this.#own.rootNamespace
      case 'Service':
        return service?.canonical === true && isNamed(service, namespace, name)
      case 'ServiceEntry':
        return service?.canonical === false && isNamed(service, namespace, name)
      default:
        return kind satisfies never
    }
  }

  #changed(): void {
    this.#version += 1
    this.#rules.clear()
  }
}

const noRules: readonly JwtRule[] = []

function isNamed(service: JwtDestination, namespace: string, name: string): boolean {
  return service.namespace === namespace && service.name === name
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
