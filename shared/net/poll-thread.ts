/** The thread of `poll.ts`: sleeps until descriptors are ready, reports their ids, ends when woken by id 0. */
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { EINTR, lastErrno, libc, SystemCallError } from './ffi.ts'
import { epollDataOffset, epollEventSize } from './poll.ts'

const { epoll, ports } = workerData as { epoll: number; ports: readonly MessagePort[] }
/** By the number of the thread that waits. */
const owners = [parentPort, ...ports]
const capacity = 64
const events = Buffer.alloc(capacity * epollEventSize)

for (let running = true; running;) {
  const count = libc.epoll_wait(epoll, events, capacity, -1)
  if (count === -1) {
    const errno = lastErrno()
    if (errno === EINTR) continue
    throw new SystemCallError('epoll_wait', errno)
  }
  const ready = new Map<number, number[]>()
  for (let index = 0; index < count; index++) {
    const data = index * epollEventSize + epollDataOffset
    const id = events.readUInt32LE(data)
    const owner = events.readUInt32LE(data + 4)
    if (id === 0) running = false
    else if (!ready.get(owner)?.push(id)) ready.set(owner, [id])
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
  for (const [owner, ids] of ready) owners[owner]?.postMessage(ids)
}
