/** The cluster of each service port that a traffic policy applies to. */
import { serviceKey, type Service } from '../../shared/mesh/model.ts'
import type { PoliciesInForce } from './backend-tls-in-force.ts'
import { Cluster, type ClusterDeps } from './cluster.ts'

export interface ClustersDeps extends Omit<ClusterDeps, 'events'> {
  readonly policies: Pick<PoliciesInForce, 'policyFor'>
  /** Of the cluster of a service, as `hostname:port`. */
  readonly eventsOf: (cluster: string) => ClusterDeps['events']
}

/** Beyond it those of services that are gone are let go. */
const usual = 1000

export class Clusters {
  readonly #deps: ClustersDeps
  readonly #clusters = new Map<string, Cluster>()
  #sweepAt = usual

  constructor(deps: ClustersDeps) {
    this.#deps = deps
  }

  /** Undefined: nobody said anything about the service. The same one while what was said stays the same. */
  of(service: Service, port: number): Cluster | undefined {
    const policy = this.#deps.policies.policyFor(service, port, undefined)
    if (policy === undefined) return undefined
    const key = `${port} ${serviceKey(service)}`
    const known = this.#clusters.get(key)
    if (known?.policy === policy) return known
    const events = this.#deps.eventsOf(`${service.hostname}:${port}`)
    const made = new Cluster(policy, { ...this.#deps, events }, known?.breaker)
    this.#clusters.set(key, made)
    if (this.#clusters.size > this.#sweepAt) this.#sweep()
    return made
  }

  /** `port namespace/hostname`, for those who look. */
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
