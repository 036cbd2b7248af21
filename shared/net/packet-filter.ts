/**
 * A filter of packets that the kernel runs: classic BPF over packets that start at their IP header.
 * Source: Linux, Documentation/networking/filter.rst.
 */
import { type Ip, ipFamily, ipToBytes } from './address.ts'
import { attachProgram, type Instruction } from './bpf.ts'

/** Both conditions hold for a packet that is taken; an empty filter takes every IP packet. */
export interface PacketFilter {
  /** Source or destination address. */
  readonly ip?: Ip
  /** Source or destination port of TCP or UDP. */
  readonly port?: number
}

const loadWord = 0x20
const loadHalf = 0x28
const loadByte = 0x30
const loadHalfAtX = 0x48
const loadHeaderLength = 0xb1 // X = 4 * (byte & 0xf)
const and = 0x54
const jumpIfEqual = 0x15
const jumpIfSet = 0x45
const jump = 0x05
const answer = 0x06

/** The program for a filter; what is taken is cut to `snapLength` bytes. */
export function compilePacketFilter(filter: PacketFilter, snapLength: number): readonly Instruction[] {
  const take: Instruction = [answer, 0, 0, snapLength]
  const drop: Instruction = [answer, 0, 0, 0]
  const v4 = [...matchAddress(filter.ip, 4), ...matchPort(filter.port, 4), take, drop]
  const v6 = [...matchAddress(filter.ip, 6), ...matchPort(filter.port, 6), take, drop]
  return [
    [loadByte, 0, 0, 0],
    [and, 0, 0, 0xf0],
    [jumpIfEqual, 2, 0, 0x40],
    [jumpIfEqual, 2, 0, 0x60],
    drop,
    [jump, 0, 0, 1],
    [jump, 0, 0, v4.length],
    ...resolve(v4),
    ...resolve(v6)
  ]
}

export function attachPacketFilter(fd: number, filter: PacketFilter, snapLength: number): void {
  attachProgram(fd, 'SO_ATTACH_FILTER', compilePacketFilter(filter, snapLength))
}

/** A jump target that {@link resolve} replaces by the distance to the final drop. */
const toDrop = -1

/** Falls through when the source or the destination is the address. */
function matchAddress(address: Ip | undefined, family: 4 | 6): Instruction[] {
  if (address === undefined) return []
  if (ipFamily(address) !== family) return [[jump, 0, 0, toDrop]]
  const bytes = Buffer.from(ipToBytes(address))
  const words = Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32BE(index * 4))
  const [source, destination] = family === 4 ? [12, 16] : [8, 24]
  const block = words.length * 2
  const compare = (offset: number, last: boolean): Instruction[] =>
    words.flatMap((word, index): Instruction[] => [
      [loadWord, 0, 0, offset + index * 4],
      // In the source block a difference goes on to the destination block, in that one to the drop.
      [jumpIfEqual, 0, last ? toDrop : block - index * 2 - 1, word]
    ])
  return [...compare(source, false), [jump, 0, 0, block], ...compare(destination, true)]
}

/** Falls through for TCP and UDP when either port is the one. */
function matchPort(port: number | undefined, family: 4 | 6): Instruction[] {
  if (port === undefined) return []
  const transport: Instruction[] =
    family === 4
      ? [
          [loadHalf, 0, 0, 6],
          [jumpIfSet, toDrop, 0, 0x1fff], // a later fragment has no ports
          [loadHeaderLength, 0, 0, 0]
        ]
      : [[0x01, 0, 0, 40]] // X = 40
  return [
    [loadByte, 0, 0, family === 4 ? 9 : 6],
    [jumpIfEqual, 1, 0, 6],
    [jumpIfEqual, 0, toDrop, 17],
    ...transport,
    [loadHalfAtX, 0, 0, 0],
    [jumpIfEqual, 2, 0, port],
    [loadHalfAtX, 0, 0, 2],
    [jumpIfEqual, 0, toDrop, port]
  ]
}

/** Puts the distances to the last instruction, the drop, in place. */
function resolve(block: readonly Instruction[]): Instruction[] {
  const drop = block.length - 1
  return block.map(([code, jumpTrue, jumpFalse, k], index): Instruction => {
    const distance = drop - index - 1
    if (code === jump) return [code, 0, 0, k === toDrop ? distance : k]
    return [code, jumpTrue === toDrop ? distance : jumpTrue, jumpFalse === toDrop ? distance : jumpFalse, k]
  })
}
