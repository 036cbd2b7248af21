/** Commands in the documentation are commands that exist. */
import t from 'tap'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { isGroup } from '../../cli/command.ts'
import { findVerb } from '../../cli/verbs.ts'
import { blocksOf } from '../support/run-document.ts'

const root = path.resolve(import.meta.dirname, '../..')

t.test('blocks are found below their headings, with their lines', async t => {
  const text = '# A\n```sh\none\n\ntwo\n```\n```text\nno\n```\n## B\n```sh\n# not a heading\nthree\n```\n'
  t.same(blocksOf(text), [
    { heading: 'A', line: 3, script: 'one\n\ntwo' },
    { heading: 'B', line: 12, script: '# not a heading\nthree' }
  ])
})

t.test('every command of the documentation has these options', async t => {
  let seen = 0
  for (const file of globSync('docs/*.md', { cwd: root })) {
    const lines = readFileSync(path.join(root, file), 'utf8').split('\n')
    for (const [index, line] of lines.entries()) {
      const [, words = ''] = /^underpass ([^|<>#]*)/.exec(line) ?? []
      const [name = '', ...rest] = words.trim().split(/\s+/)
      if (name === '' || name === 'lab') continue
      seen += 1
      const verb = findVerb(name)
      t.ok(verb, `${file}:${index + 1} ${line}`)
      if (verb === undefined) continue
      const { command } = await verb.load()
      const options = isGroup(command) ? command.commands.flatMap(inner => inner.options) : command.options
      for (const flag of rest.map(word => word.split('=')[0] ?? '').filter(word => word.startsWith('--'))) {
        t.ok(
          options.some(({ flags }) => flags.split(/[\s,]+/).includes(flag)),
          `${file}:${index + 1} ${flag}`
        )
      }
    }
  }
  t.ok(seen > 10, `${seen} commands`)
})
