/** Keeps a run: `recorded.json` for the short benchmark of CI, and the table in `docs/performance.md`. */
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { writeMeasured } from './marked-text.ts'
import { tableOf, type Row } from './table.ts'

export interface Run {
  readonly pairs: number
  readonly minutes: number
}

export function record(rows: readonly Row[], { pairs, minutes }: Run): void {
  const missed = rows.filter(({ met }) => met === false).map(({ name }) => name)
  writeFileSync(path.join(import.meta.dirname, 'recorded.json'), `${JSON.stringify(rows, null, 2)}\n`)
  writeMeasured(
    'performance.md',
    [
      `The last record: ${pairs} pairs on ${availableParallelism()} cores, ${minutes.toFixed(1)} minutes.`,
      `\`\`\`\n${tableOf(rows)}\n\`\`\``,
      missed.length === 0 ? 'Every target is met.' : `Missed: ${missed.join('; ')}.`
    ].join('\n\n')
  )
}
