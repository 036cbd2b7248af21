/**
 * A service's port under the traffic policy that applies to it, and what is counted of it: what Envoy calls a cluster.
 * Counts are those of this process.
 */
import { isDeepStrictEqual } from 'node:util'
import { usableEndpoints, type UsableEndpoint } from '../../shared/mesh/pick.ts'
import type { Service, Workload, WorkloadUid } from '../../shared/mesh/model.ts'
import type { Ip } from '../../shared/net/address.ts'
import { steadyClock, type Clock } from '../../shared/runtime/clock.ts'
import { MeshError } from '../../shared/runtime/errors.ts'
import { Balancer } from '../balancing/balancer.ts'
import type { Endpoint } from '../balancing/endpoint.ts'
import { keyHashOf, type Keyed, type KeyHash } from '../balancing/hash-key.ts'
import { HeaderList } from '../http/header-list.ts'
import { ownWorkload } from '../own-workload.ts'
import type { Means } from '../pick-pod.ts'
import { CircuitBreaker } from '../resilience/circuit-breaker.ts'
import { OutlierDetection, type OutlierEvents } from '../resilience/outlier-detection.ts'
import { RetryBudget } from '../resilience/retry-budget.ts'
import type { TrafficPolicy } from '../traffic-policy.ts'
import { TlsOrigination } from './backend-tls.ts'
import type { Terms } from './place.ts'
import type { Target } from './tunnels.ts'

export interface ClusterDeps extends Means {
  readonly events: OutlierEvents
  readonly clock?: Clock
  /** That its pods have to have; undefined: all pods. */
  readonly labels?: ReadonlyMap<string, string> | undefined
}

export interface Choice {
  /** Avoided while there are others. */
  readonly tried: ReadonlySet<WorkloadUid>
  /** Requests under way to a port of a workload. */
  readonly load: (uid: WorkloadUid, port: number) => number
  /** Of what the policy looks at in the request; undefined: it has nothing of it. */
  readonly hash: number | undefined
  /** Where they are not those that the mesh knows. */
  readonly endpoints?: readonly UsableEndpoint[] | undefined
}

const noHead = { target: '', headers: new HeaderList() }

export class Cluster {
  readonly policy: TrafficPolicy
  readonly labels: ReadonlyMap<string, string> | undefined
  /** For its connections. */
  readonly terms: Terms
  readonly breaker: CircuitBreaker
  readonly #deps: ClusterDeps
  readonly #clock: Clock
  readonly #outliers: OutlierDetection | undefined
  readonly #budget: RetryBudget | undefined
  #balanced: Balanced | undefined

  /** `breaker`: of the cluster whose policy was another one, if there was one; what is under way stays counted. */
  constructor(policy: TrafficPolicy, deps: ClusterDeps, breaker = new CircuitBreaker(policy.limits)) {
    this.policy = policy
    this.labels = deps.labels
    this.breaker = breaker
    breaker.limitTo(policy.limits)
    const tls = policy.tls && new TlsOrigination(policy.tls)
    this.terms = { counts: breaker, ...policy.connections, tls }
    this.#deps = deps
    this.#clock = deps.clock ?? steadyClock
    const { outliers, retryBudget } = policy
    this.#outliers = outliers && new OutlierDetection(outliers, this.#clock, deps.events)
    this.#budget = retryBudget && new RetryBudget(retryBudget, this.#clock)
  }

  /** Pods that are left out now. */
  get ejected(): number {
    return this.#outliers?.ejected ?? 0
  }

  /** What of a request decides on its pod, where the policy wants that. */
  keyOf(request: Keyed): KeyHash | undefined {
    const { balancing } = this.policy
    return balancing.kind === 'consistent-hash' ? keyHashOf(balancing.key, request) : undefined
  }

  /** Of a connection that is carried as it is only the address is known. */
  keyOfConnection(sourceIp: Ip): number | undefined {
    const { balancing } = this.policy
    if (balancing.kind !== 'consistent-hash' || balancing.key.from !== 'source-ip') return undefined
    return this.keyOf({ head: noHead, sourceIp })?.hash
  }

  /** Undefined: nobody can be used. */
  pick(service: Service, port: number, { tried, load, hash, endpoints }: Choice): Target | undefined {
    const { random } = this.#deps
    return this.#balancerOf(service, port, endpoints).choose({
      random,
      now: this.#clock.now(),
      active: ({ workload, port }) => load(workload.uid, port),
      usable: this.#usable,
      tried,
      hash
    })
  }

  /** For what it answered before. */
  leavesOut({ workload }: Target): boolean {
    return this.#outliers?.usable(workload.uid) === false
  }

  /** False: as many requests are under way as there may be. True: {@link requestEnded}, once. */
  requestBegins(): boolean {
    if (!this.breaker.tryAcquire('requests')) return false
    this.#budget?.requestBegan()
    return true
  }

  requestEnded(): void {
    this.breaker.release('requests')
    this.#budget?.requestEnded()
  }

  /** False: enough requests are being sent again. True: {@link retryEnded}, once. */
  retryBegins(): boolean {
    return this.#budget === undefined ? this.breaker.tryAcquire('retries') : this.#budget.tryAcquire()
  }

  retryEnded(): void {
    if (this.#budget === undefined) this.breaker.release('retries')
    else this.#budget.release()
  }

  answered({ workload }: Target, status: number): void {
    this.#outliers?.answered(workload.uid, status)
  }

  /** Without an answer. That its ztunnel or application refuses *us* says nothing of how well it is. */
  failed({ workload }: Target, error?: unknown): void {
    if (error instanceof MeshError && error.peerStatus === 401) return
    this.#outliers?.failedLocally(workload.uid)
  }

  readonly #usable = ({ workload }: Endpoint): boolean => this.#outliers?.usable(workload.uid) ?? true

  /** With the members that the service has now. */
  #balancerOf(service: Service, port: number, given?: readonly UsableEndpoint[]): Balancer {
    const { view, config, labels } = this.#deps
    const mesh = view()
    const here = ownWorkload(mesh, config)
    const found = given ?? usableEndpoints(mesh, service, port, here)
    const known = this.#balanced
    if (known?.found === found && known.nearness === service.loadBalancer && known.here === here) {
      return known.balancer
    }
    // What is decoded anew may say the same; a new balancer would forget whose turn it is.
    const same =
      known !== undefined &&
      isDeepStrictEqual(known.nearness, service.loadBalancer) &&
      isDeepStrictEqual(known.here, here)
    const balancer = same ? known.balancer : new Balancer(this.policy, here, service.loadBalancer)
    this.#balanced = { balancer, found, nearness: service.loadBalancer, here }
    if (same && known.found === found) return balancer
    const endpoints = found
      .filter(({ workload }) => has(workload.labels, labels))
      .map(({ workload, port, capacity }) => ({
        workload,
        port,
        weight: capacity,
        labels: workload.labels
      }))
    balancer.update(endpoints, this.#clock.now())
    this.#outliers?.members(endpoints.map(({ workload }) => workload.uid))
    return balancer
  }
}

function has(labels: Workload['labels'], wanted: ReadonlyMap<string, string> | undefined): boolean {
  return wanted === undefined || [...wanted].every(([name, value]) => labels.get(name) === value)
}

/** What a balancer was made of. */
interface Balanced {
  readonly balancer: Balancer
  readonly found: readonly UsableEndpoint[]
  readonly nearness: Service['loadBalancer']
  readonly here: Workload
}
