/** Port maps, which many endpoints have in common, held once and counted. Owned by the writing thread. */
import type { MeshMemoryWriter } from './memory-writer.ts'
import type { PortMap } from './model.ts'

/** On the heap: a count, then pairs of service port and target port. */
export class SharedPorts {
  readonly #writer: MeshMemoryWriter
  readonly #known = new Map<string, { readonly at: number; uses: number }>()

  constructor(writer: MeshMemoryWriter) {
    this.#writer = writer
  }

  /** Where the map lies; 0 is the empty one. */
  take(ports: PortMap): number {
    if (ports.size === 0) return 0
    const pairs = [...ports].flat()
    const name = pairs.join()
    const known = this.#known.get(name)
    if (known !== undefined) {
      known.uses += 1
      return known.at
    }
    const at = this.#writer.allocate(pairs.length + 1)
    this.#writer.memory.heap[at] = ports.size
    this.#writer.memory.heap.set(pairs, at + 1)
    this.#known.set(name, { at, uses: 1 })
    return at
  }

  release(ports: PortMap): void {
    const name = [...ports].flat().join()
    const known = this.#known.get(name)
    if (known === undefined) return
    known.uses -= 1
    if (known.uses > 0) return
    this.#known.delete(name)
    this.#writer.release(known.at, ports.size * 2 + 1)
  }
}
