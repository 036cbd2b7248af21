import t from 'tap'
import { parseAllYaml, parseYaml, stringifyYaml } from '../../../shared/kube/yaml.ts'

t.test('documents come with the line on which they start; empty ones are left out', async t => {
  t.strictSame(parseAllYaml('# only a comment\n---\na: 1\n---\n---\n{"b": [2]}\n'), [
    { value: { a: 1 }, line: 3 },
    { value: { b: [2] }, line: 6 }
  ])
  t.strictSame(parseAllYaml(''), [])
  t.strictSame(parseYaml('a: {b: [x, 2, null, true]}'), { a: { b: ['x', 2, null, true] } })
})

t.test('a mistake is named with file, line and column', async t => {
  const rows: readonly (readonly [string, RegExp])[] = [
    ['a: 1\nb: [1,\n', /^f\.yaml:3:1: /],
    ['a: 1\na: 2\n', /^f\.yaml:2:1: Map keys must be unique/],
    ['a: 1\n\tb: 2\n', /^f\.yaml:2:1: /],
    ['a: *x\n', /^f\.yaml:1.*[Uu]nresolved alias/],
    ['a: 1\n---\nb: 2\n', /^f\.yaml: expected one document, found 2/]
  ]
  for (const [text, message] of rows)
    t.throws(() => parseYaml(text, 'f.yaml'), { name: 'YamlError', message }, text)
})

t.test('aliases that multiply without end are refused', async t => {
  const levels = Array.from(
    { length: 10 },
    (_, level) => `l${level + 1}: &l${level + 1} [${Array(10).fill(`*l${level}`).join(', ')}]`
  )
  t.throws(() => parseYaml(`l0: &l0 [x]\n${levels.join('\n')}\n`), { name: 'YamlError', message: /alias/i })
})

t.test('what is written reads back, long lines unbroken', async t => {
  const value = { a: ['x '.repeat(100), 'yes', '1', null], b: { c: 'line\nline' } }
  t.strictSame(parseYaml(stringifyYaml(value)), value)
  t.equal(stringifyYaml({ a: 'x '.repeat(100) + 'y' }).split('\n').length, 2)
})
