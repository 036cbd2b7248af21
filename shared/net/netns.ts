/**
 * Network namespaces: open, compare, and run a function inside one.
 * A socket belongs for ever to the namespace in which it was created; everything later works from outside.
 */
import { closeSync, fstatSync, openSync, readlinkSync } from 'node:fs'
import { check, libc, SystemCallError } from './ffi.ts'

const CLONE_NEWNET = 0x40000000

/** Opens the namespace file at `path` (`/proc/<pid>/ns/net`, `/var/run/netns/<name>`). Throws when it is none. */
export function openNetns(path: string): number {
  const fd = openSync(path, 'r')
  if (!readlinkSync(`/proc/self/fd/${fd}`).startsWith('net:') && !isNamespaceMount(fd)) {
    closeSync(fd)
    throw new Error(`${path} is not a network namespace`)
  }
  return fd
}

/** A new namespace without a name: it is gone when its last descriptor, socket and process are. */
export function createNetns(): number {
  const home = homeNetns()
  check('unshare', libc.unshare(CLONE_NEWNET))
  try {
    return openSync('/proc/thread-self/ns/net', 'r')
  } finally {
    returnTo(home)
  }
}

export function closeNetns(fd: number): void {
  closeSync(fd)
}

/** What identifies a namespace as long as somebody keeps it open: `<device>:<inode>`. */
export function netnsId(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true })
  return `${dev}:${ino}`
}

export function sameNetns(a: number, b: number): boolean {
  return netnsId(a) === netnsId(b)
}

/**
 * Runs `work` with this thread inside the namespace. `work` must not wait: the thread is back home when it
 * returns, and nothing else runs on it in between. Safe in worker threads: namespaces are per thread.
 */
export function inNetns<T>(fd: number, work: () => T): T {
  const home = homeNetns()
  check('setns', libc.setns(fd, CLONE_NEWNET))
  try {
    return work()
  } finally {
    returnTo(home)
  }
}

/** Whether this process may enter namespaces at all; the text of the failure when it may not. */
export function netnsProblem(): string | undefined {
  try {
    inNetns(homeNetns(), () => undefined)
    return undefined
  } catch (error) {
    if (error instanceof SystemCallError) return error.message
    throw error
  }
}

/** A thread that cannot go home would open every later socket in somebody's pod: nothing is safe then. */
function returnTo(home: number): void {
  if (libc.setns(home, CLONE_NEWNET) === -1) process.abort()
}

let home: number | undefined

/** The namespace of this thread, opened once per thread; it is the same for the whole life of the thread. */
function homeNetns(): number {
  home ??= openSync('/proc/thread-self/ns/net', 'r')
  return home
}

function isNamespaceMount(fd: number): boolean {
  // A bind mount shows its own path as the link, so only trying tells; EINVAL means another kind of file.
  try {
    inNetns(fd, () => undefined)
    return true
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EINVAL') return false
    throw error
  }
}
