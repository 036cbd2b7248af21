/** What a control plane with 10,000 pods and 500 services costs in one process. */
import path from 'node:path'
import type { Sample } from './figures.ts'
import { run } from './load.ts'
import { spreadOf } from './statistics.ts'
import { ownRow, type Row } from './table.ts'

const ROUNDS = 3

export async function controlPlaneRows(): Promise<Row[]> {
  const samples: Sample[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const script = path.join(import.meta.dirname, 'control-plane-load.ts')
    samples.push(JSON.parse(await run(process.execPath, ['--expose-gc', script])) as Sample)
  }
  return Object.keys(samples[0] ?? {}).map(name =>
    ownRow(name, unitOf(name), spreadOf(samples.map(sample => sample[name] ?? NaN)))
  )
}

function unitOf(name: string): string {
  if (name.includes('resources')) return 'resources'
  if (name.includes('one changed pod')) return 'ms'
  return /held|process/.test(name) ? 'MB' : 's'
}
