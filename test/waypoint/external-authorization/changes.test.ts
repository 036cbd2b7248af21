/** What authorizers may change, and what not. */
import t from 'tap'
import {
  changeRequest,
  changeResponse,
  headerEdit,
  noEdits
} from '../../../waypoint/external-authorization/changes.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'

const nothing = { request: [], remove: [], query: noEdits, response: [] }

t.test('headers are set, appended, added where absent, set where present, then removed', async t => {
  const headers = HeaderList.of('a', '1', 'b', '1', 'a', '2', 'token', 's')
  const edits = [
    { how: 'set', name: 'a', value: 'x' },
    { how: 'append', name: 'b', value: 'x' },
    { how: 'add if absent', name: 'b', value: 'never' },
    { how: 'add if absent', name: 'c', value: 'x' },
    { how: 'set if present', name: 'd', value: 'never' },
    { how: 'set if present', name: 'c', value: 'y' }
  ] as const
  t.equal(changeRequest({ ...nothing, request: edits, remove: ['token', 'z'] }, headers, '/p?q'), '/p?q')
  t.strictSame(
    [...headers],
    [
      ['a', 'x'],
      ['b', '1'],
      ['b', 'x'],
      ['c', 'y']
    ]
  )
  const answer = HeaderList.of('a', '1')
  changeResponse({ ...nothing, response: edits.slice(0, 2) }, answer)
  t.strictSame(
    [...answer],
    [
      ['a', 'x'],
      ['b', 'x']
    ]
  )
})

const own = [
  'Host',
  'content-length',
  'Transfer-Encoding',
  'connection',
  'upgrade',
  'te',
  'trailer',
  'expect'
]

t.test('what frames, routes or proves an identity is not theirs', async t => {
  for (const name of [...own, ':authority', ':path', 'X-Forwarded-Client-Cert']) {
    t.equal(headerEdit('set', name, 'x'), undefined, name)
    const headers = HeaderList.of(name.toLowerCase(), 'kept')
    changeRequest({ ...nothing, remove: [name.toLowerCase()] }, headers, '/')
    t.equal(headers.get(name.toLowerCase()), 'kept', name)
  }
})

t.test('what no message could carry is no answer', async t => {
  t.throws(() => headerEdit('set', 'a b', 'x'), /"a b" is no header name/)
  t.throws(() => headerEdit('set', '', 'x'), /"" is no header name/)
  t.throws(() => headerEdit('set', 'a', 'x\r\nb: c'), /the value of a has characters/)
})

const queries: readonly (readonly [
  target: string,
  set: readonly (readonly [string, string])[],
  remove: readonly string[],
  expected: string
])[] = [
  ['/p', [['a', '1']], [], '/p?a=1'],
  ['/p?a=0&b=%20', [['a', '1 &']], [], '/p?b=%20&a=1%20%26'],
  ['/p?token=1', [], ['token'], '/p'],
  ['/p?%74oken=1&to+ken=2&Token=3', [], ['token', 'to ken'], '/p?Token=3'],
  ['/p?token&x=token', [], ['token'], '/p?x=token'],
  ['/p??a=1&a=2', [], ['a'], '/p??a=1'],
  ['/p?', [], ['a'], '/p'],
  ['/p', [['\ud800', 'x']], [], '/p?%EF%BF%BD=x']
]

t.test('AZ-46: parameters of the query are set and removed, however they were written', async t => {
  for (const [target, set, remove, expected] of queries) {
    t.equal(changeRequest({ ...nothing, query: { set, remove } }, new HeaderList(), target), expected, target)
  }
})
