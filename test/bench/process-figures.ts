/** Figures of our program alone: start-up, scaling. */
import path from 'node:path'
import { availableParallelism } from 'node:os'
import { requestFigures, startTime, workerShares, type Sample } from './figures.ts'
import { startHops, type Hops } from './hops.ts'
import type { Setup } from './setup.ts'
import { spreadOf } from './statistics.ts'
import { ownRow, type Row } from './table.ts'

export async function startRows(setup: Setup): Promise<Row[]> {
  const times: number[] = []
  await withHops(setup, 1, async hops => {
    for (let round = 0; round < 5; round += 1) {
      await hops.stopClient()
      times.push(await startTime(hops, () => hops.startClient()))
    }
  })
  return [ownRow('start to first served connection', 'ms', spreadOf(times))]
}

/**
 * Throughput of two workers against one, which needs cores: two workers, the other hop, client and server all want
 * one. And, on every machine, that both workers carry their share of many connections.
 */
export async function workerRows(setup: Setup, seconds: number): Promise<Row[]> {
  const rate = async (hops: Hops): Promise<number> =>
    (await requestFigures(hops, seconds))['keep-alive requests per second'] ?? NaN
  const one = await withHops(setup, 1, rate)
  const shares: Sample[] = []
  const two = await withHops(setup, 2, async hops => {
    for (let round = 0; round < 3; round += 1) shares.push(await workerShares(hops, 3000))
    return rate(hops)
  })
  const scaling = ownRow('two workers against one', '×', spreadOf([two / one]))
  return [
    availableParallelism() >= 6 ? scaling : { ...scaling, met: null },
    ...Object.keys(shares[0] ?? {}).map(name =>
      ownRow(name, '%', spreadOf(shares.map(share => share[name] ?? NaN)))
    )
  ]
}

async function withHops<T>(
  { ours, folder, certificates }: Setup,
  workers: number,
  work: (hops: Hops) => Promise<T>
): Promise<T> {
  const hops = await startHops(
    { kind: 'underpass', program: ours, workers, capture: 'redirect' },
    {
      name: `upb${process.pid % 100000}o`,
      octet: 200 + workers,
      folder: path.join(folder, `own-${workers}`),
      certificates
    }
  )
  try {
    return await work(hops)
  } finally {
    await hops.stop()
  }
}
