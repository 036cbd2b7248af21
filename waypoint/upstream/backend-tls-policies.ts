/** All BackendTLSPolicies that are known, and the one for a port of a service. */
import { serviceKey, type Service } from '../../shared/mesh/model.ts'
import type { BackendTlsPolicy } from './backend-tls-policy.ts'

export class BackendTlsPolicies {
  /** By the name of their resource. */
  readonly #policies = new Map<string, BackendTlsPolicy>()
  /** By service and port (0: all), the one that counts first. */
  readonly #byTarget = new Map<string, BackendTlsPolicy[]>()

  has(key: string): boolean {
    return this.#policies.has(key)
  }

  put(key: string, policy: BackendTlsPolicy): void {
    this.remove(key)
    this.#policies.set(key, policy)
    for (const target of targetsOf(policy)) {
      const others = this.#byTarget.get(target) ?? []
      this.#byTarget.set(target, [...others, policy].toSorted(byAge))
    }
  }

  remove(key: string): void {
    const policy = this.#policies.get(key)
    if (policy === undefined) return
    this.#policies.delete(key)
    for (const target of targetsOf(policy)) {
      const others = this.#byTarget.get(target)?.filter(each => each !== policy) ?? []
      if (others.length > 0) this.#byTarget.set(target, others)
      else this.#byTarget.delete(target)
    }
  }

  all(): Iterable<BackendTlsPolicy> {
    return this.#policies.values()
  }

  /** One for the port before one for all ports. */
  policyFor(service: Pick<Service, 'namespace' | 'hostname'>, port: number): BackendTlsPolicy | undefined {
    if (this.#policies.size === 0) return undefined
    const key = serviceKey(service)
    const [policy] = this.#byTarget.get(`${port} ${key}`) ?? this.#byTarget.get(`0 ${key}`) ?? []
    return policy
  }
}

function targetsOf({ targets }: BackendTlsPolicy): readonly string[] {
  return targets.map(({ port = 0, ...service }) => `${port} ${serviceKey(service)}`)
}

/** Source: Gateway API v1, conflicts of policies. */
function byAge(a: BackendTlsPolicy, b: BackendTlsPolicy): number {
  return a.createdMs - b.createdMs || (a.name < b.name ? -1 : 1)
}
