/**
 * `npm run bench`: what the two hops of ztunnel cost, beside nginx `stream` with mutual TLS and, where the folder
 * UNDERPASS_PEERS has it, the Rust ztunnel. All stand at the same time on this machine and take their loads in turn, so
 * that the ratio of each pair of neighbouring runs holds although the machine's speed drifts.
 *
 *   npm run bench [-- --pairs 7] [--seconds 3] [--gigabytes 2] [--json FILE] [--only bulk,requests,latency,memory,start,workers]
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { bulkFigures, connectionMemory, latencyFigures, requestFigures, type Sample } from './figures.ts'
import { startHops, type Contender, type Hops } from './hops.ts'
import { memoryRows, startRows, workerRows } from './process-figures.ts'
import { residentMb } from './process-cost.ts'
import { pairedRatio, spreadOf } from './statistics.ts'
import { printTable, rowOf, type Row, targets } from './table.ts'

const { values } = parseArgs({
  options: {
    pairs: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '3' },
    gigabytes: { type: 'string', default: '2' },
    json: { type: 'string' },
    only: { type: 'string', default: 'bulk,requests,latency,memory,start,workers' }
  }
})
const pairs = Number(values.pairs)
const seconds = Number(values.seconds)
const gigabytes = Number(values.gigabytes)
const only = new Set(values.only.split(','))
const root = path.resolve(import.meta.dirname, '../..')

if (process.getuid?.() !== 0) fail('network namespaces need root: run `sudo npm run bench`')
for (const program of ['nginx', 'wrk', 'h2load', 'iperf3']) {
  try {
    execFileSync('which', [program])
  } catch {
    fail(`needs ${program}: apt-get install -y nginx-light libnginx-mod-stream wrk nghttp2-client iperf3`)
  }
}
execFileSync(process.execPath, [path.join(root, 'scripts/build.ts')], {
  stdio: 'inherit',
  env: { ...process.env, PATH: `${path.join(root, 'node_modules/.bin')}:${process.env['PATH']}` }
})

const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-bench-'))
const certificates = path.join(folder, 'tls')
makeCertificates(certificates)
const ours = [process.execPath, path.join(root, 'dist/ztunnel/main.js')]
const rust = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'ztunnel')
const contenders: Record<string, Contender> = {
  underpass: { kind: 'underpass', program: ours, workers: 1 },
  nginx: { kind: 'nginx' },
  ...(existsSync(rust) ? { ztunnel: { kind: 'rust', program: [rust] } as const } : {})
}

const standing = new Map<string, Hops>()
let octet = 10
try {
  for (const [name, contender] of Object.entries(contenders)) standing.set(name, await stand(name, contender))
  const rows: Row[] = []
  if (only.has('memory'))
    rows.push(
      ...idleRows(),
      ...(await compare(
        () => 'KB',
        hops => connectionMemory(hops, 1000),
        1
      ))
    )
  if (only.has('bulk'))
    rows.push(
      ...(await compare(
        figure => (figure.startsWith('time') ? 's/GB' : 'CPU s/GB'),
        hops => bulkFigures(hops, gigabytes)
      ))
    )
  if (only.has('requests'))
    rows.push(
      ...(await compare(
        figure => (figure.endsWith('per second') ? '1/s' : 'CPU µs'),
        hops => requestFigures(hops, seconds)
      ))
    )
  if (only.has('latency')) {
    const rate = await halfOfSaturation()
    rows.push(
      ...(await compare(
        () => `µs at ${rate}/s`,
        hops => latencyFigures(hops, rate, seconds)
      ))
    )
  }
  if (only.has('memory')) {
    rows.push(...(await memoryRows({ program: ours, folder, certificates, octet: 200 })))
  }
  if (only.has('start')) rows.push(...(await startRows({ program: ours, folder, certificates, octet: 210 })))
  if (only.has('workers'))
    rows.push(...(await workerRows({ program: ours, folder, certificates, octet: 220 }, seconds)))
  printTable(rows)
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`)
} finally {
  for (const hops of standing.values()) await hops.stop()
  rmSync(folder, { recursive: true, force: true })
}

async function stand(name: string, contender: Contender): Promise<Hops> {
  octet += 1
  const short = `upb${process.pid % 100000}${name[0]}`
  return startHops(contender, { name: short, octet, folder: path.join(folder, name), certificates })
}

/** Takes the same figures of every contender in turn, `times` times, after one run that does not count. */
async function compare(
  unit: (figure: string) => string,
  measure: (hops: Hops) => Promise<Sample>,
  times = pairs
): Promise<Row[]> {
  const samples = new Map<string, Sample[]>([...standing.keys()].map(name => [name, []]))
  for (let round = -1; round < times; round += 1) {
    for (const [name, hops] of standing) {
      const sample = await measure(hops)
      if (round >= 0) samples.get(name)?.push(sample)
    }
    process.stderr.write('.')
  }
  const own = samples.get('underpass') ?? []
  return Object.keys(own[0] ?? {}).map(figure => {
    const series = (name: string): number[] => (samples.get(name) ?? []).map(sample => sample[figure] ?? NaN)
    const peers = [...standing.keys()].filter(name => name !== 'underpass')
    return rowOf({
      name: figure,
      unit: unit(figure),
      ours: spreadOf(series('underpass')),
      peers: Object.fromEntries(
        peers.map(peer => [
          peer,
          { value: spreadOf(series(peer)), ratio: pairedRatio(series('underpass'), series(peer)) }
        ])
      ),
      targets: targets[figure] ?? {}
    })
  })
}

function idleRows(): Row[] {
  const idle = (hops: Hops | undefined): number => (hops === undefined ? NaN : residentMb(hops.clientPid))
  const peers = [...standing].filter(([name]) => name !== 'underpass')
  return [
    rowOf({
      name: 'memory idle, one worker',
      unit: 'MB',
      ours: spreadOf([idle(standing.get('underpass'))]),
      peers: Object.fromEntries(
        peers.map(([name, hops]) => [
          name,
          {
            value: spreadOf([idle(hops)]),
            ratio: pairedRatio([idle(standing.get('underpass'))], [idle(hops)])
          }
        ])
      ),
      targets: targets['memory idle, one worker'] ?? {}
    })
  ]
}

/** Half of what the slowest contender answers at most, in requests a second. */
async function halfOfSaturation(): Promise<number> {
  const most: number[] = []
  for (const hops of standing.values()) {
    most.push((await requestFigures(hops, 1))['keep-alive requests per second'] ?? 0)
  }
  return Math.floor(Math.min(...most) / 2 / 100) * 100
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
