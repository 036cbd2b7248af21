/**
 * Unix sockets of type SEQPACKET with descriptors (SCM_RIGHTS): what ZDS runs on. Source: unix(7), cmsg(3).
 */
import { chmodSync, rmSync } from 'node:fs'
import { check, EAGAIN, EINTR, lastErrno, libc, messageHeader, SystemCallError } from '../net/ffi.ts'
import type { Poller, Watch } from '../net/poll.ts'
import { maxMessageBytes, ZdsProtocolError } from './messages.ts'

const AF_UNIX = 1
const SOCK_SEQPACKET = 5
const SOCK_FLAGS = 0o4000 | 0o2000000 // non-blocking, close-on-exec
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_CTRUNC = 0x8
const MSG_TRUNC = 0x20
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000

/** Descriptors taken from one packet; one more than allowed, so that a second one is seen and refused. */
const maxDescriptors = 2
const controlHeader = 16
/** Packets read before other work gets its turn. */
const packetsPerTurn = 16
/** Packets that may wait for a peer that does not read. ZDS has one in flight, so more is a broken peer. */
const maxQueued = 64

export interface PacketHandlers {
  /** `bytes` is only valid during the call; the descriptors are the handler's to close. */
  onMessage(bytes: Buffer, descriptors: readonly number[]): void
  /** Called once, whoever ended it; with the reason unless one side closed in order. */
  onClose(error?: Error): void
}

/** One connection. Made by {@link ZdsConnection.connect} or a {@link SeqpacketListener}. */
export class ZdsConnection {
  readonly #fd: number
  readonly #watch: Watch
  readonly #incoming = new IncomingPacket()
  readonly #queue: { readonly bytes: Buffer; readonly descriptor: number | undefined }[] = []
  #handlers: PacketHandlers | undefined
  #closed = false

  /** Throws {@link SystemCallError}: ENOENT or ECONNREFUSED while nobody listens at `path`. */
  static connect(poller: Poller, path: string, handlers: PacketHandlers): ZdsConnection {
    const fd = openSeqpacket(
      name => check('connect', libc.connect(name.fd, name.bytes, name.bytes.length), path),
      path
    )
    const connection = new ZdsConnection(poller, fd)
    connection.start(handlers)
    return connection
  }

  /** Takes over `fd`. Reads nothing before {@link start}. */
  constructor(poller: Poller, fd: number) {
    this.#fd = fd
    this.#watch = poller.watch(fd, () => this.#onReady())
  }

  start(handlers: PacketHandlers): void {
    this.#handlers = handlers
    this.#arm()
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Sends one packet; `descriptor` has to stay open until the peer answered. Throws when the connection is over. */
  send(bytes: Buffer, descriptor?: number): void {
    if (this.#closed) throw new Error('the connection is closed')
    if (this.#queue.length === 0 && this.#write(bytes, descriptor)) return
    if (this.#queue.length === maxQueued) {
      throw new Error(`${maxQueued} packets wait: the peer does not read`)
    }
    this.#queue.push({ bytes, descriptor })
    this.#arm()
  }

  /** Idempotent. */
  close(error?: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#watch.stop()
    libc.close(this.#fd)
    this.#handlers?.onClose(error)
  }

  #onReady(): void {
    try {
      while (this.#queue[0] !== undefined && this.#write(this.#queue[0].bytes, this.#queue[0].descriptor)) {
        this.#queue.shift()
      }
      for (let turn = 0; turn < packetsPerTurn && !this.#closed; turn++) {
        const read = this.#incoming.receive(this.#fd)
        if (read === 'empty') break
        if (read === 'end') return this.close()
        this.#handlers?.onMessage(read.bytes, read.descriptors)
      }
      this.#arm()
    } catch (error) {
      this.close(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #arm(): void {
    if (!this.#closed) this.#watch.arm({ read: this.#handlers !== undefined, write: this.#queue.length > 0 })
  }

  /** False when the peer's buffer is full. */
  #write(bytes: Buffer, descriptor: number | undefined): boolean {
    const control = descriptor === undefined ? undefined : rightsOf(descriptor)
    const header = messageHeader(bytes, control)
    if (libc.sendmsg(this.#fd, header, MSG_NOSIGNAL) !== -1) return true
    const errno = lastErrno()
    if (errno === EAGAIN || errno === EINTR) return false
    throw new SystemCallError('sendmsg', errno)
  }
}

/** Listens at a path and hands out connections. */
export class SeqpacketListener {
  readonly #fd: number
  readonly #path: string
  readonly #watch: Watch
  readonly #poller: Poller
  readonly #onConnection: (connection: ZdsConnection) => void
  #closed = false

  /** Replaces whatever is at `path`; only the own user may connect. The handler calls `start` on each connection. */
  constructor(poller: Poller, path: string, onConnection: (connection: ZdsConnection) => void) {
    rmSync(path, { force: true })
    this.#path = path
    this.#poller = poller
    this.#onConnection = onConnection
    this.#fd = openSeqpacket(name => {
      check('bind', libc.bind(name.fd, name.bytes, name.bytes.length), path)
      chmodSync(path, 0o600)
      check('listen', libc.listen(name.fd, 16), path)
    }, path)
    this.#watch = poller.watch(this.#fd, () => this.#accept())
    this.#watch.arm({ read: true, write: false })
  }

  /** Connections that were accepted stay open. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#watch.stop()
    libc.close(this.#fd)
    rmSync(this.#path, { force: true })
  }

  #accept(): void {
    for (let turn = 0; turn < packetsPerTurn; turn++) {
      const fd = libc.accept4(this.#fd, null, null, SOCK_FLAGS)
      // Every failure of accept concerns the one connection (or a momentary lack); the listener goes on.
      if (fd === -1) break
      this.#onConnection(new ZdsConnection(this.#poller, fd))
    }
    if (!this.#closed) this.#watch.arm({ read: true, write: false })
  }
}

type Received = 'empty' | 'end' | { readonly bytes: Buffer; readonly descriptors: readonly number[] }

/** Receives into the same memory again and again; the header points at it, so both live as long as each other. */
class IncomingPacket {
  readonly #bytes = Buffer.alloc(maxMessageBytes)
  readonly #control = Buffer.alloc(controlHeader + 8 * maxDescriptors)
  readonly #header = messageHeader(this.#bytes, this.#control)

  receive(fd: number): Received {
    this.#header.writeBigUInt64LE(BigInt(this.#control.length), 40)
    const length = libc.recvmsg(fd, this.#header, MSG_CMSG_CLOEXEC)
    if (length === -1) {
      const errno = lastErrno()
      if (errno === EAGAIN || errno === EINTR) return 'empty'
      throw new SystemCallError('recvmsg', errno)
    }
    const descriptors = this.#descriptors()
    if ((this.#header.readUInt32LE(48) & (MSG_TRUNC | MSG_CTRUNC)) !== 0) {
      for (const descriptor of descriptors) libc.close(descriptor)
      throw new ZdsProtocolError(`a packet of more than ${maxMessageBytes} bytes or too many descriptors`)
    }
    if (length === 0 && descriptors.length === 0) return 'end'
    return { bytes: this.#bytes.subarray(0, length), descriptors }
  }

  #descriptors(): readonly number[] {
    const used = Number(this.#header.readBigUInt64LE(40))
    const descriptors: number[] = []
    if (used < controlHeader) return descriptors
    const length = Number(this.#control.readBigUInt64LE(0))
    if (this.#control.readInt32LE(8) !== SOL_SOCKET || this.#control.readInt32LE(12) !== SCM_RIGHTS) {
      return descriptors
    }
    for (let at = controlHeader; at + 4 <= length; at += 4) descriptors.push(this.#control.readInt32LE(at))
    return descriptors
  }
}

function rightsOf(descriptor: number): Buffer {
  const control = Buffer.alloc(controlHeader + 8)
  control.writeBigUInt64LE(BigInt(controlHeader + 4), 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  control.writeInt32LE(descriptor, 16)
  return control
}

function openSeqpacket(use: (name: { fd: number; bytes: Buffer }) => void, path: string): number {
  const text = Buffer.from(path)
  if (text.length > 107) throw new Error(`the socket path ${path} is longer than 107 bytes`)
  const bytes = Buffer.alloc(2 + text.length + 1)
  bytes.writeUInt16LE(AF_UNIX, 0)
  text.copy(bytes, 2)
  const fd = check('socket', libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_FLAGS, 0))
  try {
    use({ fd, bytes })
    return fd
  } catch (error) {
    libc.close(fd)
    throw error
  }
}
