/** The real istioctl and ours read the same dump: every table must be the same, cell by cell. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { cells, dumpFile, run } from '../cli/run-cli.ts'

const istioctl = path.join(process.env['UNDERPASS_PEERS'] ?? '/nowhere', 'istioctl')
const skip = existsSync(istioctl) ? false : 'needs istioctl in the folder UNDERPASS_PEERS'

const theirs = (words: readonly string[], file = dumpFile): string =>
  execFileSync(istioctl, ['ztunnel-config', ...words, '-f', file], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe']
  })

const tables: readonly (readonly string[])[] = [
  ['workload'],
  ['workloads', '--workload-namespace', 'shop'],
  ['w', '--workload-node', 'node-2'],
  ['workload', '--address', '10.1.2.20'],
  ['service'],
  ['svc', '--service-namespace', 'data'],
  ['policy'],
  ['pol', '--policy-namespace', 'shop'],
  ['certificate'],
  ['connections'],
  ['cons', '--direction', 'inbound'],
  ['connections', '--direction', 'outbound', '--raw'],
  ['connections', '--workload-namespace', 'data']
]

for (const words of tables) {
  t.test(`${words.join(' ')} prints what istioctl prints`, { skip }, async t => {
    const ours = await run(['ztunnel-config', ...words, '-f', dumpFile])
    t.equal(ours.code, 0)
    t.strictSame(sorted(cells(ours.out)), sorted(cells(theirs(words))))
  })
}

t.test('all prints the same tables under the same titles', { skip }, async t => {
  const sections = (text: string): (readonly [string, string[][]])[] =>
    text
      .split(/\n------ /)
      .slice(1)
      .map(section => {
        const [title = '', ...rest] = section.split('\n')
        return [title, sorted(cells(rest.join('\n').trim()))]
      })
  const ours = await run(['zc', 'all', '--with-headers', '-f', dumpFile])
  t.strictSame(sections(ours.out), sections(theirs(['all', '--with-headers'])))
})

t.test('istioctl reads what `all -o json` writes', { skip }, async t => {
  const { out } = await run(['config', 'all', '-o', 'json', '-f', dumpFile])
  const file = path.join(t.testdir(), 'saved.json')
  writeFileSync(file, out)
  for (const words of [['workload'], ['service'], ['policy'], ['certificate'], ['connections']]) {
    t.equal(theirs(words, file), theirs(words), words.join(' '))
  }
})

t.test('fields that istioctl prints as JSON are printed by ours with the same values', { skip }, async t => {
  for (const words of [['policy'], ['certificate']]) {
    const own = JSON.parse((await run(['config', ...words, '-f', dumpFile, '-o', 'json'])).out) as {
      items: unknown[]
    }
    const other = JSON.parse(theirs([...words, '-o', 'json'])) as unknown[]
    if (words[0] === 'policy') t.strictSame(own.items, other)
    else t.equal(new Set(own.items.map(item => (item as { identity: string }).identity)).size, other.length)
  }
})

/** istioctl leaves the order of some rows to chance. */
function sorted(rows: string[][]): string[][] {
  const [head = [], ...rest] = rows
  return [head, ...rest.toSorted((a, b) => a.join('\t').localeCompare(b.join('\t')))]
}
