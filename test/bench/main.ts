/**
 * `npm run bench`: what the two hops of ztunnel cost, beside nginx `stream` with mutual TLS and, where the folder
 * UNDERPASS_PEERS has it, the Rust ztunnel; or, with the word `waypoint`, what a waypoint costs beside Envoy. All stand
 * at the same time on this machine and take their loads in turn, so that the ratio of each pair of neighbouring runs
 * holds although the machine's speed drifts.
 *
 *   npm run bench [-- --pairs 7] [--seconds 3] [--gigabytes 1] [--json FILE] [--only PART,…] [--record]
 *   npm run bench -- waypoint [--pairs 7] [--seconds 3] [--json FILE] [--only PART,…] [--alone] [--record]
 *
 * Parts: bulk, requests, latency, memory, start, workers, control-plane; of a waypoint: memory, requests, bodies,
 * routes, latency, start. `--alone`: without Envoy. `--record` keeps the run as `test/bench/recorded.json` or
 * `recorded-waypoint.json` and as a table in `docs/performance.md`.
 */
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { compare, OURS, OURS_TPROXY, type Comparison } from './compare.ts'
import { controlPlaneRows } from './control-plane-figures.ts'
import { bulkFigures, connectionMemory, latencyFigures, requestFigures } from './figures.ts'
import { startHops, type Contender, type Hops } from './hops.ts'
import { idleRows } from './idle-memory.ts'
import { interrupted } from './interrupt.ts'
import { startRows, workerRows } from './process-figures.ts'
import { residentMb } from './process-cost.ts'
import { record, type Subject } from './record.ts'
import { setUp, type Setup } from './setup.ts'
import { tableOf, type Row } from './table.ts'
import { waypointParts, waypointRows } from './waypoint-figures.ts'

const partsOf = {
  ztunnel: ['memory', 'bulk', 'requests', 'latency', 'start', 'workers', 'control-plane'],
  waypoint: waypointParts
} satisfies Record<Subject, readonly string[]>
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pairs: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '3' },
    gigabytes: { type: 'string', default: '1' },
    json: { type: 'string' },
    only: { type: 'string' },
    alone: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false }
  }
})
const [pairs, seconds, gigabytes] = [values.pairs, values.seconds, values.gigabytes].map(Number) as [
  number,
  number,
  number
]
const subject: Subject = positionals[0] === 'waypoint' ? 'waypoint' : 'ztunnel'
const parts: readonly string[] = partsOf[subject]
const only = new Set(values.only?.split(',') ?? parts)
if (positionals.length > (subject === 'waypoint' ? 1 : 0)) {
  process.stderr.write(`bench: ${positionals.join(' ')}: only "waypoint" can be named\n`)
  process.exit(2)
}
const unknown = [...only].filter(part => !parts.includes(part))
if (unknown.length > 0 || ![pairs, seconds, gigabytes].every(number => number > 0)) {
  process.stderr.write(
    `bench: --pairs, --seconds and --gigabytes are numbers above 0, --only is of ${parts.join()}\n`
  )
  process.exit(2)
}
if (values.record && (only.size < parts.length || values.alone)) {
  process.stderr.write('bench: --record keeps whole runs: leave out --only and --alone\n')
  process.exit(2)
}

try {
  await main()
} catch (error) {
  if (!interrupted.aborted) throw error // else what failed was given up
}

async function main(): Promise<void> {
  const started = Date.now()
  const load = os.loadavg()[0] ?? NaN
  using setup = setUp()
  const { rows, missing } = await measure(setup)
  interrupted.throwIfAborted()
  const minutes = (Date.now() - started) / 60_000
  process.stdout.write(`${tableOf(rows)}\n\n${minutes.toFixed(1)} minutes\n`)
  if (missing !== undefined) process.stdout.write(`No figures of Envoy: ${missing}.\n`)
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`)
  if (!values.record) return
  if (missing !== undefined) throw new Error(`not recorded: ${missing}`)
  record(rows, { subject, pairs, minutes, load })
}

/** `missing`: why figures of a peer that belong to the record are not there. */
async function measure(
  setup: Setup
): Promise<{ readonly rows: readonly Row[]; readonly missing: string | undefined }> {
  if (subject === 'waypoint') return waypointRows(setup, { pairs, seconds, only, beside: !values.alone })
  return { rows: [...(await comparedRows(setup)), ...(await ownRows(setup))], missing: undefined }
}

/** Figures that all contenders have. */
async function comparedRows(setup: Setup): Promise<Row[]> {
  const { ours, rust, folder, certificates } = setup
  const contenders: Record<string, Contender> = {
    [OURS]: { kind: 'underpass', program: ours, workers: 1, capture: 'redirect' },
    nginx: { kind: 'nginx' },
    ...(rust === undefined ? {} : { ztunnel: { kind: 'rust', program: rust } }),
    [OURS_TPROXY]: { kind: 'underpass', program: ours, workers: 1, capture: 'tproxy' }
  }
  await using made = new AsyncDisposableStack()
  const all = new Map<string, Hops>()
  for (const [name, contender] of Object.entries(contenders)) {
    const place = { name: `upb${process.pid % 100000}${name[0]}`, octet: 11 + all.size }
    const hops = await startHops(contender, { ...place, folder: path.join(folder, name), certificates })
    made.defer(() => hops.stop())
    all.set(name, hops)
  }
  const redirected = new Map([...all].filter(([name]) => name !== OURS_TPROXY))
  const rows: Row[] = []
  const add = async (
    part: string,
    among: ReadonlyMap<string, Hops>,
    comparison: Comparison<Hops>
  ): Promise<void> => {
    if (only.has(part)) rows.push(...(await compare(among, comparison)))
  }
  const nginx = all.get('nginx')
  if (only.has('memory')) rows.push(...(await idleRows(setup, nginx && residentMb(nginx.clientPid))))
  await add('memory', redirected, {
    unit: () => 'KB',
    measure: hops => connectionMemory(hops, 1000),
    times: 3
  })
  await add('bulk', all, {
    unit: figure => (figure.startsWith('time') ? 's/GB' : 'CPU s/GB'),
    measure: hops => bulkFigures(hops, gigabytes),
    times: pairs
  })
  await add('requests', all, {
    unit: figure => (figure.endsWith('per second') ? '1/s' : 'CPU µs'),
    measure: hops => requestFigures(hops, seconds),
    times: pairs
  })
  if (only.has('latency')) {
    const rate = await halfOfSaturation(redirected)
    await add('latency', redirected, {
      unit: () => `µs at ${rate}/s`,
      measure: hops => latencyFigures(hops, rate, seconds),
      times: pairs
    })
  }
  return rows
}

/** Figures of ours alone. */
async function ownRows(setup: Setup): Promise<Row[]> {
  const rows: Row[] = []
  if (only.has('start')) rows.push(...(await startRows(setup)))
  if (only.has('workers')) rows.push(...(await workerRows(setup, seconds)))
  if (only.has('control-plane')) rows.push(...(await controlPlaneRows()))
  return rows
}

/** Half of what the slowest contender answers at most, in requests a second. */
async function halfOfSaturation(standing: ReadonlyMap<string, Hops>): Promise<number> {
  const most: number[] = []
  for (const hops of standing.values()) {
    most.push((await requestFigures(hops, 1))['keep-alive requests per second'] ?? 0)
  }
  return Math.floor(Math.min(...most) / 2 / 100) * 100
}
