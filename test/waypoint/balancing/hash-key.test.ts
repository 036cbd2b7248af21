import t from 'tap'
import { hashOf } from '../../../shared/mesh/hash.ts'
import { ip } from '../../../shared/net/address.ts'
import { keyHashOf, type Keyed } from '../../../waypoint/balancing/hash-key.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import type { HashKey } from '../../../waypoint/traffic-policy.ts'

function request(target: string, ...headers: readonly string[]): Keyed {
  return { head: { target, headers: HeaderList.of(...headers) }, sourceIp: ip('10.0.0.1') }
}

function cookie(parts: Partial<Extract<HashKey, { from: 'cookie' }>> = {}): HashKey {
  return { from: 'cookie', name: 'lb', path: '/', ttlMs: undefined, attributes: [], ...parts }
}

t.test('what of a request is its key', async t => {
  const header: HashKey = { from: 'header', name: 'X-User' }
  const query: HashKey = { from: 'query', name: 'user' }
  const table: readonly (readonly [name: string, key: HashKey, request: Keyed, value: string | undefined])[] =
    [
      ['a header, however its name is written', header, request('/', 'x-user', 'ann'), 'ann'],
      ['an empty one', header, request('/', 'x-user', ''), ''],
      ['none', header, request('/', 'x-other', 'ann'), undefined],
      ['several in any order', header, request('/', 'x-user', 'bob', 'x-user', 'ann'), 'ann,bob'],
      ['a parameter', query, request('/a?x=1&user=ann&user=bob'), 'ann'],
      ['decoded', query, request('/a?user=a%6En+e'), 'ann e'],
      ['that cannot be decoded', query, request('/a?user=%zz'), '%zz'],
      ['that is empty', query, request('/a?user'), ''],
      ['no such parameter', query, request('/a?users=ann'), undefined],
      ['no query', query, request('/user=ann'), undefined],
      ['the client’s address', { from: 'source-ip' }, request('/'), '10.0.0.1'],
      ['a cookie', cookie(), request('/', 'cookie', 'a=1; lb=ann; lb=bob'), 'ann'],
      ['in another field', cookie(), request('/', 'cookie', 'a=1', 'cookie', 'lb=a=b'), 'a=b'],
      ['in quotes', cookie(), request('/', 'cookie', 'lb="ann"'), 'ann'],
      ['of a name like it', cookie(), request('/', 'cookie', 'xlb=ann; lbx=ann; LB=ann; lb'), undefined],
      ['none, and none is made', cookie(), request('/'), undefined],
      ['one that would be made is there', cookie({ ttlMs: 1000 }), request('/', 'cookie', 'lb=ann'), 'ann']
    ]
  for (const [name, key, asked, value] of table) {
    t.strictSame(
      keyHashOf(key, asked),
      { hash: value === undefined ? undefined : hashOf(value), setCookie: undefined },
      name
    )
  }
})

t.test('a cookie that is missing is made, and told to the client', async t => {
  const table: readonly (readonly [name: string, key: HashKey, expected: string])[] = [
    ['for its session', cookie({ ttlMs: 0 }), 'lb=new; Path=/; HttpOnly'],
    ['for a time', cookie({ ttlMs: 3_600_000 }), 'lb=new; Path=/; Max-Age=3600; HttpOnly'],
    ['that is less than a second', cookie({ ttlMs: 1 }), 'lb=new; Path=/; Max-Age=1; HttpOnly'],
    ['without a path', cookie({ ttlMs: 0, path: '' }), 'lb=new; HttpOnly'],
    [
      'with attributes',
      cookie({
        ttlMs: 0,
        path: '/shop',
        attributes: [
          ['SameSite', 'Strict'],
          ['Secure', '']
        ]
      }),
      'lb=new; Path=/shop; SameSite=Strict; Secure; HttpOnly'
    ],
    ['one of which is ours', cookie({ ttlMs: 0, attributes: [['httponly', '']] }), 'lb=new; Path=/; httponly']
  ]
  for (const [name, key, setCookie] of table) {
    t.strictSame(
      keyHashOf(key, request('/'), () => 'new'),
      { hash: hashOf('new'), setCookie },
      name
    )
  }
  t.match(keyHashOf(cookie({ ttlMs: 0 }), request('/', 'cookie', 'lb='), () => 'new').setCookie, /^lb=new;/)
})

t.test('made cookies have 128 bits that nobody knows, and lead back to the same pod', async t => {
  const key = cookie({ ttlMs: 0 })
  const made = Array.from({ length: 100 }, () => keyHashOf(key, request('/')))
  const values = made.map(({ setCookie = '' }) => /^lb=([\w-]{22});/.exec(setCookie)?.[1] ?? '')
  t.notOk(values.includes(''))
  t.equal(new Set(values).size, 100)
  for (const [index, { hash }] of made.entries()) {
    t.equal(keyHashOf(key, request('/', 'cookie', `lb=${values[index]}`)).hash, hash)
  }
})
