/**
 * Readiness of descriptors that libuv refuses to poll (SEQPACKET and packet sockets): one thread that sleeps in
 * epoll_wait and tells this thread what is ready. No timers, nothing of libuv's pool is blocked. The owner makes the system calls
 * itself and asks again when it wants more, so what waits stays in the kernel's bounded buffers.
 */
import path from 'node:path'
import { Worker } from 'node:worker_threads'
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

export class Poller {
  readonly #epoll: number
  readonly #wake: number
  readonly #worker: Worker
  readonly #ready = new Map<number, () => void>()
  #nextId = 1
  #closed = false

  constructor() {
    this.#epoll = check('epoll_create1', libc.epoll_create1(EPOLL_CLOEXEC))
    this.#wake = check('eventfd', libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))
    this.#control(EPOLL_CTL_ADD, this.#wake, EPOLLIN, 0)
    this.#worker = new Worker(new URL(`poll-thread${path.extname(import.meta.filename)}`, import.meta.url), {
      workerData: { epoll: this.#epoll },
      name: 'poll',
      // It holds one buffer and a loop; the default heap of a thread would be most of a small program's memory.
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 }
    })
    this.#worker.on('message', this.#deliver)
    this.#worker.unref()
    // Node joins its threads when it exits; one that sleeps in the kernel has to be woken first.
    process.once('exit', this.#wakeUp)
  }

  /** Calls `onReady` once each time it was armed and the descriptor is ready. Keeps the process alive until stopped. */
  watch(fd: number, onReady: () => void): Watch {
    if (this.#closed) throw new Error('the poller is closed')
    const id = this.#nextId++
    this.#ready.set(id, onReady)
    if (this.#ready.size === 1) this.#worker.ref()
    this.#control(EPOLL_CTL_ADD, fd, EPOLLONESHOT, id)
    return {
      arm: ({ read, write }) => {
        if (!this.#ready.has(id)) return
        const interest = (read ? EPOLLIN | EPOLLRDHUP : 0) | (write ? EPOLLOUT : 0)
        this.#control(EPOLL_CTL_MOD, fd, interest | EPOLLONESHOT, id)
      },
      stop: () => {
        if (!this.#ready.delete(id)) return
        this.#control(EPOLL_CTL_DEL, fd, 0, id)
        if (this.#ready.size === 0) this.#worker.unref()
      }
    }
  }

  /** Ends the thread. Descriptors stay open; they are their owners'. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#ready.clear()
    process.off('exit', this.#wakeUp)
    const ended = new Promise(resolve => this.#worker.once('exit', resolve))
    this.#worker.ref()
    this.#wakeUp()
    await ended
    libc.close(this.#epoll)
    libc.close(this.#wake)
  }

  readonly #deliver = (ids: readonly number[]): void => {
    for (const id of ids) this.#ready.get(id)?.()
  }

  readonly #wakeUp = (): void => {
    const one = Buffer.alloc(8)
    one.writeUInt8(1)
    libc.write(this.#wake, one, 8)
  }

  #control(operation: number, fd: number, events: number, id: number): void {
    const event = Buffer.alloc(16)
    event.writeUInt32LE(events >>> 0, 0)
    event.writeUInt32LE(id, epollDataOffset)
    check('epoll_ctl', libc.epoll_ctl(this.#epoll, operation, fd, event))
  }
}

/** struct epoll_event is packed on x86-64 only. */
export const epollDataOffset = process.arch === 'x64' ? 4 : 8
export const epollEventSize = process.arch === 'x64' ? 12 : 16
