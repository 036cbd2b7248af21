/**
 * Header compression of HTTP/2 (RFC 7541).
 *
 * The decoder is complete: static and dynamic table, Huffman, size updates. We announce a table of 0 bytes,
 * but a peer may use the default 4096 until it has read that, so both must work. The encoder keeps no state:
 * it refers to names of the static table and writes values as they are.
 */
import type { HeaderField, HeaderList } from './header-field.ts'
import { decodeHuffman } from './huffman.ts'
import { staticTable } from './static-table.ts'

export type DecodedBlock =
  | { readonly kind: 'fields'; readonly fields: HeaderList }
  /** The list exceeds the limit; the tables are still right. */
  | { readonly kind: 'too-large' }
  /** The tables cannot be trusted any more: COMPRESSION_ERROR. */
  | { readonly kind: 'malformed'; readonly reason: string }

/** Table size of a peer that has not read our SETTINGS. */
export const defaultTableSize = 4096

/** What RFC 7541 section 4.1 adds to name and value of an entry. */
const entryOverhead = 32

export class HpackDecoder {
  readonly #maxListSize: number
  /** Newest first, as the indices count. */
  readonly #entries: HeaderField[] = []
  #size = 0
  #capacity = defaultTableSize
  /** The largest table that the peer may choose. */
  #allowed = defaultTableSize

  // the block in hand
  #bytes: Buffer = Buffer.alloc(0)
  #at = 0
  #problem = ''

  /** `maxListSize`: sum of names, values and 32 bytes each, as SETTINGS_MAX_HEADER_LIST_SIZE counts. */
  constructor(maxListSize: number) {
    this.#maxListSize = maxListSize
  }

  /** Bytes that the dynamic table holds, as RFC 7541 counts them. */
  get tableSize(): number {
    return this.#size
  }

  /**
   * The peer has acknowledged a SETTINGS_HEADER_TABLE_SIZE. What it holds stays usable until its own size
   * update: a peer that ignores the setting costs at most the default size.
   */
  allowTable(size: number): void {
    this.#allowed = size
  }

  decode(block: Buffer): DecodedBlock {
    this.#bytes = block
    this.#at = 0
    this.#problem = ''
    const fields: HeaderField[] = []
    let listSize = 0
    while (this.#at < block.length) {
      const first = block[this.#at] ?? 0
      if ((first & 0xe0) === 0x20) {
        if (listSize > 0) return malformed('a table size update after a header field')
        const size = this.#integer(5)
        if (size > this.#allowed) return malformed(`a table size of ${size}, ${this.#allowed} is allowed`)
        this.#resize(size)
      } else {
        const field = this.#field(first)
        if (field === undefined) break
        listSize += field[0].length + field[1].length + entryOverhead
        if (listSize <= this.#maxListSize) fields.push(field)
      }
      if (this.#problem !== '') break
    }
    this.#bytes = emptyBuffer
    if (this.#problem !== '') return malformed(this.#problem)
    return listSize <= this.#maxListSize ? { kind: 'fields', fields } : { kind: 'too-large' }
  }

  #field(first: number): HeaderField | undefined {
    if ((first & 0x80) !== 0) return this.#lookup(this.#integer(7))
    const indexed = (first & 0x40) !== 0
    const nameIndex = this.#integer(indexed ? 6 : 4)
    const name = nameIndex === 0 ? this.#string() : this.#lookup(nameIndex)?.[0]
    if (name === undefined) return undefined
    const value = this.#string()
    if (value === undefined) return undefined
    const field: HeaderField = [name, value]
    if (indexed) this.#insert(field)
    return field
  }

  #lookup(index: number): HeaderField | undefined {
    const field =
      index <= staticTable.length ? staticTable[index - 1] : this.#entries[index - staticTable.length - 1]
    if (field === undefined) this.#fail(`no table entry ${index}`)
    return field
  }

  #insert(field: HeaderField): void {
    const size = sizeOf(field)
    this.#evict(this.#capacity - size)
    if (size > this.#capacity) return
    this.#entries.unshift(field)
    this.#size += size
  }

  #resize(capacity: number): void {
    this.#capacity = capacity
    this.#evict(capacity)
  }

  /** Drops the oldest entries until at most `room` bytes are held. */
  #evict(room: number): void {
    while (this.#size > Math.max(0, room)) {
      const oldest = this.#entries.pop()
      if (oldest === undefined) break
      this.#size -= sizeOf(oldest)
    }
  }

  /** An integer with a prefix of `bits` (RFC 7541 section 5.1). */
  #integer(bits: number): number {
    const mask = (1 << bits) - 1
    let value = this.#byte() & mask
    if (value < mask) return value
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#byte()
      value += (byte & 0x7f) << shift
      if ((byte & 0x80) === 0) return value
    }
    this.#fail('an integer beyond 2^28')
    return 0
  }

  #string(): string | undefined {
    const huffman = ((this.#bytes[this.#at] ?? 0) & 0x80) !== 0
    const length = this.#integer(7)
    const from = this.#at
    const to = from + length
    if (to > this.#bytes.length) {
      this.#fail('a header block that ends inside a string')
      return undefined
    }
    this.#at = to
    if (!huffman) return this.#bytes.toString('latin1', from, to)
    const text = decodeHuffman(this.#bytes, from, to)
    if (text === undefined) this.#fail('an invalid Huffman code')
    return text
  }

  #byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) {
      this.#fail('a header block that ends inside a field')
      return 0
    }
    this.#at += 1
    return byte
  }

  #fail(reason: string): void {
    if (this.#problem === '') this.#problem = reason
  }
}

const emptyBuffer = Buffer.alloc(0)

function malformed(reason: string): DecodedBlock {
  return { kind: 'malformed', reason }
}

function sizeOf([name, value]: HeaderField): number {
  return name.length + value.length + entryOverhead
}

/** Index of the first entry of each name, and of each whole field that has a value. */
const nameIndex: ReadonlyMap<string, number> = new Map(
  staticTable.map(([name], at) => [name, at + 1] as const).toReversed()
)
const fieldIndex: ReadonlyMap<string, number> = new Map(
  staticTable
    .filter(([, value]) => value !== '')
    .map(field => [field.join('\0'), staticTable.indexOf(field) + 1])
)

/** A header block of literals that stay out of the dynamic table (RFC 7541 section 6.2.2). */
export function encodeHeaders(fields: HeaderList): Buffer {
  let room = 0
  // An integer takes at most 5 bytes for lengths below 2^28; three of them per field.
  for (const [name, value] of fields) room += name.length + value.length + 15
  const block = Buffer.allocUnsafe(room)
  let at = 0
  for (const [name, value] of fields) {
    const whole = name.startsWith(':') ? fieldIndex.get(`${name}\0${value}`) : undefined
    if (whole !== undefined) {
      block[at++] = 0x80 | whole
      continue
    }
    const known = nameIndex.get(name)
    if (known === undefined) {
      block[at++] = 0
      at = writeString(block, at, name)
    } else {
      at = writeInteger(block, at, 0, 4, known)
    }
    at = writeString(block, at, value)
  }
  return block.subarray(0, at)
}

function writeString(block: Buffer, at: number, text: string): number {
  const start = writeInteger(block, at, 0, 7, text.length)
  return start + block.write(text, start, 'latin1')
}

function writeInteger(block: Buffer, at: number, pattern: number, bits: number, value: number): number {
  const mask = (1 << bits) - 1
  if (value < mask) {
    block[at] = pattern | value
    return at + 1
  }
  block[at++] = pattern | mask
  let rest = value - mask
  while (rest >= 0x80) {
    block[at++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  block[at] = rest
  return at + 1
}
