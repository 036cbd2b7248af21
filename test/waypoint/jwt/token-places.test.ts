/** Where tokens are found, and what is left of a request when they are taken out. */
import t from 'tap'
import { jwks, signer } from './issuer.ts'
import { nowS, request, rulesOf, see } from './world.ts'

const key = signer('ES256')
const claims = { iss: 'https://issuer.example', sub: 'ann', exp: nowS + 3600 }
const token = key.token(claims)
const rule = { issuer: claims.iss, jwks: jwks(key) }

interface Row {
  readonly name: string
  readonly places?: object
  readonly headers?: Readonly<Record<string, string>>
  readonly target?: string
  /** What the service gets. */
  readonly left: { readonly headers?: Readonly<Record<string, string>>; readonly target?: string }
}

const found: readonly Row[] = [
  { name: 'the usual header', headers: { authorization: `Bearer ${token}` }, left: {} },
  {
    name: 'the usual parameter',
    target: `/a%2Fb?x=%20&access_token=${token}&y`,
    left: { target: '/a%2Fb?x=%20&y' }
  },
  { name: 'the only parameter', target: `/p?access_token=${token}`, left: { target: '/p' } },
  { name: 'a parameter with an encoded name', target: `/?access%5Ftoken=${token}`, left: { target: '/' } },
  {
    name: 'a parameter beside one that cannot be decoded',
    target: `/?%zz=1&access_token=${token}`,
    left: { target: '/?%zz=1' }
  },
  {
    name: 'a parameter that is there twice',
    target: `/?access_token=${token}&access_token=${token}`,
    left: { target: '/' }
  },
  {
    name: 'a header of its own',
    places: { fromHeaders: [{ name: 'X-Jwt' }] },
    headers: { 'x-jwt': token, authorization: 'Bearer other' },
    left: { headers: { authorization: 'Bearer other' } }
  },
  {
    name: 'a prefix without a space',
    places: { fromHeaders: [{ name: 'x-jwt', prefix: 'JWT=' }] },
    headers: { 'x-jwt': `JWT=${token}` },
    left: {}
  },
  {
    name: 'a cookie among others',
    places: { fromCookies: ['session'] },
    headers: { cookie: `a=1; session=${token}; b="2"` },
    left: { headers: { cookie: 'a=1; b="2"' } }
  },
  {
    name: 'the first cookie',
    places: { fromCookies: ['session'] },
    headers: { cookie: `session="${token}"; b=2` },
    left: { headers: { cookie: 'b=2' } }
  },
  {
    name: 'the only cookie',
    places: { fromCookies: ['session'] },
    headers: { cookie: `session=${token}` },
    left: {}
  },
  {
    name: 'a parameter of its own',
    places: { fromParams: ['t'] },
    target: `/?t=${token}`,
    left: { target: '/' }
  },
  {
    name: 'all places of a rule',
    places: { fromHeaders: [{ name: 'x-a' }], fromParams: ['t'], fromCookies: ['c'] },
    headers: { 'x-a': token, cookie: `c=${token}` },
    target: `/?t=${token}`,
    left: {}
  }
]

t.test('a token is found at its place, and taken out', async t => {
  for (const { name, places, headers = {}, target = '/', left } of found) {
    const seen = await see(rulesOf({ ...rule, ...places }), request(headers, target))
    t.equal(seen.verdict, `${claims.iss}/ann`, name)
    t.strictSame(seen.headers, left.headers ?? {}, name)
    t.equal(seen.target, left.target ?? '/', name)
  }
})

t.test('a token that is to go on stays as it was', async t => {
  for (const { name, places, headers = {}, target = '/' } of found) {
    const seen = await see(
      rulesOf({ ...rule, ...places, forwardOriginalToken: true }),
      request(headers, target)
    )
    t.strictSame({ headers: seen.headers, target: seen.target }, { headers, target }, name)
  }
})

t.test('what is no token at a place is nobody else’s business', async t => {
  const rows: readonly (readonly [
    places: object,
    headers: Readonly<Record<string, string>>,
    target: string
  ])[] = [
    [{}, { authorization: 'Basic YTpi' }, '/?access_tokens=x'],
    [{ fromHeaders: [{ name: 'x-jwt', prefix: 'JWT ' }] }, { 'x-jwt': `jwt ${token}` }, '/'],
    [{ fromHeaders: [{ name: 'x-jwt' }] }, { authorization: `Bearer ${token}` }, `/?access_token=${token}`],
    [{ fromCookies: ['session'] }, { cookie: `Session=${token}; session` }, '/'],
    [{ fromParams: ['t'] }, {}, `/t=${token}`]
  ]
  for (const [places, headers, target] of rows) {
    const seen = await see(rulesOf({ ...rule, ...places }), request(headers, target))
    t.strictSame(
      [seen.verdict, seen.headers, seen.target],
      ['none', headers, target],
      JSON.stringify({ places, headers })
    )
  }
})

t.test('other fields of a name stay where a token is taken out', async t => {
  const asked = request({ authorization: 'Basic YTpi' })
  asked.headers.append('authorization', `Bearer ${token}`)
  const seen = await see(rulesOf(rule), asked)
  t.strictSame([seen.verdict, seen.headers], [`${claims.iss}/ann`, { authorization: 'Basic YTpi' }])
  const crumbs = request({ cookie: 'a=1' })
  crumbs.headers.append('cookie', `session=${token}`)
  const left = await see(rulesOf({ ...rule, fromCookies: ['session'] }), crumbs)
  t.strictSame(
    [left.verdict, left.headers],
    [`${claims.iss}/ann`, { cookie: 'a=1' }],
    'cookies in several fields'
  )
})
