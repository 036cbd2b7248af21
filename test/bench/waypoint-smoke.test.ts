/** A short benchmark of our waypoint alone: it carries every load to its end, and costs no more than four times the record. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { missing } from './missing.ts'
import type { Row } from './table.ts'

t.test('no figure of a waypoint is worse than four times the recorded one', { skip: missing() }, async t => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-bench-waypoint-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = path.join(folder, 'rows.json')
  const options = ['--alone', '--pairs', '3', '--seconds', '1', '--only', 'memory,requests,bodies,start']
  execFileSync(
    process.execPath,
    [path.join(import.meta.dirname, 'main.ts'), 'waypoint', ...options, '--json', file],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, PATH: `${path.dirname(process.execPath)}:${process.env['PATH']}` }
    }
  )
  const rows = JSON.parse(readFileSync(file, 'utf8')) as Row[]
  const recorded = JSON.parse(
    readFileSync(path.join(import.meta.dirname, 'recorded-waypoint.json'), 'utf8')
  ) as Row[]
  // Alone, without a peer to divide by: only what depends little on who else uses the machine, and with room for slower ones.
  const compared = recorded.filter(
    ({ unit, name }) => unit === 'MB' || (unit.startsWith('CPU') && !name.includes('routes'))
  )
  t.equal(compared.length, 4, 'what is compared was recorded')
  for (const before of compared) {
    const now = rows.find(({ name }) => name === before.name)?.ours
    if (now === undefined) t.fail(`${before.name} was not measured`)
    else
      t.ok(
        now <= 4 * before.ours,
        `${before.name}: ${now.toFixed(1)} ${before.unit}, recorded ${before.ours.toFixed(1)}`
      )
  }
})
