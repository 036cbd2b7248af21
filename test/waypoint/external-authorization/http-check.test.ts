/** What authorizers by HTTP are asked, and what their answers mean: AZ-44, AZ-45, AZ-49. */
import t from 'tap'
import { checkHttp, httpCheck, readHttpAnswer } from '../../../waypoint/external-authorization/http-check.ts'
import type { Outcome } from '../../../waypoint/external-authorization/check.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { connection, head, httpProvider, seen, type Json } from './support.ts'

t.test('AZ-44: method, host, path and credentials always; no body', async t => {
  const check = httpCheck(httpProvider(), head)
  t.match(check, { method: 'POST', target: '/cart?item=7', authority: 'web.shop:80' })
  t.strictSame(
    [...check.headers],
    [
      ['authorization', 'Bearer t'],
      ['content-length', '0']
    ]
  )
})

t.test('AZ-44: a prefix of the path, more headers by name, and headers of its own', async t => {
  const provider = httpProvider({
    pathPrefix: '/check',
    includeRequestHeadersInCheck: ['X-*', 'cookie', 'content-length', 'te'],
    includeAdditionalHeadersInCheck: { 'x-user': 'proxy', 'x-static': 'yes' }
  })
  const headers = HeaderList.of(
    'x-user',
    'ann',
    'cookie',
    'c',
    'x-b',
    '1',
    'x-b',
    '2',
    'y',
    'no',
    'te',
    'trailers'
  )
  headers.append('content-length', '12')
  const check = httpCheck(provider, { ...head, headers })
  t.equal(check.target, '/check/cart?item=7')
  t.strictSame(
    [...check.headers],
    [
      ['x-user', 'proxy'],
      ['cookie', 'c'],
      ['x-b', '1'],
      ['x-b', '2'],
      ['x-static', 'yes'],
      ['content-length', '0']
    ]
  )
})

function answer(status: number, headers: readonly string[] = [], more: Json = {}, body = 'no'): Outcome {
  return readHttpAnswer(httpProvider(more), {
    status,
    headers: HeaderList.of(...headers),
    body: Buffer.from(body),
    whole: true
  })
}

t.test('AZ-45: 200 allows, and changes what was agreed upon', async t => {
  const lists = {
    headersToUpstreamOnAllow: ['x-user', 'x-g', 'host'],
    headersToDownstreamOnAllow: ['set-cookie']
  }
  const headers = [
    'x-user',
    'ann',
    'x-g',
    '1',
    'x-g',
    '2',
    'host',
    'evil',
    'x-other',
    'y',
    'set-cookie',
    'c=1'
  ]
  t.strictSame(answer(200, [...headers, 'x-envoy-auth-headers-to-remove', 'Authorization, x-key'], lists), {
    kind: 'allowed',
    changes: {
      request: [
        { how: 'set', name: 'x-user', value: 'ann' },
        { how: 'set', name: 'x-g', value: '1' },
        { how: 'append', name: 'x-g', value: '2' }
      ],
      remove: ['authorization', 'x-key'],
      query: { set: [], remove: [] },
      response: [{ how: 'append', name: 'set-cookie', value: 'c=1' }]
    }
  })
  t.match(answer(200, headers), { changes: { request: [], response: [] } }, 'without lists nothing')
})

t.test('AZ-45: whatever else it answers denies; failures are no answers', async t => {
  for (const status of [201, 204, 301, 302, 304, 400, 401, 403, 404, 429, 499]) {
    t.match(
      answer(status),
      { kind: 'denied', status, body: [204, 304].includes(status) ? '' : 'no' },
      `${status}`
    )
  }
  for (const status of [0, 100, 101, 500, 502, 503, 599]) {
    t.throws(() => answer(status), new RegExp(`answered ${status}`), `${status}`)
  }
})

const ofAnswer = [
  'www-authenticate',
  'Basic',
  'location',
  '/login',
  'x-why',
  'w',
  'host',
  'h',
  'content-length',
  '2'
]

t.test('AZ-45: headers of a denial', async t => {
  const headersOf = (more: Json): unknown => {
    const outcome = answer(401, ofAnswer, more)
    return outcome.kind === 'denied' && [...outcome.headers].map(([name]) => name)
  }
  t.strictSame(headersOf({}), ['www-authenticate', 'location', 'x-why'], 'all, but not how it is carried')
  t.strictSame(headersOf({ headersToDownstreamOnDeny: ['x-*'] }), ['www-authenticate', 'location', 'x-why'])
  t.strictSame(headersOf({ headersToDownstreamOnDeny: ['y'] }), ['www-authenticate', 'location'])
})

t.test('bodies of denials are text of 64 KiB at most', async t => {
  const denied = (body: Uint8Array, headers: readonly string[] = [], whole = true): Outcome =>
    readHttpAnswer(httpProvider(), { status: 403, headers: HeaderList.of(...headers), body, whole })
  const size = (body: Uint8Array): number => {
    const outcome = denied(body)
    return outcome.kind === 'denied' ? Buffer.byteLength(outcome.body) : -1
  }
  t.equal(size(Buffer.alloc(65_536, 'a')), 65_536)
  t.equal(size(Buffer.alloc(65_537, 'a')), 65_536)
  t.equal(size(Buffer.from(`a${'é'.repeat(40_000)}`)), 65_535, 'no half characters')
  const type = ['content-type', 'application/json', 'etag', 'x', 'x-why', 'w']
  const pairs = [
    ['content-type', 'application/json'],
    ['etag', 'x'],
    ['x-why', 'w']
  ]
  t.match(seen(denied(Buffer.from('{"é":1}'), type)), { body: '{"é":1}', headers: pairs })
  t.match(seen(denied(Buffer.of(0xff, 0xfe), type)), { body: '', headers: [['x-why', 'w']] })
  const half = Buffer.from('aé').subarray(0, 2)
  t.strictSame(
    seen(denied(half, ['etag', 'x'], false)),
    { kind: 'denied', status: 403, headers: [], body: 'a' },
    'cut by who read it'
  )
  t.match(
    seen(denied(Buffer.alloc(65_537, 'a'), type)),
    {
      headers: [
        ['content-type', 'application/json'],
        ['x-why', 'w']
      ]
    },
    'no tag of what was cut'
  )
  const packed = denied(Buffer.from('text'), ['content-encoding', 'gzip', 'content-type', 'text/html'])
  t.strictSame(seen(packed), { kind: 'denied', status: 403, headers: [], body: '' })
})

t.test('AZ-47: connections are no matter for HTTP', async t => {
  const sendHttp = (): Promise<never> => Promise.reject(new Error('must not be asked'))
  await t.rejects(
    checkHttp(httpProvider(), connection, { sendHttp }, AbortSignal.timeout(1000)),
    /cannot be asked about a connection/
  )
})
