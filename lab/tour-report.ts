/** What the tour tells: chapters with claims that were checked, and the table at the end. */

export interface TableRow {
  readonly what: string
  readonly from: string
  readonly to: string
  readonly wire: string
  readonly result: string
}

export class TourReport {
  readonly #print: (line: string) => void
  readonly #rows: TableRow[] = []
  readonly #started = Date.now()
  #failed = 0
  #checked = 0
  #chapter = 0

  constructor(print: (line: string) => void) {
    this.#print = print
  }

  /** Claims that did not hold. */
  get failed(): number {
    return this.#failed
  }

  chapter(title: string): void {
    this.#chapter += 1
    this.#print(`\n${this.#chapter}. ${title}`)
  }

  say(...lines: readonly string[]): void {
    for (const line of lines) this.#print(`   ${line}`)
  }

  /** A command as the reader would type it. */
  command(text: string): void {
    this.#print(`   $ ${text}`)
  }

  /** One claim; `detail` is what was seen, told when it does not hold. */
  check(claim: string, holds: boolean, detail = ''): void {
    this.#checked += 1
    if (!holds) this.#failed += 1
    this.#print(`   ${holds ? 'ok  ' : 'FAIL'}  ${claim}`)
    if (!holds && detail !== '') for (const line of detail.split('\n')) this.#print(`         ${line}`)
  }

  row(row: TableRow): void {
    this.#rows.push(row)
  }

  table(): void {
    const header: TableRow = { what: 'WHAT', from: 'FROM', to: 'TO', wire: 'ON THE WIRE', result: 'RESULT' }
    const cells = [header, ...this.#rows].map(row => [row.what, row.from, row.to, row.wire, row.result])
    const widths = (cells[0] ?? []).map((_, column) =>
      Math.max(...cells.map(row => (row[column] ?? '').length))
    )
    this.#print('')
    for (const row of cells) {
      this.#print(
        row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()
      )
    }
  }

  end(): void {
    const seconds = ((Date.now() - this.#started) / 1000).toFixed(1)
    const held = this.#checked - this.#failed
    this.#print(
      `\n${held} of ${this.#checked} claims held, ${seconds} s. ${this.#failed === 0 ? 'Next: underpass lab up -f your.yaml' : 'The demo failed.'}`
    )
  }
}
