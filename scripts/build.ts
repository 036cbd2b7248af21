/** `npm run build`: compiles the programs to JavaScript in `dist/`, with the data files that they read beside them. */
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)
const programs = ['shared', 'ztunnel', 'waypoint', 'daemonset', 'controlplane', 'lab', 'cli']
const settings = path.join(root, '.tsconfig.build.json')

rmSync(path.join(root, 'dist'), { recursive: true, force: true })
writeFileSync(
  settings,
  JSON.stringify({
    extends: './tsconfig.json',
    compilerOptions: { noEmit: false, outDir: 'dist', sourceMap: false, declaration: false },
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
  cpSync(from, path.join(root, 'dist', path.relative(root, from)))
}
writeFileSync(path.join(root, 'dist/package.json'), '{ "type": "module" }\n')
