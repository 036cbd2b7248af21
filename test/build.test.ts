/** The compiled programs, away from the sources as in an image. */
import t from 'tap'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)

t.test('compiled programs say their version and the commit', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-build-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const run = (...words: string[]): string => {
    const { status, stdout, stderr } = spawnSync(process.execPath, words, {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, PATH: `${path.join(root, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}` }
    })
    t.equal(status, 0, `${words.join(' ')} ${stderr}`)
    return stdout
  }
  run('scripts/build.ts', path.join(folder, 'dist'))
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'))
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
  const said = JSON.parse(run(path.join(folder, 'dist/ztunnel/main.js'), 'version')) as Record<string, string>
  t.equal(said['version'], version)
  t.match(said['gitRevision'], /^(?:[0-9a-f]{40}|unknown)$/)
  t.equal(said['buildProfile'], 'release')
  t.ok(run(path.join(folder, 'dist/cli/main.js'), 'version', '--client').includes(version))
})
