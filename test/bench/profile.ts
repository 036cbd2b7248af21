/**
 * Where the time of the two hops and of the waypoint goes: writes the measured parts of `docs/profiles/`. Needs root,
 * `perf` and `strace`.
 *
 *   sudo node_modules/.bin/node test/bench/profile.ts [--seconds 5] [--only new-connections,bulk,latency,waypoint]
 */
import { readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { findEnvoy } from './envoy.ts'
import { startHops, type Contender, type Hops } from './hops.ts'
import { interrupted } from './interrupt.ts'
import { bulk, latencyAt, requests } from './load.ts'
import { writeMeasured } from './marked-text.ts'
import { pausesOf, profile, systemCalls } from './probes.ts'
import { setUp, type Setup } from './setup.ts'
import { startWaypointPaths, type WaypointPath } from './waypoint-mesh.ts'
import { twoRoutes } from './waypoint-routes.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    only: { type: 'string', default: 'new-connections,bulk,latency,waypoint' }
  }
})
const seconds = Number(values.seconds)
const only = new Set(values.only.split(','))

/** Functions of JavaScript get names for perf; V8 tells of each collection in the log. */
const NODE_OPTIONS = ['--perf-basic-prof', '--trace-gc', '--disable-warning=ExperimentalWarning']

interface Standing {
  readonly ours: Hops
  readonly rust: Hops | undefined
  readonly folder: string
}

/** A load, and in what its system calls are counted. */
interface Load<Path> {
  readonly unit: string
  /** Resolves to how many units were carried. */
  readonly carry: (path: Path, seconds: number) => Promise<number>
}

/** A process that carries a load; those of ours are profiled, the peers' system calls are counted beside. */
interface Watched<Path> {
  readonly name: string
  readonly pid: number
  readonly path: Path
  readonly ours: boolean
}

try {
  await main()
} catch (error) {
  if (!interrupted.aborted) throw error
}

async function main(): Promise<void> {
  using setup = setUp(['perf', 'strace'])
  if (only.has('waypoint')) writeMeasured('profiles/waypoint.md', await lookAtWaypoint(setup))
  if (['new-connections', 'bulk', 'latency'].some(part => only.has(part))) await lookAtHops(setup)
}

async function lookAtHops(setup: Setup): Promise<void> {
  await using made = new AsyncDisposableStack()
  const standing = await stand(setup, made)
  const url = ({ http }: Hops): string => `http://${http.ip}:${http.port}/`
  const fresh: Load<Hops> = {
    unit: 'connection',
    carry: (hops, seconds) => requests(hops.client, url(hops), { seconds, reuse: false })
  }
  const stream = (reverse: boolean): Load<Hops> => ({
    unit: 'MB',
    carry: async (hops, seconds) => {
      const sent = await bulk(hops.client, hops.iperf, { gigabytes: seconds / 2, streams: 1, reverse })
      return sent.gigabytes * 1000
    }
  })
  const { folder } = standing
  const watched = processesOf(standing)
  if (only.has('new-connections'))
    writeMeasured('profiles/new-connections.md', await look(folder, watched, fresh))
  if (only.has('bulk')) {
    const forward = await look(folder, watched, stream(false))
    const reverse = await look(folder, watched, stream(true))
    writeMeasured(
      'profiles/bulk.md',
      `## The client sends\n\n${forward}\n\n## The server sends\n\n${reverse}`
    )
  }
  if (only.has('latency')) writeMeasured('profiles/latency.md', await pauses(standing, url))
}

/** Our waypoint under three loads, its system calls beside Envoy's. */
async function lookAtWaypoint(setup: Setup): Promise<string> {
  const envoy = findEnvoy()
  const [node = '', ...program] = setup.waypoint
  await using standing = await startWaypointPaths(setup, {
    ours: { kind: 'underpass', program: [node, ...NODE_OPTIONS, ...program], routes: twoRoutes },
    ...(envoy.kind === 'found' && { Envoy: { kind: 'envoy', program: [envoy.program], routes: twoRoutes } })
  })
  const watched = [...standing.paths].map(([name, path]) => {
    const { pid } = path.waypoint
    return { name, pid, path, ours: name === 'ours' }
  })
  const load = (unit: string, target: string, reuse: boolean): Load<WaypointPath> => ({
    unit,
    carry: ({ client, http }, seconds) => requests(client, `http://${http.ip}${target}`, { seconds, reuse })
  })
  const sections: string[] = []
  for (const [title, one] of [
    ['Requests on kept connections', load('request', '/', true)],
    ['A connection for each request', load('connection', '/', false)],
    ['Bodies of 1 MB', load('MB', '/megabyte', true)]
  ] as const)
    sections.push(`## ${title}\n\n${await look(setup.folder, watched, one)}`)
  for (const { pid } of watched) rmSync(`/tmp/perf-${pid}.map`, { force: true })
  return sections.join('\n\n')
}

async function stand(
  { ours, rust, folder, certificates }: Setup,
  made: AsyncDisposableStack
): Promise<Standing> {
  const [node = '', ...program] = ours
  const start = async (name: string, octet: number, contender: Contender): Promise<Hops> => {
    const place = { name: `upb${process.pid % 100000}${name}`, octet, folder: path.join(folder, name) }
    const hops = await startHops(contender, { ...place, certificates })
    made.defer(async () => {
      for (const pid of [hops.clientPid, hops.serverPid]) rmSync(`/tmp/perf-${pid}.map`, { force: true })
      await hops.stop()
    })
    return hops
  }
  return {
    ours: await start('p', 31, {
      kind: 'underpass',
      program: [node, ...NODE_OPTIONS, ...program],
      workers: 1,
      capture: 'redirect'
    }),
    rust: rust && (await start('q', 32, { kind: 'rust', program: rust })),
    folder
  }
}

/** Profiles of our processes under a load, and the system calls of all under a shorter one. */
async function look<Path>(
  folder: string,
  watched: readonly Watched<Path>[],
  { unit, carry }: Load<Path>
): Promise<string> {
  const scratch = path.join(folder, 'watched')
  const sections: string[] = []
  for (const { name, pid, path } of watched.filter(({ ours }) => ours)) {
    await carry(path, 2) // compiled by now
    const text = await profile(pid, scratch, () => carry(path, seconds))
    sections.push(`CPU of ${name}, per cent of its samples:\n\n\`\`\`\n${text}\n\`\`\``)
  }
  const columns: { readonly name: string; readonly calls: ReadonlyMap<string, number> }[] = []
  for (const { name, pid, path } of watched)
    columns.push({ name, calls: await systemCalls(pid, scratch, () => carry(path, 2)) })
  const names = [...new Set(columns.flatMap(({ calls }) => [...calls.keys()]))]
  const most = (name: string): number => Math.max(...columns.map(({ calls }) => calls.get(name) ?? 0))
  const shown = names.filter(name => most(name) >= 0.02).toSorted((a, b) => most(b) - most(a))
  const cells = (first: string, of: (column: (typeof columns)[number]) => string): string =>
    `| ${[first, ...columns.map(of)].join(' | ')} |`
  const sum = (calls: ReadonlyMap<string, number>): number => [...calls.values()].reduce((a, b) => a + b, 0)
  sections.push(
    [
      `System calls per ${unit} (traced, so that rates and batches differ from free running):\n`,
      cells('call', ({ name }) => name),
      cells('---', () => '---'),
      ...shown.map(name => cells(name, ({ calls }) => (calls.get(name) ?? 0).toFixed(2))),
      cells('all', ({ calls }) => sum(calls).toFixed(2))
    ].join('\n')
  )
  return sections.join('\n\n')
}

function processesOf({ ours, rust }: Standing): readonly Watched<Hops>[] {
  const both = (name: string, path: Hops): readonly Watched<Hops>[] => [
    { name: `${name}, client hop`, pid: path.clientPid, path, ours: path === ours },
    { name: `${name}, server hop`, pid: path.serverPid, path, ours: path === ours }
  ]
  return [...both('ours', ours), ...(rust === undefined ? [] : both('Rust', rust))]
}

/** Collections of our worker threads while requests come at a fixed rate, beside the latencies. */
async function pauses({ ours, rust, folder }: Standing, url: (hops: Hops) => string): Promise<string> {
  const saturation = (await requests(ours.client, url(ours), { seconds: 2, reuse: true })) / 2
  const perSecond = Math.floor(saturation / 200) * 100
  const logs = ['client', 'server'].map(role => path.join(folder, 'p', `${role}.log`))
  const before = logs.map(file => pausesOf(readFileSync(file, 'utf8')).length)
  const own = await latencyAt(ours.client, url(ours), { perSecond, seconds })
  const peer = rust && (await latencyAt(rust.client, url(rust), { perSecond, seconds }))
  const sections = logs.map((file, index) => {
    const found = pausesOf(readFileSync(file, 'utf8')).slice(before[index])
    const kinds = Object.entries(Object.groupBy(found, ({ kind }) => kind)).map(([kind, list = []]) => {
      const times = list.map(({ ms }) => ms).toSorted((a, b) => a - b)
      const total = times.reduce((sum, ms) => sum + ms, 0)
      return `${list.length} × ${kind}, median ${times[times.length >> 1]} ms, longest ${times.at(-1)} ms, together ${total.toFixed(0)} ms of ${seconds} s`
    })
    const longest = found.toSorted((a, b) => b.ms - a.ms).slice(0, 8)
    return [
      `${index === 0 ? 'Client' : 'Server'} hop: ${kinds.join('; ') || 'no collection'}. The longest:`,
      `\`\`\`\n${longest.map(({ line }) => line).join('\n')}\n\`\`\``
    ].join('\n\n')
  })
  const said = ({ p50, p99 }: { p50: number; p99: number }): string => `p50 ${p50} µs, p99 ${p99} µs`
  return [
    `${perSecond} requests a second on 8 connections: ours ${said(own)}${peer === undefined ? '' : `, the Rust ztunnel ${said(peer)}`}.`,
    ...sections
  ].join('\n\n')
}
