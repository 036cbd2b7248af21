/** `npm run bench -- waypoint`: what a waypoint costs, beside Envoy as a waypoint in the same mesh. */
import { setTimeout as delay } from 'node:timers/promises'
import { compare, OURS } from './compare.ts'
import { findEnvoy } from './envoy.ts'
import { startTime, type Sample } from './figures.ts'
import { interrupted } from './interrupt.ts'
import { latencyAt, requests } from './load.ts'
import { cpuSeconds, residentMb } from './process-cost.ts'
import type { Setup } from './setup.ts'
import type { Row } from './table.ts'
import { MEGABYTE, startWaypointPaths, type WaypointPath } from './waypoint-mesh.ts'
import { pathAmongThousand, thousandRoutes, twoRoutes } from './waypoint-routes.ts'

export const waypointParts = ['memory', 'requests', 'bodies', 'routes', 'latency', 'start'] as const

export interface WaypointRun {
  readonly pairs: number
  readonly seconds: number
  readonly only: ReadonlySet<string>
  /** Compare with Envoy too; fetched when it is not there. */
  readonly beside: boolean
}

/** Paths through two waypoints of the same program: with two routes, and with a thousand. */
interface Contender {
  readonly two: WaypointPath
  readonly thousand: WaypointPath
}

/** `missing`: why the columns of Envoy are empty. */
export async function waypointRows(
  setup: Setup,
  { pairs, seconds, only, beside }: WaypointRun
): Promise<{ readonly rows: readonly Row[]; readonly missing: string | undefined }> {
  const envoy = beside ? findEnvoy() : { kind: 'missing' as const, reason: 'left out' }
  const ours = { kind: 'underpass', program: setup.waypoint } as const
  const peer = envoy.kind === 'found' ? ({ kind: 'envoy', program: [envoy.program] } as const) : undefined
  await using standing = await startWaypointPaths(setup, {
    ours: { ...ours, routes: twoRoutes },
    'ours-thousand': { ...ours, routes: thousandRoutes },
    ...(peer && {
      envoy: { ...peer, routes: twoRoutes },
      'envoy-thousand': { ...peer, routes: thousandRoutes }
    })
  })
  const contenders = new Map<string, Contender>()
  for (const [name, prefix] of [
    [OURS, 'ours'],
    ['envoy', 'envoy']
  ] as const) {
    const [two, thousand] = [standing.paths.get(prefix), standing.paths.get(`${prefix}-thousand`)]
    if (two !== undefined && thousand !== undefined) contenders.set(name, { two, thousand })
  }
  const rows: Row[] = []
  const add = async (
    part: (typeof waypointParts)[number],
    unit: (figure: string) => string,
    measure: (contender: Contender) => Promise<Sample>
  ): Promise<void> => {
    if (only.has(part)) rows.push(...(await compare(contenders, { unit, measure, times: pairs })))
  }
  await add('memory', () => 'MB', idleMemory)
  await add(
    'requests',
    figure => (figure.endsWith('per second') ? '1/s' : 'CPU µs'),
    ({ two }) => requestCosts(two, seconds)
  )
  await add(
    'bodies',
    () => 'CPU s/GB',
    ({ two }) => bodyCost(two, seconds)
  )
  await add(
    'routes',
    figure => (figure.includes('against') ? '×' : 'CPU µs'),
    both => routeCosts(both, seconds)
  )
  if (only.has('latency')) {
    const rate = await halfOfSaturation(contenders)
    await add(
      'latency',
      figure => (figure.includes('one connection') ? 'µs' : `µs at ${rate}/s`),
      ({ two }) => latencies(two, rate, seconds)
    )
  }
  await add('start', () => 'ms', startCost)
  return { rows, missing: envoy.kind === 'missing' ? envoy.reason : undefined }
}

/** After a fresh start, a second after it listens: what it holds before anybody asked anything. */
async function idleMemory({ two: { waypoint } }: Contender): Promise<Sample> {
  await waypoint.stop()
  await waypoint.start()
  await delay(1000, undefined, { signal: interrupted })
  return { 'memory idle, waypoint': residentMb(waypoint.pid) }
}

async function requestCosts(path: WaypointPath, seconds: number): Promise<Sample> {
  const url = urlOf(path)
  const kept = await cost(path, () => requests(path.client, url, { seconds, reuse: true }))
  const fresh = await cost(path, () => requests(path.client, url, { seconds, reuse: false }))
  return {
    'keep-alive request, waypoint': kept.cpuMicros / kept.result,
    'new connection, waypoint': fresh.cpuMicros / fresh.result,
    'keep-alive requests per second': kept.result / seconds
  }
}

async function bodyCost(path: WaypointPath, seconds: number): Promise<Sample> {
  const { cpuMicros, result } = await cost(path, () =>
    requests(path.client, `${urlOf(path)}megabyte`, { seconds, reuse: true })
  )
  return { '1 MB bodies, waypoint': cpuMicros / 1e6 / ((result * MEGABYTE) / 1e9) }
}

async function routeCosts({ two, thousand }: Contender, seconds: number): Promise<Sample> {
  const per = async (path: WaypointPath): Promise<number> => {
    const url = `http://${path.http.ip}${pathAmongThousand}`
    const { cpuMicros, result } = await cost(path, () => requests(path.client, url, { seconds, reuse: true }))
    return cpuMicros / result
  }
  const [few, many] = [await per(two), await per(thousand)]
  return { '1,000 routes: keep-alive request': many, '1,000 routes against two': many / few }
}

async function latencies(path: WaypointPath, perSecond: number, seconds: number): Promise<Sample> {
  const { p50, p99 } = await latencyAt(path.client, urlOf(path), { perSecond, seconds })
  const alone = await latencyAt(path.client, urlOf(path), { connections: 1, seconds })
  return {
    'latency p50, waypoint': p50,
    'latency p99, waypoint': p99,
    'latency p50, one connection': alone.p50
  }
}

/** Milliseconds from its start to the first answer that a client got through it. */
async function startCost({ two }: Contender): Promise<Sample> {
  await two.waypoint.stop()
  return { 'start to first answer, waypoint': await startTime(two, () => two.waypoint.start()) }
}

async function cost<T>(
  { waypoint: { pid } }: WaypointPath,
  work: () => Promise<T>
): Promise<{ readonly cpuMicros: number; readonly result: T }> {
  const before = cpuSeconds(pid)
  const result = await work()
  return { cpuMicros: (cpuSeconds(pid) - before) * 1e6, result }
}

/** Half of what the slower one answers at most, in requests a second. */
async function halfOfSaturation(contenders: ReadonlyMap<string, Contender>): Promise<number> {
  const most: number[] = []
  for (const { two } of contenders.values())
    most.push(await requests(two.client, urlOf(two), { seconds: 1, reuse: true }))
  return Math.floor(Math.min(...most) / 2 / 100) * 100
}

function urlOf({ http: { ip } }: WaypointPath): string {
  return `http://${ip}/`
}
