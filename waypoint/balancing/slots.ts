/** Tables that tell from a hash which row a request belongs to, and who comes after that one. */
import { hashOf, mixed } from '../../shared/mesh/hash.ts'
import type { HashTable } from '../traffic-policy.ts'
import type { Endpoint } from './endpoint.ts'

export interface Slots {
  /** The row that each slot belongs to. */
  readonly rows: Uint32Array
  /** Hashes are 32 bits without sign. */
  slotOf(hash: number): number
}

/**
 * The same for the same endpoints in every process, so that all replicas send a key to one pod; therefore in the
 * order of {@link byName}. There has to be one.
 */
export function slotsOf(table: HashTable, endpoints: readonly Endpoint[]): Slots {
  return table.kind === 'ring' ? ringOf(endpoints, table.minimumSize) : maglevOf(endpoints, table.size)
}

export function byName(a: Endpoint, b: Endpoint): number {
  if (a.workload.uid !== b.workload.uid) return a.workload.uid < b.workload.uid ? -1 : 1
  return a.port - b.port
}

function hashOfEndpoint({ workload, port }: Endpoint): number {
  return mixed(hashOf(workload.uid), port)
}

/** Eight million, as Envoy bounds rings that are asked for. */
const largestRing = 8_388_608
/** Beyond it weights are rounded rather than a ring made larger than was asked for. */
const largestOfOwn = 1_048_576

/**
 * Points on a circle, the more the heavier; a key belongs to the next one. An endpoint that comes or goes moves its own
 * keys, and about as many again where the number of points for each changes with it. That number depends on the members
 * alone, since replicas have seen different ones before. Source: Envoy's published ring hash.
 */
function ringOf(endpoints: readonly Endpoint[], minimumSize: number): Slots {
  const together = endpoints.reduce((sum, { weight }) => sum + weight, 0)
  const lightest = endpoints.reduce((least, { weight }) => Math.min(least, weight), Infinity) / together
  const wanted = Math.min(minimumSize, largestRing)
  const size = Math.min(Math.ceil(lightest * wanted) / lightest, Math.max(wanted, largestOfOwn))
  const points: number[] = []
  for (const [row, endpoint] of endpoints.entries()) {
    const own = hashOfEndpoint(endpoint)
    const count = Math.max(1, Math.round((endpoint.weight / together) * size))
    for (let index = 0; index < count; index += 1) {
      points.push(mixed(own, index) * endpoints.length + row) // exact: 32 bits times at most 2 ** 21
    }
  }
  const sorted = Float64Array.from(points).toSorted()
  return new Ring(
    Uint32Array.from(sorted, point => Math.floor(point / endpoints.length)),
    Uint32Array.from(sorted, point => point % endpoints.length)
  )
}

class Ring implements Slots {
  readonly rows: Uint32Array
  readonly #points: Uint32Array

  constructor(points: Uint32Array, rows: Uint32Array) {
    this.#points = points
    this.rows = rows
  }

  slotOf(hash: number): number {
    let low = 0
    let high = this.#points.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#points[middle] ?? 0) >= hash) high = middle
      else low = middle + 1
    }
    return low === this.#points.length ? 0 : low
  }
}

/**
 * Each endpoint takes slots in an order of its own, in turns; lighter ones leave turns out. An endpoint that comes or
 * goes moves few other keys than its own, and shares are even. `size` is a prime, so that each order meets every slot.
 * Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 2016, section 3.4.
 */
function maglevOf(endpoints: readonly Endpoint[], size: number): Slots {
  const heaviest = endpoints.reduce((most, { weight }) => Math.max(most, weight), 0)
  const entries = endpoints.map((endpoint, row) => {
    const hash = hashOfEndpoint(endpoint)
    return { row, slot: mixed(hash, 1) % size, skip: (mixed(hash, 2) % (size - 1)) + 1, credit: 0, endpoint }
  })
  const rows = new Uint32Array(size)
  const taken = new Uint8Array(size)
  for (let left = size; left > 0;) {
    for (const entry of entries) {
      entry.credit += entry.endpoint.weight
      if (entry.credit < heaviest || left === 0) continue
      entry.credit -= heaviest
      while (taken[entry.slot] === 1) entry.slot = (entry.slot + entry.skip) % size
      taken[entry.slot] = 1
      rows[entry.slot] = entry.row
      left -= 1
    }
  }
  return { rows, slotOf: hash => hash % size }
}
