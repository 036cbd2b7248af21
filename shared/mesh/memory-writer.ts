/**
 * The one thread that writes the mesh's shared memory: slots, index entries, heap blocks. What is freed is used
 * again, so that changes do not make it grow. Free lists and counts are this thread's alone.
 */
import { randomInt } from 'node:crypto'
import { ENTRY_WORDS, Header, Kind, MeshMemory, Slot, type SharedMesh } from './memory.ts'

/** Address space that the areas may grow into; memory is only taken for what is used. */
const limits = { slots: 2 ** 28, index: 2 ** 28, heap: 2 ** 30 }
const initialBytes = { slots: 2 ** 16, index: 2 ** 14, heap: 2 ** 18 }

export class MeshMemoryWriter {
  readonly memory: MeshMemory
  readonly #freeSlots: number[] = []
  /** Offsets of free heap blocks, by their size in words. */
  readonly #freeBlocks = new Map<number, number[]>()
  /** The first heap word that was never used. Word 0 stays unused, so that 0 can mean none. */
  #heapTop = 8
  #indexUsed = 0
  #version = 0
  #born = 0
  readonly #fence = new Int32Array(new SharedArrayBuffer(4))

  constructor() {
    const area = (name: keyof typeof limits): SharedArrayBuffer =>
      new SharedArrayBuffer(initialBytes[name], { maxByteLength: limits[name] })
    const shared: SharedMesh = {
      header: new SharedArrayBuffer(Header.words * 4),
      slots: area('slots'),
      index: area('index'),
      heap: area('heap')
    }
    const header = new Int32Array(shared.header)
    header[Header.indexEntries] = initialBytes.index / (ENTRY_WORDS * 4)
    header[Header.seed] = randomInt(2 ** 32)
    this.memory = new MeshMemory(shared)
  }

  /** Runs changes that readers see all at once. */
  write(change: () => void): void {
    const { header } = this.memory
    const sequence = header[Header.sequence] ?? 0
    Atomics.store(header, Header.sequence, sequence + 1)
    Atomics.load(this.#fence, 0) // the writes below may not come before the store above
    try {
      change()
    } finally {
      Atomics.store(header, Header.sequence, (sequence + 2) | 0)
      Atomics.notify(header, Header.sequence)
    }
  }

  nextVersion(): number {
    this.#version = (this.#version + 1) >>> 0
    return this.#version
  }

  /** A slot of this kind, otherwise zero. */
  addSlot(kind: number): number {
    let slot = this.#freeSlots.pop()
    if (slot === undefined) {
      slot = this.memory.header[Header.slots] ?? 0
      this.#reserve('slots', (slot + 1) * Slot.words * 4)
      this.memory.header[Header.slots] = slot + 1
    }
    const start = slot * Slot.words
    this.memory.slots.fill(0, start, start + Slot.words)
    this.#born = (this.#born + 1) >>> 0
    this.set(slot, Slot.kind, kind)
    this.set(slot, Slot.born, this.#born)
    return slot
  }

  freeSlot(slot: number): void {
    this.set(slot, Slot.kind, Kind.free)
    this.set(slot, Slot.version, this.nextVersion())
    this.#freeSlots.push(slot)
  }

  set(slot: number, field: number, value: number): void {
    this.memory.slots[slot * Slot.words + field] = value
  }

  /** A heap block of at least so many words; its offset. */
  allocate(words: number): number {
    const size = sizeClass(words)
    const free = this.#freeBlocks.get(size)?.pop()
    if (free !== undefined) return free
    const at = this.#heapTop
    this.#reserve('heap', (at + size) * 4)
    this.#heapTop += size
    return at
  }

  release(at: number, words: number): void {
    const size = sizeClass(words)
    const free = this.#freeBlocks.get(size)
    if (free === undefined) this.#freeBlocks.set(size, [at])
    else free.push(at)
  }

  /** Puts a text on the heap; its offset, and its length in bytes. */
  addText(text: string): { at: number; length: number } {
    const length = Buffer.byteLength(text)
    const at = this.allocate(textWords(length))
    this.memory.writeText(at, text)
    return { at, length }
  }

  releaseText(at: number, length: number): void {
    this.release(at, textWords(length))
  }

  addEntry(hash: number, slot: number): void {
    const entries = this.memory.header[Header.indexEntries] ?? 1
    if ((this.#indexUsed + 1) * 2 > entries) this.#growIndex(entries * 2)
    this.#indexUsed += 1
    this.#insert(hash, slot)
  }

  /** Removes one entry of this hash and slot, and closes the gap: a search ends at the first free entry. */
  removeEntry(hash: number, slot: number): void {
    const { index, header } = this.memory
    const mask = (header[Header.indexEntries] ?? 1) - 1
    let hole = hash & mask
    while (index[hole * ENTRY_WORDS] !== hash || index[hole * ENTRY_WORDS + 1] !== slot + 1) {
      if (index[hole * ENTRY_WORDS + 1] === 0) throw new Error(`no index entry for slot ${slot}`)
      hole = (hole + 1) & mask
    }
    for (let entry = (hole + 1) & mask; index[entry * ENTRY_WORDS + 1] !== 0; entry = (entry + 1) & mask) {
      const home = (index[entry * ENTRY_WORDS] ?? 0) & mask
      // It may move into the hole unless its home lies after the hole, on the way to where it is.
      if (((entry - home) & mask) < ((entry - hole) & mask)) continue
      index[hole * ENTRY_WORDS] = index[entry * ENTRY_WORDS] ?? 0
      index[hole * ENTRY_WORDS + 1] = index[entry * ENTRY_WORDS + 1] ?? 0
      hole = entry
    }
    index[hole * ENTRY_WORDS + 1] = 0
    this.#indexUsed -= 1
  }

  /** Bytes taken from the system, for tests and figures. */
  usage(): { slots: number; index: number; heap: number; heapUsed: number } {
    const { slots, index, heap } = this.memory.shared
    return {
      slots: slots.byteLength,
      index: index.byteLength,
      heap: heap.byteLength,
      heapUsed: this.#heapTop * 4
    }
  }

  #insert(hash: number, slot: number): void {
    const { index, header } = this.memory
    const mask = (header[Header.indexEntries] ?? 1) - 1
    let entry = hash & mask
    while (index[entry * ENTRY_WORDS + 1] !== 0) entry = (entry + 1) & mask
    index[entry * ENTRY_WORDS] = hash
    index[entry * ENTRY_WORDS + 1] = slot + 1
  }

  #growIndex(entries: number): void {
    const { index } = this.memory
    const old = index.slice()
    this.#reserve('index', entries * ENTRY_WORDS * 4)
    this.memory.index.fill(0)
    this.memory.header[Header.indexEntries] = entries
    for (let at = 0; at < old.length; at += ENTRY_WORDS) {
      const slot = old[at + 1] ?? 0
      if (slot !== 0) this.#insert(old[at] ?? 0, slot - 1)
    }
  }

  #reserve(area: keyof typeof limits, bytes: number): void {
    const buffer = this.memory.shared[area]
    if (bytes <= buffer.byteLength) return
    if (bytes > limits[area]) {
      throw new Error(
        `the mesh does not fit: its ${area} would take ${bytes} bytes of at most ${limits[area]}`
      )
    }
    // By a quarter, so that a large mesh does not double its memory for one more pod; the index has its own steps.
    const step = area === 'index' ? bytes : Math.max(bytes, buffer.byteLength + (buffer.byteLength >> 2))
    buffer.grow(Math.min(limits[area], Math.ceil(step / 0x10000) * 0x10000))
    this.memory.header[Header.layout] = (this.memory.header[Header.layout] ?? 0) + 1
    this.memory.refresh()
  }
}

function textWords(bytes: number): number {
  return (bytes + 3) >> 2
}

/** Sizes in steps of 8 words up to 256, then of an eighth of the size: blocks of like size replace each other. */
function sizeClass(words: number): number {
  const step = words <= 256 ? 8 : 2 ** (28 - Math.clz32(words - 1))
  return Math.ceil(words / step) * step
}
