/**
 * Readiness of descriptors that libuv refuses to poll (SEQPACKET and packet sockets) or reads without what comes
 * beside the bytes (datagrams' original destinations): one thread that sleeps in epoll_wait and tells the threads
 * that it serves what is ready. No timers, nothing of libuv's pool is blocked. The owner makes the system calls
 * itself and asks again when it wants more, so what waits stays in the kernel's bounded buffers.
 */
import path from 'node:path'
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads'
import { check, libc } from './ffi.ts'

const EPOLL_CLOEXEC = 0o2000000
const EFD_CLOEXEC = 0o2000000
const EFD_NONBLOCK = 0o4000
const EPOLL_CTL_ADD = 1
const EPOLL_CTL_DEL = 2
const EPOLL_CTL_MOD = 3
const EPOLLIN = 0x1
const EPOLLOUT = 0x4
const EPOLLRDHUP = 0x2000
const EPOLLONESHOT = 1 << 30

/** One descriptor that is being waited for. */
export interface Watch {
  /** Asks to be called once more, when there is something to read or, with `write`, room to write. */
  arm(interest: { readonly read: boolean; readonly write: boolean }): void
  /** Stops; call it before the descriptor is closed. */
  stop(): void
}

/** The poller, or a share of it. */
export interface Watcher {
  /** Calls `onReady` once each time it was armed and the descriptor is ready. Keeps the process alive until stopped. */
  watch(fd: number, onReady: () => void): Watch
}

/** What another thread needs to use the poller's thread; post it there with its port in the transfer list. */
export interface PollShare {
  readonly epoll: number
  /** Number of the thread among those that are served; 0 is the poller's own. */
  readonly owner: number
  readonly port: MessagePort
}

export class Poller implements Watcher {
  /** One for each other thread that was asked for. */
  readonly shares: readonly PollShare[]
  readonly #epoll: number
  readonly #wake: number
  readonly #worker: Worker
  readonly #watches: Watches
  #closed = false

  constructor(otherThreads = 0) {
    this.#epoll = check('epoll_create1', libc.epoll_create1(EPOLL_CLOEXEC))
    this.#wake = check('eventfd', libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))
    control(this.#epoll, EPOLL_CTL_ADD, this.#wake, { events: EPOLLIN, id: 0, owner: 0 })
    const channels = Array.from({ length: otherThreads }, () => new MessageChannel())
    const ports = channels.map(({ port1 }) => port1)
    this.shares = channels.map(({ port2: port }, index) => ({ epoll: this.#epoll, owner: index + 1, port }))
    this.#worker = new Worker(new URL(`poll-thread${path.extname(import.meta.filename)}`, import.meta.url), {
      workerData: { epoll: this.#epoll, ports },
      transferList: ports,
      name: 'poll',
      // It holds one buffer and a loop; the default heap of a thread would be most of a small program's memory.
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 }
    })
    this.#watches = new Watches(this.#epoll, 0, this.#worker)
    this.#worker.on('message', this.#watches.deliver)
    this.#worker.unref()
    // Node joins its threads when it exits; one that sleeps in the kernel has to be woken first.
    process.once('exit', this.#wakeUp)
  }

  watch(fd: number, onReady: () => void): Watch {
    if (this.#closed) throw new Error('the poller is closed')
    return this.#watches.watch(fd, onReady)
  }

  /** Ends the thread. Descriptors stay open; they are their owners'. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#watches.clear()
    process.off('exit', this.#wakeUp)
    const ended = new Promise(resolve => this.#worker.once('exit', resolve))
    this.#worker.ref()
    this.#wakeUp()
    await ended
    libc.close(this.#epoll)
    libc.close(this.#wake)
  }

  readonly #wakeUp = (): void => {
    const one = Buffer.alloc(8)
    one.writeUInt8(1)
    libc.write(this.#wake, one, 8)
  }
}

/** The poller's thread, used from another one. The poller has to outlive it. */
export class SharedPoller implements Watcher {
  readonly #watches: Watches

  constructor({ epoll, owner, port }: PollShare) {
    this.#watches = new Watches(epoll, owner, port)
    port.on('message', this.#watches.deliver)
    port.unref()
  }

  watch(fd: number, onReady: () => void): Watch {
    return this.#watches.watch(fd, onReady)
  }
}

/** What one thread waits for. An epoll descriptor may be changed by any thread while another sleeps on it. */
class Watches {
  readonly #epoll: number
  readonly #owner: number
  readonly #alive: { ref(): void; unref(): void }
  readonly #ready = new Map<number, () => void>()
  #nextId = 1

  constructor(epoll: number, owner: number, alive: { ref(): void; unref(): void }) {
    this.#epoll = epoll
    this.#owner = owner
    this.#alive = alive
  }

  watch(fd: number, onReady: () => void): Watch {
    const id = this.#nextId++
    const set = (operation: number, events: number): void =>
      control(this.#epoll, operation, fd, { events, id, owner: this.#owner })
    this.#ready.set(id, onReady)
    if (this.#ready.size === 1) this.#alive.ref()
    set(EPOLL_CTL_ADD, EPOLLONESHOT)
    return {
      arm: ({ read, write }) => {
        if (!this.#ready.has(id)) return
        const interest = (read ? EPOLLIN | EPOLLRDHUP : 0) | (write ? EPOLLOUT : 0)
        set(EPOLL_CTL_MOD, interest | EPOLLONESHOT)
      },
      stop: () => {
        if (!this.#ready.delete(id)) return
        set(EPOLL_CTL_DEL, 0)
        if (this.#ready.size === 0) this.#alive.unref()
      }
    }
  }

  readonly deliver = (ids: readonly number[]): void => {
    for (const id of ids) this.#ready.get(id)?.()
  }

  clear(): void {
    this.#ready.clear()
  }
}

function control(
  epoll: number,
  operation: number,
  fd: number,
  { events, id, owner }: { readonly events: number; readonly id: number; readonly owner: number }
): void {
  const event = Buffer.alloc(16)
  event.writeUInt32LE(events >>> 0, 0)
  event.writeUInt32LE(id, epollDataOffset)
  event.writeUInt32LE(owner, epollDataOffset + 4)
  check('epoll_ctl', libc.epoll_ctl(epoll, operation, fd, event))
}

/** struct epoll_event is packed on x86-64 only. */
export const epollDataOffset = process.arch === 'x64' ? 4 : 8
export const epollEventSize = process.arch === 'x64' ? 12 : 16
