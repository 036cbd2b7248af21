/**
 * TCP sockets that Node cannot make: inside another network namespace, marked, transparent; and what sockets of
 * other kinds (`datagrams.ts`) are made with. All descriptors are close-on-exec and non-blocking. Source: socket(7), ip(7), ipv6(7), tcp(7).
 */
import { Socket } from 'node:net'
import { type Family, type Ip, ipFamily, ipFromBytes, ipToBytes, type SocketAddress } from './address.ts'
import { check, lastErrno, libc, SystemCallError } from './ffi.ts'
import { inNetns } from './netns.ts'

const AF_INET = 2
const AF_INET6 = 10
/** Kinds of sockets, as socket(2) numbers them. */
export const SocketType = { stream: 1, datagram: 2, raw: 3 } as const
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000

export const SOL_IP = 0
export const SOL_SOCKET = 1
const SOL_TCP = 6
export const SOL_IPV6 = 41

export const SO_REUSEADDR = 2
const SO_KEEPALIVE = 9
export const SO_REUSEPORT = 15
const SO_BINDTODEVICE = 25
const SO_MARK = 36
const IP_FREEBIND = 15
const IP_TRANSPARENT = 19
export const IPV6_V6ONLY = 26
const IPV6_TRANSPARENT = 75
const IPV6_FREEBIND = 78
const SO_ORIGINAL_DST = 80
const TCP_NODELAY = 1
const TCP_KEEPIDLE = 4
const TCP_KEEPINTVL = 5
const TCP_KEEPCNT = 6
const TCP_USER_TIMEOUT = 18
const RLIMIT_NOFILE = 7

/** Where a socket is made and how its packets are marked. */
export interface SocketPlace {
  /** An open descriptor of a network namespace; this thread's own when absent. */
  readonly netns?: number
  /** SO_MARK: keeps our own packets out of the capture rules. Accepted sockets inherit it. */
  readonly mark?: number
}

export interface KeepAlive {
  readonly idleSeconds: number
  readonly intervalSeconds: number
  readonly probes: number
}

/** Options that accepted sockets inherit from their listener, so they cost nothing per connection. */
export interface TcpOptions {
  readonly noDelay?: boolean
  readonly keepAlive?: KeepAlive
  /** Milliseconds that sent data may stay unacknowledged before the connection is given up. */
  readonly userTimeoutMs?: number
}

export interface ListenerOptions extends TcpOptions {
  readonly address: SocketAddress
  /** With address `::`: takes IPv4 too, whose peers then show as v4-mapped (`parseIp` makes them IPv4). */
  readonly dualStack?: boolean
  /** Several sockets may listen at the same address and share its connections. */
  readonly reusePort?: boolean
  /** Takes connections that are not addressed to it (TPROXY); the original destination is `localAddress`. */
  readonly transparent?: boolean
  /** Connections that wait to be accepted. Node listens again: pass the same to `server.listen({ fd }, backlog)`. */
  readonly backlog?: number
}

/** Default backlog; the kernel cuts it to net.core.somaxconn. */
export const listenBacklog = 4096

/** A listening descriptor for `net.Server.listen({ fd }, backlog)`. Throws {@link SystemCallError}. */
export function openListener(place: SocketPlace, options: ListenerOptions): number {
  const { address, dualStack = false, backlog = listenBacklog } = options
  const family = ipFamily(address.ip)
  return openSocket(place, family, fd => {
    setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    if (options.reusePort) setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)
    if (family === 6) setOption(fd, SOL_IPV6, IPV6_V6ONLY, dualStack ? 0 : 1)
    if (options.transparent) setTransparent(fd, family)
    setTcpOptions(fd, options)
    bind(fd, address)
    check('listen', libc.listen(fd, backlog), `${address.ip} port ${address.port}`)
  })
}

export interface DialerOptions extends TcpOptions {
  readonly family: Family
  /** Source address; port 0 lets the kernel choose. */
  readonly bind?: SocketAddress
  /** Allows a source address that is not ours (spoofing). */
  readonly transparent?: boolean
  /** SO_BINDTODEVICE: packets leave by this interface whatever the routes say. */
  readonly device?: string
}

/** A descriptor that is not connected yet, for {@link dialerSocket}. Throws {@link SystemCallError}. */
export function openDialer(place: SocketPlace, options: DialerOptions): number {
  return openSocket(place, options.family, fd => {
    if (options.device !== undefined) {
      const name = Buffer.from(`${options.device}\0`)
      check(
        'setsockopt',
        libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length),
        'SO_BINDTODEVICE'
      )
    }
    setTcpOptions(fd, options)
    if (options.transparent) {
      setTransparent(fd, options.family)
      setOption(
        fd,
        options.family === 6 ? SOL_IPV6 : SOL_IP,
        options.family === 6 ? IPV6_FREEBIND : IP_FREEBIND,
        1
      )
      // Binding the same source address and port towards another destination must stay possible.
      if (options.bind !== undefined && options.bind.port !== 0) setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    }
    if (options.bind !== undefined) bind(fd, options.bind)
  })
}

/** The Node socket of a descriptor from {@link openDialer}; call `.connect({ host, port })` on it next. */
export function dialerSocket(fd: number, { allowHalfOpen = true } = {}): Socket {
  // manualStart: reading starts with the connection, not before it, when the kernel would report an error.
  const options: ConstructorParameters<typeof Socket>[0] & { manualStart: boolean } = {
    fd,
    allowHalfOpen,
    manualStart: true
  }
  return new Socket(options)
}

/** The descriptor behind a connected, accepted or dialling socket; undefined once it is closed. */
export function socketFd(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { _handle?: { fd?: number } | null }
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined
}

/** Where a connection went before REDIRECT changed it; undefined when it was not redirected. */
export function originalDestination(fd: number): SocketAddress | undefined {
  const ask = (level: number) => (name: Buffer, length: Buffer) =>
    libc.getsockopt(fd, level, SO_ORIGINAL_DST, name, length)
  return askAddress(ask(SOL_IP)) ?? askAddress(ask(SOL_IPV6))
}

/** The address that a socket is bound to; undefined when the descriptor is no socket of ours any more. */
export function boundAddress(fd: number): SocketAddress | undefined {
  return askAddress((name, length) => libc.getsockname(fd, name, length))
}

/** The other end of a connection; undefined when it is gone. */
export function peerAddress(fd: number): SocketAddress | undefined {
  return askAddress((name, length) => libc.getpeername(fd, name, length))
}

/** A socket address as the kernel writes it: the room for it, then the length of that room. */
function askAddress(ask: (name: Buffer, length: Buffer) => number): SocketAddress | undefined {
  const bytes = Buffer.allocUnsafe(addressRoom + 4)
  bytes.writeUInt32LE(addressRoom, addressRoom)
  return ask(bytes, bytes.subarray(addressRoom)) === 0 ? decodeSocketAddress(bytes) : undefined
}

/** Size of a sockaddr_in6, the larger one. */
const addressRoom = 28

/** Closes a descriptor that no net.Socket or net.Server has taken over. */
export function closeDescriptor(fd: number): void {
  check('close', libc.close(fd))
}

export function setMark(fd: number, mark: number): void {
  setOption(fd, SOL_SOCKET, SO_MARK, mark)
}

export function setTcpOptions(fd: number, { noDelay, keepAlive, userTimeoutMs }: TcpOptions): void {
  if (noDelay !== undefined) setOption(fd, SOL_TCP, TCP_NODELAY, noDelay ? 1 : 0)
  if (keepAlive !== undefined) {
    setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
    setOption(fd, SOL_TCP, TCP_KEEPIDLE, keepAlive.idleSeconds)
    setOption(fd, SOL_TCP, TCP_KEEPINTVL, keepAlive.intervalSeconds)
    setOption(fd, SOL_TCP, TCP_KEEPCNT, keepAlive.probes)
  }
  if (userTimeoutMs !== undefined) setOption(fd, SOL_TCP, TCP_USER_TIMEOUT, userTimeoutMs)
}

/** Whether this process may make transparent sockets (NET_ADMIN or NET_RAW). */
export function transparentAllowed(): boolean {
  try {
    closeDescriptor(openSocket({}, 4, fd => setTransparent(fd, 4)))
    return true
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EPERM') return false
    throw error
  }
}

/** Whether this process may mark packets (NET_ADMIN, or NET_RAW since Linux 5.17). */
export function markAllowed(mark: number): boolean {
  try {
    closeDescriptor(openSocket({ mark }, 4, () => undefined))
    return true
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EPERM') return false
    throw error
  }
}

/** Raises the number of descriptors this process may hold to its hard limit; returns both. */
export function raiseFileLimit(): { soft: number; hard: number } {
  const limit = Buffer.alloc(16)
  check('getrlimit', libc.getrlimit(RLIMIT_NOFILE, limit))
  limit.copy(limit, 0, 8, 16)
  check('setrlimit', libc.setrlimit(RLIMIT_NOFILE, limit))
  return { soft: Number(limit.readBigUInt64LE(0)), hard: Number(limit.readBigUInt64LE(8)) }
}

/** Makes a socket at a place and prepares it; closed again when that fails. Throws {@link SystemCallError}. */
export function openSocket(
  place: SocketPlace,
  family: Family,
  prepare: (fd: number) => void,
  { type = SocketType.stream, protocol = 0 }: { readonly type?: number; readonly protocol?: number } = {}
): number {
  const create = (): number =>
    check(
      'socket',
      libc.socket(family === 4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
    )
  const fd = place.netns === undefined ? create() : inNetns(place.netns, create)
  try {
    if (place.mark !== undefined) setOption(fd, SOL_SOCKET, SO_MARK, place.mark)
    prepare(fd)
    return fd
  } catch (error) {
    libc.close(fd)
    throw error
  }
}

export function setTransparent(fd: number, family: Family): void {
  if (family === 4) setOption(fd, SOL_IP, IP_TRANSPARENT, 1)
  else setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1)
}

export function bind(fd: number, address: SocketAddress): void {
  const encoded = encodeSocketAddress(address)
  check('bind', libc.bind(fd, encoded, encoded.length), `${address.ip} port ${address.port}`)
}

export function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeInt32LE(value)
  if (libc.setsockopt(fd, level, name, bytes, 4) === 0) return
  throw new SystemCallError('setsockopt', lastErrno(), optionNames[`${level}/${name}`])
}

const optionNames: Readonly<Record<string, string>> = {
  [`${SOL_SOCKET}/${SO_MARK}`]: 'SO_MARK',
  [`${SOL_SOCKET}/${SO_REUSEPORT}`]: 'SO_REUSEPORT',
  [`${SOL_IP}/${IP_TRANSPARENT}`]: 'IP_TRANSPARENT',
  [`${SOL_IPV6}/${IPV6_TRANSPARENT}`]: 'IPV6_TRANSPARENT'
}

/** As sockaddr_in or sockaddr_in6. */
export function encodeSocketAddress({ ip, port }: SocketAddress): Buffer {
  const v6 = ipFamily(ip) === 6
  const bytes = Buffer.alloc(v6 ? 28 : 16)
  bytes.writeUInt16LE(v6 ? AF_INET6 : AF_INET, 0)
  bytes.writeUInt16BE(port, 2)
  bytes.set(ipToBytes(ip), v6 ? 8 : 4)
  return bytes
}

/** From sockaddr_in or sockaddr_in6; undefined for other families. */
export function decodeSocketAddress(bytes: Buffer): SocketAddress | undefined {
  const family = bytes.readUInt16LE(0)
  let address: Ip | undefined
  if (family === AF_INET) address = ipFromBytes(bytes.subarray(4, 8))
  else if (family === AF_INET6) address = ipFromBytes(bytes.subarray(isMapped(bytes) ? 20 : 8, 24))
  return address === undefined ? undefined : { ip: address, port: bytes.readUInt16BE(2) }
}

/** Whether a sockaddr_in6 holds an IPv4 address, as a dual-stack listener sees it; the general reader would cost microseconds. */
function isMapped(bytes: Buffer): boolean {
  return bytes.readUInt32LE(8) === 0 && bytes.readUInt32LE(12) === 0 && bytes.readUInt32BE(16) === 0xffff
}
