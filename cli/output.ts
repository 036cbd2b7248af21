/** Lists of things in the form that the user asked for. */
import type { Invocation } from './command.ts'
import type { OutputFormat } from './options.ts'
import { formatTable, type Column } from './table.ts'

/** Version of everything that is printed as JSON or YAML. */
export const apiVersion = 'underpass.dev/v1'

export interface Listing<Row> {
  /** Kind of one item, such as `Workload`; the list is a `WorkloadList`. */
  readonly kind: string
  readonly columns: readonly Column<Row>[]
  readonly rows: readonly Row[]
  /** What JSON and YAML show of a row; the row itself when left out. */
  readonly item?: (row: Row) => object
  /** What `-o name` prints: `kind/namespace/name`. */
  readonly name: (row: Row) => string
  /** Printed on stderr when there are no rows and a table was asked for. */
  readonly nothing: string
}

export function outputFormat(invocation: Invocation): OutputFormat {
  const wanted = invocation.text('output') ?? 'table'
  return wanted === 'short' ? 'table' : (wanted as OutputFormat)
}

export async function printListing<Row>(invocation: Invocation, listing: Listing<Row>): Promise<void> {
  const { io } = invocation
  const format = outputFormat(invocation)
  const { rows, kind } = listing
  const items = (): object[] => rows.map(row => listing.item?.(row) ?? (row as object))
  switch (format) {
    case 'table':
    case 'wide':
      if (rows.length === 0) return io.err(`${listing.nothing}\n`)
      return io.out(
        formatTable(listing.columns, rows, { headings: invocation.flag('headers'), wide: format === 'wide' })
      )
    case 'json':
      return io.out(json({ apiVersion, kind: `${kind}List`, items: items() }))
    case 'yaml':
      return io.out(await yaml({ apiVersion, kind: `${kind}List`, items: items() }))
    case 'jsonl':
      for (const item of items()) io.out(`${JSON.stringify({ apiVersion, kind, ...item })}\n`)
      return undefined
    case 'name':
      return io.out(rows.map(row => `${listing.name(row)}\n`).join(''))
    default:
      return format satisfies never
  }
}

/** One thing: in `text` for people, else as JSON or YAML. */
export async function printOne(
  invocation: Invocation,
  kind: string,
  value: object,
  text: () => string
): Promise<void> {
  const format = outputFormat(invocation)
  if (format === 'json') return invocation.io.out(json({ apiVersion, kind, ...value }))
  if (format === 'yaml') return invocation.io.out(await yaml({ apiVersion, kind, ...value }))
  if (format === 'jsonl') return invocation.io.out(`${JSON.stringify({ apiVersion, kind, ...value })}\n`)
  return invocation.io.out(text())
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

async function yaml(value: object): Promise<string> {
  const { stringifyYaml } = await import('../shared/kube/yaml.ts')
  return stringifyYaml(value)
}
