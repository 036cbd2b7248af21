/** DNS messages written and read for tests, on their own: nothing of the proxy's codec is used here. */
import { ipFromBytes } from '../../shared/net/address.ts'

export const types = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  AXFR: 252
} as const

export interface Asked {
  readonly name: string
  readonly type: keyof typeof types
  readonly id?: number
  /** The size that EDNS announces; without it the query has no EDNS. */
  readonly edns?: number
  readonly flags?: number
}

export function queryOf({ name, type, id = 0x1234, edns, flags = 0x0100 }: Asked): Buffer {
  const header = Buffer.alloc(12)
  header.writeUInt16BE(id, 0)
  header.writeUInt16BE(flags, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(edns === undefined ? 0 : 1, 10)
  const tail = Buffer.alloc(4)
  tail.writeUInt16BE(types[type], 0)
  tail.writeUInt16BE(1, 2)
  const opt = Buffer.alloc(edns === undefined ? 0 : 11)
  if (edns !== undefined) {
    opt.writeUInt16BE(types.OPT, 1)
    opt.writeUInt16BE(edns, 3)
  }
  return Buffer.concat([header, nameBytes(name), tail, opt])
}

export function nameBytes(name: string): Buffer {
  const labels = name.split('.').filter(label => label !== '')
  return Buffer.concat([
    ...labels.map(label => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')])),
    Buffer.from([0])
  ])
}

export interface Heard {
  readonly id: number
  readonly rcode: number
  readonly authoritative: boolean
  readonly truncated: boolean
  readonly recursionAvailable: boolean
  readonly question: string
  /** `name ttl TYPE content`. */
  readonly answers: readonly string[]
  readonly edns: number | undefined
  /** Bytes behind the last record. */
  readonly extra: number
}

/** Throws when it is no well-formed message. */
export function readReply(bytes: Buffer): Heard {
  const flags = bytes.readUInt16BE(2)
  if ((flags & 0x8000) === 0) throw new Error('not a response')
  const [questions = 0, answers = 0, authorities = 0, additionals = 0] = [4, 6, 8, 10].map(at =>
    bytes.readUInt16BE(at)
  )
  let at = 12
  let question = ''
  for (let index = 0; index < questions; index++) {
    const name = readName(bytes, at)
    question = name.text
    at = name.end + 4
  }
  const records: { text: string; type: number; class: number }[] = []
  for (let index = 0; index < answers + authorities + additionals; index++) {
    const name = readName(bytes, at)
    const type = bytes.readUInt16BE(name.end)
    const ttl = bytes.readUInt32BE(name.end + 4)
    const start = name.end + 10
    at = start + bytes.readUInt16BE(name.end + 8)
    if (at > bytes.length) throw new Error('a record is cut off')
    const content = bytes.subarray(start, at)
    const word = Object.entries(types).find(([, number]) => number === type)?.[0] ?? String(type)
    const shown =
      type === types.CNAME ? readName(bytes, start).text : (ipFromBytes(content) ?? content.toString('hex'))
    records.push({
      text: `${name.text} ${ttl} ${word} ${shown}`,
      type,
      class: bytes.readUInt16BE(name.end + 2)
    })
  }
  return {
    id: bytes.readUInt16BE(0),
    rcode: flags & 0xf,
    authoritative: (flags & 0x0400) !== 0,
    truncated: (flags & 0x0200) !== 0,
    recursionAvailable: (flags & 0x0080) !== 0,
    question,
    answers: records.slice(0, answers).map(({ text }) => text),
    extra: bytes.length - at,
    edns: records.slice(answers + authorities).find(({ type }) => type === types.OPT)?.class
  }
}

function readName(bytes: Buffer, start: number): { readonly text: string; readonly end: number } {
  const labels: string[] = []
  let end: number | undefined
  for (let at = start, jumps = 0; ;) {
    const length = bytes.readUInt8(at)
    if (length === 0) return { text: labels.join('.'), end: end ?? at + 1 }
    if (length >= 0xc0) {
      if (++jumps > 10) throw new Error('a name without end')
      end ??= at + 2
      at = bytes.readUInt16BE(at) & 0x3fff
      continue
    }
    labels.push(bytes.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
}

/** An answer with these addresses, as a resolver gives it: no AA. */
export function replyTo(query: Buffer, addresses: readonly Buffer[], { rcode = 0, flags = 0 } = {}): Buffer {
  const end = 12 + questionLength(query)
  const header = Buffer.from(query.subarray(0, 12))
  header.writeUInt16BE(0x8180 | rcode | flags, 2)
  header.writeUInt16BE(addresses.length, 6)
  header.writeUInt16BE(0, 10)
  const records = addresses.map(address => {
    const head = Buffer.from([
      0xc0,
      12,
      0,
      address.length === 4 ? 1 : 28,
      0,
      1,
      0,
      0,
      0,
      60,
      0,
      address.length
    ])
    return Buffer.concat([head, address])
  })
  return Buffer.concat([header, query.subarray(12, end), ...records])
}

export function questionOf(query: Buffer): { readonly name: string; readonly type: number } {
  const name = readName(query, 12)
  return { name: name.text, type: query.readUInt16BE(name.end) }
}

function questionLength(query: Buffer): number {
  return readName(query, 12).end + 4 - 12
}
