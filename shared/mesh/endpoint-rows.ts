/** A service's endpoints read straight from shared memory. */
import { Flag, ROW_WORDS, scopeOrder, Slot, type MeshMemory } from './memory.ts'
import type { MeshRecords } from './memory-records.ts'
import type { Endpoint, PortMap, RoutingScope, Workload, WorkloadUid } from './model.ts'
import type { EndpointScopes, EndpointTable } from './view.ts'

export class EndpointRows implements EndpointTable {
  readonly length: number
  readonly #records: MeshRecords
  readonly #memory: MeshMemory
  readonly #places: { workloadSlot(uid: WorkloadUid): number | undefined }
  readonly #at: number

  /** Without a slot there are no rows. */
  constructor(
    records: MeshRecords,
    places: { workloadSlot(uid: WorkloadUid): number | undefined },
    slot: number | undefined
  ) {
    this.#records = records
    this.#memory = records.memory
    this.#places = places
    this.#at = slot === undefined ? 0 : this.#memory.word(slot, Slot.at)
    this.length = slot === undefined ? 0 : this.#memory.word(slot, Slot.length)
  }

  workload(row: number): Workload {
    return this.#records.workload(this.#slot(row))
  }

  capacity(row: number): number {
    return this.#memory.word(this.#slot(row), Slot.capacity)
  }

  healthy(row: number): boolean {
    return this.#flag(row, Flag.healthy)
  }

  addressable(row: number): boolean {
    return this.#flag(row, Flag.addressable)
  }

  hasGateway(row: number): boolean {
    return this.#flag(row, Flag.gateway)
  }

  targetPort(row: number, servicePort: number): number {
    const { heap } = this.#memory
    const at = this.#ports(row)
    const count = this.#portCount(at)
    for (let pair = 0; pair < count; pair += 1) {
      if (heap[at + 1 + pair * 2] === servicePort) return heap[at + 2 + pair * 2] ?? 0
    }
    return 0
  }

  applicationTunnelPort(row: number): number {
    return this.#flag(row, Flag.applicationTunnel) ? this.#memory.word(this.#slot(row), Slot.tunnelPort) : -1
  }

  scope(row: number, scope: RoutingScope): number {
    return this.#memory.word(this.#slot(row), Slot.scopes + scopeOrder.indexOf(scope))
  }

  scopesOf(source: Workload): EndpointScopes {
    const slot = this.#places.workloadSlot(source.uid)
    const place = (scope: RoutingScope): number =>
      slot === undefined ? -1 : this.#memory.word(slot, Slot.scopes + scopeOrder.indexOf(scope))
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
    return this.#memory.word(this.#slot(row), Slot.hash)
  }

  /** Every endpoint as a value. */
  decode(): readonly Endpoint[] {
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
  }

  #decodePorts(at: number): PortMap {
    const { heap } = this.#memory
    const count = this.#portCount(at)
    return new Map(
      Array.from({ length: count }, (_, pair) => [heap[at + 1 + pair * 2] ?? 0, heap[at + 2 + pair * 2] ?? 0])
    )
  }

  /** Bounded, because a reader may look at a block that is being used for something else. */
  #portCount(at: number): number {
    return at === 0 ? 0 : Math.min(this.#memory.heap[at] ?? 0, 0xffff)
  }

  #slot(row: number): number {
    return this.#memory.heap[this.#at + row * ROW_WORDS] ?? 0
  }

  #ports(row: number): number {
    return this.#memory.heap[this.#at + row * ROW_WORDS + 1] ?? 0
  }

  #flag(row: number, flag: number): boolean {
    return (this.#memory.word(this.#slot(row), Slot.flags) & flag) !== 0
  }
}
