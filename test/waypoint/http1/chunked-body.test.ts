/** Chunked bodies: what they hold, where they end, and what is none. */
import t from 'tap'
import { ChunkedBody } from '../../../waypoint/http1/chunked-body.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { chunkStart, lastChunk } from '../../../waypoint/http1/write-head.ts'

interface Read {
  readonly data: string
  readonly end: string
  readonly trailers?: readonly (readonly [string, string])[]
  readonly rest?: string
}

function read(pieces: readonly Buffer[]): Read {
  const body = new ChunkedBody()
  let data = ''
  for (const piece of pieces) {
    const step = body.push(piece, bytes => (data += bytes.toString('latin1')))
    if (step.kind === 'refused') return { data, end: step.reason }
    if (step.kind === 'end')
      return { data, end: 'end', trailers: [...step.trailers], rest: step.rest.toString('latin1') }
  }
  return { data, end: 'more' }
}

const situations: readonly { readonly name: string; readonly bytes: string; readonly as: object }[] = [
  { name: 'nothing', bytes: '0\r\n\r\n', as: { data: '', end: 'end', rest: '' } },
  {
    name: 'two chunks, and the next message',
    bytes: '3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET',
    as: { data: 'abc0123456789', end: 'end', rest: 'GET' }
  },
  {
    name: 'trailers',
    bytes: '1\r\nx\r\n0\r\nGrpc-Status: 0\r\nX: y\r\n\r\n',
    as: {
      end: 'end',
      trailers: [
        ['grpc-status', '0'],
        ['x', 'y']
      ]
    }
  },
  { name: 'extensions', bytes: '1;a=b;c="d"\r\nx\r\n0;last\r\n\r\n', as: { data: 'x', end: 'end' } },
  {
    name: 'data that looks like an end',
    bytes: '8\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n',
    as: { data: '0\r\n\r\n0\r\n', end: 'end' }
  },
  { name: 'leading zeros', bytes: '0001\r\nx\r\n000\r\n\r\n', as: { data: 'x', end: 'end' } },
  { name: 'not yet whole', bytes: '3\r\nab', as: { data: 'ab', end: 'more' } },
  { name: 'a size with a sign', bytes: '+1\r\nx\r\n0\r\n\r\n', as: { data: '', end: /chunk size/ } },
  { name: 'a size with 0x', bytes: '0x1\r\nx\r\n0\r\n\r\n', as: { end: /chunk size/ } },
  { name: 'a blank before the size', bytes: ' 1\r\nx\r\n0\r\n\r\n', as: { end: /chunk size/ } },
  { name: 'a blank after the size', bytes: '1 \r\nx\r\n0\r\n\r\n', as: { end: /chunk size/ } },
  { name: 'no size', bytes: '\r\nx\r\n0\r\n\r\n', as: { end: /chunk size/ } },
  { name: 'a size beyond all numbers', bytes: 'fffffffffffffffff\r\n', as: { end: /chunk size/ } },
  { name: 'a line that never ends', bytes: `1;${'x'.repeat(300)}`, as: { end: /longer than 256/ } },
  { name: 'LF after the size', bytes: '1\nx\r\n0\r\n\r\n', as: { end: /LF alone/ } },
  { name: 'LF after the data', bytes: '1\r\nx\n0\r\n\r\n', as: { end: /LF alone/ } },
  {
    name: 'more data than the size says',
    bytes: '1\r\nxyz\r\n0\r\n\r\n',
    as: { end: /longer than its size/ }
  },
  { name: 'a carriage return in an extension', bytes: '1;a\rb\r\nx\r\n0\r\n\r\n', as: { end: /chunk size/ } },
  { name: 'a folded trailer', bytes: '0\r\nX: y\r\n z\r\n\r\n', as: { end: /folded/ } },
  {
    name: 'a length in the trailers',
    bytes: '0\r\nContent-Length: 1\r\n\r\n',
    as: { end: /content-length in the trailers/ }
  },
  {
    name: 'a coding in the trailers',
    bytes: '0\r\nTransfer-Encoding: x\r\n\r\n',
    as: { end: /in the trailers/ }
  },
  {
    name: 'an identity in the trailers',
    bytes: '0\r\nAuthorization: x\r\n\r\n',
    as: { end: /in the trailers/ }
  },
  { name: 'trailers without end', bytes: `0\r\nX: ${'y'.repeat(70_000)}`, as: { end: /longer than 61440/ } }
]

for (const { name, bytes, as } of situations) {
  t.test(name, async t => {
    const whole = Buffer.from(bytes, 'latin1')
    const once = read([whole])
    t.match(once, as)
    const each = read(Array.from(whole, byte => Buffer.of(byte)))
    // What follows the end is not looked at any more, so byte by byte nothing of it has come.
    t.strictSame({ ...each, rest: '' }, { ...once, rest: '' }, 'byte by byte the same')
  })
}

t.test('what is written is read', async t => {
  const parts = ['abc', 'x'.repeat(70_000)]
  const trailers = HeaderList.of('grpc-status', '0')
  const text = parts.map(part => `${chunkStart(part.length)}${part}\r\n`).join('') + lastChunk(trailers)
  t.match(read([Buffer.from(text)]), { data: parts.join(''), end: 'end', trailers: [...trailers] })
})
