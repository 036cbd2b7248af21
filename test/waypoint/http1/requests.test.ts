/** What a request head is taken for, and which are refused: each trick of request smuggling has its verdict. */
import t from 'tap'
import { HeadReader } from '../../../waypoint/http1/head-reader.ts'
import { readRequestHead, type Http1RequestHead } from '../../../waypoint/http1/request-head.ts'
import type { Refusal } from '../../../waypoint/http1/refusal.ts'

function read(bytes: string): Http1RequestHead | Refusal {
  const cut = new HeadReader().push(Buffer.from(bytes, 'latin1'))
  if (cut.kind === 'more') throw new Error('the head is not whole')
  return cut.kind === 'head' ? readRequestHead(cut.text) : cut
}

/** A request with one line changed or added; `…` stands for CRLF. */
const lines = (...text: readonly string[]): string => `${text.join('\r\n')}\r\n\r\n`
const get = (...more: readonly string[]): string => lines('GET / HTTP/1.1', 'Host: shop', ...more)
const post = (...more: readonly string[]): string => lines('POST / HTTP/1.1', 'Host: shop', ...more)

const refusals: readonly {
  readonly name: string
  readonly bytes: string
  readonly status?: number
  readonly reason: RegExp
}[] = [
  // Length
  {
    name: 'length and coding',
    bytes: post('Content-Length: 4', 'Transfer-Encoding: chunked'),
    reason: /both content-length and transfer-encoding/
  },
  {
    name: 'two lengths',
    bytes: post('Content-Length: 4', 'Content-Length: 5'),
    reason: /several content-length/
  },
  { name: 'the same length twice', bytes: post('Content-Length: 4', 'Content-Length: 4'), reason: /several/ },
  { name: 'a list of lengths', bytes: post('Content-Length: 4, 4'), reason: /not a number of bytes/ },
  { name: 'a length with a sign', bytes: post('Content-Length: +4'), reason: /not a number/ },
  { name: 'a negative length', bytes: post('Content-Length: -1'), reason: /not a number/ },
  { name: 'a hexadecimal length', bytes: post('Content-Length: 0x4'), reason: /not a number/ },
  { name: 'a length with a blank', bytes: post('Content-Length: 4 4'), reason: /not a number/ },
  { name: 'an empty length', bytes: post('Content-Length:'), reason: /not a number/ },
  {
    name: 'a length beyond all numbers',
    bytes: post(`Content-Length: ${'9'.repeat(20)}`),
    reason: /not a number/
  },
  // Coding
  {
    name: 'an unknown coding',
    bytes: post('Transfer-Encoding: xchunked'),
    status: 501,
    reason: /other than chunked/
  },
  { name: 'identity', bytes: post('Transfer-Encoding: identity'), status: 501, reason: /other than chunked/ },
  {
    name: 'several codings',
    bytes: post('Transfer-Encoding: gzip, chunked'),
    status: 501,
    reason: /other than/
  },
  {
    name: 'chunked twice',
    bytes: post('Transfer-Encoding: chunked, chunked'),
    status: 501,
    reason: /other than/
  },
  {
    name: 'two coding fields',
    bytes: post('Transfer-Encoding: chunked', 'Transfer-Encoding: identity'),
    reason: /several transfer-encoding/
  },
  {
    name: 'a coding in quotes',
    bytes: post('Transfer-Encoding: "chunked"'),
    status: 501,
    reason: /other than/
  },
  {
    name: 'a coding behind a vertical tab',
    bytes: post('Transfer-Encoding: \vchunked'),
    reason: /control character/
  },
  {
    name: 'a coding in HTTP/1.0',
    bytes: lines('POST / HTTP/1.0', 'Transfer-Encoding: chunked'),
    reason: /in HTTP\/1\.0/
  },
  // Lines
  { name: 'a blank before the colon', bytes: post('Transfer-Encoding : chunked'), reason: /not a token/ },
  { name: 'a tab before the colon', bytes: get('X\t: 1'), reason: /not a token/ },
  { name: 'a folded line', bytes: get('X: 1', ' folded'), reason: /folded/ },
  { name: 'a first line that is folded', bytes: lines('GET / HTTP/1.1', ' Host: shop'), reason: /folded/ },
  { name: 'lines that end with LF', bytes: 'GET / HTTP/1.1\nHost: shop\n\n', reason: /LF alone/ },
  {
    name: 'one line that ends with LF',
    bytes: 'GET / HTTP/1.1\r\nHost: shop\nX: 1\r\n\r\n',
    reason: /control/
  },
  { name: 'an empty line that is LF', bytes: 'GET / HTTP/1.1\r\nHost: shop\r\n\nGET', reason: /LF alone/ },
  { name: 'a carriage return inside', bytes: get('X: 1\rY: 2'), reason: /control character/ },
  { name: 'NUL', bytes: get('X: 1\0'), reason: /control character/ },
  { name: 'no colon', bytes: get('X'), reason: /no colon/ },
  { name: 'no name', bytes: get(': 1'), reason: /not a token/ },
  { name: 'a name with other characters', bytes: get('X(Y): 1'), reason: /not a token/ },
  { name: 'a name beyond ASCII', bytes: get('Xé: 1'), reason: /not a token/ },
  // Request line
  { name: 'two blanks', bytes: lines('GET  / HTTP/1.1', 'Host: shop'), reason: /not a method, a target/ },
  {
    name: 'a blank at the end',
    bytes: lines('GET / HTTP/1.1 ', 'Host: shop'),
    reason: /not a method, a target/
  },
  { name: 'a tab', bytes: lines('GET\t/ HTTP/1.1', 'Host: shop'), reason: /not a method, a target/ },
  { name: 'no version', bytes: lines('GET /', 'Host: shop'), reason: /not a method, a target/ },
  { name: 'a version in lower case', bytes: lines('GET / http/1.1', 'Host: shop'), reason: /HTTP version/ },
  {
    name: 'HTTP/2.0 as text',
    bytes: lines('GET / HTTP/2.0', 'Host: shop'),
    status: 505,
    reason: /other than/
  },
  { name: 'HTTP/1.2', bytes: lines('GET / HTTP/1.2', 'Host: shop'), status: 505, reason: /other than/ },
  { name: 'a method that is no token', bytes: lines('G(T / HTTP/1.1', 'Host: shop'), reason: /method/ },
  { name: 'a fragment', bytes: lines('GET /#x HTTP/1.1', 'Host: shop'), reason: /percent-encoded/ },
  {
    name: 'bytes beyond ASCII in the target',
    bytes: lines('GET /é HTTP/1.1', 'Host: shop'),
    reason: /percent/
  },
  {
    name: 'a relative target',
    bytes: lines('GET shop HTTP/1.1', 'Host: shop'),
    reason: /neither a path nor/
  },
  {
    name: 'another scheme',
    bytes: lines('GET ftp://shop/ HTTP/1.1', 'Host: shop'),
    reason: /neither a path nor/
  },
  { name: 'an asterisk', bytes: lines('GET * HTTP/1.1', 'Host: shop'), reason: /other than OPTIONS/ },
  {
    name: 'CONNECT to a path',
    bytes: lines('CONNECT / HTTP/1.1', 'Host: shop'),
    reason: /not a host and a port/
  },
  { name: 'a TLS hello', bytes: '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n', reason: /request line/ },
  // Authority
  { name: 'no host', bytes: lines('GET / HTTP/1.1'), reason: /no host/ },
  { name: 'two hosts', bytes: get('Host: other'), reason: /several host/ },
  { name: 'a host with a path', bytes: lines('GET / HTTP/1.1', 'Host: shop/x'), reason: /host is not/ },
  { name: 'a host with a user', bytes: lines('GET / HTTP/1.1', 'Host: me@shop'), reason: /host is not/ },
  { name: 'a list of hosts', bytes: lines('GET / HTTP/1.1', 'Host: shop, other'), reason: /host is not/ },
  {
    name: 'a port that is no number',
    bytes: lines('GET / HTTP/1.1', 'Host: shop:http'),
    reason: /host is not/
  },
  {
    name: 'a target of another host',
    bytes: lines('GET http://other/ HTTP/1.1', 'Host: shop'),
    reason: /differ/
  },
  {
    name: 'a user in the target',
    bytes: lines('GET http://me@shop/ HTTP/1.1', 'Host: shop'),
    reason: /authority/
  },
  // Size and expectations
  {
    name: 'too many fields',
    bytes: get(...Array.from({ length: 101 }, () => 'X: 1')),
    status: 431,
    reason: /100/
  },
  { name: 'a head of 64 KiB', bytes: get(`X: ${'x'.repeat(65_536)}`), status: 431, reason: /longer than/ },
  { name: 'another expectation', bytes: post('Expect: tea'), status: 417, reason: /100-continue/ }
]

for (const { name, bytes, status = 400, reason } of refusals) {
  t.test(`refused: ${name}`, async t => {
    t.match(read(bytes), { kind: 'refused', status, reason })
  })
}

const taken: readonly { readonly name: string; readonly bytes: string; readonly as: object }[] = [
  {
    name: 'a path',
    bytes: get('X-Shop:  with blanks \t'),
    as: {
      method: 'GET',
      target: '/',
      authority: 'shop',
      version: 'HTTP/1.1',
      framing: { kind: 'none' },
      keepAlive: true,
      expectsContinue: false
    }
  },
  {
    name: 'a URL',
    bytes: lines('GET HTTP://Shop:81?q HTTP/1.1', 'Host: shop:81'),
    as: { target: '/?q', authority: 'Shop:81', scheme: 'http' }
  },
  { name: 'the server itself', bytes: lines('OPTIONS * HTTP/1.1', 'Host: shop'), as: { target: '*' } },
  { name: 'a tunnel', bytes: lines('CONNECT [::1]:80 HTTP/1.1', 'Host: x'), as: { authority: '[::1]:80' } },
  { name: 'an empty host', bytes: lines('GET / HTTP/1.1', 'Host:'), as: { authority: '' } },
  {
    name: 'HTTP/1.0',
    bytes: lines('GET / HTTP/1.0'),
    as: { version: 'HTTP/1.0', keepAlive: false, authority: '' }
  },
  {
    name: 'HTTP/1.0 that stays',
    bytes: lines('GET / HTTP/1.0', 'Connection: Keep-Alive'),
    as: { keepAlive: true }
  },
  { name: 'the last request', bytes: get('Connection: x, CLOSE'), as: { keepAlive: false } },
  { name: 'a length', bytes: post('Content-Length: 42'), as: { framing: { kind: 'length', bytes: 42 } } },
  { name: 'chunks', bytes: post('Transfer-Encoding: Chunked'), as: { framing: { kind: 'chunked' } } },
  {
    name: 'an upgrade',
    bytes: get('Connection: Upgrade', 'Upgrade: WebSocket'),
    as: { upgrade: 'websocket' }
  },
  { name: 'an upgrade that is not for us', bytes: get('Upgrade: websocket'), as: { upgrade: undefined } },
  {
    name: 'a client that waits',
    bytes: post('Content-Length: 1', 'Expect: 100-Continue'),
    as: { expectsContinue: true }
  },
  {
    name: 'a client that waits for nothing',
    bytes: get('Expect: 100-continue'),
    as: { expectsContinue: false }
  },
  { name: 'empty lines before it', bytes: `\r\n${get()}`, as: { method: 'GET' } }
]

for (const { name, bytes, as } of taken) {
  t.test(`taken: ${name}`, async t => {
    t.match(read(bytes), { kind: 'request', ...as })
  })
}

t.test('fields keep their order, names are in lower case, blanks around values go', async t => {
  const head = read(get('X-B: 2', 'x-a: \t1 ', 'X-B: 3', 'X-Empty:', 'X-Bytes: \xfc'))
  if (head.kind === 'refused') throw new Error(head.reason)
  t.strictSame(
    [...head.headers],
    [
      ['host', 'shop'],
      ['x-b', '2'],
      ['x-a', '1'],
      ['x-b', '3'],
      ['x-empty', ''],
      ['x-bytes', '\xfc']
    ]
  )
})

t.test('split at every byte it is read as in one piece', async t => {
  const whole = Buffer.from(`\r\n${post('Content-Length: 3', 'X: y')}abc`, 'latin1')
  for (let at = 1; at < whole.length - 3; at++) {
    const reader = new HeadReader()
    const first = reader.push(Buffer.from(whole.subarray(0, at)))
    if (first.kind !== 'more') throw new Error(`at ${at}: ${first.kind}`)
    const second = reader.push(Buffer.from(whole.subarray(at)))
    if (second.kind !== 'head') throw new Error(`at ${at}: ${second.kind}`)
    t.equal(second.rest.toString(), 'abc')
    t.match(readRequestHead(second.text), { kind: 'request', framing: { bytes: 3 } })
  }
})
