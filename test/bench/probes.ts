/** Looking into running processes: `perf` for where CPU goes, `strace` for system calls, V8's own words for pauses. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { run } from './load.ts'

/** Text of `perf report` for a process while `work` runs: first by program or library, then by function. */
export async function profile(pid: number, file: string, work: () => Promise<unknown>): Promise<string> {
  const events = ['record', '-q', '-e', 'cpu-clock', '-F', '1499', '-p', String(pid), '-o', file]
  await beside('perf', events, work)
  const report = async (sort: string, limit: string): Promise<string> => {
    const shape = ['--no-children', '--sort', sort, '--percent-limit', limit]
    const text = await run('perf', ['report', '-i', file, '--stdio', '-q', ...shape])
    return text
      .split('\n')
      .map(line =>
        line
          .trim()
          .replace(/(\s+-)+$/, '')
          .replaceAll(/\s{2,}/g, '  ')
      )
      .filter(Boolean)
      .map(line =>
        line
          .replace(/ tid \d+$/, '')
          .replace(/file:\/\/\S*\/dist\//, '')
          .slice(0, 120)
      )
      .join('\n')
  }
  const text = `${await report('dso', '1')}\n\n${await report('symbol', '0.7')}`
  rmSync(file)
  return text
}

/** How often a process makes each system call while `work` runs; `work` says how many units it carried. */
export async function systemCalls(
  pid: number,
  file: string,
  work: () => Promise<number>
): Promise<ReadonlyMap<string, number>> {
  const units = await beside('strace', ['-c', '-f', '-q', '-p', String(pid), '-o', file], work)
  const calls = new Map<string, number>()
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [, count, name] = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*$/.exec(line) ?? []
    if (name !== undefined && name !== 'total') calls.set(name, Number(count) / units)
  }
  rmSync(file)
  return calls
}

/** Lines of `--trace-gc` about the threads that carry connections: every isolate but the first. */
export interface Pause {
  readonly kind: string
  readonly ms: number
  readonly line: string
}

export function pausesOf(log: string): readonly Pause[] {
  const lines = log.split('\n').flatMap(line => {
    const [, isolate = '', rest = ''] = /^\[\d+:(0x[0-9a-f]+)\]\s+(.*)$/.exec(line) ?? []
    const [, kind, ms] = /ms: (Scavenge|Mark-Compact).* ([\d.]+) \/ [\d.]+ ms/.exec(rest) ?? []
    return kind === undefined ? [] : [{ isolate, kind, ms: Number(ms), line: rest.slice(0, 150).trim() }]
  })
  const main = lines[0]?.isolate
  const workers = lines.filter(({ isolate }) => isolate !== main)
  return workers.map(({ kind, ms, line }) => ({ kind, ms, line }))
}

/** Runs a program that watches until it is interrupted, while `work` runs. */
async function beside<T>(command: string, args: readonly string[], work: () => Promise<T>): Promise<T> {
  const watcher = spawn(command, args, { stdio: ['ignore', 'ignore', 'ignore'], detached: true })
  const ended = once(watcher, 'close')
  await delay(500) // attached by then
  try {
    return await work()
  } finally {
    watcher.kill('SIGINT')
    await ended
  }
}
