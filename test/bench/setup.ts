/** What every benchmark needs: the programs of this machine, ours compiled, certificates, a folder that goes away. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { endInOrder } from './interrupt.ts'

export interface Setup extends Disposable {
  readonly folder: string
  /** Folder with cert.pem, key.pem, root.pem, for nginx. */
  readonly certificates: string
  /** Command of our ztunnel, compiled. */
  readonly ours: readonly string[]
  /** Command of our waypoint, compiled. */
  readonly waypoint: readonly string[]
  /** Command of the Rust ztunnel; undefined where UNDERPASS_PEERS has none. */
  readonly rust: readonly string[] | undefined
}

const root = path.resolve(import.meta.dirname, '../..')

/** Ends the process with a remedy when something is missing. `programs`: needed beside those of the two hops. */
export function setUp(programs: readonly string[] = []): Setup {
  if (process.getuid?.() !== 0) fail('network namespaces need root: run it with sudo')
  for (const program of ['nginx', 'wrk', 'h2load', 'iperf3', 'nft', ...programs]) {
    try {
      execFileSync('which', [program])
    } catch {
      fail(
        `needs ${program}: apt-get install -y nginx-light libnginx-mod-stream wrk nghttp2-client iperf3 nftables linux-perf strace`
      )
    }
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-bench-'))
  const remove = (): void => rmSync(folder, { recursive: true, force: true })
  endInOrder()
  try {
    const certificates = path.join(folder, 'tls')
    makeCertificates(certificates)
    const rust = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'ztunnel')
    const output = build(folder)
    return {
      folder,
      certificates,
      ours: [process.execPath, path.join(output, 'ztunnel/main.js')],
      waypoint: [process.execPath, path.join(output, 'waypoint/main.js')],
      rust: existsSync(rust) ? [rust] : undefined,
      [Symbol.dispose]: remove
    }
  } catch (error) {
    remove()
    throw error
  }
}

/** Compiles into the folder, so that a build beside it changes nothing that runs. */
function build(folder: string): string {
  const output = path.join(folder, 'dist')
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'))
  execFileSync(process.execPath, [path.join(root, 'scripts/build.ts'), output], {
    stdio: 'inherit',
    env: { ...process.env, PATH: `${path.join(root, 'node_modules/.bin')}:${process.env['PATH']}` }
  })
  return output
}

function makeCertificates(into: string): void {
  execFileSync('sh', [
    '-ec',
    `mkdir -p "$0"; cd "$0"
     openssl ecparam -name prime256v1 -genkey -noout -out root.key
     openssl req -x509 -key root.key -subj /CN=bench-root -days 2 -out root.pem
     openssl ecparam -name prime256v1 -genkey -noout -out key.pem
     openssl req -new -key key.pem -subj /CN=bench.local -out req.pem
     printf 'subjectAltName=DNS:bench.local' > ext
     openssl x509 -req -in req.pem -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile ext -out cert.pem 2>/dev/null
     chmod 644 *.pem`,
    into
  ])
}

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n`)
  process.exit(1)
}
