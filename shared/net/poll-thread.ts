/** The thread of `poll.ts`: sleeps until descriptors are ready, reports their ids, ends when woken by id 0. */
import { parentPort, workerData } from 'node:worker_threads'
import { EINTR, lastErrno, libc, SystemCallError } from './ffi.ts'
import { epollDataOffset, epollEventSize } from './poll.ts'

const { epoll } = workerData as { epoll: number }
const capacity = 64
const events = Buffer.alloc(capacity * epollEventSize)

for (let running = true; running;) {
  const count = libc.epoll_wait(epoll, events, capacity, -1)
  if (count === -1) {
    const errno = lastErrno()
    if (errno === EINTR) continue
    throw new SystemCallError('epoll_wait', errno)
  }
  const ids: number[] = []
  for (let index = 0; index < count; index++) {
    const id = events.readUInt32LE(index * epollEventSize + epollDataOffset)
    if (id === 0) running = false
    else ids.push(id)
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
  if (ids.length > 0) parentPort?.postMessage(ids)
}
