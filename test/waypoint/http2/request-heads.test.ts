/** What a request may look like: each rule of RFC 9113 section 8, RFC 8441 and of HTTP/1.1's readers with its verdict. */
import t from 'tap'
import { headersFrames } from '../../../shared/hbone/frames.ts'
import type { HeaderField, HeaderList as FieldSection } from '../../../shared/hbone/header-field.ts'
import { encodeHeaders } from '../../../shared/hbone/hpack.ts'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import { requestHeadText } from '../../../waypoint/http1/write-head.ts'
import { readRequestHead as readHttp1 } from '../../../waypoint/http1/request-head.ts'
import { readRequestHead } from '../../../waypoint/http2/request-head.ts'
import { Http2ServerConnection } from '../../../waypoint/http2/server-connection.ts'
import { randomFrom, secondsOf, seedOf } from '../../shared/hbone/chance.ts'
import { RawPeer } from '../../shared/hbone/raw-peer.ts'
import { tcpPair } from '../../shared/hbone/support.ts'
import { mirror } from './support.ts'

const get: FieldSection = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'shop']
]
const websocket: FieldSection = [
  [':method', 'CONNECT'],
  [':protocol', 'websocket'],
  [':scheme', 'http'],
  [':path', '/chat'],
  [':authority', 'shop']
]

const having = (...fields: HeaderField[]): FieldSection => [...get, ...fields]
const replacing = (name: string, value: string, base = get): FieldSection =>
  base.map(field => (field[0] === name ? [name, value] : field))
const without = (name: string, base = get): FieldSection => base.filter(field => field[0] !== name)

/** Each with the status of its refusal; 400 is RST_STREAM with PROTOCOL_ERROR. */
const refusedHeads: readonly (readonly [section: string, name: string, status: number, FieldSection])[] = [
  ['8.2.1', 'a name in upper case', 400, having(['X-A', '1'])],
  ['8.2.1', 'a name with a blank', 400, having(['x a', '1'])],
  ['8.2.1', 'a name with a colon', 400, having(['x:a', '1'])],
  ['8.2.1', 'a name with a line break', 400, having(['x\r\ny', '1'])],
  ['8.2.1', 'a name beyond ASCII', 400, having(['x\xe4', '1'])],
  ['8.2.1', 'an empty name', 400, having(['', '1'])],
  ['8.2.1', 'CR in a value', 400, having(['x-a', 'a\rb'])],
  ['8.2.1', 'LF in a value', 400, having(['x-a', 'a\nb'])],
  ['8.2.1', 'NUL in a value', 400, having(['x-a', 'a\0b'])],
  ['8.2.1', 'another control character in a value', 400, having(['x-a', 'a\x1bb'])],
  ['8.2.1', 'DEL in a value', 400, having(['x-a', 'a\x7fb'])],
  ['8.2.1', 'a value that begins with a blank', 400, having(['x-a', ' a'])],
  ['8.2.1', 'a value that ends with a tab', 400, having(['x-a', 'a\t'])],
  ...['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade'].map(
    name => ['8.2.2', name, 400, having([name, 'x'])] as const
  ),
  ['8.2.2', 'te other than trailers', 400, having(['te', 'gzip'])],
  ['8.3', 'an unknown pseudo field', 400, having([':x', '1'])],
  ['8.3', 'a pseudo field of responses', 400, having([':status', '200'])],
  ['8.3', 'a pseudo field after others', 400, [['x-a', '1'], ...get]],
  ...[':method', ':scheme', ':path', ':authority'].map(
    name => ['8.3.1', `${name} twice`, 400, [...get.filter(([known]) => known === name), ...get]] as const
  ),
  ...[':method', ':scheme', ':path', ':authority'].map(
    name => ['8.3.1', `no ${name}`, 400, without(name)] as const
  ),
  ['8.3.1', 'a method that is no token', 400, replacing(':method', 'GET /')],
  ['8.3.1', 'an empty path', 400, replacing(':path', '')],
  ['8.3.1', 'a path that is no path', 400, replacing(':path', 'a')],
  ['8.3.1', 'a URL in place of a path', 400, replacing(':path', 'http://shop/')],
  ['8.3.1', '* of a method other than OPTIONS', 400, replacing(':path', '*')],
  ['8.3.1', 'a path with a blank', 400, replacing(':path', '/a b')],
  ['8.3.1', 'a path with a line break', 400, replacing(':path', '/ HTTP/1.1\r\nx: y')],
  ['8.3.1', 'a path with a fragment', 400, replacing(':path', '/a#b')],
  ['8.3.1', 'a path beyond ASCII', 400, replacing(':path', '/\xe4')],
  ['8.3.1', 'an empty authority', 400, replacing(':authority', '')],
  ['8.3.1', 'an authority with user information', 400, replacing(':authority', 'me@shop')],
  ['8.3.1', 'an authority with a blank', 400, replacing(':authority', 'shop x')],
  ['8.3.1', 'an authority whose port is no number', 400, replacing(':authority', 'shop:http')],
  ['8.3.1', 'host other than :authority', 400, having(['host', 'other'])],
  ['8.3.1', 'several host fields', 400, having(['host', 'shop'], ['host', 'shop'])],
  ['8.3.1', 'a scheme that is not of HTTP', 400, replacing(':scheme', 'ftp')],
  ['8.1.1', 'two lengths', 400, having(['content-length', '1'], ['content-length', '1'])],
  ['8.1.1', 'a length that is no number', 400, having(['content-length', '0x1'])],
  ['8.1.1', 'a length beyond all numbers', 400, having(['content-length', '9'.repeat(30)])],
  [
    '8.5',
    'CONNECT with :path',
    400,
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      [':path', '/']
    ]
  ],
  [
    '8.5',
    'CONNECT',
    501,
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1']
    ]
  ],
  ['RFC 8441', ':protocol without CONNECT', 400, [[':protocol', 'websocket'], ...get]],
  ['RFC 8441', ':protocol that is no token', 400, replacing(':protocol', 'web socket', websocket)],
  ['RFC 8441', 'extended CONNECT without :path', 400, without(':path', websocket)],
  ['RFC 8441', 'extended CONNECT without :scheme', 400, without(':scheme', websocket)],
  ['RFC 8441', 'extended CONNECT with a length', 400, [...websocket, ['content-length', '1']]],
  ['RFC 9110 10.1.1', 'an expectation of something else', 417, having(['expect', 'the best'])],
  [
    '6.5.2',
    'a hundred and one fields',
    431,
    having(...Array.from({ length: 101 }, (_, at) => [`x-${at}`, '1'] as const))
  ]
]

t.test('refused heads', async t => {
  for (const [section, name, status, fields] of refusedHeads) {
    const verdict = readRequestHead(fields, false)
    t.match(verdict, { kind: 'refused', status }, `${section}: ${name}`)
  }
  t.match(readRequestHead(having(['content-length', '1']), true), { status: 400 }, 'a length without a body')
})

t.test('heads that are taken', async t => {
  const took = (fields: FieldSection, endStream = true): object => {
    const head = readRequestHead(fields, endStream)
    return head.kind === 'refused' ? head : { ...head, headers: [...head.headers] }
  }
  t.match(took(get), {
    ...{ method: 'GET', target: '/', authority: 'shop', scheme: 'http', version: 'HTTP/2' },
    ...{ framing: { kind: 'none' }, headers: [], expectsContinue: false }
  })
  t.match(took(get, false), { framing: { kind: 'chunked' } })
  t.match(took(having(['content-length', '7']), false), { framing: { kind: 'length', bytes: 7 } })
  t.match(took(having(['content-length', '0'])), { framing: { kind: 'none' } })
  t.match(took(having(['host', 'SHOP'])), { authority: 'shop', headers: [] }, 'host that is the same')
  t.match(took([...without(':authority'), ['host', 'shop:80']]), { authority: 'shop:80', headers: [] })
  t.match(took(replacing(':path', '*', replacing(':method', 'OPTIONS'))), { target: '*' })
  t.match(took(replacing(':scheme', 'HTTPS')), { scheme: 'https' })
  t.match(took(having(['te', 'trailers'], ['x-a', ''])), {
    headers: [
      ['te', 'trailers'],
      ['x-a', '']
    ]
  })
  t.match(took(having(['x-a', 'gr\xfc\xdfe, \t tab'])), { headers: [['x-a', 'gr\xfc\xdfe, \t tab']] })
  t.match(took(having(['cookie', 'a=1'], ['x-a', '1'], ['cookie', 'b=2'])), {
    headers: [
      ['cookie', 'a=1; b=2'],
      ['x-a', '1']
    ]
  })
  t.match(took(having(['cookie', ''], ['cookie', 'a=1'], ['cookie', ''])), { headers: [['cookie', 'a=1']] })
  t.match(took(having(['expect', '100-Continue']), false), { expectsContinue: true, headers: [] })
  t.match(took(websocket, false), {
    method: 'GET',
    upgrade: 'websocket',
    target: '/chat',
    framing: { kind: 'none' }
  })
  t.match(took(replacing(':protocol', 'Connect-UDP', websocket), false), {
    upgrade: 'connect-udp',
    headers: []
  })
})

async function peerOf(t: { teardown(end: () => unknown): void }, refusals: string[] = []): Promise<RawPeer> {
  const [near, far] = await tcpPair(t)
  const connection = new Http2ServerConnection(streamOf(far), mirror, {
    onRefused: ({ reason }) => refusals.push(reason)
  })
  t.teardown(() => connection.destroy())
  const peer = new RawPeer(near, true)
  peer.greet()
  return peer
}

t.test('malformed requests reset their stream, and the connection lives on', async t => {
  const refusals: string[] = []
  const peer = await peerOf(t, refusals)
  const malformed = refusedHeads.filter(([, , status]) => status === 400)
  for (const [at, [section, name, , fields]] of malformed.entries()) {
    const streamId = 2 * at + 1
    peer.request(streamId, fields, true)
    t.match(
      await peer.frame('rst', frame => frame.streamId === streamId),
      { code: 'PROTOCOL_ERROR' },
      `${section}: ${name}`
    )
  }
  t.equal(refusals.length, malformed.length)
  peer.request(999, get, true)
  t.match(await peer.frame('headers'), { streamId: 999, fields: [[':status', '200']] })
})

t.test('bodies that are not as long as told, and malformed trailers, reset their stream', async t => {
  const peer = await peerOf(t)
  const cases: readonly (readonly [
    name: string,
    length: string | undefined,
    send: (streamId: number) => void
  ])[] = [
    ['more DATA', '3', id => peer.sendData(id, 'abcd')],
    ['less DATA', '3', id => peer.sendData(id, 'ab', true)],
    ['DATA after a length of 0', '0', id => peer.sendData(id, 'a', true)],
    ['less DATA before trailers', '3', id => peer.request(id, [['x-a', '1']], true)],
    ['a pseudo field in trailers', undefined, id => peer.request(id, [[':path', '/']], true)],
    ['a line break in trailers', undefined, id => peer.request(id, [['x-a', 'a\r\nb: c']], true)],
    ['a control character in trailers', undefined, id => peer.request(id, [['x-a', '\x02']], true)],
    ['content-length in trailers', undefined, id => peer.request(id, [['content-length', '1']], true)],
    ['authorization in trailers', undefined, id => peer.request(id, [['authorization', 'me']], true)],
    ['transfer-encoding in trailers', undefined, id => peer.request(id, [['transfer-encoding', 'x']], true)],
    ['headers in the middle', undefined, id => peer.request(id, [['x-a', '1']])]
  ]
  for (const [at, [name, length, send]] of cases.entries()) {
    const streamId = 2 * at + 1
    peer.request(streamId, length === undefined ? get : having(['content-length', length]))
    send(streamId)
    t.match(await peer.frame('rst', frame => frame.streamId === streamId), { code: 'PROTOCOL_ERROR' }, name)
  }
  t.notOk(
    peer.frames.some(({ kind }) => kind === 'headers'),
    'none of them was answered'
  )
})

t.test('a header block far beyond the limit ends the connection before it costs memory', async t => {
  const peer = await peerOf(t)
  const part = Buffer.alloc(16_384, 'x')
  peer.send(
    headersFrames(
      1,
      Buffer.concat([encodeHeaders(get), ...Array.from({ length: 20 }, () => part)]),
      true,
      16_384
    )
  )
  t.match(await peer.frame('goaway'), { code: 'ENHANCE_YOUR_CALM' })
})

t.test('whatever head is taken, an HTTP/1.1 reader takes it for the same', async t => {
  const seed = seedOf()
  const random = randomFrom(seed)
  const below = (limit: number): number => Math.floor(random() * limit)
  const splinters = [
    '\r',
    '\n',
    '\r\n',
    '\0',
    ' ',
    '\t',
    ':',
    ',',
    '#',
    '\x7f',
    '\xff',
    'a',
    'A',
    '0',
    '%0d%0a',
    '\r\nhost: b',
    ''
  ]
  const names = [
    ...get.map(([name]) => name),
    'host',
    'content-length',
    'cookie',
    'x-a',
    'te',
    'transfer-encoding',
    ':protocol'
  ]
  const mutated = (text: string): string => {
    const at = below(text.length + 1)
    return text.slice(0, at) + (splinters[below(splinters.length)] ?? '') + text.slice(at + below(2))
  }
  const ends = Date.now() + 1000 * secondsOf(3)
  let heads = 0
  let taken = 0
  while (Date.now() < ends) {
    for (let round = 0; round < 500; round++) {
      const fields: HeaderField[] = [...get, ['x-b', 'two words'], ['content-length', '3']]
      for (let times = 1 + below(3); times > 0; times--) {
        const at = below(fields.length)
        const [name, value] = fields[at] ?? ['', '']
        const what = below(5)
        if (what === 0) fields[at] = [mutated(name), value]
        else if (what === 1) fields.splice(at, 1)
        else if (what === 2) fields.splice(at, 0, [names[below(names.length)] ?? '', mutated(value)])
        else fields[at] = [name, mutated(value)]
      }
      heads += 1
      const head = readRequestHead(fields, false)
      if (head.kind === 'refused') continue
      taken += 1
      const text = requestHeadText(head.method, head.target, head.authority, head.headers)
      const again = readHttp1(text.slice(0, -2))
      const same =
        again.kind === 'request' &&
        again.method === head.method &&
        again.target === head.target &&
        again.authority === head.authority &&
        String([...again.headers].filter(([name]) => name !== 'host')) === String([...head.headers])
      if (!same) t.fail(`seed ${seed}`, { fields, text, again })
    }
  }
  t.comment(`seed ${seed}: ${heads} heads, ${taken} taken`)
  t.ok(taken > 100 && taken < heads)
})
