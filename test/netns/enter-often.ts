/** A worker of sockets.test.ts: enters a namespace many times and reports where it was inside and afterwards. */
import { closeSync, openSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { inNetns, netnsId } from '../../shared/net/netns.ts'
import { closeDescriptor, openDialer } from '../../shared/net/sockets.ts'

const { netns, times } = workerData as { netns: number; times: number }
const inside = new Set<string>()
const outside = new Set<string>()
for (let turn = 0; turn < times; turn++) {
  closeDescriptor(openDialer({ netns }, { family: 4 }))
  inside.add(inNetns(netns, here))
  outside.add(here())
}
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
parentPort?.postMessage([...inside, ...outside])

function here(): string {
  const fd = openSync('/proc/thread-self/ns/net', 'r')
  try {
    return netnsId(fd)
  } finally {
    closeSync(fd)
  }
}
