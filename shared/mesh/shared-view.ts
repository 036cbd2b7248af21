/** A worker thread's access to the mesh that another thread writes. */
import { Header, MeshMemory, type SharedMesh } from './memory.ts'
import { MeshRecords } from './memory-records.ts'
import { MemoryView } from './memory-view.ts'
import type { MeshView } from './view.ts'

export type { SharedMesh } from './memory.ts'

/** Longest time between looks, should a wake-up be lost; also how long an aborted wait lingers. */
const longestWaitMs = 1000

export function openSharedMesh(shared: SharedMesh): MeshReader {
  return new MeshReader(shared)
}

export class MeshReader {
  readonly #memory: MeshMemory
  readonly #records: MeshRecords
  readonly #view: MemoryView
  /** Written between the reads and the second look at the sequence: orders them on every processor. */
  readonly #fence = new Int32Array(new SharedArrayBuffer(4))

  constructor(shared: SharedMesh) {
    this.#memory = new MeshMemory(shared)
    this.#records = new MeshRecords(this.#memory, true)
    this.#view = new MemoryView(this.#records)
  }

  /**
   * Runs a pure function on a consistent view, again when the writer moved underneath. The writer holds the memory
   * for about a millisecond at most (a few when an index doubles). What the function throws is thrown.
   * Its result must not hold the view or an iterator of it, and it must not read again inside.
   */
  read<T>(fn: (view: MeshView) => T): T {
    const { header } = this.#memory
    for (;;) {
      const sequence = this.#quietSequence()
      this.#memory.refresh()
      let outcome: { value: T } | { error: unknown }
      try {
        outcome = { value: fn(this.#view) }
      } catch (error) {
        outcome = { error } // perhaps only because what it read was half written
      }
      Atomics.store(this.#fence, 0, 0)
      const right = Atomics.load(header, Header.sequence) === sequence
      this.#records.settle(right)
      if (!right) continue
      if ('error' in outcome) throw outcome.error
      return outcome.value
    }
  }

  /** The first value that is not undefined, looking again after every change; undefined when the signal aborts. */
  async until<T>(fn: (view: MeshView) => T | undefined, signal: AbortSignal): Promise<T | undefined> {
    const aborted = Promise.withResolvers<void>()
    const onAbort = (): void => aborted.resolve()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      while (!signal.aborted) {
        const sequence = Atomics.load(this.#memory.header, Header.sequence)
        const value = this.read(fn)
        if (value !== undefined) return value
        await Promise.race([this.#changeAfter(sequence), aborted.promise])
      }
      return undefined
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Grows with every change of a policy. */
  policyVersion(): number {
    return Atomics.load(this.#memory.header, Header.policyVersion)
  }

  async #changeAfter(sequence: number): Promise<void> {
    await Atomics.waitAsync(this.#memory.header, Header.sequence, sequence, longestWaitMs).value
  }

  /** The sequence number once the writer is not at work. */
  #quietSequence(): number {
    const { header } = this.#memory
    for (let spin = 0; ; spin += 1) {
      const sequence = Atomics.load(header, Header.sequence)
      if ((sequence & 1) === 0) return sequence
      if (spin > 1000) Atomics.wait(header, Header.sequence, sequence, 1)
    }
  }
}
