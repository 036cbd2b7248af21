/** Header fields as filters change them, and those that end with the connection. */
import t from 'tap'
import { removeHopByHop } from '../../../waypoint/http1/hop-by-hop.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { requestHeadText, responseHeadText } from '../../../waypoint/http1/write-head.ts'

t.test('a list of fields', async t => {
  const list = HeaderList.of('a', '1', 'b', '2', 'a', '3', 'c', '4', 'a', '5')
  t.equal(list.get('a'), '1')
  t.equal(list.get('z'), undefined)
  t.strictSame(list.all('a'), ['1', '3', '5'])
  const copy = list.copy()
  list.set('a', '6')
  t.strictSame([...list].flat(), ['a', '6', 'b', '2', 'c', '4'], 'in place of the first; the others go')
  list.set('d', '7')
  list.remove('b')
  t.strictSame([...list].flat(), ['a', '6', 'c', '4', 'd', '7'])
  t.equal(copy.size, 5, 'a copy is another list')
})

t.test('lists over several fields', async t => {
  const list = HeaderList.of('via', '1.1 a, 1.1 b', 'via', ' ,1.1 c,')
  t.strictSame(list.members('via'), ['1.1 a', '1.1 b', '1.1 c'])
})

const situations: readonly {
  readonly name: string
  readonly sent: readonly string[]
  readonly passedOn: readonly string[]
}[] = [
  { name: 'nothing to take out', sent: ['host', 'shop'], passedOn: ['host', 'shop'] },
  {
    name: 'what always concerns one connection',
    sent: [
      'host',
      'shop',
      'keep-alive',
      '5',
      'proxy-connection',
      'x',
      'transfer-encoding',
      'chunked',
      'upgrade',
      'h2c'
    ],
    passedOn: ['host', 'shop']
  },
  {
    name: 'what Connection names',
    sent: ['connection', 'close, X-Hop', 'x-hop', '1', 'x-end', '2'],
    passedOn: ['x-end', '2']
  },
  {
    name: 'not what policies look at, though Connection names it',
    sent: ['connection', 'host, authorization, cookie', 'host', 'shop', 'authorization', 'x', 'cookie', 'y'],
    passedOn: ['host', 'shop', 'authorization', 'x', 'cookie', 'y']
  },
  { name: 'trailers are asked for end to end', sent: ['te', 'gzip, Trailers'], passedOn: ['te', 'trailers'] },
  { name: 'other transfer codings are not', sent: ['te', 'gzip'], passedOn: [] }
]

for (const { name, sent, passedOn } of situations) {
  t.test(`passed on: ${name}`, async t => {
    const headers = HeaderList.of(...sent)
    removeHopByHop(headers)
    t.strictSame([...headers].flat(), passedOn)
  })
}

t.test('heads as they are sent', async t => {
  const headers = HeaderList.of('x-a', '1')
  t.equal(
    requestHeadText('GET', '/a?b', 'shop', headers),
    'GET /a?b HTTP/1.1\r\nhost: shop\r\nx-a: 1\r\n\r\n'
  )
  t.equal(responseHeadText(404, HeaderList.of()), 'HTTP/1.1 404 Not Found\r\n\r\n')
})
