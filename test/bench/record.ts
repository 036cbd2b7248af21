/** Keeps a run: as JSON for the short benchmarks of CI, and as a table in `docs/performance.md`. */
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { writeMeasured } from './marked-text.ts'
import { tableOf, type Row } from './table.ts'

export interface Run {
  readonly subject: Subject
  readonly pairs: number
  readonly minutes: number
  /** Load average of a minute when it began: what others did on the machine. */
  readonly load: number
}

/** What was measured: the two hops of ztunnel, or the waypoint. */
export type Subject = 'ztunnel' | 'waypoint'

const files = {
  ztunnel: { json: 'recorded.json', part: undefined },
  waypoint: { json: 'recorded-waypoint.json', part: 'waypoint' }
} as const

export function record(rows: readonly Row[], { subject, pairs, minutes, load }: Run): void {
  const { json, part } = files[subject]
  const missed = rows.filter(({ met }) => met === false).map(({ name }) => name)
  writeFileSync(path.join(import.meta.dirname, json), `${JSON.stringify(rows, null, 2)}\n`)
  writeMeasured(
    'performance.md',
    [
      `The last record: ${pairs} pairs on ${availableParallelism()} cores, ${minutes.toFixed(1)} minutes; the load average was ${load.toFixed(1)} before.`,
      `\`\`\`\n${tableOf(rows)}\n\`\`\``,
      missed.length === 0 ? 'Every target is met.' : `Missed: ${missed.join('; ')}.`
    ].join('\n\n'),
    part
  )
}
