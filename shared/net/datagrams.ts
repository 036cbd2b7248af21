/**
 * UDP beyond what Node offers: inside another network namespace, marked, transparent, with the address that each
 * datagram was sent to. Source: ip(7), ipv6(7), udp(7), linux/in.h, linux/in6.h.
 */
import { ipFamily, type SocketAddress } from './address.ts'
import { check, EAGAIN, EINTR, lastErrno, libc, messageHeader, SystemCallError } from './ffi.ts'
import {
  bind,
  decodeSocketAddress,
  encodeSocketAddress,
  IPV6_V6ONLY,
  openSocket,
  setOption,
  setTransparent,
  SocketType,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  type SocketPlace
} from './sockets.ts'

/** The option and the kind of its control message have one number. */
const IP_ORIGDSTADDR = 20
const IPV6_ORIGDSTADDR = 74
const SO_RCVBUF = 8
const SO_RCVBUFFORCE = 33

/** Size of a sockaddr_in6, the larger one. */
const addressRoom = 28
const controlHeader = 16
const largestDatagram = 65_535

export interface DatagramListenerOptions {
  readonly address: SocketAddress
  /** Several sockets may have the address and share its datagrams. */
  readonly reusePort?: boolean
  /** Takes datagrams that are not addressed to it (TPROXY). */
  readonly transparent?: boolean
  /** Bytes that may wait to be read, as the kernel counts them. */
  readonly bufferBytes?: number
}

/** A bound descriptor for a {@link DatagramReader}. Throws {@link SystemCallError}. */
export function openDatagramListener(place: SocketPlace, options: DatagramListenerOptions): number {
  const { address, reusePort = false, transparent = false, bufferBytes } = options
  const family = ipFamily(address.ip)
  const prepare = (fd: number): void => {
    setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    if (reusePort) setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)
    if (family === 6) setOption(fd, SOL_IPV6, IPV6_V6ONLY, 1)
    if (transparent) setTransparent(fd, family)
    if (family === 4) setOption(fd, SOL_IP, IP_ORIGDSTADDR, 1)
    else setOption(fd, SOL_IPV6, IPV6_ORIGDSTADDR, 1)
    if (bufferBytes !== undefined) setReceiveBuffer(fd, bufferBytes)
    bind(fd, address)
  }
  return openSocket(place, family, prepare, { type: SocketType.datagram })
}

/** A descriptor that speaks with one peer only; what the peer refuses shows as an error of the next call. */
export function openDatagramDialer(place: SocketPlace, to: SocketAddress): number {
  const prepare = (fd: number): void => {
    const name = encodeSocketAddress(to)
    check('connect', libc.connect(fd, name, name.length), `${to.ip} port ${to.port}`)
  }
  return openSocket(place, ipFamily(to.ip), prepare, { type: SocketType.datagram })
}

export interface Datagram {
  /** Valid until the reader reads again. */
  readonly bytes: Buffer
  readonly from: SocketAddress
  /** As the sender addressed it; under REDIRECT the address that the rules put in its place. */
  readonly to: SocketAddress
}

/** Receives into the same memory again and again; one is enough for all listeners of a thread. */
export class DatagramReader {
  readonly #bytes = Buffer.alloc(largestDatagram)
  readonly #name = Buffer.alloc(addressRoom)
  readonly #control = Buffer.alloc(controlHeader + 32)
  readonly #header = messageHeader(this.#bytes, this.#control, this.#name)

  /** The next datagram; undefined when none waits. Throws {@link SystemCallError}. */
  read(fd: number): Datagram | undefined {
    for (;;) {
      this.#header.writeUInt32LE(addressRoom, 8)
      this.#header.writeBigUInt64LE(BigInt(this.#control.length), 40)
      const length = libc.recvmsg(fd, this.#header, 0)
      if (length === -1) {
        const errno = lastErrno()
        if (errno === EAGAIN) return undefined
        if (errno === EINTR) continue
        throw new SystemCallError('recvmsg', errno)
      }
      const from = decodeSocketAddress(this.#name)
      const to = this.#originalDestination()
      if (from !== undefined && to !== undefined) return { bytes: this.#bytes.subarray(0, length), from, to }
    }
  }

  #originalDestination(): SocketAddress | undefined {
    if (Number(this.#header.readBigUInt64LE(40)) < controlHeader + 16) return undefined
    const level = this.#control.readInt32LE(8)
    const kind = this.#control.readInt32LE(12)
    const known =
      (level === SOL_IP && kind === IP_ORIGDSTADDR) || (level === SOL_IPV6 && kind === IPV6_ORIGDSTADDR)
    return known ? decodeSocketAddress(this.#control.subarray(controlHeader)) : undefined
  }
}

/** Sends from a bound descriptor; false when the kernel did not take it. */
export function sendDatagram(fd: number, bytes: Buffer, to: SocketAddress): boolean {
  return libc.sendmsg(fd, messageHeader(bytes, undefined, encodeSocketAddress(to)), 0) !== -1
}

/** The size that is asked for needs NET_ADMIN beyond the system's limit. */
function setReceiveBuffer(fd: number, bytes: number): void {
  try {
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes)
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === 'EPERM')) throw error
    setOption(fd, SOL_SOCKET, SO_RCVBUF, bytes)
  }
}
