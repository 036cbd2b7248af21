/** What becomes of requests with and without tokens, by table. */
import t from 'tap'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { authenticate } from '../../../waypoint/jwt/authenticate.ts'
import type { Algorithm } from '../../../waypoint/jwt/token.ts'
import { algorithms } from '../../../waypoint/jwt/token.ts'
import { jwks, section, signer } from './issuer.ts'
import { bearer, inlineKeys, now, nowS, request, rulesOf, see } from './world.ts'

const key = signer('ES256')
const other = signer('ES256', 'k2')
const iss = 'https://issuer.example'
const claims = { iss, sub: 'ann', exp: nowS + 3600 }
const rule = { issuer: iss, jwks: jwks(key) }
const rules = rulesOf(rule)
const good = key.token(claims)

t.test('a request without a token goes on without identity', async t => {
  const rows = [
    request({}),
    request({ authorization: 'Basic YTpi' }),
    request({ authorization: `bearer ${good}` }),
    request({ authorization: `Bearer${good}` }),
    request({ cookie: `access_token=${good}` }),
    request({}, '/?token=x')
  ]
  for (const asked of rows) t.equal((await see(rules, asked)).verdict, 'none')
  t.equal((await see([], bearer('nonsense'))).verdict, 'none', 'nor does anybody look where there is no rule')
})

t.test('a valid token gives its principal and claims', async t => {
  const { verdict, result } = await see(rules, bearer(good))
  t.equal(verdict, 'https://issuer.example/ann')
  t.match(result, { kind: 'valid', issuer: iss, claims: { sub: 'ann' } })
})

t.test('every algorithm of RFC 7518 and EdDSA, by key id and without', async t => {
  for (const algorithm of Object.keys(algorithms) as Algorithm[]) {
    for (const kid of ['a', undefined]) {
      const own = signer(algorithm, kid)
      const stranger = signer(algorithm, 'stranger')
      const set = rulesOf({ issuer: iss, jwks: jwks(stranger, own) })
      t.equal((await see(set, bearer(own.token(claims)))).verdict, `${iss}/ann`, `${algorithm} ${kid}`)
      const changed = own.token(claims).replace(section(claims), section({ ...claims, sub: 'eve' }))
      t.equal((await see(set, bearer(changed))).verdict, '401 Jwt verification fails', `${algorithm} changed`)
    }
  }
})

const wrong: readonly (readonly [name: string, token: string, answer: string])[] = [
  [
    'no sections',
    'nonsense',
    '401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections'
  ],
  ['nothing', '', '401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections'],
  [
    'two sections',
    'a.b',
    '401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections'
  ],
  [
    'four sections',
    `${good}.x`,
    '401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections'
  ],
  [
    'no signature',
    good.replace(/[^.]*$/, ''),
    '401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections'
  ],
  [
    'a header in another encoding',
    `e30=.${section(claims)}.c2ln`,
    '401 Jwt header is an invalid Base64url encoded'
  ],
  [
    'a header of impossible length',
    `abcde.${section(claims)}.c2ln`,
    '401 Jwt header is an invalid Base64url encoded'
  ],
  [
    'a header that is no JSON',
    `${section('{')}.${section(claims)}.c2ln`,
    '401 Jwt header is an invalid JSON'
  ],
  ['a header that is a list', `${section([])}.${section(claims)}.c2ln`, '401 Jwt header is an invalid JSON'],
  [
    'a header that is no UTF-8',
    `${Buffer.of(0x22, 0xff, 0x22).toString('base64url')}.e30.c2ln`,
    '401 Jwt header is an invalid JSON'
  ],
  [
    'no algorithm',
    `${section({})}.${section(claims)}.c2ln`,
    '401 Jwt header [alg] field is required and must be a string'
  ],
  [
    'algorithm none',
    `${section({ alg: 'none' })}.${section(claims)}.c2ln`,
    '401 Jwt header [alg] is not supported'
  ],
  [
    'algorithm nOnE',
    `${section({ alg: 'nOnE' })}.${section(claims)}.c2ln`,
    '401 Jwt header [alg] is not supported'
  ],
  [
    'an algorithm that every object has',
    `${section({ alg: 'toString' })}.${section(claims)}.c2ln`,
    '401 Jwt header [alg] is not supported'
  ],
  [
    'an encrypted token',
    `${section({ alg: 'RSA-OAEP' })}.${section(claims)}.c2ln`,
    '401 Jwt header [alg] is not supported'
  ],
  ['a key id that is no text', key.token(claims, { kid: 7 }), '401 Jwt header [kid] field is not a string'],
  ['a key that is not there', other.token(claims), "401 Jwks doesn't have key to match kid or alg from Jwt"],
  [
    'a key id that looks elsewhere',
    other.token(claims, { kid: '../../k1' }),
    "401 Jwks doesn't have key to match kid or alg from Jwt"
  ],
  [
    'a key of its own',
    other.token(claims, { kid: 'k1', jwk: other.jwk, jku: 'http://evil.example' }),
    '401 Jwt verification fails'
  ],
  ['the id of our key, signed by another', other.token(claims, { kid: 'k1' }), '401 Jwt verification fails'],
  [
    'an extension that has to be understood',
    key.token(claims, { crit: ['b64'], b64: false }),
    '401 Jwt verification fails'
  ],
  [
    'a payload in another encoding',
    key.signed(`${section({ alg: 'ES256' })}.a+b=`),
    '401 Jwt payload is an invalid Base64url encoded'
  ],
  ['a payload that is no JSON', key.token('{"iss"'), '401 Jwt payload is an invalid JSON'],
  ['a payload that is a text', key.token('"x"'), '401 Jwt payload is an invalid JSON'],
  [
    'an issuer that is no text',
    key.token({ ...claims, iss: [iss] }),
    '401 Jwt payload [iss] field is not a string'
  ],
  [
    'a subject that is no text',
    key.token({ ...claims, sub: 7 }),
    '401 Jwt payload [sub] field is not a string'
  ],
  [
    'audiences that are no texts',
    key.token({ ...claims, aud: [1] }),
    '401 Jwt payload [aud] field is not a string or string list'
  ],
  [
    'an end that is no time',
    key.token({ ...claims, exp: '9999999999' }),
    '401 Jwt payload [exp] field is not an integer'
  ],
  [
    'an end before all time',
    key.token({ ...claims, exp: -1 }),
    '401 Jwt payload [exp] field is not an integer'
  ],
  [
    'a beginning that is no time',
    key.token({ ...claims, nbf: null }),
    '401 Jwt payload [nbf] field is not an integer'
  ],
  ['a signature in another encoding', `${good}=`, '401 Jwt signature is an invalid Base64url encoded'],
  ['half a signature', good.slice(0, -43), '401 Jwt verification fails'],
  ['no issuer', key.token({ sub: 'ann' }), '401 Jwt issuer is not configured'],
  ['an unknown issuer', key.token({ ...claims, iss: `${iss}/` }), '401 Jwt issuer is not configured'],
  ['an end at the beginning of time', key.token({ ...claims, exp: 0 }), '401 Jwt is expired'],
  ['an end that is over', key.token({ ...claims, exp: nowS - 61 }), '401 Jwt is expired'],
  ['a beginning to come', key.token({ ...claims, nbf: nowS + 61 }), '401 Jwt not yet valid'],
  [
    'an issuer that is there twice',
    key.token(`{"iss":"${iss}","iss":"https://evil.example"}`),
    '401 Jwt issuer is not configured'
  ],
  ['a huge one', `${'a'.repeat(60_000)}.b.c`, '401 Jwt header is an invalid JSON'],
  [
    'one nested without end',
    `${section({ alg: 'ES256' })}.${section('['.repeat(40_000))}.c2ln`,
    '401 Jwt payload is an invalid JSON'
  ]
]

t.test('a token that is not accepted refuses its request', async t => {
  for (const [name, token, answer] of wrong) {
    const { verdict, result } = await see(rules, bearer(token))
    t.equal(verdict, answer, name)
    const { reply } = result as Extract<typeof result, { kind: 'refused' }>
    t.equal(reply.details, `jwt_authn_access_denied{${answer.slice(4).replaceAll(' ', '_')}}`, name)
    t.equal(reply.flag, '-')
    const challenge = reply.headers?.get('www-authenticate')
    t.equal(challenge, 'Bearer realm="http://web.shop/", error="invalid_token"', name)
  }
})

t.test('clocks may differ by a minute', async t => {
  for (const times of [{ exp: nowS - 59 }, { nbf: nowS + 59 }, { iat: nowS + 9999 }, { exp: nowS + 0.5 }]) {
    t.equal((await see(rules, bearer(key.token({ ...claims, ...times })))).verdict, `${iss}/ann`)
  }
  const forever = key.token({ iss, sub: 'ann' })
  t.equal((await see(rules, bearer(forever))).verdict, `${iss}/ann`, 'without an end it does not expire')
})

t.test('audiences', async t => {
  const rows: readonly (readonly [allowed: readonly string[], aud: unknown, accepted: boolean])[] = [
    [[], 'anything', true],
    [['a'], undefined, false],
    [['a'], 'a', true],
    [['a'], ['b', 'a'], true],
    [['a', 'c'], ['b', 'c'], true],
    [['a'], ['b'], false],
    [['https://a.example'], 'a.example/', true],
    [['a.example/'], 'http://a.example', true],
    [['a'], 'A', false]
  ]
  for (const [audiences, aud, accepted] of rows) {
    const { verdict, result } = await see(
      rulesOf({ ...rule, audiences }),
      bearer(key.token({ ...claims, aud }))
    )
    t.equal(verdict, accepted ? `${iss}/ann` : '403 Audiences in Jwt are not allowed')
    if (result.kind === 'refused') t.equal(result.reply.headers, undefined, 'another token would not help')
  }
})

t.test('no key is used for what it was not made for', async t => {
  const rsa = signer('RS256')
  const pem = Buffer.from(JSON.stringify(rsa.jwk))
  const secret = signer('HS256', 'k1')
  const confusion = secret.token(claims)
  const asSecret = { kty: 'oct', kid: 'k1', k: pem.toString('base64url') }
  const noKey = "401 Jwks doesn't have key to match kid or alg from Jwt"
  const rows: readonly (readonly [name: string, keys: readonly object[], token: string, answer: string])[] = [
    ['a public key as a secret', [rsa.jwk], confusion, noKey],
    ['a public key for anything as a secret', [{ ...rsa.jwk, alg: undefined }], confusion, noKey],
    ['another secret', [asSecret], confusion, '401 Jwt verification fails'],
    ['a key for RS256 only', [rsa.jwk], signer('PS256').token(claims), noKey],
    ['a key for encryption', [{ ...key.jwk, use: 'enc' }], good, noKey],
    ['a key for signing only', [{ ...key.jwk, key_ops: ['sign'] }], good, noKey],
    ['another curve', [{ ...key.jwk, alg: undefined }], signer('ES384').token(claims), noKey],
    ['a key that is broken', [{ ...key.jwk, x: 'AAAA' }], good, '401 Jwt verification fails'],
    ['a broken key beside the right one', [{ ...key.jwk, x: 'AAAA' }, key.jwk], good, `${iss}/ann`],
    ['a key of an unknown kind beside it', [{ kty: 'future' }, key.jwk], good, `${iss}/ann`]
  ]
  for (const [name, keys, token, answer] of rows) {
    const set = rulesOf({ issuer: iss, jwks: JSON.stringify({ keys }) })
    t.equal((await see(set, bearer(token))).verdict, answer, name)
  }
})

t.test('preflight requests need no token, and bring none in', async t => {
  const asking = { origin: 'http://x', 'access-control-request-method': 'PUT', authorization: 'Bearer junk' }
  const seen = await see(rules, request(asking, '/', 'OPTIONS'))
  t.equal(seen.verdict, 'none')
  t.notOk(seen.headers['authorization'], 'a token that nobody verified does not go on')
  t.match((await see(rules, request(asking, '/', 'GET'))).verdict, /^401/)
  const incomplete = { origin: 'http://x', authorization: 'Bearer junk' }
  t.match((await see(rules, request(incomplete, '/', 'OPTIONS'))).verdict, /^401/)
})

t.test('several rules and several tokens', async t => {
  const iss2 = 'https://second.example'
  const second = { issuer: iss2, jwks: jwks(other) }
  const both = rulesOf(rule, second)
  const good2 = other.token({ ...claims, iss: iss2 })
  const apart = rulesOf(rule, { ...second, fromHeaders: [{ name: 'x-second' }] })
  const expired = key.token({ ...claims, exp: 1 })
  const rows = [
    ['either issuer at one place: the first', both, bearer(good), `${iss}/ann`],
    ['either issuer at one place: the second', both, bearer(good2), `${iss2}/ann`],
    ['neither', both, bearer(key.token({ ...claims, iss: 'x' })), '401 Jwt issuer is not configured'],
    ['what the rule of its issuer says is told', both, bearer(expired), '401 Jwt is expired'],
    [
      'signed by the key of the other issuer',
      both,
      bearer(other.token(claims)),
      "401 Jwks doesn't have key to match kid or alg from Jwt"
    ],
    ['none at any place', apart, request({}), 'none'],
    ['only at the second place', apart, request({ 'x-second': good2 }), `${iss2}/ann`],
    [
      'a bad one at the second place',
      apart,
      request({ 'x-second': good }),
      '401 Jwt issuer is not configured'
    ],
    [
      'two places of one rule, both good',
      rules,
      request({ authorization: `Bearer ${good}` }, `/?access_token=${key.token({ ...claims, sub: 'bob' })}`),
      `${iss}/bob`
    ],
    [
      'two places of one rule, one bad',
      rules,
      request({ authorization: `Bearer ${good}` }, '/?access_token=junk'),
      '401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections'
    ],
    [
      'a rule that is content is enough',
      apart,
      request({ authorization: `Bearer ${good}`, 'x-second': 'junk' }),
      `${iss}/ann`
    ]
  ] as const
  for (const [name, set, asked, verdict] of rows) t.equal((await see(set, asked)).verdict, verdict, name)
  const mixed = await see(apart, request({ authorization: `Bearer ${good}`, 'x-second': 'junk' }))
  t.strictSame(mixed.headers, {}, 'what was not verified does not go on')
  const repeated = bearer(good)
  repeated.headers.append('authorization', 'Bearer junk')
  t.match((await see(rules, repeated)).verdict, /^401/, 'every field of that name counts')
})

t.test('claims become headers, and only by a token', async t => {
  const telling = rulesOf({
    ...rule,
    outputPayloadToHeader: 'X-Payload',
    outputClaimToHeaders: ['sub', 'n', 'yes', 'deep.er', 'list', 'half', 'evil', 'zoe', 'toString'].map(
      claim => ({
        header: `x-${claim.replace('.', '-')}`,
        claim
      })
    )
  })
  const payload = {
    ...claims,
    n: 7,
    yes: true,
    deep: { er: 'inside' },
    list: ['a'],
    half: 0.5,
    evil: 'a\r\nx-admin: 1',
    zoe: 'Zoë'
  }
  const forged = { 'x-payload': 'mine', 'x-sub': 'root', 'x-list': 'b', 'x-evil': 'c', 'x-kept': 'd' }
  const { headers } = await see(
    telling,
    request({ ...forged, authorization: `Bearer ${key.token(payload)}` })
  )
  t.strictSame(headers, {
    'x-kept': 'd',
    'x-payload': section(payload),
    'x-sub': 'ann',
    'x-n': '7',
    'x-yes': 'true',
    'x-deep-er': 'inside',
    'x-zoe': Buffer.from('Zoë').toString('latin1')
  })
  t.strictSame(
    (await see(telling, request(forged))).headers,
    { 'x-kept': 'd' },
    'without a token there are none'
  )
})

t.test('lists in texts', async t => {
  const listed = rulesOf({ ...rule, spaceDelimitedClaims: ['groups'] })
  const payload = { ...claims, scope: 'read  write', permission: 'p', groups: 'a b', other: 'a b' }
  const { result } = await see(listed, bearer(key.token(payload)))
  const expected = { scope: ['read', 'write'], permission: ['p'], groups: ['a', 'b'], other: 'a b' }
  t.match(result, { claims: expected })
})

t.test('the realm is the address without its query, and stays between its quotes', async t => {
  const asked = { ...bearer('x'), authority: 'a"b', target: '/p"\\q?access_token=secret' }
  const result = await authenticate(rules, asked, inlineKeys, now)
  t.match(result, { kind: 'refused' })
  if (result.kind !== 'refused') return
  const challenge = result.reply.headers?.get('www-authenticate')
  t.equal(challenge, 'Bearer realm="http://a%22b/p%22%5Cq", error="invalid_token"')
})

t.test('a token that is known costs no signature, and is judged anew', async t => {
  const own = rulesOf({ ...rule, audiences: ['a'] })
  const token = key.token({ ...claims, aud: 'a' })
  const asked = { ...bearer(token), headers: HeaderList.of('authorization', `Bearer ${token}`) }
  const first = authenticate(own, asked, inlineKeys, now)
  t.ok(first instanceof Promise, 'its signature is waited for')
  await first
  t.match(authenticate(own, asked, inlineKeys, now), { kind: 'valid' }, 'at once the next time')
  const later = authenticate(own, asked, inlineKeys, now + 3_700_000)
  t.match(later, { kind: 'refused', reply: { body: 'Jwt is expired' } }, 'its end is looked at each time')
  t.ok(authenticate(own, asked, inlineKeys, now) instanceof Promise, 'and then it is forgotten')
  const changed = `${token.slice(0, -2)}${token.endsWith('AA') ? 'BB' : 'AA'}`
  t.equal((await see(own, bearer(changed))).verdict, '401 Jwt verification fails')
})
