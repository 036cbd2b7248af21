/** What authorizers by gRPC are asked, and what their answers mean, by the published field numbers: AZ-46. */
import t from 'tap'
import type { Outcome } from '../../../waypoint/external-authorization/check.ts'
import { encodeCheckRequest, readCheckResponse } from '../../../waypoint/external-authorization/grpc-check.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { connection, head, request, seen } from './support.ts'
import { field, fields, readFields, within } from './wire.ts'

const texts = (bytes: Buffer): Record<string, unknown> =>
  Object.fromEntries(
    Array.from(readFields(bytes), ([number, [value]]) => [
      number,
      typeof value === 'number' ? value : String(value)
    ])
  )

function headersOf(check: Buffer): Record<string, string> {
  const entries = readFields(within(check, 1, 4, 2)).get(3) ?? []
  const pairs = entries.map(entry => texts(entry as Buffer))
  return Object.fromEntries(pairs.map(({ 1: name, 2: value }) => [String(name), String(value)]))
}

t.test('AZ-46: who calls whom', async t => {
  for (const check of [encodeCheckRequest(connection), encodeCheckRequest(request())]) {
    t.strictSame(texts(within(check, 1, 1, 1, 1)), { 2: '10.1.2.3', 3: 40_000 })
    t.equal(String(within(check, 1, 1, 4)), 'spiffe://cluster.local/ns/front/sa/site')
    t.strictSame(texts(within(check, 1, 2, 1, 1)), { 2: '10.96.0.7', 3: 80 })
    t.strictSame(texts(within(check, 1, 4, 1)), { 1: 1_500_000_000, 2: 250_000_000 })
  }
  t.notOk(readFields(within(encodeCheckRequest(connection), 1, 4)).has(2), 'a connection has no request')
})

t.test('AZ-46: what is asked', async t => {
  const check = encodeCheckRequest(request())
  const http = texts(within(check, 1, 4, 2))
  const { 3: _, ...plain } = http
  t.strictSame(plain, {
    1: 'id-1',
    2: 'POST',
    4: '/cart?item=7',
    5: 'web.shop:80',
    6: 'http',
    9: 12,
    10: 'HTTP/2'
  })
  t.strictSame(headersOf(check), {
    ':authority': 'web.shop:80',
    ':method': 'POST',
    ':path': '/cart?item=7',
    ':scheme': 'http',
    'x-request-id': 'id-1',
    authorization: 'Bearer t',
    'x-user': 'ann'
  })
})

t.test('AZ-46: bodies of unknown length, and headers of every kind', async t => {
  const utf8 = Buffer.from('é').toString('latin1')
  const headers = HeaderList.of(
    'a',
    '1',
    'a',
    '2',
    'cookie',
    'b',
    'cookie',
    'c',
    '__proto__',
    'x',
    'name',
    utf8
  )
  const check = encodeCheckRequest(request({ headers, framing: { kind: 'chunked' }, scheme: 'https' }))
  t.match(texts(within(check, 1, 4, 2)), { 6: 'https', 9: -1 })
  const found = headersOf(check)
  t.match(found, { a: '1,2', cookie: 'b; c', name: 'é' })
  t.equal(
    Object.getOwnPropertyDescriptor(found, '__proto__')?.value,
    'x',
    'a name that objects take for another thing'
  )
  t.notOk(
    readFields(within(encodeCheckRequest(request({ ...head, framing: { kind: 'none' } })), 1, 4, 2)).has(9)
  )
})

const ok = field(1, '')
const no = field(1, field(1, 7))
const header = (name: string, value: string): Buffer => fields([1, name], [2, value])
const option = (name: string, value: string, ...more: (readonly [number, Buffer | number])[]): Buffer =>
  fields([1, header(name, value)], ...more)
const allow = (...parts: (readonly [number, Buffer | string])[]): Outcome =>
  readCheckResponse(Buffer.concat([ok, field(3, fields(...parts))]))

t.test('AZ-46: an answer that allows', async t => {
  const unchanged = {
    kind: 'allowed',
    changes: { request: [], remove: [], query: { set: [], remove: [] }, response: [] }
  }
  t.strictSame(readCheckResponse(ok), unchanged)
  t.strictSame(allow(), unchanged)
  t.strictSame(
    allow(
      [2, option('X-Set', '1')],
      [2, option('append', '2', [2, field(1, 1)])],
      [2, option('set', '3', [2, Buffer.of()])],
      [2, option('absent', '4', [3, 1])],
      [2, option('over', '5', [3, 2])],
      [2, option('present', 'é', [3, 3])],
      [2, field(1, fields([1, 'raw'], [3, Buffer.of(0xe9)]))],
      [2, option('Host', 'evil')],
      [2, option(':path', '/evil')],
      [5, 'Authorization'],
      [6, option('set-cookie', 'a')],
      [6, option('x-r', 'b', [3, 2])],
      [7, fields([1, 'q'], [2, '1'])],
      [8, 'token']
    ),
    {
      kind: 'allowed',
      changes: {
        request: [
          { how: 'set', name: 'x-set', value: '1' },
          { how: 'append', name: 'append', value: '2' },
          { how: 'set', name: 'set', value: '3' },
          { how: 'add if absent', name: 'absent', value: '4' },
          { how: 'set', name: 'over', value: '5' },
          { how: 'set if present', name: 'present', value: Buffer.from('é').toString('latin1') },
          { how: 'set', name: 'raw', value: '\u00e9' }
        ],
        remove: ['authorization'],
        query: { set: [['q', '1']], remove: ['token'] },
        response: [
          { how: 'append', name: 'set-cookie', value: 'a' },
          { how: 'set', name: 'x-r', value: 'b' }
        ]
      }
    }
  )
})

t.test('AZ-46: an answer that denies', async t => {
  const denied = (...parts: readonly (readonly [number, Buffer | string])[]): unknown =>
    seen(readCheckResponse(Buffer.concat([no, field(2, fields(...parts))])))
  const empty = { kind: 'denied', status: 403, headers: [], body: '' }
  t.strictSame(seen(readCheckResponse(no)), empty)
  t.strictSame(denied(), empty)
  t.strictSame(seen(readCheckResponse(Buffer.concat([no, field(3, '')]))), empty, 'whatever it would change')
  t.strictSame(seen(readCheckResponse(Buffer.concat([ok, field(2, '')]))), empty, 'in doubt')
  const headers: (readonly [number, Buffer])[] = [
    [2, option('Set-Cookie', 'a')],
    [2, option('set-cookie', 'b')],
    [2, option('content-length', '7')],
    [2, option('a b', 'c')],
    [2, option('x', 'y\r\nz: 1')]
  ]
  t.strictSame(denied([1, field(1, 401)], ...headers, [3, 'go away']), {
    kind: 'denied',
    status: 401,
    headers: [
      ['set-cookie', 'a'],
      ['set-cookie', 'b']
    ],
    body: 'go away'
  })
  for (const status of [0, 100, 199, 600])
    t.match(denied([1, field(1, status)]), { status: 403 }, `${status}`)
  t.match(denied([3, 'é'.repeat(40_000)]), { body: 'é'.repeat(32_768) }, 'of 64 KiB at most')
  for (const status of [204, 304]) t.match(denied([1, field(1, status)], [3, 'x']), { status, body: '' })
})

t.test('what is no answer', async t => {
  t.throws(() => readCheckResponse(Buffer.of()), /neither yes nor no/)
  t.throws(() => readCheckResponse(Buffer.of(0x0a, 0x7f, 1)))
  t.throws(() => readCheckResponse(Buffer.from('<html>')))
  t.throws(() => allow([2, option('a b', 'c')]), /"a b" is no header name/)
  t.throws(() => allow([2, option('a', 'b\nc')]), /the value of a has characters/)
  t.throws(() => allow([6, option('a', 'b', [3, 9])]), /append_action 9 is not known/)
})
