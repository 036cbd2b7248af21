/** Which endpoint of a service port takes a request, by the policy that applies to it. */
import type { LoadBalancer, WorkloadUid } from '../../shared/mesh/model.ts'
import { mixed } from '../../shared/mesh/hash.ts'
import type { TrafficPolicy } from '../traffic-policy.ts'
import { EndpointGroup } from './endpoint-group.ts'
import type { Endpoint, Place } from './endpoint.ts'
import { groupsOf, type Groups } from './nearness.ts'
import { availability, indexByShare, sharesByPriority, sharesByWeight } from './shares.ts'

export interface Request {
  /** A number from 0 up to, not including, 1. */
  readonly random: () => number
  /** Milliseconds, in the time of `update`. */
  readonly now: number
  /** Requests that it is busy with. */
  readonly active: (endpoint: Endpoint) => number
  /** Healthy and not ejected. */
  readonly usable: (endpoint: Endpoint) => boolean
  /** Avoided while there are others, except by consistent hashing. */
  readonly tried: ReadonlySet<WorkloadUid>
  /** 32 bits without sign; undefined: the request has no key. */
  readonly hash: number | undefined
}

/** How old what was counted over all endpoints may be: who is out of use, and weights that grow with time. */
const refreshMs = 500

/** One per service port and subset; lives as long as its policy. */
export class Balancer {
  readonly #policy: Pick<TrafficPolicy, 'balancing' | 'locality' | 'outliers'>
  readonly #here: Place
  readonly #service: LoadBalancer | undefined
  #joined = new Map<WorkloadUid, number>()
  #by: Groups['by'] = 'priority'
  #groups: readonly EndpointGroup[] = []
  #weights: readonly number[] = []
  /** Of the requests, by group. */
  #shares: readonly number[] = []
  #refreshedAt = -Infinity
  /** From then on nobody is new. */
  #warmAt = -Infinity

  /** `service`: what the Service itself says of near and far, for policies that say nothing of it. */
  constructor(
    policy: Pick<TrafficPolicy, 'balancing' | 'locality' | 'outliers'>,
    here: Place,
    service?: LoadBalancer
  ) {
    this.#policy = policy
    this.#here = here
    this.#service = service
  }

  /** Members changed. Who stays keeps its age and its turn, tables of hashes stay where nothing that they tell changed. */
  update(endpoints: readonly Endpoint[], now: number): void {
    const { balancing } = this.#policy
    const known = this.#joined
    this.#joined = new Map(endpoints.map(({ workload: { uid } }) => [uid, known.get(uid) ?? now]))
    const { by, groups } = groupsOf(endpoints, this.#policy, this.#here, this.#service)
    this.#by = by
    this.#weights = groups.map(({ weight }) => weight)
    const before = this.#groups
    this.#groups = groups.map((group, index) => {
      const made = before[index] ?? new EndpointGroup(balancing)
      made.update(group.endpoints, this.#joined)
      return made
    })
    this.#refreshedAt = -Infinity
    if ('warmup' in balancing && balancing.warmup !== undefined) {
      const latest = [...this.#joined.values()].reduce((last, at) => Math.max(last, at), -Infinity)
      this.#warmAt = latest + balancing.warmup.durationMs
    }
  }

  /** Undefined: nobody is usable. Allocates nothing but where the request is the first one for a while. */
  choose(request: Request): Endpoint | undefined {
    this.#refresh(request)
    const hashed = this.#policy.balancing.kind === 'consistent-hash' && request.hash !== undefined
    const index = this.#groups.length > 1 ? indexByShare(this.#shares, chanceOf(request, hashed)) : 0
    if (request.tried.size === 0) return this.#chooseFrom(index, request, undefined)
    return this.#chooseFrom(index, request, request.tried) ?? this.#chooseFrom(index, request, undefined)
  }

  /** Another group where this one has nobody: what was counted may be out of date. */
  #chooseFrom(index: number, request: Request, tried: Request['tried'] | undefined): Endpoint | undefined {
    let found = this.#groups[index]?.choose(request, tried)
    for (let other = 0; found === undefined && other < this.#groups.length; other += 1) {
      if (other !== index) found = this.#groups[other]?.choose(request, tried)
    }
    return found
  }

  #refresh(request: Request): void {
    const { now } = request
    if (now - this.#refreshedAt < refreshMs) return
    if (this.#refreshedAt < this.#warmAt) for (const group of this.#groups) group.warm(now)
    if (this.#groups.length > 1) {
      const available = this.#groups.map(group => availability(group.countUsable(request), group.size))
      this.#shares =
        this.#by === 'priority' ? sharesByPriority(available) : sharesByWeight(available, this.#weights)
    }
    this.#refreshedAt = now
  }
}

/** Where keys decide, they decide on the group as well; by other bits than on the endpoint. */
function chanceOf({ hash = 0, random }: Request, hashed: boolean): number {
  return hashed ? mixed(hash, 1) / 2 ** 32 : random()
}
