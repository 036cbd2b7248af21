/** Runs the command line in this process, with what it prints and its exit code. */
import type { CliIo } from '../../cli/command.ts'
import { runCli } from '../../cli/program.ts'

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

export const dumpFile = `${import.meta.dirname}/config-dump.json`
/** A moment at which the certificates of the dump are valid. */
export const now = Date.parse('2026-06-01T00:00:00Z')

export async function run(words: readonly string[], io: Partial<CliIo> = {}): Promise<Ran> {
  let out = ''
  let err = ''
  const code = await runCli(words, {
    out: text => {
      out += text
      io.out?.(text)
    },
    err: text => {
      err += text
      io.err?.(text)
    },
    env: io.env ?? {},
    clear: io.clear ?? (() => undefined),
    terminal: io.terminal ?? false,
    width: 100,
    signal: io.signal ?? AbortSignal.timeout(60_000),
    now: io.now ?? (() => now),
    readInput: io.readInput ?? (async () => ''),
    spawn: io.spawn ?? (async () => 0)
  })
  return { code, out, err }
}

const headingsOfWords = [
  'POD NAME',
  'SERVICE NAME',
  'SERVICE VIP',
  'POLICY NAME',
  'CERTIFICATE NAME',
  'VALID CERT',
  'SERIAL NUMBER',
  'NOT AFTER',
  'NOT BEFORE',
  'REMOTE TARGET',
  'SERVICE ACCOUNT',
  'DRY RUN',
  'WANTED BY',
  'LAST NACK'
]

/** The cells of a table, ours or istioctl's: columns start where the headings start. */
export function cells(table: string): string[][] {
  const lines = table.replace(/\n+$/, '').split('\n')
  const headings = new RegExp(`${headingsOfWords.join('|')}|\\S+`, 'g')
  const starts = [...(lines[0] ?? '').matchAll(headings)].map(match => match.index)
  return lines.map(line => starts.map((start, index) => line.slice(start, starts[index + 1]).trim()))
}
