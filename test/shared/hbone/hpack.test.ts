import http2 from 'node:http2'
import { duplexPair } from 'node:stream'
import t from 'tap'
import type { HeaderList } from '../../../shared/hbone/header-field.ts'
import { encodeHeaders, HpackDecoder } from '../../../shared/hbone/hpack.ts'
import { RawPeer } from './raw-peer.ts'

const get = (path: string, scheme: string): HeaderList => [
  [':method', 'GET'],
  [':scheme', scheme],
  [':path', path],
  [':authority', 'www.example.com']
]
const redirect = (status: string): HeaderList => [
  [':status', status],
  ['cache-control', 'private'],
  ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
  ['location', 'https://www.example.com']
]
const cookieAnswer: HeaderList = [
  [':status', '200'],
  ['cache-control', 'private'],
  ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'],
  ['location', 'https://www.example.com'],
  ['content-encoding', 'gzip'],
  ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1']
]

/** RFC 7541 appendix C: blocks of one connection in order, the list they give, the size of the table after. */
const vectors: readonly {
  readonly name: string
  readonly tableSize?: number
  readonly blocks: readonly (readonly [hex: string, fields: HeaderList, size: number])[]
}[] = [
  {
    name: 'C.2.1 literal with indexing',
    blocks: [['400a637573746f6d2d6b65790d637573746f6d2d686561646572', [['custom-key', 'custom-header']], 55]]
  },
  {
    name: 'C.2.2 literal without indexing',
    blocks: [['040c2f73616d706c652f70617468', [[':path', '/sample/path']], 0]]
  },
  {
    name: 'C.2.3 literal never indexed',
    blocks: [['100870617373776f726406736563726574', [['password', 'secret']], 0]]
  },
  { name: 'C.2.4 indexed', blocks: [['82', [[':method', 'GET']], 0]] },
  {
    name: 'C.3 requests without Huffman',
    blocks: [
      ['828684410f7777772e6578616d706c652e636f6d', get('/', 'http'), 57],
      ['828684be58086e6f2d6361636865', [...get('/', 'http'), ['cache-control', 'no-cache']], 110],
      [
        '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
        [...get('/index.html', 'https'), ['custom-key', 'custom-value']],
        164
      ]
    ]
  },
  {
    name: 'C.4 requests with Huffman',
    blocks: [
      ['828684418cf1e3c2e5f23a6ba0ab90f4ff', get('/', 'http'), 57],
      ['828684be5886a8eb10649cbf', [...get('/', 'http'), ['cache-control', 'no-cache']], 110],
      [
        '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
        [...get('/index.html', 'https'), ['custom-key', 'custom-value']],
        164
      ]
    ]
  },
  {
    name: 'C.5 responses without Huffman, with eviction',
    tableSize: 256,
    blocks: [
      [
        '4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d',
        redirect('302'),
        222
      ],
      ['4803333037c1c0bf', redirect('307'), 222],
      [
        '88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31',
        cookieAnswer,
        215
      ]
    ]
  },
  {
    name: 'C.6 responses with Huffman, with eviction',
    tableSize: 256,
    blocks: [
      [
        '488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
        redirect('302'),
        222
      ],
      ['4883640effc1c0bf', redirect('307'), 222],
      [
        '88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
        cookieAnswer,
        215
      ]
    ]
  }
]

for (const { name, tableSize, blocks } of vectors) {
  t.test(`RFC 7541 ${name}`, async t => {
    const decoder = new HpackDecoder(65_536)
    if (tableSize === 256) decoder.decode(Buffer.from('3fe101', 'hex')) // size update to 256
    for (const [hex, fields, size] of blocks) {
      t.strictSame(decoder.decode(Buffer.from(hex, 'hex')), { kind: 'fields', fields })
      t.equal(decoder.tableSize, size)
    }
  })
}

t.test('what the encoder writes, the decoder reads, and no table is used', async t => {
  const fields: HeaderList = [
    [':method', 'CONNECT'],
    [':authority', '[2001:db8::1]:8080'],
    [':status', '200'],
    [':status', '401'],
    ['baggage', 'k8s.cluster.name=Kubernetes,service.name=web'],
    ['x-forwarded-network', ''],
    ['user-agent', 'x'.repeat(126)],
    ['long', 'y'.repeat(127)],
    ['longer', 'z'.repeat(20_000)]
  ]
  const decoder = new HpackDecoder(65_536)
  t.strictSame(decoder.decode(encodeHeaders(fields)), { kind: 'fields', fields })
  t.equal(decoder.tableSize, 0)
})

const malformed: readonly { readonly name: string; readonly hex: string; readonly reason: RegExp }[] = [
  { name: 'index 0', hex: '80', reason: /no table entry 0/ },
  { name: 'an index beyond both tables', hex: 'be', reason: /no table entry 62/ },
  { name: 'a name index beyond both tables', hex: '7f0001', reason: /no table entry 63/ },
  { name: 'an integer cut short', hex: 'ff', reason: /ends inside a field/ },
  { name: 'an integer without end', hex: 'ffffffffffffff', reason: /beyond 2\^28/ },
  { name: 'a string cut short', hex: '400a6375', reason: /ends inside a string/ },
  { name: 'a field without value', hex: '4003616263', reason: /ends inside a field/ },
  { name: 'EOS inside a Huffman string', hex: '4084ffffffff0000', reason: /Huffman/ },
  { name: 'Huffman padding of 8 bits', hex: '40821fff0161', reason: /Huffman/ },
  { name: 'Huffman padding with zeros', hex: '4081180161', reason: /Huffman/ },
  { name: 'a table larger than the default', hex: '3fe21f', reason: /table size of 4097/ },
  { name: 'a size update after a field', hex: '8220', reason: /after a header field/ }
]

for (const { name, hex, reason } of malformed) {
  t.test(`malformed: ${name}`, async t => {
    t.match(new HpackDecoder(65_536).decode(Buffer.from(hex, 'hex')), { kind: 'malformed', reason })
  })
}

t.test('a peer may use the table until it has read that we want none', async t => {
  const decoder = new HpackDecoder(65_536)
  const insert = Buffer.from('4001610162', 'hex') // a: b, indexed
  const field = [['a', 'b']]
  t.match(decoder.decode(insert), { fields: field })
  decoder.allowTable(0) // it has acknowledged our SETTINGS
  t.match(
    decoder.decode(Buffer.from('be', 'hex')),
    { fields: field },
    'its table stands until it says otherwise'
  )
  t.match(decoder.decode(Buffer.from('204001610162', 'hex')), { fields: field }, 'its update to 0')
  t.equal(decoder.tableSize, 0)
  t.match(decoder.decode(Buffer.from('be', 'hex')), { kind: 'malformed' })
  t.match(decoder.decode(Buffer.from('21', 'hex')), { kind: 'malformed', reason: /0 is allowed/ })
})

t.test('several size updates in one block: the smallest empties the table', async t => {
  const decoder = new HpackDecoder(65_536)
  decoder.decode(Buffer.from('4001610162', 'hex'))
  t.match(decoder.decode(Buffer.from('203fe11f82', 'hex')), { fields: [[':method', 'GET']] })
  t.equal(decoder.tableSize, 0)
})

t.test('a list beyond the limit is not kept, and the tables stay right', async t => {
  const decoder = new HpackDecoder(4096)
  const big = Buffer.concat([
    Buffer.from('400161', 'hex'),
    Buffer.from('7f8118', 'hex'),
    Buffer.alloc(3200, 'v')
  ])
  t.match(decoder.decode(big), { kind: 'fields' })
  // One byte each names an entry of 3233 bytes: 60,000 of them would be 194 MB.
  t.match(decoder.decode(Buffer.alloc(60_000, 0xbe)), { kind: 'too-large' })
  t.match(decoder.decode(Buffer.from('be', 'hex')), { kind: 'fields' })
})

t.test('an entry larger than the table empties it', async t => {
  const decoder = new HpackDecoder(65_536)
  decoder.decode(Buffer.from('4001610162', 'hex'))
  const huge = Buffer.concat([
    Buffer.from('400161', 'hex'),
    Buffer.from('7f813f', 'hex'),
    Buffer.alloc(8192, 'v')
  ])
  t.match(decoder.decode(huge), { kind: 'fields' })
  t.equal(decoder.tableSize, 0)
})

t.test('every byte that a header may hold survives the Huffman code of nghttp2', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(far, false)
  const expected: HeaderList = [9, ...range(0x20, 0x7e), ...range(0x80, 0xff)].map(byte => [
    `x-${byte}`,
    // Huffman pays off only beside cheap characters; the last one keeps blanks from being trimmed.
    `${'a'.repeat(16)}${String.fromCharCode(byte)}e`
  ])
  const session = http2.connect('http://localhost', { createConnection: () => near })
  session.on('error', () => undefined)
  t.teardown(() => session.destroy())
  const request = session.request({ ':path': '/', ...Object.fromEntries(expected) })
  request.on('error', () => undefined)
  const frame = await peer.frame('headers')
  const received = new Map(frame?.fields)
  for (const [name, value] of expected)
    if (received.get(name) !== value) t.equal(received.get(name), value, name)
  t.equal(received.get('x-255'), `${'a'.repeat(16)}\u00ffe`)
})

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, at) => from + at)
}
