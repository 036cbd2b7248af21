/** What processes hold, as the kernel counts it. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { eventually } from './eventually.ts'

/** Open descriptors. */
export function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** Their number once it stands still. */
export async function settledDescriptors(pid: number): Promise<number> {
  let last = -1
  await eventually('descriptors stand still', () => {
    const now = descriptors(pid)
    const still = now === last
    last = now
    return still
  })
  return last
}

/** Resident memory in MiB. */
export function residentMiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

/** Connections that stand at a port of a network namespace. */
export function established(netns: string, port: number): number {
  const filter = ['state', 'established', 'sport', '=', `:${port}`]
  const lines = execFileSync('ip', ['netns', 'exec', netns, 'ss', '-Htn', ...filter], { encoding: 'utf8' })
  return lines.split('\n').filter(line => line !== '').length
}
