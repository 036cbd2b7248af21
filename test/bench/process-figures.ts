/** Figures of our program alone: memory by workers and workloads, start-up, scaling. */
import path from 'node:path'
import { availableParallelism } from 'node:os'
import { requestFigures, startTime } from './figures.ts'
import { startHops, type Contender, type Hops } from './hops.ts'
import { cpuByThread, residentMb } from './process-cost.ts'
import { spreadOf } from './statistics.ts'
import { rowOf, targets, type Row } from './table.ts'

export interface Place {
  readonly program: readonly string[]
  readonly folder: string
  readonly certificates: string
  readonly octet: number
}

export async function memoryRows(place: Place): Promise<Row[]> {
  const idle = async (workers: number, workloads: number): Promise<number> =>
    withHops(place, { workers, workloads }, async hops => residentMb(hops.clientPid))
  const [one, two] = [await idle(1, 0), await idle(2, 0)]
  const [oneLoaded, twoLoaded] = [await idle(1, 10_000), await idle(2, 10_000)]
  return [
    own('memory idle, one worker, 10,000 workloads', 'MB', [oneLoaded]),
    own('memory of a further worker', 'MB', [two - one]),
    own('memory of a further worker, 10,000 workloads', 'MB', [twoLoaded - oneLoaded])
  ]
}

export async function startRows(place: Place): Promise<Row[]> {
  const times: number[] = []
  await withHops(place, { workers: 1, workloads: 0 }, async hops => {
    for (let round = 0; round < 5; round += 1) {
      await hops.stopClient()
      times.push(await startTime(hops, () => hops.startClient()))
    }
  })
  return [own('start to first served connection', 'ms', times)]
}

/** Throughput of two workers against one. Needs cores: two workers, the other hop, client and server all want one. */
export async function workerRows(place: Place, seconds: number): Promise<Row[]> {
  const rate = async (workers: number): Promise<{ perSecond: number; busy: number }> =>
    withHops(place, { workers, workloads: 0 }, async hops => {
      const before = cpuByThread(hops.clientPid)
      const sample = await requestFigures(hops, seconds)
      const after = cpuByThread(hops.clientPid)
      const used = [...after].map(([thread, cpu]) => cpu - (before.get(thread) ?? 0))
      const carrying = used.filter(cpu => cpu > 0.15 * Math.max(...used)).length
      return { perSecond: sample['keep-alive requests per second'] ?? NaN, busy: carrying }
    })
  const one = await rate(1)
  const two = await rate(2)
  const row = own('two workers against one', '×', [two.perSecond / one.perSecond])
  const carrying = own('threads that carry load with two workers', 'threads', [two.busy])
  return [availableParallelism() >= 6 ? row : { ...row, met: null }, carrying]
}

function own(name: string, unit: string, values: readonly number[]): Row {
  return rowOf({ name, unit, ours: spreadOf(values), peers: {}, targets: targets[name] ?? {} })
}

async function withHops<T>(
  { program, folder, certificates, octet }: Place,
  { workers, workloads }: { workers: number; workloads: number },
  work: (hops: Hops) => Promise<T>
): Promise<T> {
  const contender: Contender = { kind: 'underpass', program, workers, workloads }
  const name = `upb${process.pid % 100000}o`
  const hops = await startHops(contender, {
    name,
    octet,
    folder: path.join(folder, `own-${octet}-${workers}-${workloads}`),
    certificates
  })
  try {
    return await work(hops)
  } finally {
    await hops.stop()
  }
}
