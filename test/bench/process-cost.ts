/** What a process has used, read from /proc. */
import { readFileSync, readdirSync } from 'node:fs'

/** Ticks a second of /proc/<pid>/stat; 100 on every Linux that Node supports. */
const TICKS_PER_SECOND = 100

/** User plus system CPU seconds of the process with all its threads, finer than ticks where the kernel tells. */
export function cpuSeconds(pid: number): number {
  let nanoseconds = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')
    nanoseconds += Number(text.split(' ')[0])
  }
  return nanoseconds > 0 ? nanoseconds / 1e9 : ticks(pid) / TICKS_PER_SECOND
}

/** Resident memory in megabytes (10^6 bytes). */
export function residentMb(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return (Number(kilobytes) * 1024) / 1e6
}

/** CPU seconds of each of our ztunnel's worker threads, which are named after what they are. */
export function workerSeconds(pid: number): readonly number[] {
  return readdirSync(`/proc/${pid}/task`)
    .filter(thread => readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').startsWith('ztunnel-'))
    .map(thread => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e9)
}

function ticks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return Number(fields[11]) + Number(fields[12])
}
