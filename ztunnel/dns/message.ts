/**
 * DNS messages, as far as a proxy in front of a resolver needs them: it reads questions, writes addresses, and knows
 * what it does not understand, so that this can be passed on as it is. Pure. Source: RFC 1035, RFC 3596, RFC 6891.
 */
import { ipFamily, ipToBytes, type Ip } from '../../shared/net/address.ts'

export const headerBytes = 12
/** Largest answer by UDP for clients that name no size. */
const plainUdpBytes = 512
/** Largest that we send, and the size that we announce. */
const mostUdpBytes = 4096
export const largestMessage = 65_535

const OPT = 41
const CNAME = 5
const INTERNET = 1
const longestName = 255
const longestLabel = 63

const Flag = {
  response: 0x8000,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursion: 0x0100,
  available: 0x0080
}
const checkingDisabled = 0x0010

export const Rcode = { noError: 0, formatError: 1, serverFailure: 2 } as const

/** A question that can be answered here, should its name be known. */
export interface Query {
  readonly kind: 'query'
  readonly id: number
  /** Lower case, without the final dot; empty for the root. */
  readonly name: string
  readonly type: number
  /** Name, type and class as the client wrote them. */
  readonly question: Buffer
  readonly flags: number
  readonly edns: { readonly size: number; readonly flags: number } | undefined
}

/** `response` is none that a client sends; `other` is for the resolver alone: signed, of another class, an update. */
export type Message = Query | { readonly kind: 'response' } | { readonly kind: 'other' }

const other: Message = { kind: 'other' }

/** Never throws, whatever the bytes. The result holds copies only. */
export function readMessage(bytes: Buffer): Message {
  if (bytes.length < headerBytes) return other
  const flags = bytes.readUInt16BE(2)
  if ((flags & Flag.response) !== 0) return { kind: 'response' }
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map(at => bytes.readUInt16BE(at))
  const opcode = (flags >> 11) & 0xf
  if (opcode !== 0 || questions !== 1 || answers !== 0 || authorities !== 0 || (additionals ?? 0) > 1)
    return other
  const name = readName(bytes, headerBytes)
  if (name === undefined || name.end + 4 > bytes.length) return other
  const end = name.end + 4
  if (bytes.readUInt16BE(name.end + 2) !== INTERNET) return other
  const edns = additionals === 1 ? readEdns(bytes, end) : undefined
  if (additionals === 1 && edns === undefined) return other
  return {
    kind: 'query',
    id: bytes.readUInt16BE(0),
    name: name.text,
    type: bytes.readUInt16BE(name.end),
    question: Buffer.from(bytes.subarray(headerBytes, end)),
    flags,
    edns
  }
}

/** A name of plain labels; undefined when it is cut off, too long, compressed, or has bytes that host names have not. */
function readName(bytes: Buffer, start: number): { readonly text: string; readonly end: number } | undefined {
  const labels: string[] = []
  for (let at = start; at < bytes.length && at - start < longestName;) {
    const length = bytes[at] ?? 0
    if (length === 0) return { text: labels.join('.').toLowerCase(), end: at + 1 }
    if (length > longestLabel || at + 1 + length > bytes.length) return undefined
    const label = bytes.toString('latin1', at + 1, at + 1 + length)
    if (!/^[!-\-/-~]+$/.test(label)) return undefined // a dot inside a label would read as two
    labels.push(label)
    at += 1 + length
  }
  return undefined
}

/** The OPT record at the end; undefined for any other record, or a version that we do not know. */
function readEdns(bytes: Buffer, at: number): Query['edns'] {
  if (at + 11 > bytes.length || bytes[at] !== 0 || bytes.readUInt16BE(at + 1) !== OPT) return undefined
  if (bytes[at + 6] !== 0) return undefined
  return { size: bytes.readUInt16BE(at + 3), flags: bytes.readUInt16BE(at + 7) }
}

/** Bytes that an answer by UDP may have. */
export function udpLimit({ edns }: Query): number {
  return Math.min(mostUdpBytes, Math.max(plainUdpBytes, edns?.size ?? 0))
}

export interface Addresses {
  /** The addresses are those of this name, which the name in the question is an alias of. */
  readonly alias: string | undefined
  readonly addresses: readonly Ip[]
  /** Seconds. */
  readonly ttl: number
}

/** The message that answers with what we know; what does not fit is left out, and that is said. */
export function writeAnswer(query: Query, { alias, addresses, ttl }: Addresses, limit: number): Buffer {
  const edns = query.edns === undefined ? [] : [ednsRecord(query.edns.flags)]
  let room = limit - headerBytes - query.question.length - sizeOf(edns)
  const records: Buffer[] = []
  let owner = headerBytes // where the name in the question stands
  if (alias !== undefined) {
    const target = writeName(alias)
    owner = headerBytes + query.question.length + recordHead
    records.push(record(headerBytes, CNAME, ttl, target))
  }
  for (const address of addresses) {
    const type = ipFamily(address) === 4 ? 1 : 28
    records.push(record(owner, type, ttl, ipToBytes(address)))
  }
  const fitting = records.filter(({ length }) => (room -= length) >= 0)
  const truncated = fitting.length < records.length ? Flag.truncated : 0
  const header = headerOf(query, Flag.authoritative | truncated, Rcode.noError)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(fitting.length, 6)
  header.writeUInt16BE(edns.length, 10)
  return Buffer.concat([header, query.question, ...fitting, ...edns])
}

/** What a client gets when nobody could answer; undefined for bytes that are no message. */
export function writeFailure(message: Buffer, rcode: number): Buffer | undefined {
  if (message.length < headerBytes) return undefined
  const read = readMessage(message)
  const source = { id: message.readUInt16BE(0), flags: message.readUInt16BE(2) }
  if (read.kind !== 'query') return headerOf(source, 0, rcode)
  const edns = read.edns === undefined ? [] : [ednsRecord(read.edns.flags)]
  const header = headerOf(source, 0, rcode)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(edns.length, 10)
  return Buffer.concat([header, read.question, ...edns])
}

/** Whether these bytes can be the answer to a message. */
export function answers(reply: Buffer, message: Buffer): boolean {
  if (reply.length < headerBytes || (reply.readUInt16BE(2) & Flag.response) === 0) return false
  return reply.readUInt16BE(0) === message.readUInt16BE(0)
}

/** How many answers a reply says it has. */
export function answerCount(reply: Buffer): number {
  return reply.length < headerBytes ? 0 : reply.readUInt16BE(6)
}

function headerOf(
  { id, flags }: { readonly id: number; readonly flags: number },
  set: number,
  rcode: number
): Buffer {
  const header = Buffer.alloc(headerBytes)
  const kept = flags & (0x7800 | Flag.recursion | checkingDisabled)
  header.writeUInt16BE(id, 0)
  header.writeUInt16BE(Flag.response | Flag.available | kept | set | rcode, 2)
  return header
}

/** Bytes of a record before its content, its name being a pointer. */
const recordHead = 12

/** `owner` is where in the message the record's name stands. */
function record(owner: number, type: number, ttl: number, content: Uint8Array): Buffer {
  const bytes = Buffer.alloc(recordHead + content.length)
  bytes.writeUInt16BE(0xc000 | owner, 0)
  bytes.writeUInt16BE(type, 2)
  bytes.writeUInt16BE(INTERNET, 4)
  bytes.writeUInt32BE(ttl, 6)
  bytes.writeUInt16BE(content.length, 10)
  bytes.set(content, recordHead)
  return bytes
}

/** The name has been read from a message, so its labels fit. */
function writeName(name: string): Buffer {
  const labels = name.split('.').map(label => Buffer.from([label.length, ...Buffer.from(label, 'latin1')]))
  return Buffer.concat([...labels, Buffer.from([0])])
}

/** Announces our size, and says again whether the client takes DNSSEC records. */
function ednsRecord(flags: number): Buffer {
  const bytes = Buffer.alloc(11)
  bytes.writeUInt16BE(OPT, 1)
  bytes.writeUInt16BE(mostUdpBytes, 3)
  bytes.writeUInt16BE(flags & 0x8000, 7)
  return bytes
}

function sizeOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0)
}
