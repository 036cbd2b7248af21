/**
 * Where the time of the two hops goes: writes the measured parts of `docs/profiles/`. Needs root, `perf` and `strace`.
 *
 *   sudo node_modules/.bin/node test/bench/profile.ts [--seconds 5] [--only new-connections,bulk,latency]
 */
import { readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { startHops, type Contender, type Hops } from './hops.ts'
import { interrupted } from './interrupt.ts'
import { bulk, latencyAt, requests } from './load.ts'
import { writeMeasured } from './marked-text.ts'
import { pausesOf, profile, systemCalls } from './probes.ts'
import { setUp, type Setup } from './setup.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    only: { type: 'string', default: 'new-connections,bulk,latency' }
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
interface Load {
  readonly unit: string
  /** Resolves to how many units were carried. */
  readonly carry: (hops: Hops, seconds: number) => Promise<number>
}

try {
  await main()
} catch (error) {
  if (!interrupted.aborted) throw error
}

async function main(): Promise<void> {
  using setup = setUp(['perf', 'strace'])
  await using made = new AsyncDisposableStack()
  const standing = await stand(setup, made)
  const url = ({ http }: Hops): string => `http://${http.ip}:${http.port}/`
  const fresh: Load = {
    unit: 'connection',
    carry: (hops, seconds) => requests(hops.client, url(hops), { seconds, reuse: false })
  }
  const stream = (reverse: boolean): Load => ({
    unit: 'MB',
    carry: async (hops, seconds) => {
      const sent = await bulk(hops.client, hops.iperf, { gigabytes: seconds / 2, streams: 1, reverse })
      return sent.gigabytes * 1000
    }
  })
  if (only.has('new-connections')) writeMeasured('profiles/new-connections.md', await look(standing, fresh))
  if (only.has('bulk')) {
    const forward = await look(standing, stream(false))
    const reverse = await look(standing, stream(true))
    writeMeasured(
      'profiles/bulk.md',
      `## The client sends\n\n${forward}\n\n## The server sends\n\n${reverse}`
    )
  }
  if (only.has('latency')) writeMeasured('profiles/latency.md', await pauses(standing, url))
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

/** Profiles of our two hops under a load, and the system calls of all under a shorter one. */
async function look({ ours, rust, folder }: Standing, { unit, carry }: Load): Promise<string> {
  const scratch = path.join(folder, 'watched')
  await carry(ours, 2) // compiled by now
  const sections: string[] = []
  for (const [hop, pid] of hopsOf(ours)) {
    const text = await profile(pid, scratch, () => carry(ours, seconds))
    sections.push(`CPU of the ${hop} hop, per cent of its samples:\n\n\`\`\`\n${text}\n\`\`\``)
  }
  const contenders = [['ours', ours] as const, ...(rust === undefined ? [] : [['Rust', rust] as const])]
  const columns: { readonly name: string; readonly calls: ReadonlyMap<string, number> }[] = []
  for (const [name, hops] of contenders) {
    for (const [hop, pid] of hopsOf(hops)) {
      const calls = await systemCalls(pid, scratch, () => carry(hops, 2))
      columns.push({ name: `${name}, ${hop} hop`, calls })
    }
  }
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

function hopsOf(hops: Hops): readonly (readonly ['client' | 'server', number])[] {
  return [
    ['client', hops.clientPid],
    ['server', hops.serverPid]
  ]
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
