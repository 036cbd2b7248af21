/**
 * The shared memory that holds a mesh: where things lie in it, and how the threads that read it know that the
 * one thread that writes it did not move anything underneath (a sequence lock).
 *
 * Four areas. `header`: counters and the lock. `slots`: one row of 16 words per resource or list. `index`: an open
 * hash table from a key's hash to slots, several for one key allowed. `heap`: texts, rows of lists, port maps.
 */

import { hashOf } from './hash.ts'

/** Memory that worker threads open with `openSharedMesh`; may be posted to them. */
export interface SharedMesh {
  readonly header: SharedArrayBuffer
  readonly slots: SharedArrayBuffer
  readonly index: SharedArrayBuffer
  readonly heap: SharedArrayBuffer
}

/** Words of the header. */
export const Header = {
  /** Odd while the writer is at work. Whoever waits for a change waits here. */
  sequence: 0,
  /** Slots that were ever used; beyond are none. */
  slots: 1,
  /** Entries of the index, a power of two. */
  indexEntries: 2,
  /** Counts growth of the areas: readers look at the new sizes. */
  layout: 3,
  /** Counts changes of policies. */
  policyVersion: 4,
  /** Bit n of these words: there is a CIDR VIP with a prefix of n bits. IPv4 takes two words, IPv6 five. */
  prefixes4: 5,
  prefixes6: 7,
  /** Seed of the keys' hashes. */
  seed: 12,
  words: 16
} as const

/** Words of a slot. */
export const Slot = {
  kind: 0,
  /** Text, or rows of a list: word offset in the heap. */
  at: 1,
  /** Bytes of the text, or rows of the list. */
  length: 2,
  /** Different for every content that any slot ever had. */
  version: 3,
  /** Grows with every new resource: who was there first. */
  born: 4,
  flags: 5,
  /** Hash of a workload's uid. */
  hash: 6,
  // Workloads: what picking reads.
  capacity: 7,
  tunnelPort: 8,
  scopes: 9, // Region, Zone, Subzone, Node, Cluster, Network
  // Lists: their key.
  keyAt: 7,
  keyLength: 8,
  words: 16
} as const

export const Kind = { free: 0, workload: 1, service: 2, policy: 3, endpoints: 4, policies: 5 } as const

export const Flag = {
  healthy: 1,
  addressable: 2,
  gateway: 4,
  applicationTunnel: 8,
  hbone: 16,
  pod: 32
} as const

export const scopeOrder = ['Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network'] as const
export const scopeIndex = { Region: 0, Zone: 1, Subzone: 2, Node: 3, Cluster: 4, Network: 5 } as const

/** A row of a list: a slot, and for endpoints the heap offset of the port map (0: empty). */
export const ROW_WORDS = 2
export const ENTRY_WORDS = 2

/** What keys are looked up by: a kind of key, and its parts. Several resources may have one. */
export const keys = {
  workload: (uid: string): string => `w${uid}`,
  address: (network: string, ip: string): string => `a${network}/${ip}`,
  pod: (namespace: string, name: string, serviceAccount: string): string =>
    `n${namespace}/${name}/${serviceAccount}`,
  workloadHostname: (namespace: string, hostname: string): string => `h${namespace}/${hostname}`,
  service: (key: string): string => `s${key}`,
  vip: (network: string, ip: string): string => `v${network}/${ip}`,
  cidrVip: (network: string, cidr: string): string => `c${network}/${cidr}`,
  hostname: (hostname: string): string => `d${hostname}`,
  policy: (key: string): string => `p${key}`,
  endpoints: (service: string): string => `e${service}`,
  policies: (namespace: string): string => `q${namespace}`
} as const

/** The areas as arrays of a fixed length: V8 reads these ten times faster than ones that follow a growing buffer. */
export class MeshMemory {
  readonly shared: SharedMesh
  readonly header: Int32Array
  slots: Uint32Array = new Uint32Array(0)
  index: Uint32Array = new Uint32Array(0)
  heap: Uint32Array = new Uint32Array(0)
  #text: Buffer = Buffer.alloc(0)
  #layout = -1

  constructor(shared: SharedMesh) {
    this.shared = shared
    this.header = new Int32Array(shared.header)
    this.refresh()
  }

  /** Looks at the areas in the sizes that they have now. */
  refresh(): void {
    const layout = this.header[Header.layout] ?? 0
    if (layout === this.#layout) return
    this.#layout = layout
    const { slots, index, heap } = this.shared
    this.slots = new Uint32Array(slots, 0, slots.byteLength >> 2)
    this.index = new Uint32Array(index, 0, index.byteLength >> 2)
    this.heap = new Uint32Array(heap, 0, heap.byteLength >> 2)
    this.#text = Buffer.from(heap, 0, heap.byteLength)
  }

  get slotCount(): number {
    return this.header[Header.slots] ?? 0
  }

  word(slot: number, field: number): number {
    return this.slots[slot * Slot.words + field] ?? 0
  }

  /** `at` in words, `length` in bytes. */
  readText(at: number, length: number): string {
    return this.#text.toString('utf8', at * 4, at * 4 + length)
  }

  writeText(at: number, text: string): void {
    this.#text.write(text, at * 4, 'utf8')
  }

  /** Hash of a key, as the index has it. */
  hash(key: string): number {
    return hashOf(key, this.header[Header.seed] ?? 0)
  }

  /** The first slot with a key of this hash that is accepted; the caller compares the key itself. */
  find(hash: number, accept: (slot: number) => boolean): number | undefined {
    const { index } = this
    const mask = (this.header[Header.indexEntries] ?? 1) - 1
    // Bounded, because a reader may look at a table that is being rebuilt.
    for (let probe = 0, entry = hash & mask; probe <= mask; probe += 1, entry = (entry + 1) & mask) {
      const slot = index[entry * ENTRY_WORDS + 1] ?? 0
      if (slot === 0) return undefined
      if (index[entry * ENTRY_WORDS] === hash && accept(slot - 1)) return slot - 1
    }
    return undefined
  }
}
