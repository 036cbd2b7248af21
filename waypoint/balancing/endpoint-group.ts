/** Endpoints that are alike in their place, and the choice of one of them. */
import type { WorkloadUid } from '../../shared/mesh/model.ts'
import type { Balancing, Warmup } from '../traffic-policy.ts'
import type { Request } from './balancer.ts'
import type { Endpoint } from './endpoint.ts'
import { byName, slotsOf, type Slots } from './slots.ts'
import { Turns } from './turns.ts'
import { warmth } from './warmup.ts'
import { WeightedRows } from './weighted-rows.ts'

/** When each workload joined, in the time of `Request.now`. */
export type Joined = ReadonlyMap<WorkloadUid, number>

/** Draws that may meet endpoints which cannot be used, before all are looked through. */
const draws = 16
/** Slots after the one of a hash, before all endpoints are looked through. */
const stepsOnTable = 128

export class EndpointGroup {
  readonly #balancing: Balancing
  readonly #warmup: Warmup | undefined
  #endpoints: readonly Endpoint[] = []
  /** Times of joining, by row. */
  #joined = new Float64Array()
  /** By row; those of new endpoints as of the last {@link warm}. */
  #weights = new Float64Array()
  #rows = new WeightedRows(this.#weights)
  /** Made for the first request, whose chance says where they begin. */
  #turns: Turns | undefined
  #slots: Slots | undefined

  constructor(balancing: Balancing) {
    this.#balancing = balancing
    this.#warmup = 'warmup' in balancing ? balancing.warmup : undefined
  }

  get size(): number {
    return this.#endpoints.length
  }

  /** Tables are made anew only where members or weights changed; who stays keeps its place among the turns. */
  update(endpoints: readonly Endpoint[], joined: Joined): void {
    const before = this.#endpoints
    const members = this.#balancing.kind === 'consistent-hash' ? endpoints.toSorted(byName) : endpoints
    this.#endpoints = members
    this.#joined = Float64Array.from(members, ({ workload }) => joined.get(workload.uid) ?? 0)
    if (isAlike(before, members)) return
    this.#weights = Float64Array.from(members, ({ weight }) => weight)
    this.#rows = new WeightedRows(this.#weights)
    this.#slots =
      this.#balancing.kind === 'consistent-hash' && members.length > 0
        ? slotsOf(this.#balancing.table, members)
        : undefined
    if (this.#turns !== undefined) this.#turns = continued(this.#turns, before, members)
  }

  /** Weighs new endpoints by their age. */
  warm(now: number): void {
    for (const row of this.#weights.keys()) this.#weights[row] = this.#weightAt(row, now)
    this.#rows.weigh(this.#weights)
    this.#turns?.hasten(this.#weights)
  }

  countUsable({ usable }: Request): number {
    return this.#endpoints.reduce((count, endpoint) => (usable(endpoint) ? count + 1 : count), 0)
  }

  /** `tried`: not these, except where a key decides. */
  choose(request: Request, tried: Request['tried'] | undefined): Endpoint | undefined {
    if (this.#endpoints.length === 0) return undefined
    return this.#endpoints[this.#chooseRow(request, tried)]
  }

  #chooseRow(request: Request, tried: Request['tried'] | undefined): number {
    if (this.#slots !== undefined && request.hash !== undefined) {
      return this.#onTable(this.#slots, request.hash, request)
    }
    const first = this.#draw(request, tried)
    return this.#balancing.kind === 'least-request' ? this.#lessBusy(first, request, tried) : first
  }

  /** Who comes after one that cannot be used is the same for every key of a slot, so that keys stay together. */
  #onTable(slots: Slots, hash: number, request: Request): number {
    const { rows } = slots
    const start = slots.slotOf(hash)
    const steps = Math.min(stepsOnTable, rows.length)
    for (let step = 0; step < steps; step += 1) {
      const row = rows[(start + step) % rows.length] ?? 0
      if (this.#fits(row, request, undefined)) return row
    }
    return this.#search(hash / 2 ** 32, request, undefined)
  }

  /** -1 where none fits. */
  #draw(request: Request, tried: Request['tried'] | undefined): number {
    for (let draw = 0; draw < draws; draw += 1) {
      const row =
        this.#balancing.kind === 'round-robin' ? this.#takeTurn(request) : this.#rows.draw(request.random())
      if (this.#fits(row, request, tried)) return row
    }
    return this.#search(request.random(), request, tried)
  }

  #takeTurn({ now, random }: Request): number {
    this.#turns ??= new Turns(
      Float64Array.from(this.#endpoints, spreadFrom(random(), this.#endpoints.length))
    )
    const row = this.#turns.next
    this.#turns.pass(1 / this.#weightAt(row, now))
    return row
  }

  /**
   * The less loaded of two chances is nearly as good as the least of all, and does not send everybody there. Load is
   * counted by weight; where it is the same, the first chance keeps the shares as the weights say.
   */
  #lessBusy(first: number, request: Request, tried: Request['tried'] | undefined): number {
    if (first < 0) return first
    for (let draw = 0; draw < draws; draw += 1) {
      const second = this.#rows.drawOther(request.random(), first)
      if (second < 0) return first
      if (!this.#fits(second, request, tried)) continue
      return this.#loadOf(second, request) < this.#loadOf(first, request) ? second : first
    }
    return first
  }

  #loadOf(row: number, { active }: Request): number {
    const endpoint = this.#endpoints[row]
    return endpoint === undefined ? Infinity : active(endpoint) / (this.#weights[row] ?? 0)
  }

  #fits(row: number, { usable }: Request, tried: Request['tried'] | undefined): boolean {
    const endpoint = this.#endpoints[row]
    return endpoint !== undefined && usable(endpoint) && tried?.has(endpoint.workload.uid) !== true
  }

  /** By weight among all that fit; -1 where there are none. */
  #search(chance: number, request: Request, tried: Request['tried'] | undefined): number {
    let together = 0
    for (let row = 0; row < this.#endpoints.length; row += 1) {
      if (this.#fits(row, request, tried)) together += this.#weights[row] ?? 0
    }
    let left = chance * together
    let last = -1
    for (let row = 0; row < this.#endpoints.length; row += 1) {
      if (!this.#fits(row, request, tried)) continue
      left -= this.#weights[row] ?? 0
      last = row
      if (left < 0) break
    }
    return last
  }

  #weightAt(row: number, now: number): number {
    const weight = this.#endpoints[row]?.weight ?? 0
    return this.#warmup === undefined ? weight : weight * warmth(this.#warmup, now - (this.#joined[row] ?? 0))
  }
}

function isAlike(some: readonly Endpoint[], others: readonly Endpoint[]): boolean {
  return (
    some.length === others.length &&
    some.every(({ workload, port, weight }, row) => {
      const other = others[row]
      return workload.uid === other?.workload.uid && port === other.port && weight === other.weight
    })
  )
}

/** First turns: one after the other within one step, from a row that each process chooses by itself. */
function spreadFrom(chance: number, count: number): (endpoint: Endpoint, row: number) => number {
  const start = Math.floor(chance * count)
  return ({ weight }, row) => (((row + count - start) % count) + 0.5) / count / weight
}

function continued(turns: Turns, before: readonly Endpoint[], members: readonly Endpoint[]): Turns {
  const due = new Map(before.map(({ workload }, row) => [workload.uid, turns.dueOf(row)]))
  const start = turns.now
  const first = spreadFrom(0, members.length)
  return new Turns(
    Float64Array.from(
      members,
      (endpoint, row) => due.get(endpoint.workload.uid) ?? start + first(endpoint, row)
    )
  )
}
