/** A short benchmark: it runs to its end, and no figure is worse than twice what was recorded. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { missing } from './missing.ts'
import type { Row } from './table.ts'

const skip = missing()

t.test('no figure is worse than twice its recorded ratio', { skip }, async t => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-bench-smoke-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = path.join(folder, 'rows.json')
  const options = ['--pairs', '3', '--seconds', '1', '--gigabytes', '0.5', '--only', 'bulk,requests,memory']
  execFileSync(process.execPath, [path.join(import.meta.dirname, 'main.ts'), ...options, '--json', file], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, PATH: `${path.dirname(process.execPath)}:${process.env['PATH']}` }
  })
  const rows = JSON.parse(readFileSync(file, 'utf8')) as Row[]
  const recorded = JSON.parse(readFileSync(path.join(import.meta.dirname, 'recorded.json'), 'utf8')) as Row[]
  for (const before of recorded) {
    const now = rows.find(({ name }) => name === before.name)
    if (now === undefined || !before.unit.startsWith('CPU')) continue
    for (const [peer, { median }] of Object.entries(before.ratio)) {
      const ratio = now.ratio[peer]?.median
      if (ratio === undefined) continue // that peer is not on this machine
      t.ok(
        ratio <= 2 * median,
        `${now.name}: ${ratio.toFixed(2)} times ${peer}, recorded ${median.toFixed(2)}`
      )
    }
  }
  // Memory does not depend on the machine's speed, so it is compared as it is.
  for (const before of recorded.filter(({ unit }) => unit === 'MB' || unit === 'KB')) {
    const now = rows.find(({ name }) => name === before.name)
    const bound = 2 * Math.max(before.ours, before.target['ours'] ?? 0)
    if (now !== undefined) t.ok(now.ours <= bound, `${now.name}: ${now.ours} ${now.unit}, at most ${bound}`)
  }
})
