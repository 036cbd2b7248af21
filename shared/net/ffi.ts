/**
 * The C library's system calls that Node does not offer, as typed functions. The only file that imports koffi.
 * Linux on amd64 and arm64, with glibc or musl: only symbols and struct layouts that both have.
 */
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'

/** Raw calls; each returns -1 on failure and is to be wrapped in {@link check} at once, before errno changes. */
interface LibC {
  socket(family: number, type: number, protocol: number): number
  close(fd: number): number
  bind(fd: number, address: Buffer, length: number): number
  listen(fd: number, backlog: number): number
  connect(fd: number, address: Buffer, length: number): number
  accept4(fd: number, address: null, length: null, flags: number): number
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number
  getsockopt(fd: number, level: number, name: number, value: Buffer, length: Buffer): number
  getsockname(fd: number, address: Buffer, length: Buffer): number
  getpeername(fd: number, address: Buffer, length: Buffer): number
  setns(fd: number, kind: number): number
  unshare(kinds: number): number
  if_nametoindex(name: string): number
  sendmsg(fd: number, message: Buffer, flags: number): number
  recvmsg(fd: number, message: Buffer, flags: number): number
  write(fd: number, bytes: Buffer, size: number): number
  memfd_create(name: string, flags: number): number
  eventfd(initial: number, flags: number): number
  epoll_create1(flags: number): number
  epoll_ctl(epoll: number, operation: number, fd: number, event: Buffer): number
  epoll_wait(epoll: number, events: Buffer, count: number, timeoutMs: number): number
  getrlimit(resource: number, limit: Buffer): number
  setrlimit(resource: number, limit: Buffer): number
}

const library = koffi.load(null)

export const libc: LibC = {
  socket: library.func('int socket(int, int, int)'),
  close: library.func('int close(int)'),
  bind: library.func('int bind(int, const void *, uint32)'),
  listen: library.func('int listen(int, int)'),
  connect: library.func('int connect(int, const void *, uint32)'),
  accept4: library.func('int accept4(int, void *, void *, int)'),
  setsockopt: library.func('int setsockopt(int, int, int, const void *, uint32)'),
  getsockopt: library.func('int getsockopt(int, int, int, void *, void *)'),
  getsockname: library.func('int getsockname(int, void *, void *)'),
  getpeername: library.func('int getpeername(int, void *, void *)'),
  setns: library.func('int setns(int, int)'),
  unshare: library.func('int unshare(int)'),
  if_nametoindex: library.func('uint32 if_nametoindex(const char *)'),
  sendmsg: library.func('intptr_t sendmsg(int, const void *, int)'),
  recvmsg: library.func('intptr_t recvmsg(int, void *, int)'),
  write: library.func('intptr_t write(int, const void *, size_t)'),
  memfd_create: library.func('int memfd_create(const char *, uint32)'),
  eventfd: library.func('int eventfd(uint32, int)'),
  epoll_create1: library.func('int epoll_create1(int)'),
  epoll_ctl: library.func('int epoll_ctl(int, int, int, void *)'),
  epoll_wait: library.func('int epoll_wait(int, void *, int, int)'),
  getrlimit: library.func('int getrlimit(int, void *)'),
  setrlimit: library.func('int setrlimit(int, const void *)')
}

/** Returns free pages of the C library's heaps to the system. musl keeps none, and has no such function. */
export function trimHeaps(): void {
  mallocTrim ??= symbol('int malloc_trim(size_t)')
  mallocTrim(0)
}

let mallocTrim: ((pad: number) => number) | undefined

function symbol(declaration: string): (pad: number) => number {
  try {
    return library.func(declaration)
  } catch {
    return () => 0 // not in this C library
  }
}

/** The address of a buffer's first byte, for pointers inside structs. The caller keeps the buffer alive. */
export function addressOf(buffer: Buffer): bigint {
  return koffi.address(buffer)
}

/**
 * struct msghdr with its one iovec behind it (64-bit little-endian Linux, glibc and musl alike). It points at the
 * buffers, so they have to live as long as it does. `msg_flags` is at 48, the length of the control data at 40.
 */
export function messageHeader(bytes: Buffer, control?: Buffer, name?: Buffer): Buffer {
  const header = Buffer.alloc(56 + 16)
  if (name !== undefined) {
    header.writeBigUInt64LE(addressOf(name), 0)
    header.writeUInt32LE(name.length, 8)
  }
  header.writeBigUInt64LE(addressOf(header) + 56n, 16)
  header.writeBigUInt64LE(1n, 24)
  if (control !== undefined) {
    header.writeBigUInt64LE(addressOf(control), 32)
    header.writeBigUInt64LE(BigInt(control.length), 40)
  }
  header.writeBigUInt64LE(addressOf(bytes), 56)
  header.writeBigUInt64LE(BigInt(bytes.length), 64)
  return header
}

export const EINTR = 4
export const EAGAIN = 11

/** A system call that failed: which, its number, its name (`EPERM`), and what an operator can do about it. */
export class SystemCallError extends Error {
  static override readonly name = 'SystemCallError'
  readonly call: string
  readonly errno: number
  readonly code: string

  constructor(call: string, errno: number, detail = '') {
    const code = errno === 0 ? 'UNKNOWN' : getSystemErrorName(-errno)
    const remedy = remedies[`${call} ${code}`] ?? remedies[code]
    super(
      `${call}${detail === '' ? '' : ` (${detail})`} failed: ${code}${remedy === undefined ? '' : `: ${remedy}`}`
    )
    this.name = 'SystemCallError'
    this.call = call
    this.errno = errno
    this.code = code
  }
}

const remedies: Readonly<Record<string, string>> = {
  'unshare EPERM': 'making a network namespace needs the capability SYS_ADMIN',
  'setns EPERM': 'entering a network namespace needs the capability SYS_ADMIN',
  'setns EINVAL': 'the descriptor is not one of a network namespace',
  EPERM: 'the process lacks the capability NET_ADMIN (NET_RAW for packet sockets)',
  EMFILE: 'the process has no file descriptors left; raise its limit (ulimit -n)',
  ENFILE: 'the machine has no file descriptors left; raise fs.file-max',
  EADDRINUSE: 'another process listens there, or one of another user holds it with SO_REUSEPORT',
  EADDRNOTAVAIL: 'no interface of this network namespace has that address',
  EAFNOSUPPORT: 'the kernel or this network namespace has no IPv6'
}

/** Passes a call's result through; throws {@link SystemCallError} when it is -1. */
export function check(call: string, result: number, detail?: string): number {
  if (result === -1) throw new SystemCallError(call, koffi.errno(), detail)
  return result
}

/** The errno of the call that just failed. */
export function lastErrno(): number {
  return koffi.errno()
}
