/**
 * `npm run build [-- FOLDER]`: compiles the programs to JavaScript in `dist/`, or in that folder, with the data files
 * that they read beside them.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)
const programs = ['shared', 'ztunnel', 'waypoint', 'daemonset', 'controlplane', 'lab', 'cli']
const output = path.resolve(process.argv[2] ?? path.join(root, 'dist'))
const settings = path.join(root, `.tsconfig.build-${process.pid}.json`)

rmSync(output, { recursive: true, force: true })
writeFileSync(
  settings,
  JSON.stringify({
    extends: './tsconfig.json',
    compilerOptions: { noEmit: false, rootDir: root, outDir: output, sourceMap: false, declaration: false },
    include: programs
  })
)
const { status, stdout, stderr } = spawnSync('tsc', ['-p', settings], { cwd: root, encoding: 'utf8' })
rmSync(settings)
process.stdout.write(`${stdout}${stderr}`)
if (status !== 0) process.exit(1)

for (const file of globSync(`{${programs.join(',')}}/**/*`, { cwd: root, withFileTypes: true })) {
  const from = path.join(file.parentPath, file.name)
  if (!file.isFile() || from.endsWith('.ts') || from.endsWith('.md')) continue
  cpSync(from, path.join(output, path.relative(root, from)))
}
// What the programs say of themselves; the compiled form may run without the project's own package.json.
const { name, version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as Record<
  string,
  string
>
const commit = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' })
const gitHead = commit.status === 0 ? commit.stdout.trim() : undefined
writeFileSync(
  path.join(output, 'package.json'),
  `${JSON.stringify({ name, version, private: true, type: 'module', gitHead }, null, 2)}\n`
)
