/** The same figures of several contenders, taken in turn, so that ratios hold although the machine's speed drifts. */
import type { Sample } from './figures.ts'
import { interrupted } from './interrupt.ts'
import { pairedRatio, spreadOf } from './statistics.ts'
import { rowOf, targets, type Row } from './table.ts'

/** Ours as the peers are captured; its rows bear the plain names and the targets. */
export const OURS = 'underpass'
/** Ours captured by TPROXY; its rows stand below those of REDIRECT, with ratios to the same peers. */
export const OURS_TPROXY = 'tproxy'

export interface Comparison<Contender> {
  readonly unit: (figure: string) => string
  readonly measure: (contender: Contender) => Promise<Sample>
  /** How often each is measured, after one run that does not count. */
  readonly times: number
}

export async function compare<Contender>(
  standing: ReadonlyMap<string, Contender>,
  { unit, measure, times }: Comparison<Contender>
): Promise<Row[]> {
  const samples = new Map<string, Sample[]>([...standing.keys()].map(name => [name, []]))
  for (let round = -1; round < times; round += 1) {
    // Whoever comes first in one round comes last in the next: what a load leaves behind falls on all alike.
    for (const [name, contender] of round % 2 === 0 ? standing : [...standing].toReversed()) {
      interrupted.throwIfAborted()
      const sample = await measure(contender)
      if (round >= 0) samples.get(name)?.push(sample)
    }
    process.stderr.write('.')
  }
  const peers = [...standing.keys()].filter(name => name !== OURS && name !== OURS_TPROXY)
  const series = (name: string, figure: string): number[] =>
    (samples.get(name) ?? []).map(sample => sample[figure] ?? NaN)
  const row = (own: string, figure: string): Row =>
    rowOf({
      name: own === OURS ? figure : `${figure}, TPROXY`,
      unit: unit(figure),
      ours: spreadOf(series(own, figure)),
      peers: Object.fromEntries(
        peers.map(peer => [
          peer,
          {
            value: spreadOf(series(peer, figure)),
            ratio: pairedRatio(series(own, figure), series(peer, figure))
          }
        ])
      ),
      targets: targets[figure] ?? {}
    })
  const figures = Object.keys(samples.get(OURS)?.[0] ?? {})
  return figures.flatMap(figure =>
    [OURS, OURS_TPROXY].filter(own => standing.has(own)).map(own => row(own, figure))
  )
}
