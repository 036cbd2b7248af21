/** `npm run check`: format, lint, types, layering, generated documents. Prints what failed; quick enough to run often. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)
const steps: readonly (readonly [name: string, command: string, ...args: string[]])[] = [
  ['format', 'oxfmt', '--check', '.'],
  ['lint', 'oxlint', '--type-aware', '--deny-warnings'],
  ['types', 'tsc', '-p', '.'],
  ['layering', process.execPath, 'test/run.ts', 'layering.test.ts'],
  ['reference', process.execPath, 'scripts/reference.ts', '--check']
]

let failed = 0
for (const [name, command, ...args] of steps) {
  const started = performance.now()
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  process.stdout.write(`${status === 0 ? 'ok  ' : 'FAIL'} ${name}  ${seconds} s\n`)
  if (status === 0) continue
  failed += 1
  process.stdout.write(`${stdout}${stderr}\n`)
}
process.exitCode = failed === 0 ? 0 : 1
