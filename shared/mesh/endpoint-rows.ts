/** A service's endpoints read straight from shared memory. */
import { Flag, ROW_WORDS, scopeIndex, Slot } from './memory.ts'
import type { MeshRecords } from './memory-records.ts'
import type { Endpoint, PortMap, RoutingScope, Workload, WorkloadUid } from './model.ts'
import type { EndpointScopes, EndpointTable } from './view.ts'

/** Derived values kept for one list; more come only from sources in many different places. */
const maxDerived = 32

export class EndpointRows implements EndpointTable {
  readonly length: number
  readonly #records: MeshRecords
  readonly #places: { workloadSlot(uid: WorkloadUid): number | undefined }
  readonly #list: number | undefined
  readonly #slots: Uint32Array
  readonly #heap: Uint32Array
  readonly #at: number

  /** Without a list there are no rows. */
  constructor(
    records: MeshRecords,
    places: { workloadSlot(uid: WorkloadUid): number | undefined },
    list: number | undefined
  ) {
    const { memory } = records
    this.#records = records
    this.#places = places
    this.#list = list
    this.#slots = memory.slots
    this.#heap = memory.heap
    this.#at = list === undefined ? 0 : memory.word(list, Slot.at)
    this.length = list === undefined ? 0 : memory.word(list, Slot.length)
  }

  workload(row: number): Workload {
    return this.#records.workload(this.#slot(row))
  }

  capacity(row: number): number {
    return this.#word(row, Slot.capacity)
  }

  healthy(row: number): boolean {
    return (this.#word(row, Slot.flags) & Flag.healthy) !== 0
  }

  addressable(row: number): boolean {
    return (this.#word(row, Slot.flags) & Flag.addressable) !== 0
  }

  hasGateway(row: number): boolean {
    return (this.#word(row, Slot.flags) & Flag.gateway) !== 0
  }

  targetPort(row: number, servicePort: number): number {
    const at = this.#ports(row)
    const count = this.#portCount(at)
    for (let pair = 0; pair < count; pair += 1) {
      if (this.#heap[at + 1 + pair * 2] === servicePort) return this.#heap[at + 2 + pair * 2] ?? 0
    }
    return 0
  }

  applicationTunnelPort(row: number): number {
    const hasTunnel = (this.#word(row, Slot.flags) & Flag.applicationTunnel) !== 0
    return hasTunnel ? this.#word(row, Slot.tunnelPort) : -1
  }

  scope(row: number, scope: RoutingScope): number {
    return this.#word(row, Slot.scopes + scopeIndex[scope])
  }

  scopesOf(source: Workload): EndpointScopes {
    const slot = this.#places.workloadSlot(source.uid)
    const place = (scope: RoutingScope): number =>
      slot === undefined ? -1 : (this.#slots[slot * Slot.words + Slot.scopes + scopeIndex[scope]] ?? 0)
    return {
      Region: place('Region'),
      Zone: place('Zone'),
      Subzone: place('Subzone'),
      Node: place('Node'),
      Cluster: place('Cluster'),
      Network: place('Network')
    }
  }

  hash(row: number): number {
    return this.#word(row, Slot.hash)
  }

  derived<T>(key: string, make: () => T): T {
    if (this.#list === undefined) return make()
    const known = this.#records.ofList(this.#list)
    const held = known.get(key)
    if (held !== undefined) return held as T
    const value = make()
    if (known.size >= maxDerived) known.clear()
    known.set(key, value)
    this.#records.onUnsettled(() => known.delete(key))
    return value
  }

  /** Every endpoint as a value. */
  decode(): readonly Endpoint[] {
    return this.derived('endpoints', () => {
      const portMaps = new Map<number, PortMap>() // endpoints with equal ports share one
      return Array.from({ length: this.length }, (_, row) => {
        const at = this.#ports(row)
        const ports = portMaps.get(at) ?? this.#decodePorts(at)
        portMaps.set(at, ports)
        return {
          workloadUid: this.#records.decodeWorkload(this.#slot(row)).uid,
          ports,
          status: this.healthy(row) ? 'Healthy' : 'Unhealthy'
        }
      })
    })
  }

  #decodePorts(at: number): PortMap {
    return new Map(
      Array.from({ length: this.#portCount(at) }, (_, pair) => [
        this.#heap[at + 1 + pair * 2] ?? 0,
        this.#heap[at + 2 + pair * 2] ?? 0
      ])
    )
  }

  /** Bounded, because a reader may look at a block that is being used for something else. */
  #portCount(at: number): number {
    return at === 0 ? 0 : Math.min(this.#heap[at] ?? 0, 0xffff)
  }

  #slot(row: number): number {
    return this.#heap[this.#at + row * ROW_WORDS] ?? 0
  }

  #ports(row: number): number {
    return this.#heap[this.#at + row * ROW_WORDS + 1] ?? 0
  }

  #word(row: number, field: number): number {
    return this.#slots[this.#slot(row) * Slot.words + field] ?? 0
  }
}
