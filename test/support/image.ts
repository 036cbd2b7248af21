/** The image of this checkout, built once for all tests that need it. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

const root = path.resolve(import.meta.dirname, '../..')
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
/** How manifests name the image of this checkout. */
export const imageReference = `underpass.dev/underpass:${version}`
/** What the image is made of: scripts/image.ts and all that it packs. */
const sources = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  '{cli,controlplane,daemonset,lab,scripts,shared,waypoint,ztunnel}/**/*'
]

/**
 * Resolves to an archive for this machine's architecture, to be left where it is. It is built unless one of the same
 * sources is there; those of other sources are removed.
 */
export async function buildImage(): Promise<string> {
  const folder = path.join(root, 'node_modules/.cache/underpass-image')
  const archive = path.join(folder, `${fingerprint()}.tar`)
  if (existsSync(archive)) return archive
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'
  const unfinished = path.join(folder, 'unfinished.tar')
  await promisify(execFile)(
    process.execPath,
    ['scripts/image.ts', '--arch', architecture, '--out', unfinished],
    {
      cwd: root,
      env: {
        ...process.env,
        PATH: `${path.join(root, 'node_modules/.bin')}:${process.env['PATH']}`,
        NODE_OPTIONS: ''
      },
      maxBuffer: 64 << 20
    }
  )
  renameSync(unfinished, archive)
  return archive
}

function fingerprint(): string {
  const hash = createHash('sha256').update(process.arch)
  for (const entry of globSync(sources, { cwd: root, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = path.join(entry.parentPath, entry.name)
    hash.update(`${path.relative(root, file)}\0`).update(readFileSync(file))
  }
  return hash.digest('hex').slice(0, 16)
}
