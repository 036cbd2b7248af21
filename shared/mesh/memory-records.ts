/** Records of the shared memory as values, decoded when asked for; what was used lately is kept, by version. */
import { Flag, Slot, type Kind, type MeshMemory } from './memory.ts'
import type { Policy, Service, Workload } from './model.ts'
import { Recent } from './recent.ts'
import { unpackPolicy, unpackService, unpackWorkload } from './record.ts'

/** Values kept of each kind, up to twice as many: a few MB a thread. */
const kept = { workloads: 1024, services: 512, policies: 1024, derived: 64 }

interface Held<T> {
  readonly version: number
  readonly value: T
}

export class MeshRecords {
  readonly memory: MeshMemory
  readonly #workloads = new Recent<number, Held<Workload>>(kept.workloads)
  readonly #services = new Recent<number, Held<Service>>(kept.services)
  readonly #policies = new Recent<number, Held<Policy>>(kept.policies)
  readonly #derived = new Recent<number, Held<Map<string, unknown>>>(kept.derived)
  /** What was kept since the last `settle`: wrong, should the writer have moved underneath. */
  readonly #unsettled: (() => void)[] = []

  readonly #tracked: boolean

  /** `tracked`: reads may turn out wrong, and `settle` is called after them. */
  constructor(memory: MeshMemory, tracked: boolean) {
    this.memory = memory
    this.#tracked = tracked
  }

  workload(slot: number): Workload {
    return this.#recent(this.#workloads, slot, this.decodeWorkload)
  }

  service(slot: number): Service {
    return this.#recent(this.#services, slot, this.decodeService)
  }

  policy(slot: number): Policy {
    return this.#recent(this.#policies, slot, slot => unpackPolicy(this.#text(slot)))
  }

  /** What was made from a list, kept until the list or one of its members changes. */
  ofList(slot: number): Map<string, unknown> {
    return this.#recent(this.#derived, slot, () => new Map<string, unknown>())
  }

  /** Without keeping it, for walks over everything. */
  readonly decodeWorkload = (slot: number): Workload => unpackWorkload(this.#text(slot))
  readonly decodeService = (slot: number): Service => unpackService(this.#text(slot))

  listKey(slot: number): string {
    const { memory } = this
    return memory.readText(memory.word(slot, Slot.keyAt), memory.word(slot, Slot.keyLength))
  }

  is(slot: number, kind: number): boolean {
    return this.memory.word(slot, Slot.kind) === kind
  }

  /** Pods that speak HBONE, then pods, then HBONE, then the rest: who is meant when several claim an address. */
  workloadRank(slot: number): number {
    const flags = this.memory.word(slot, Slot.flags)
    return ((flags & Flag.pod) === 0 ? 0 : 2) + ((flags & Flag.hbone) === 0 ? 0 : 1)
  }

  *all(kind: (typeof Kind)[keyof typeof Kind]): Iterable<number> {
    const { memory } = this
    for (let slot = 0; slot < memory.slotCount; slot += 1) if (this.is(slot, kind)) yield slot
  }

  /** What was read is right, or, when the writer moved underneath, to be forgotten. */
  settle(right: boolean): void {
    if (!right) for (const forget of this.#unsettled) forget()
    this.#unsettled.length = 0
  }

  onUnsettled(forget: () => void): void {
    if (this.#tracked) this.#unsettled.push(forget)
  }

  #recent<T>(cache: Recent<number, Held<T>>, slot: number, make: (slot: number) => T): T {
    const version = this.memory.word(slot, Slot.version)
    const held = cache.get(slot)
    if (held?.version === version) return held.value
    const value = make(slot)
    cache.set(slot, { version, value })
    this.onUnsettled(() => cache.delete(slot))
    return value
  }

  #text(slot: number): string {
    const { memory } = this
    return memory.readText(memory.word(slot, Slot.at), memory.word(slot, Slot.length))
  }
}
