/** Tables of text, their columns as wide as the widest cell. */

export interface Column<Row> {
  readonly heading: string
  readonly cell: (row: Row) => string
  /** Only with `-o wide`. */
  readonly wide?: boolean
}

/** Blanks between columns. */
const gap = 3

export function formatTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: { readonly headings: boolean; readonly wide: boolean }
): string {
  const shown = columns.filter(({ wide }) => options.wide || wide !== true)
  const lines = rows.map(row => shown.map(({ cell }) => oneLine(cell(row))))
  if (options.headings) lines.unshift(shown.map(({ heading }) => heading))
  const widths = shown.map((_, index) => Math.max(0, ...lines.map(line => width(line[index] ?? ''))))
  return lines.map(line => formatLine(line, widths)).join('')
}

/** Columns in a terminal: colours take none, wide characters are not expected here. */
export function width(text: string): number {
  return text.replaceAll(escapes, '').length
}

// oxlint-disable-next-line no-control-regex -- the escapes of colours start with a control character
const escapes = /\u001b\[\d+m/g

function formatLine(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map(
    (cell, index) => cell + ' '.repeat(Math.max(0, (widths[index] ?? 0) - width(cell)))
  )
  return `${padded.join(' '.repeat(gap)).trimEnd()}\n`
}

/** A cell is one line. */
function oneLine(text: string): string {
  return text.replaceAll(/[\n\t]/g, '?')
}

/**
 * What is printed comes from the cluster and, in telemetry, from strangers: nothing of it may command the
 * terminal. Lines, tabs and the colours of this program stay.
 */
export function printable(text: string): string {
  return text.replaceAll(commands, '?')
}

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const commands = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]|\u001b(?!\[(?:31|32|33|2|1|0)m)/g
