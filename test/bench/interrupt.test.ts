/** A benchmark that somebody ends leaves nothing behind. */
import t from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { eventually } from '../support/eventually.ts'
import { missing } from './missing.ts'

t.test('after an interrupt no namespace, process or file is left', { skip: missing() }, async t => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-bench-interrupt-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const bench = spawn(process.execPath, [path.join(import.meta.dirname, 'main.ts'), '--only', 'requests'], {
    stdio: 'ignore',
    env: { ...process.env, TMPDIR: folder }
  })
  t.teardown(() => bench.kill('SIGKILL'))
  const ended = new Promise(resolve => bench.on('close', (code, signal) => resolve(signal ?? code)))
  const own = (): string[] =>
    execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
      .split('\n')
      .filter(line => line.startsWith(`upb${(bench.pid ?? 0) % 100000}`))
  const processes = (): string[] =>
    readdirSync('/proc').filter(pid => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(folder)
      } catch {
        return false // not a process, or gone
      }
    })
  await eventually('the benchmark is under way', () => own().length >= 4)
  bench.kill('SIGINT')
  t.equal(await ended, 130, 'it says that it was interrupted')
  t.strictSame(own(), [], 'no namespace')
  t.strictSame(readdirSync(folder), [], 'no file')
  t.strictSame(processes(), [], 'no process')
})
