/** DNS messages, as far as a server for a cluster needs them (RFC 1035, RFC 2782, RFC 6891). Pure. */
import { ipToBytes, type Ip } from '../shared/net/address.ts'

export const recordTypes = { A: 1, CNAME: 5, SOA: 6, PTR: 12, AAAA: 28, SRV: 33, OPT: 41, ANY: 255 } as const

export interface Question {
  readonly id: number
  /** Lower case, without the final dot. */
  readonly name: string
  readonly type: number
  readonly recursionDesired: boolean
  /** Largest answer by UDP that the client takes, in bytes. */
  readonly udpSize: number
  readonly edns: boolean
}

export type DnsRecord =
  | { readonly type: 'A' | 'AAAA'; readonly name: string; readonly address: Ip }
  | { readonly type: 'CNAME' | 'PTR'; readonly name: string; readonly target: string }
  | { readonly type: 'SRV'; readonly name: string; readonly port: number; readonly target: string }

export type DnsAnswer =
  | { readonly kind: 'records'; readonly records: readonly DnsRecord[] }
  /** The name exists, but not with this type. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'no-such-name' }

const headerBytes = 12
const classInternet = 1
const ttlSeconds = 5
const plainUdpBytes = 512

/** Reads a query; undefined when it is none that can be answered. */
export function readQuestion(message: Buffer): Question | undefined {
  if (message.length < headerBytes) return undefined
  const flags = message.readUInt16BE(2)
  const isQuery = (flags & 0x8000) === 0 && ((flags >> 11) & 0xf) === 0
  if (!isQuery || message.readUInt16BE(4) !== 1) return undefined
  const read = readName(message, headerBytes)
  if (read === undefined || read.end + 4 > message.length) return undefined
  const edns = readEdns(message, read.end + 4)
  return {
    id: message.readUInt16BE(0),
    name: read.name,
    type: message.readUInt16BE(read.end),
    recursionDesired: (flags & 0x0100) !== 0,
    udpSize: Math.max(plainUdpBytes, edns ?? plainUdpBytes),
    edns: edns !== undefined
  }
}

/** The message that answers a question; what does not fit `limit` bytes is left out and marked as truncated. */
export function writeAnswer(question: Question, answer: DnsAnswer, limit: number): Buffer {
  const records = answer.kind === 'records' ? answer.records.map(writeRecord) : []
  const authority = answer.kind === 'records' ? [] : [startOfAuthority]
  const additional = question.edns ? [ednsRecord] : []
  const asked = Buffer.concat([writeName(question.name), uint16(question.type), uint16(classInternet)])
  const fixed = headerBytes + asked.length + sizeOf(authority) + sizeOf(additional)
  const fitting: Buffer[] = []
  for (const record of records) if (fixed + sizeOf(fitting) + record.length <= limit) fitting.push(record)
  const truncated = fitting.length < records.length
  const flags =
    0x8480 |
    (question.recursionDesired ? 0x0100 : 0) |
    (truncated ? 0x0200 : 0) |
    (answer.kind === 'no-such-name' ? 3 : 0)
  const header = Buffer.alloc(headerBytes)
  for (const [index, value] of [
    question.id,
    flags,
    1,
    fitting.length,
    authority.length,
    additional.length
  ].entries()) {
    header.writeUInt16BE(value, index * 2)
  }
  return Buffer.concat([header, asked, ...fitting, ...authority, ...additional])
}

/** Undefined for names that are too long, cut off, or compressed (a first question has nothing to point at). */
function readName(message: Buffer, start: number): { name: string; end: number } | undefined {
  const labels: string[] = []
  for (let at = start; at < message.length && at - start < 255;) {
    const length = message[at] ?? 0
    if (length === 0) return { name: labels.join('.').toLowerCase(), end: at + 1 }
    if (length > 63 || at + 1 + length > message.length) return undefined
    labels.push(message.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return undefined
}

/** The size in an OPT record right after the question, where resolvers put it. */
function readEdns(message: Buffer, at: number): number | undefined {
  const found = message.readUInt16BE(10) > 0 && at + 5 <= message.length && message[at] === 0
  return found && message.readUInt16BE(at + 1) === recordTypes.OPT ? message.readUInt16BE(at + 3) : undefined
}

function writeRecord(record: DnsRecord): Buffer {
  return resourceRecord(writeName(record.name), recordTypes[record.type], contentOf(record))
}

function contentOf(record: DnsRecord): Buffer {
  switch (record.type) {
    case 'A':
    case 'AAAA':
      return Buffer.from(ipToBytes(record.address))
    case 'CNAME':
    case 'PTR':
      return writeName(record.target)
    case 'SRV':
      return Buffer.concat([uint16(0), uint16(100), uint16(record.port), writeName(record.target)])
    default:
      return record satisfies never
  }
}

function writeName(name: string): Buffer {
  const labels = name.split('.').filter(label => label !== '' && label.length <= 63)
  return Buffer.concat([
    ...labels.map(label => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0])
  ])
}

function resourceRecord(name: Buffer, type: number, content: Buffer): Buffer {
  const head = Buffer.alloc(10)
  head.writeUInt16BE(type, 0)
  head.writeUInt16BE(classInternet, 2)
  head.writeUInt32BE(ttlSeconds, 4)
  head.writeUInt16BE(content.length, 8)
  return Buffer.concat([name, head, content])
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff])
}

function sizeOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0)
}

/** Lets clients remember for a moment that a name does not exist. */
const startOfAuthority = resourceRecord(
  writeName('cluster.local'),
  recordTypes.SOA,
  Buffer.concat([
    writeName('ns.dns.cluster.local'),
    writeName('hostmaster.cluster.local'),
    ...[1, 7200, 1800, 86400, ttlSeconds].map(value => {
      const field = Buffer.alloc(4)
      field.writeUInt32BE(value)
      return field
    })
  ])
)

/** Announces the size that this server takes by UDP. */
const ednsRecord = Buffer.from([0, 0, recordTypes.OPT, 0x10, 0, 0, 0, 0, 0, 0, 0])
