/** What is read of a RequestAuthentication, and what is refused as a whole, with the field that is wrong. */
import t from 'tap'
import type { JwtPolicy } from '../../../waypoint/jwt/jwt-rule.ts'
import { readRequestAuthentication } from '../../../waypoint/jwt/read-request-authentication.ts'
import { jwks, signer } from './issuer.ts'

const web = { kind: 'Service', group: '', name: 'web' }

function read(spec: Readonly<Record<string, unknown>>): JwtPolicy {
  return readRequestAuthentication({ namespace: 'shop', name: 'tokens', createdMs: 5, spec }, 'istio-system')
}

function withRule(rule: object): JwtPolicy {
  return read({ targetRefs: [web], jwtRules: [{ issuer: 'https://i.example/', ...rule }] })
}

t.test('what is the default', async t => {
  const [rule] = withRule({}).rules
  t.match(rule, {
    policy: 'shop/tokens',
    issuer: 'https://i.example/',
    audiences: [],
    keys: {
      kind: 'remote',
      url: 'https://i.example/.well-known/openid-configuration',
      discover: true,
      timeoutMs: 5000
    },
    places: {
      headers: [{ name: 'authorization', prefix: 'Bearer ' }],
      params: ['access_token'],
      cookies: []
    },
    forward: false,
    payloadHeader: undefined,
    claimHeaders: [],
    spaceDelimitedClaims: ['scope', 'permission']
  })
})

t.test('where keys come from', async t => {
  t.match(withRule({ jwksUri: 'http://keys/x', timeout: '1s' }).rules[0]?.keys, {
    kind: 'remote',
    url: 'http://keys/x',
    discover: false,
    timeoutMs: 1000
  })
  t.match(withRule({ jwks_uri: 'http://keys/x' }).rules[0]?.keys, { url: 'http://keys/x' })
  t.match(withRule({ jwks: jwks(signer('EdDSA')), issuer: 'me' }).rules[0]?.keys, { kind: 'inline' })
})

t.test('one place of its own is instead of the usual ones', async t => {
  for (const places of [{ fromHeaders: [{ name: 'X' }] }, { fromParams: ['t'] }, { fromCookies: ['c'] }]) {
    const rule = withRule(places).rules[0]
    t.notOk(rule?.places.headers.some(({ name }) => name === 'authorization'))
    t.notOk(rule?.places.params.includes('access_token'))
  }
})

t.test('targets, without those that no waypoint serves', async t => {
  const { targets } = read({
    targetRef: { kind: 'Gateway', group: 'gateway.networking.k8s.io', name: 'wp' },
    targetRefs: [
      web,
      { ...web, namespace: 'shop', name: 'here' },
      { ...web, namespace: 'other', name: 'there' },
      { kind: 'Pod', name: 'p' },
      { kind: 'GatewayClass', namespace: 'anywhere', name: 'class' }
    ]
  })
  t.strictSame(
    targets,
    [
      ['Gateway', 'wp'],
      ['Service', 'web'],
      ['Service', 'here']
    ].map(([kind, name]) => ({ kind, namespace: 'shop', name }))
  )
})

const wrong: readonly (readonly [name: string, rule: object, complaint: RegExp])[] = [
  ['a field that we do not know', { fromBody: [] }, /jwtRules\[0\]\.fromBody: unknown field/],
  ['no issuer', { issuer: '' }, /issuer: must not be empty/],
  ['an issuer that is no address', { issuer: 'me' }, /jwksUri: is required where the issuer is no address/],
  [
    'two places for keys',
    { jwks: jwks(signer('EdDSA')), jwksUri: 'http://x' },
    /jwks: is given together with jwksUri/
  ],
  [
    'an address of another kind',
    { jwksUri: 'file:///etc/passwd' },
    /jwksUri: .* is no http or https address/
  ],
  ['an address that is none', { jwksUri: 'http://' }, /jwksUri: .* is no http or https address/],
  ['keys that are no JSON', { jwks: '{' }, /jwks: is no set of keys/],
  ['keys that are a list', { jwks: '[]' }, /jwks: is no set of keys: expected a JSON object/],
  ['keys that are none', { jwks: '{"keys":[]}' }, /jwks: is no set of keys: there is no key/],
  ['keys without a kind', { jwks: '{"keys":[{}, 7, null]}' }, /jwks: is no set of keys: there is no key/],
  ['a time that is none', { timeout: 'soon' }, /timeout: expected a duration up to 60s, found "soon"/],
  ['no time', { timeout: '0s' }, /timeout: expected a duration/],
  ['too long a time', { timeout: '10m' }, /timeout: expected a duration/],
  ['a header name', { fromHeaders: [{ name: 'a b' }] }, /fromHeaders\[0\]\.name: "a b" is no header name/],
  [
    'a header for claims',
    { outputClaimToHeaders: [{ header: 'x\n', claim: 'a' }] },
    /outputClaimToHeaders\[0\]\.header/
  ],
  [
    'a header that frames',
    { outputPayloadToHeader: 'Content-Length' },
    /outputPayloadToHeader: content-length is not for/
  ],
  ['the authority', { outputClaimToHeaders: [{ header: 'Host', claim: 'a' }] }, /header: host is not for/],
  ['a pseudo header', { outputPayloadToHeader: ':path' }, /is no header name/],
  [
    'a claim without a name',
    { outputClaimToHeaders: [{ header: 'x', claim: 'a..b' }] },
    /claim: expected names/
  ],
  ['an empty parameter', { fromParams: [''] }, /fromParams\[0\]: expected a text that is not empty/],
  ['an audience that is no text', { audiences: [1] }, /audiences\[0\]: expected a text/],
  [
    'too many lists',
    { spaceDelimitedClaims: Array.from({ length: 65 }, (_, n) => `c${n}`) },
    /more than 64 names/
  ],
  ['a flag that is none', { forwardOriginalToken: 'yes' }, /forwardOriginalToken: expected true or false/]
]

t.test('what is wrong is named', async t => {
  for (const [name, rule, complaint] of wrong) t.throws(() => withRule(rule), { message: complaint }, name)
  t.throws(() => read({ jwtRules: [] }), { message: /spec\.targetRefs: is required/ })
  t.throws(() => read({ selector: { matchLabels: {} } }), { message: /spec\.selector: is for sidecars/ })
  t.throws(() => read({ targetRefs: [web], jwtRules: 'all' }), { message: /spec\.jwtRules: expected a list/ })
  const several = (): unknown => withRule({ timeout: 'x', issuer: '' })
  t.throws(several, { message: /issuer: must not be empty;.*timeout: expected/ }, 'all problems together')
})
