/** The README's commands on a bare Debian that has only Node and npm, as root and then as an ordinary user. */
import t from 'tap'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const script = path.resolve(import.meta.dirname, '../../scripts/fresh-debian')
/** A stranger's environment has none of our variables. */
const env = { PATH: process.env['PATH'] }
const skip =
  process.getuid?.() === 0
    ? spawnSync('git', ['rev-parse', 'HEAD'], { cwd: import.meta.dirname }).status === 0
      ? false
      : 'needs a git checkout: what is committed is what a stranger gets'
    : 'needs root, to build a Debian in a folder'

t.test('a stranger follows the README', { skip }, async t => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-fresh-'))
  const debian = path.join(folder, 'debian')
  t.teardown(() => {
    spawnSync(script, ['remove', debian])
    rmSync(folder, { recursive: true, force: true })
  })
  const made = spawnSync(script, ['make', debian], { env, encoding: 'utf8' })
  t.equal(made.status, 0, `a bare Debian is built ${made.status === 0 ? '' : made.stderr}`)
  const follow = (user: string, command: string): { status: number | null; output: string } => {
    const { status, stdout, stderr } = spawnSync(script, ['run', debian, user, command], {
      env,
      encoding: 'utf8',
      maxBuffer: 64 << 20
    })
    return { status, output: `${stdout}${stderr}` }
  }

  const untold = follow('visitor', 'npm test -- layering.test.ts')
  t.not(untold.status, 0, 'an ordinary user lacks packages')
  t.match(untold.output, /please install .*sudo apt-get install -y iproute2/, 'and is told the one command')

  for (const user of ['root', 'visitor']) {
    const tests = follow(user, 'npm test -- layering.test.ts shared')
    t.equal(
      tests.status,
      0,
      `npm test as ${user}${tests.status === 0 ? '' : `: ${tests.output.slice(-4000)}`}`
    )
    t.match(tests.output, /^[1-9]\d* passed, 0 failed/m)
    const demo = follow(user, 'npm run demo')
    t.equal(
      demo.status,
      0,
      `npm run demo as ${user}${demo.status === 0 ? '' : `: ${demo.output.slice(-4000)}`}`
    )
  }
})
