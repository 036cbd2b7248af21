/**
 * UDP datagrams whose source is another's address and port, written as whole packets (raw(7)): no socket has to be
 * bound to that port, which the pod's own server may hold and which may be below 1024. Needs NET_RAW.
 */
import { type Family, ipFamily, ipToBytes, type SocketAddress } from './address.ts'
import { libc, messageHeader } from './ffi.ts'
import { encodeSocketAddress, openSocket, SocketType, type SocketPlace } from './sockets.ts'

/** The caller writes the IP header too. */
const IPPROTO_RAW = 255
const IPPROTO_UDP = 17
const udpHeader = 8
const hopLimit = 64

/** A descriptor for {@link sendSpoofed}. Throws SystemCallError. */
export function openSpoofingSender(place: SocketPlace, family: Family): number {
  return openSocket(place, family, () => undefined, { type: SocketType.raw, protocol: IPPROTO_RAW })
}

/** Sends a datagram to `to` that seems to come from `from`; false when the kernel did not take it. */
export function sendSpoofed(fd: number, from: SocketAddress, to: SocketAddress, payload: Buffer): boolean {
  const name = encodeSocketAddress({ ip: to.ip, port: 0 })
  return libc.sendmsg(fd, messageHeader(udpPacket(from, to, payload), undefined, name), 0) !== -1
}

/** One UDP datagram with its IP header (RFC 791, RFC 8200, RFC 768). The kernel fills in IPv4's header checksum. */
export function udpPacket(from: SocketAddress, to: SocketAddress, payload: Buffer): Buffer {
  const [source, target] = [ipToBytes(from.ip), ipToBytes(to.ip)]
  const length = udpHeader + payload.length
  const v4 = ipFamily(from.ip) === 4
  const start = v4 ? 20 : 40
  const packet = Buffer.alloc(start + length)
  if (v4) {
    packet[0] = 0x45
    packet.writeUInt16BE(packet.length, 2)
    packet[8] = hopLimit
    packet[9] = IPPROTO_UDP
    packet.set(source, 12)
    packet.set(target, 16)
  } else {
    packet[0] = 0x60
    packet.writeUInt16BE(length, 4)
    packet[6] = IPPROTO_UDP
    packet[7] = hopLimit
    packet.set(source, 8)
    packet.set(target, 24)
  }
  packet.writeUInt16BE(from.port, start)
  packet.writeUInt16BE(to.port, start + 2)
  packet.writeUInt16BE(length, start + 4)
  packet.set(payload, start + udpHeader)
  const sum = IPPROTO_UDP + length + sumOf(source) + sumOf(target) + sumOf(packet.subarray(start))
  // A checksum of 0 means none, so the other form of zero is sent.
  packet.writeUInt16BE(onesComplement(sum) || 0xffff, start + 6)
  return packet
}

/** Sum of 16-bit words; at most 32,768 of them, so that it stays exact. */
function sumOf(bytes: Uint8Array): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0)
  return sum
}

function onesComplement(sum: number): number {
  let folded = sum
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000)
  return ~folded & 0xffff
}
