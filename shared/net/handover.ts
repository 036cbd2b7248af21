/**
 * Hands a port over to another process that listens there too (SO_REUSEPORT), without resetting a connection.
 *
 * The kernel spreads new connections over all sockets at the address. Their group is an array in the order in which they began to listen; when one closes, the last takes its place.
 * A program may name the place of the socket that gets a connection. What it names beyond the end is spread over
 * all, as without a program. Source: Linux, net/core/sock_reuseport.c; socket(7), SO_ATTACH_REUSEPORT_CBPF.
 */
import { attachProgram, type Instruction } from './bpf.ts'
import { EINTR, lastErrno, libc } from './ffi.ts'

const SOCK_FLAGS = 0o4000 | 0o2000000 // non-blocking, close-on-exec
const ECONNABORTED = 103

const loadRandom: Instruction = [0x20, 0, 0, -0x1000 + 56] // SKF_AD_OFF + SKF_AD_RANDOM
const remainder = 0x94
const add = 0x04
const answerSum: Instruction = [0x16, 0, 0, 0]
const answerPlace = 0x06

/**
 * The group of `fd` was opened by two processes: `own` sockets by this one, then `others` by another. New connections
 * go to the other's only. Throws SystemCallError where the kernel cannot (before Linux 4.6).
 */
export function leaveToOthers(fd: number, own: number, others: number): void {
  attachProgram(fd, 'SO_ATTACH_REUSEPORT_CBPF', [
    loadRandom,
    [remainder, 0, 0, others],
    [add, 0, 0, own],
    answerSum
  ])
}

/**
 * As {@link leaveToOthers}, and it stays so while the own sockets close one after the other, in any order: the place
 * named is another's until the last of ours is gone. Then it is beyond the end, and the others share again.
 * Where the others are fewer than ours, the last few of ours may get connections again until they close.
 */
export function leaveToOthersForGood(fd: number, own: number, others: number): void {
  attachProgram(fd, 'SO_ATTACH_REUSEPORT_CBPF', [[answerPlace, 0, 0, Math.max(own, others)]])
}

/** Connections that wait at a listening descriptor, accepted now; as many as there are. */
export function waitingConnections(listener: number): readonly number[] {
  const accepted: number[] = []
  for (;;) {
    const fd = libc.accept4(listener, null, null, SOCK_FLAGS)
    if (fd >= 0) accepted.push(fd)
    else if (!concernsOne(lastErrno())) return accepted
  }
}

/** Errors of accept(2) that say nothing of the next connection. */
function concernsOne(errno: number): boolean {
  return errno === EINTR || errno === ECONNABORTED
}
