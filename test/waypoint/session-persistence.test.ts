/** Clients that stay at a pod: GA-43; what their cookies say, and what becomes of those that nobody gave them. */
import { createHmac } from 'node:crypto'
import t from 'tap'
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import type { SessionPersistence } from '../../waypoint/routes/route.ts'
import { readSessionPersistence } from '../../waypoint/routes/session-persistence.ts'
import { readSession, sessionKey, SessionPods, writeSession } from '../../waypoint/session-persistence.ts'

const rule = 'shop/web/0'
const hour = 3_600_000
const now = 1_900_000_000_000
const key = sessionKey('cluster.local')

function cookie(parts: Partial<SessionPersistence> = {}, permanent = false): SessionPersistence {
  const carrier = { kind: 'cookie', name: 'at', path: '/', permanent } as const
  return { rule, carrier, absoluteTimeoutMs: undefined, ...parts }
}

const byHeader: SessionPersistence = cookie({ carrier: { kind: 'header', name: 'x-session' } })

const uids = ['c//Pod/shop/web-1', 'c//Pod/shop/web-2']
const pods = new SessionPods(key, 'shop/web.shop.svc.cluster.local', 80)
pods.update(uids)
const [one, two] = uids.map(uid => pods.tag(uid) ?? 'none') as [string, string]

/** The value that a client is given when this pod answers it. */
function given(persistence: SessionPersistence, answered = one, at = now, with_ = key): string {
  const written = writeSession(
    persistence,
    { answered, carried: undefined, secure: false },
    { key: with_, now: at }
  )
  return /^(?:at=)?([^;]*)/.exec(written?.[1] ?? '')?.[1] ?? ''
}

function cookies(...fields: readonly string[]): HeaderList {
  return HeaderList.of(...fields.flatMap(field => ['cookie', field]))
}

t.test('a client comes back to the pod that answered it, by a cookie or a header', async t => {
  t.equal(readSession(cookie(), cookies(`at=${given(cookie())}`), { key, now }), one)
  const headers = HeaderList.of('x-session', given(byHeader, two))
  t.equal(readSession(byHeader, headers, { key, now }), two)
  t.equal(pods.pod(two), 'c//Pod/shop/web-2')
})

t.test('another replica understands it, and other waypoints of the trust domain', async t => {
  const value = given(cookie())
  t.equal(readSession(cookie(), cookies(`at=${value}`), { key: sessionKey('cluster.local'), now }), one)
  const other = new SessionPods(sessionKey('cluster.local'), 'shop/web.shop.svc.cluster.local', 80)
  other.update(uids.toReversed())
  t.equal(other.pod(one), uids[0])
})

const value = given(cookie())
const stale = given(cookie(), one, now, sessionKey('elsewhere'))
for (const [name, fields, expected] of [
  ['among others', ['a=1; b=2', `c=3; at=${value} ; d=4`], one],
  ['in quotes', [`at="${value}"`], one],
  ['the first of two', [`at=${given(cookie(), two)}; at=${value}`], two],
  ['after one that is nobody’s', [`at=gone; at=${stale}; at=${value}`], one],
  ['another name', [`ta=${value}`], undefined],
  ['a name is what it is, capitals and all', [`At=${value}`], undefined],
  ['a name at the end of another', [`xat=${value}`], undefined],
  ['no cookie', [], undefined]
] as const) {
  t.test(`cookies of a request: ${name}`, async t => {
    t.equal(readSession(cookie(), cookies(...fields), { key, now }), expected)
  })
}

t.test('the cookie’s attributes', async t => {
  const change = { answered: one, carried: undefined, secure: false }
  const attributes = (persistence: SessionPersistence, secure = false): string | undefined => {
    const written = writeSession(persistence, { ...change, secure }, { key, now })
    t.equal(written?.[0], 'set-cookie')
    return written?.[1].replace(/^at=[\w-]{49}/, '')
  }
  t.equal(attributes(cookie()), '; Path=/; HttpOnly')
  t.equal(attributes(cookie(), true), '; Path=/; HttpOnly; Secure')
  t.equal(attributes(cookie({ absoluteTimeoutMs: hour })), '; Path=/; HttpOnly', 'we look after the time')
  t.equal(attributes(cookie({ absoluteTimeoutMs: hour }, true)), '; Path=/; Max-Age=3600; HttpOnly')
  t.equal(attributes(cookie({ absoluteTimeoutMs: 1500 }, true)), '; Path=/; Max-Age=2; HttpOnly')
  const shop = { kind: 'cookie', name: 'at', path: '/shop', permanent: false } as const
  t.equal(attributes(cookie({ carrier: shop })), '; Path=/shop; HttpOnly')
  t.match(writeSession(byHeader, change, { key, now }), ['x-session', /^[\w-]{49}$/])
})

t.test('only what is new is written', async t => {
  const write = (answered: string, carried: string | undefined): unknown =>
    writeSession(cookie(), { answered, carried, secure: false }, { key, now })
  t.equal(write(one, one), undefined)
  t.ok(write(one, undefined), 'the first answer')
  t.ok(write(two, one), 'the pod was not there any more')
})

for (const [name, persistence] of [
  ['a cookie of a session', cookie({ absoluteTimeoutMs: hour })],
  ['a permanent cookie that a client kept', cookie({ absoluteTimeoutMs: hour }, true)],
  ['a header', { ...byHeader, absoluteTimeoutMs: hour }]
] as const) {
  t.test(`${name} ends with its time, however often it is used`, async t => {
    const value = given(persistence)
    const headers = HeaderList.of('cookie', `at=${value}`, 'x-session', value)
    t.equal(readSession(persistence, headers, { key, now }), one)
    t.equal(readSession(persistence, headers, { key, now: now + hour - 1 }), one)
    t.equal(readSession(persistence, headers, { key, now: now + hour }), undefined)
  })
}

t.test('without a timeout it does not end', async t => {
  t.equal(readSession(cookie(), cookies(`at=${value}`), { key, now: now + 1000 * hour }), one)
})

t.test('a value tells neither pod nor service nor rule', async t => {
  const text = Buffer.from(value, 'base64url').toString('latin1') + value
  for (const part of ['web', 'shop', 'Pod', 'cluster']) t.notMatch(text, part)
  t.equal(value.length, 49)
  t.not(given(cookie(), one, now + 1), value)
})

t.test('what one rule gave is nothing to another', async t => {
  const other = cookie({ rule: 'shop/web/1' })
  t.equal(readSession(other, cookies(`at=${value}`), { key, now }), undefined)
  t.equal(readSession(cookie(), cookies(`at=${given(other)}`), { key, now }), undefined)
})

t.test('a pod of another service or port is not found by it', async t => {
  for (const [service, port] of [
    ['shop/db.shop.svc.cluster.local', 80],
    ['shop/web.shop.svc.cluster.local', 81]
  ] as const) {
    const others = new SessionPods(key, service, port)
    others.update(uids)
    t.equal(others.pod(one), undefined)
  }
})

/** With another letter in that place. */
function changed(at: number): string {
  return value.slice(0, at) + (value[at] === 'a' ? 'b' : 'a') + value.slice(at + 1)
}

const said = value.slice(0, 25)
const forged = said + createHmac('sha256', 'guess').update(said).digest('base64url').slice(0, 24)
for (const [name, hostile] of [
  ['nothing', ''],
  ['a word', 'web-1'],
  ['an address', '10.1.2.3:8080'],
  ['another pod', changed(0)],
  ['another time', changed(24)],
  ['another code', changed(25)],
  ['its last letter', changed(48)],
  ['a code by another key', forged],
  ['of another trust domain', stale],
  ['a letter less', value.slice(0, -1)],
  ['a letter more', `${value}A`],
  ['padding', `${value}=`],
  ['the other alphabet', `${value.slice(0, -1)}+`],
  ['zeros', '0'.repeat(49)],
  ['only the form', 'z'.repeat(49)],
  ['a megabyte', 'A'.repeat(2 ** 20)],
  ['bytes above ASCII', 'é'.repeat(49)],
  ['a line break', `${value.slice(0, -1)}\n`]
] as const) {
  t.test(`a session that nobody gave: ${name}`, async t => {
    t.equal(readSession(cookie(), cookies(`at=${hostile}`), { key, now }), undefined)
    t.equal(readSession(byHeader, HeaderList.of('x-session', hostile), { key, now }), undefined)
  })
}

t.test('of many values few are looked at', async t => {
  const many = Array.from({ length: 4 }, () => `at=${stale}`)
  t.equal(readSession(cookie(), cookies(...many, `at=${value}`), { key, now }), undefined)
  t.equal(readSession(cookie(), cookies(...many.slice(1), `at=${value}`), { key, now }), one)
})

t.test('pods that come and go: those that stay keep their tags', async t => {
  const some = new SessionPods(key, 'a/b', 1)
  t.equal(some.pod(one), undefined)
  some.update(['1', '2'])
  const [first, second] = [some.tag('1') ?? '', some.tag('2') ?? '']
  some.update(['2', '3'])
  t.equal(some.tag('2'), second)
  t.equal(some.pod(first), undefined)
  t.equal(some.tag('1'), undefined)
  t.equal(some.pod(some.tag('3') ?? ''), '3')
  some.update(['1'])
  t.equal(some.tag('1'), first, 'one that came back is the same')
})

function read(spec: unknown): { readonly found: SessionPersistence; readonly problems: readonly string[] } {
  const problems = new Problems()
  const found = readSessionPersistence(new Fields(spec, 'rules[0].sessionPersistence', problems), rule)
  return { found, problems: problems.found }
}

const own = 'session-d07ae017'
for (const [name, spec, carrier, absoluteTimeoutMs] of [
  ['nothing', {}, { kind: 'cookie', name: own, path: '/', permanent: false }, undefined],
  ['a cookie', { type: 'Cookie', cookie: {} }, { kind: 'cookie', name: own }, undefined],
  [
    'all of a cookie',
    {
      cookie: { name: 'JSESSIONID', path: '/shop', lifetimeType: 'Permanent' },
      absoluteTimeout: '1h30m'
    },
    { kind: 'cookie', name: 'JSESSIONID', path: '/shop', permanent: true },
    5_400_000
  ],
  [
    'in the words of v1.6',
    { sessionName: 'at', cookieConfig: { lifetimeType: 'Permanent' }, absoluteTimeout: '10s' },
    { kind: 'cookie', name: 'at', path: '/', permanent: true },
    10_000
  ],
  [
    'a session’s cookie that ends',
    { cookieConfig: { lifetimeType: 'Session' }, absoluteTimeout: '500ms' },
    { permanent: false },
    500
  ],
  ['a header', { type: 'Header', header: { name: 'X-At' } }, { kind: 'header', name: 'x-at' }, undefined],
  ['a header without a name', { type: 'Header' }, { kind: 'header', name: own }, undefined],
  ['what has no effect', { idleTimeout: '1m' }, { kind: 'cookie', name: own }, undefined],
  [
    'a header in the words of v1.6',
    { type: 'Header', sessionName: 'X-At' },
    { kind: 'header', name: 'x-at' },
    undefined
  ]
] as const) {
  t.test(`reads ${name}`, async t => {
    const { found, problems } = read(spec)
    t.strictSame(problems, [])
    t.match(found, { rule, carrier, absoluteTimeoutMs })
  })
}

t.test('cookies without a name are called differently for each rule', async t => {
  const nameFor = (rule: string): unknown =>
    readSessionPersistence(new Fields({}, '', new Problems()), rule).carrier.name
  t.match(nameFor('a/b/0'), /^session-[0-9a-f]{8}$/)
  t.equal(nameFor('a/b/0'), nameFor('a/b/0'))
  t.not(nameFor('a/b/0'), nameFor('a/b/1'))
})

for (const [name, spec, complaint] of [
  ['a type', { type: 'Query' }, /^rules\[0\]\.sessionPersistence\.type: expected one of Cookie, Header/],
  ['a field', { timeout: '1s' }, /\.timeout: unknown field; known are absoluteTimeout/],
  ['a field of the cookie', { cookie: { domain: 'x' } }, /\.cookie\.domain: unknown field/],
  ['a field of the header', { type: 'Header', header: { name: 'a', path: '/' } }, /\.header\.path: unknown/],
  ['a cookie for a header', { type: 'Header', header: { name: 'a' }, cookie: {} }, /\.cookie: unknown field/],
  ['a header for a cookie', { header: { name: 'a' } }, /\.header: unknown field/],
  ['a name of a cookie', { cookie: { name: 'a b' } }, /\.cookie\.name: "a b" is no name of a cookie/],
  ['a name with an attribute', { sessionName: 'a=b;Path' }, /\.sessionName: "a=b;Path" is no name/],
  ['a path', { cookie: { path: 'shop' } }, /\.cookie\.path: "shop" is no path of a cookie/],
  ['a path with an attribute', { cookie: { path: '/; Domain=x' } }, /\.cookie\.path: .*is no path/],
  ['a path with a line break', { cookie: { path: '/\r\nx: y' } }, /\.cookie\.path: .*is no path/],
  ['a long path', { cookie: { path: `/${'a'.repeat(1024)}` } }, /\.cookie\.path: /],
  ['a lifetime', { cookie: { lifetimeType: 'Long' } }, /\.lifetimeType: expected one of Session, Permanent/],
  [
    'permanent without end',
    { cookie: { lifetimeType: 'Permanent' } },
    /\.absoluteTimeout: is required for a cookie of lifetimeType Permanent/
  ],
  ['a duration', { absoluteTimeout: 'soon' }, /\.absoluteTimeout: expected a duration above 0.*"soon"/],
  ['no duration', { absoluteTimeout: '0s' }, /\.absoluteTimeout: expected a duration above 0/],
  ['a name of a header', { type: 'Header', sessionName: 'a b' }, /\.sessionName: "a b" is no header name/],
  [
    'a header that is ours',
    { type: 'Header', header: { name: 'Content-Length' } },
    /\.header\.name: content-length is the proxy's own/
  ],
  ['cookies as a header', { type: 'Header', sessionName: 'Set-Cookie' }, /\.sessionName: is for cookies/],
  ['what is no mapping', 'Cookie', /expected a mapping/]
] as const) {
  t.test(`refuses ${name}`, async t => {
    const { problems } = read(spec)
    t.equal(problems.length, 1, problems.join('; '))
    t.match(problems[0], complaint)
  })
}
