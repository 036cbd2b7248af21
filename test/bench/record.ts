/** Keeps a run: `recorded.json` for the short benchmark of CI, and the table in `docs/performance.md`. */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { tableOf, type Row } from './table.ts'

const document = path.resolve(import.meta.dirname, '../../docs/performance.md')
const START = '<!-- record -->'
const END = '<!-- /record -->'

export interface Run {
  readonly pairs: number
  readonly minutes: number
}

export function record(rows: readonly Row[], { pairs, minutes }: Run): void {
  const text = readFileSync(document, 'utf8')
  const [start, end] = [text.indexOf(START), text.indexOf(END)]
  if (start < 0 || end < start) throw new Error(`${document} has no ${START} … ${END}`)
  const missed = rows.filter(({ met }) => met === false).map(({ name }) => name)
  const block = [
    START,
    '',
    `The last record: ${pairs} pairs on ${availableParallelism()} cores, ${minutes.toFixed(1)} minutes.`,
    '',
    '```',
    tableOf(rows),
    '```',
    '',
    missed.length === 0 ? 'Every target is met.' : `Missed: ${missed.join('; ')}.`,
    '',
    ''
  ].join('\n')
  writeFileSync(path.join(import.meta.dirname, 'recorded.json'), `${JSON.stringify(rows, null, 2)}\n`)
  writeFileSync(document, text.slice(0, start) + block + text.slice(end))
}
