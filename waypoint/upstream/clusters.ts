/** The cluster of each service port that a traffic policy applies to. */
import { serviceKey, type Service } from '../../shared/mesh/model.ts'
import type { DestinationRuleStore } from '../destination-rules/destination-rule-store.ts'
import { usualPolicy } from '../traffic-policy.ts'
import type { PoliciesInForce } from './backend-tls-in-force.ts'
import { Cluster, type ClusterDeps } from './cluster.ts'

export interface ClustersDeps extends Omit<ClusterDeps, 'events'> {
  readonly policies: Pick<PoliciesInForce, 'policyFor'>
  readonly subsets: Pick<DestinationRuleStore, 'subsetOf'>
  /** Of the cluster of a service, as `hostname:port` or `hostname:port/subset`. */
  readonly eventsOf: (cluster: string) => ClusterDeps['events']
}

/** Of a subset that is not known: no label has an empty name. */
const nobody: ReadonlyMap<string, string> = new Map([['', '']])

/** Beyond it those of services that are gone are let go. */
const usual = 1000

export class Clusters {
  readonly #deps: ClustersDeps
  readonly #clusters = new Map<string, Cluster>()
  #sweepAt = usual

  constructor(deps: ClustersDeps) {
    this.#deps = deps
  }

  /** Whether a subset is one of the service's. */
  has(service: Service, subset: string): boolean {
    return this.#deps.subsets.subsetOf(service, subset) !== undefined
  }

  /**
   * Undefined: nobody said anything about the service, whose endpoints are those that the mesh knows, and no subset is
   * asked for. The same one while what was said stays the same. A subset that there is not is one without pods.
   */
  of(service: Service, port: number, subset?: string): Cluster | undefined {
    const { policies, subsets } = this.#deps
    const needed = subset !== undefined || service.traffic?.resolution !== undefined
    const policy = policies.policyFor(service, port, subset) ?? (needed ? usualPolicy : undefined)
    if (policy === undefined) return undefined
    const place = subset === undefined ? `${port}` : `${port}/${subset}`
    const key = `${place} ${serviceKey(service)}`
    const known = this.#clusters.get(key)
    const labels = subset === undefined ? undefined : (subsets.subsetOf(service, subset) ?? nobody)
    if (known?.policy === policy && known.labels === labels) return known
    const events = this.#deps.eventsOf(`${service.hostname}:${place}`)
    const made = new Cluster(policy, { ...this.#deps, events, labels }, known?.breaker)
    this.#clusters.set(key, made)
    if (this.#clusters.size > this.#sweepAt) this.#sweep()
    return made
  }

  /** `port namespace/hostname` or `port/subset namespace/hostname`, for those who look. */
  all(): Iterable<readonly [string, Cluster]> {
    return this.#clusters
  }

  #sweep(): void {
    const view = this.#deps.view()
    for (const [key, cluster] of this.#clusters) {
      const service = view.service(key.slice(key.indexOf(' ') + 1))
      if (service === undefined && cluster.breaker.count('requests') === 0) this.#clusters.delete(key)
    }
    this.#sweepAt = Math.max(usual, this.#clusters.size * 2)
  }
}
