/** Lists of slots in shared memory: a service's endpoints, a namespace's policies. Owned by the writing thread. */
import { ROW_WORDS, Slot } from './memory.ts'
import type { MeshMemoryWriter } from './memory-writer.ts'

const firstCapacity = 4

export class SharedLists {
  readonly #writer: MeshMemoryWriter
  /** Rows that a list's block has room for. */
  readonly #capacity = new Map<number, number>()

  constructor(writer: MeshMemoryWriter) {
    this.#writer = writer
  }

  /** Adds the member (`known`: gives it another value); makes the list when there is none. */
  put(kind: number, hashedKey: string, key: string, member: number, value: number, known = false): void {
    const list = this.#find(kind, hashedKey, key) ?? this.#create(kind, hashedKey, key)
    const { memory } = this.#writer
    const row = (known ? this.#rowOf(list, member) : undefined) ?? this.#append(list)
    const at = memory.word(list, Slot.at) + row * ROW_WORDS
    memory.heap[at] = member
    memory.heap[at + 1] = value
    this.#writer.set(list, Slot.version, this.#writer.nextVersion())
  }

  /** Takes the member out; the last row takes its place, and an empty list goes. */
  remove(kind: number, hashedKey: string, key: string, member: number): void {
    const { memory } = this.#writer
    const list = this.#find(kind, hashedKey, key)
    const row = list === undefined ? undefined : this.#rowOf(list, member)
    if (list === undefined || row === undefined) return
    const last = memory.word(list, Slot.length) - 1
    const start = memory.word(list, Slot.at)
    memory.heap.copyWithin(start + row * ROW_WORDS, start + last * ROW_WORDS, start + (last + 1) * ROW_WORDS)
    this.#writer.set(list, Slot.length, last)
    this.#writer.set(list, Slot.version, this.#writer.nextVersion())
    if (last === 0) this.#destroy(list, hashedKey)
  }

  #find(kind: number, hashedKey: string, key: string): number | undefined {
    const { memory } = this.#writer
    return memory.find(
      memory.hash(hashedKey),
      slot =>
        memory.word(slot, Slot.kind) === kind &&
        memory.readText(memory.word(slot, Slot.keyAt), memory.word(slot, Slot.keyLength)) === key
    )
  }

  #create(kind: number, hashedKey: string, key: string): number {
    const list = this.#writer.addSlot(kind)
    const text = this.#writer.addText(key)
    this.#writer.set(list, Slot.keyAt, text.at)
    this.#writer.set(list, Slot.keyLength, text.length)
    this.#writer.set(list, Slot.at, this.#writer.allocate(firstCapacity * ROW_WORDS))
    this.#capacity.set(list, firstCapacity)
    this.#writer.addEntry(this.#writer.memory.hash(hashedKey), list)
    return list
  }

  #destroy(list: number, hashedKey: string): void {
    const { memory } = this.#writer
    this.#writer.removeEntry(this.#writer.memory.hash(hashedKey), list)
    this.#writer.release(memory.word(list, Slot.at), (this.#capacity.get(list) ?? 0) * ROW_WORDS)
    this.#writer.releaseText(memory.word(list, Slot.keyAt), memory.word(list, Slot.keyLength))
    this.#capacity.delete(list)
    this.#writer.freeSlot(list)
  }

  #rowOf(list: number, member: number): number | undefined {
    const { memory } = this.#writer
    const start = memory.word(list, Slot.at)
    const length = memory.word(list, Slot.length)
    for (let row = 0; row < length; row += 1) if (memory.heap[start + row * ROW_WORDS] === member) return row
    return undefined
  }

  /** A row at the end, in a block twice as large when the old one is full. */
  #append(list: number): number {
    const { memory } = this.#writer
    const length = memory.word(list, Slot.length)
    const capacity = this.#capacity.get(list) ?? 0
    if (length === capacity) {
      const old = memory.word(list, Slot.at)
      const at = this.#writer.allocate(capacity * 2 * ROW_WORDS)
      this.#writer.memory.heap.copyWithin(at, old, old + length * ROW_WORDS)
      this.#writer.release(old, capacity * ROW_WORDS)
      this.#writer.set(list, Slot.at, at)
      this.#capacity.set(list, capacity * 2)
    }
    this.#writer.set(list, Slot.length, length + 1)
    return length
  }
}
