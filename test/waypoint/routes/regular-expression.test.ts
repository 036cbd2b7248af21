/** Expressions of routes and policies: the whole text, and the same whatever they begin with. */
import t from 'tap'
import { regularExpression, replacement } from '../../../waypoint/routes/regular-expression.ts'

for (const [source, holds, not] of [
  ['/path/[a-z]+', ['/path/abc'], ['/path/', '/path/abc/', '/other', 'x/path/a']],
  ['^/path$', ['/path'], ['/paths', '^/path$']],
  ['/paths?', ['/path', '/paths'], ['/pat', '/pathss']],
  ['/path*', ['/pat', '/path', '/pathhh'], ['/paths']],
  ['/a{0,2}b', ['/b', '/ab', '/aab'], ['/aaab']],
  ['/ab+', ['/ab', '/abb'], ['/a', '/']],
  ['/a|b', ['/a', 'b'], ['/b']],
  ['/(a|b)c', ['/ac', '/bc'], ['/c']],
  ['(?i)/Path', ['/path', '/PATH'], ['/paths']],
  ['\\Qa.b\\E', ['a.b'], ['axb']],
  ['a\\.b', ['a.b'], ['axb']],
  ['a.c', ['abc'], ['ac', 'a\nc']],
  ['.*', ['', 'anything'], []],
  ['', [''], ['a']],
  ['a-b_c/1', ['a-b_c/1'], ['a-b_c/12']]
] as const) {
  t.test(JSON.stringify(source), async t => {
    const expression = regularExpression(source)
    for (const text of holds) t.equal(expression.matches(text), true, text)
    for (const text of not) t.equal(expression.matches(text), false, text)
  })
}

t.test('what is none', async t => {
  t.throws(() => regularExpression('(?=a)'), /is no regular expression of RE2/)
  t.throws(() => replacement('(', ''), /is no regular expression of RE2/)
})

t.test('something else in the place of what an expression finds', async t => {
  for (const [source, substitution, text, expected] of [
    ['/v1', '/v2', '/v1/a/v1', '/v2/a/v2'],
    ['^/(\\w+)/(\\w+)', '/\\2/\\1', '/a/b/c', '/b/a/c'],
    ['b', '<\\0>', 'abc', 'a<b>c'],
    ['b', '\\\\$1$&', 'abc', 'a\\$1$&c'],
    ['(x)?b', '[\\1]', 'abc', 'a[]c'],
    ['z', '\\0', 'abc', 'abc']
  ] as const) {
    t.equal(replacement(source, substitution).apply(text), expected)
  }
  for (const wrong of ['\\2', '\\a', '\\']) t.throws(() => replacement('(a)', wrong), /stands for nothing/)
})
