/** All policies of a waypoint, and those of one service, made ready when they are first asked for. */
import type { Service } from '../../shared/mesh/model.ts'
import { noPolicies, policySet, type PolicySet } from './evaluate.ts'
import type { L7Policy, PolicyTarget } from './policy.ts'

export interface OwnGateway {
  readonly namespace: string
  /** Of the Gateway that this waypoint runs for. */
  readonly name: string
  /** Undefined where it is not known; then policies for any class are taken to be for it. */
  readonly className?: string | undefined
  /** The cluster's DNS domain: services with a hostname of it are Kubernetes'. */
  readonly clusterDomain: string
}

export type PolicyService = Pick<Service, 'namespace' | 'name' | 'hostname'>

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
      targets.some(target => this.#isFor(target, service))
    )
    const set = chosen.length === 0 ? noPolicies : policySet(chosen)
    this.#sets.set(key, set)
    return set
  }

  #isFor(target: PolicyTarget, service: PolicyService | undefined): boolean {
    const { namespace, name, className, clusterDomain } = this.#own
    switch (target.kind) {
      case 'everything':
        return true
      case 'GatewayClass':
        return className === undefined || className === target.name
      case 'Gateway':
        return target.namespace === namespace && target.name === name
      default: {
        if (service?.namespace !== target.namespace || service.name !== target.name) return false
        const ofKubernetes = service.hostname === `${service.name}.${service.namespace}.svc.${clusterDomain}`
        return ofKubernetes === (target.kind === 'Service')
      }
    }
  }

  #changed(): void {
    this.#version += 1
    this.#sets.clear()
  }
}
