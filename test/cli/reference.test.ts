import t from 'tap'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'

t.test('docs/reference/cli.md is what the commands say', async t => {
  const root = path.resolve(import.meta.dirname, '../..')
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', path.join(root, 'scripts/reference-cli.ts')],
    { encoding: 'utf8' }
  )
  t.equal(status, 0, stderr)
  t.equal(
    readFileSync(path.join(root, 'docs/reference/cli.md'), 'utf8'),
    stdout,
    'run: node scripts/reference-cli.ts > docs/reference/cli.md'
  )
})
