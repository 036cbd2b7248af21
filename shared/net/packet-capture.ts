/**
 * Copies of the packets that cross a network namespace, as a sniffer sees them. Source: packet(7).
 * The kernel filters and truncates; what arrives while the owner is busy waits in the socket's buffer and is
 * counted as dropped beyond it.
 */
import { type Ip, ipFromBytes, type SocketAddress } from './address.ts'
import { check, EAGAIN, EINTR, lastErrno, libc, messageHeader, SystemCallError } from './ffi.ts'
import { inNetns } from './netns.ts'
import { attachPacketFilter, type PacketFilter } from './packet-filter.ts'
import type { Poller, Watch } from './poll.ts'

const AF_PACKET = 17
const SOCK_DGRAM = 2 // packets start at the IP header, whatever the link is
const SOCK_FLAGS = 0o4000 | 0o2000000 // non-blocking, close-on-exec
const ETH_P_ALL = 3
const SOL_PACKET = 263
const PACKET_STATISTICS = 6
const PACKET_OUTGOING = 4
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33
const packetsPerTurn = 64

export interface CaptureOptions {
  /** An open descriptor of a network namespace; this thread's own when absent. */
  readonly netns?: number
  /** Name of an interface; all when absent (then packets on `lo` show twice: going out and coming in). */
  readonly device?: string
  readonly filter?: PacketFilter
  /** Bytes kept of each packet, from its IP header; 256 when absent, at most 65535. */
  readonly snapLength?: number
  /** Bytes of packets that may wait for the owner, as the kernel counts them; the system's default when absent. Needs NET_ADMIN. */
  readonly bufferBytes?: number
}

export interface CapturedPacket {
  readonly protocol: 'tcp' | 'udp' | 'other'
  /** Port 0 for protocols without ports and for fragments after the first. */
  readonly source: SocketAddress
  readonly destination: SocketAddress
  readonly outgoing: boolean
  /** Flags of TCP: FIN 1, SYN 2, RST 4, PSH 8, ACK 16. */
  readonly tcpFlags: number
  /** What follows the TCP or UDP header, as far as it was kept; valid only during the call. */
  readonly payload: Buffer
}

export class PacketCapture {
  readonly #fd: number
  readonly #watch: Watch
  readonly #bytes: Buffer
  readonly #link = Buffer.alloc(20)
  readonly #header: Buffer
  readonly #onPacket: (packet: CapturedPacket) => void
  #dropped = 0
  #closed = false

  /** Throws {@link SystemCallError}: EPERM without NET_RAW, ENODEV for an unknown device. */
  constructor(poller: Poller, options: CaptureOptions, onPacket: (packet: CapturedPacket) => void) {
    const snapLength = Math.min(options.snapLength ?? 256, 65535)
    this.#bytes = Buffer.alloc(snapLength)
    this.#header = messageHeader(this.#bytes, undefined, this.#link)
    this.#onPacket = onPacket
    const open = (): number => openCapture(options, snapLength)
    this.#fd = options.netns === undefined ? open() : inNetns(options.netns, open)
    this.#watch = poller.watch(this.#fd, () => this.#onReady())
    this.#watch.arm({ read: true, write: false })
  }

  /** Packets that the kernel could not keep for us since the start. */
  get dropped(): number {
    if (this.#closed) return this.#dropped
    const statistics = Buffer.alloc(8) // packets, drops: the kernel sets both back when asked
    const length = Buffer.alloc(4)
    length.writeUInt32LE(8)
    check('getsockopt', libc.getsockopt(this.#fd, SOL_PACKET, PACKET_STATISTICS, statistics, length))
    this.#dropped += statistics.readUInt32LE(4)
    return this.#dropped
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#watch.stop()
    libc.close(this.#fd)
  }

  #onReady(): void {
    for (let turn = 0; turn < packetsPerTurn && !this.#closed; turn++) {
      const length = libc.recvmsg(this.#fd, this.#header, 0)
      if (length === -1) {
        const errno = lastErrno()
        if (errno === EAGAIN || errno === EINTR) break
        // ENETDOWN is told once when the interface goes; the socket goes on when it comes back.
        continue
      }
      const packet = parsePacket(
        this.#bytes.subarray(0, length),
        this.#link.readUInt8(10) === PACKET_OUTGOING
      )
      if (packet !== undefined) this.#onPacket(packet)
    }
    if (!this.#closed) this.#watch.arm({ read: true, write: false })
  }
}

/** Reads an IP packet from its first header on; undefined when it is none or cut before the addresses end. */
export function parsePacket(bytes: Buffer, outgoing: boolean): CapturedPacket | undefined {
  const version = (bytes[0] ?? 0) >> 4
  if (version === 4 && bytes.length >= 20) {
    const fragmentOffset = bytes.readUInt16BE(6) & 0x1fff
    const ips = { from: ipFromBytes(bytes.subarray(12, 16)), to: ipFromBytes(bytes.subarray(16, 20)) }
    const transport = bytes.subarray(((bytes[0] ?? 0) & 0xf) * 4)
    return transportOf(ips, fragmentOffset === 0 ? bytes[9] : undefined, transport, outgoing)
  }
  if (version === 6 && bytes.length >= 40) {
    const ips = { from: ipFromBytes(bytes.subarray(8, 24)), to: ipFromBytes(bytes.subarray(24, 40)) }
    return transportOf(ips, bytes[6], bytes.subarray(40), outgoing)
  }
  return undefined
}

function transportOf(
  ips: { readonly from: Ip | undefined; readonly to: Ip | undefined },
  protocolNumber: number | undefined,
  transport: Buffer,
  outgoing: boolean
): CapturedPacket | undefined {
  if (ips.from === undefined || ips.to === undefined) return undefined
  const protocol = protocolNumber === 6 ? 'tcp' : protocolNumber === 17 ? 'udp' : 'other'
  const headerLength = protocol === 'tcp' ? ((transport[12] ?? 0) >> 4) * 4 : 8
  const hasPorts = protocol !== 'other' && transport.length >= 4
  return {
    protocol,
    source: { ip: ips.from, port: hasPorts ? transport.readUInt16BE(0) : 0 },
    destination: { ip: ips.to, port: hasPorts ? transport.readUInt16BE(2) : 0 },
    outgoing,
    tcpFlags: protocol === 'tcp' ? (transport[13] ?? 0) & 0x3f : 0,
    payload: protocol === 'other' ? transport : transport.subarray(headerLength)
  }
}

function openCapture({ device, filter = {}, bufferBytes }: CaptureOptions, snapLength: number): number {
  // Protocol 0 takes nothing yet, so no packet slips past the filter before bind starts the capture.
  const fd = check('socket', libc.socket(AF_PACKET, SOCK_DGRAM | SOCK_FLAGS, 0), 'AF_PACKET')
  try {
    attachPacketFilter(fd, filter, snapLength)
    if (bufferBytes !== undefined) {
      const bytes = Buffer.alloc(4)
      bytes.writeInt32LE(bufferBytes)
      check('setsockopt', libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes, 4), 'SO_RCVBUFFORCE')
    }
    const address = Buffer.alloc(20)
    address.writeUInt16LE(AF_PACKET, 0)
    address.writeUInt16BE(ETH_P_ALL, 2)
    if (device !== undefined) {
      const index = libc.if_nametoindex(device)
      if (index === 0) throw new SystemCallError('if_nametoindex', lastErrno(), device)
      address.writeInt32LE(index, 4)
    }
    check('bind', libc.bind(fd, address, address.length))
    return fd
  } catch (error) {
    libc.close(fd)
    throw error
  }
}
