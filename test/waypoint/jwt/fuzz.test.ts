/** Whatever stands where a token is expected: it never ends anything but its own request, and only what was signed passes. */
import t from 'tap'
import { defaultPlaces, findTokens } from '../../../waypoint/jwt/token-places.ts'
import { jwks, section, signer } from './issuer.ts'
import { nowS, request, rulesOf, see } from './world.ts'

const seed = Number(process.env['UNDERPASS_SEED'] ?? Date.now() % 1_000_000)
const timeMs = 1500

/** A small generator (mulberry32), so that a failure can be had again. */
function generator(from: number): (below: number) => number {
  let state = from
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const key = signer('ES256')
const iss = 'https://issuer.example'
const claims = { iss, sub: 'ann', exp: nowS + 3600, aud: ['a'] }
const good = key.token(claims)
const places = { fromHeaders: [{ name: 'x-jwt' }], fromParams: ['t'], fromCookies: ['c'] }
const rules = rulesOf(
  { issuer: iss, audiences: ['a'], jwks: jwks(key), ...places },
  { issuer: 'https://second.example', jwks: jwks(signer('HS256')), ...places }
)

const values = [null, true, -1, 0.5, '', 'x', iss, [], [1], ['a'], {}, { alg: 'none' }, '\u0000', 9e15]
const names = [
  'alg',
  'kid',
  'crit',
  'typ',
  'b64',
  'iss',
  'sub',
  'aud',
  'exp',
  'nbf',
  '__proto__',
  'constructor'
]

t.test(`tokens that were made up (UNDERPASS_SEED=${seed})`, async t => {
  const below = generator(seed)
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T
  const object = (start: object): Record<string, unknown> =>
    Object.assign(
      { ...start },
      ...Array.from({ length: below(3) }, () =>
        JSON.parse(`{"${pick(names)}":${JSON.stringify(pick(values))}}`)
      )
    )
  const signed = new Map<string, object>([[good.replace(/[^.]*$/, ''), claims]])
  const made: readonly (() => string)[] = [
    () => {
      const at = below(good.length)
      return good.slice(0, at) + String.fromCharCode(below(256)) + good.slice(at + below(3))
    },
    () => good.slice(below(good.length), below(good.length)),
    () =>
      `${section(object({ alg: pick(['ES256', 'HS256', 'none']) }))}.${section(object(claims))}.${pick(['', 'AA', good.slice(-86)])}`,
    () => {
      const [header, payload] = [object({}), object(claims)]
      const token = key.token(payload, header)
      signed.set(token.replace(/[^.]*$/, ''), payload)
      return token
    },
    () =>
      Array.from({ length: below(6) }, () => pick(['.', good, 'e30', '=', 'ÿ', '{}', ' '])).join(
        pick(['', '.', ','])
      )
  ]
  const end = performance.now() + timeMs
  let [tries, passed] = [0, 0]
  for (; performance.now() < end; tries += 1) {
    const token = pick(made)()
    const asked = pick([
      () => request({ 'x-jwt': token }),
      () => request({ cookie: `a=1; c=${token}` }),
      () => request({}, `/p?t=${pick([token, encodeURIComponent(token)])}&x`)
    ])()
    const { verdict, result } = await see(rules, asked)
    if (!/^(?:none$|40[13] (?:Jw|Audiences)|https:\/\/issuer\.example\/)/.test(verdict)) {
      throw new Error(`${verdict} for ${JSON.stringify(token)}`)
    }
    if (result.kind !== 'valid') continue
    passed += 1
    // Read once more, by what was signed and nothing else.
    for (const text of findTokens(rules[0]?.places ?? defaultPlaces, asked)) {
      const payload = signed.get(text.replace(/[^.]*$/, ''))
      if (payload === undefined || !isForUs(payload)) throw new Error(`passed: ${JSON.stringify(token)}`)
    }
  }
  t.comment(`${tries} tokens, ${passed} of them good`)
  t.ok(passed > 0 && passed < tries, 'some pass, most do not')
})

function isForUs(payload: Partial<Record<keyof typeof claims | 'nbf', unknown>>): boolean {
  const { iss: from, aud, exp = Infinity, nbf = 0 } = payload
  const inTime = Number(exp) >= nowS - 60 && Number(nbf) <= nowS + 60
  return from === iss && [aud].flat().includes('a') && inTime
}
