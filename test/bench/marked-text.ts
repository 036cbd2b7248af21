/** Documents of which one part is measured: it stands between two comment lines and is replaced, the rest is prose. */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const START = '<!-- measured -->'
const END = '<!-- /measured -->'
const docs = path.resolve(import.meta.dirname, '../../docs')

/** Replaces the measured part of a file below docs/. Throws when it has none. */
export function writeMeasured(name: string, block: string): void {
  const file = path.join(docs, name)
  const text = readFileSync(file, 'utf8')
  const [start, end] = [text.indexOf(START), text.indexOf(END)]
  if (start < 0 || end < start) throw new Error(`${file} has no ${START} … ${END}`)
  writeFileSync(file, `${text.slice(0, start)}${START}\n\n${block}\n\n${text.slice(end)}`)
}
