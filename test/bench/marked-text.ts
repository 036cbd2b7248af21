/** Documents of which one part is measured: it stands between two comment lines and is replaced, the rest is prose. */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const docs = path.resolve(import.meta.dirname, '../../docs')

/** Replaces the measured part of a file below docs/, or one of its parts by name. Throws when it has none. */
export function writeMeasured(name: string, block: string, part?: string): void {
  const mark = part === undefined ? 'measured' : `measured ${part}`
  const [opening, closing] = [`<!-- ${mark} -->`, `<!-- /${mark} -->`]
  const file = path.join(docs, name)
  const text = readFileSync(file, 'utf8')
  const [start, end] = [text.indexOf(opening), text.indexOf(closing)]
  if (start < 0 || end < start) throw new Error(`${file} has no ${opening} … ${closing}`)
  writeFileSync(file, `${text.slice(0, start)}${opening}\n\n${block}\n\n${text.slice(end)}`)
}
