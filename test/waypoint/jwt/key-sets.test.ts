/** Keys from a real server: rotation, failures, slowness, and what is not fetched at all. */
import t from 'tap'
import { Logger } from '../../../shared/telemetry/logger.ts'
import type { JwtRule } from '../../../waypoint/jwt/jwt-rule.ts'
import { KeySets, type KeySetsOptions } from '../../../waypoint/jwt/key-sets.ts'
import { eventually } from '../../support/eventually.ts'
import { jwks, signer } from './issuer.ts'
import { keyServer, loopbackCertificate, status, text, type KeyServer } from './key-server.ts'
import { bearer, nowS, rulesOf, see } from './world.ts'

const key = signer('ES256', 'old')
const next = signer('ES256', 'new')
const issuer = 'https://issuer.example'
const claims = { iss: issuer, sub: 'ann', exp: nowS + 3600 }
const accepted = `${issuer}/ann`
const failed = '401 Jwks remote fetch is failed'
const noKey = "401 Jwks doesn't have key to match kid or alg from Jwt"
/** For waits that a test is not about. */
const never = 3_600_000

interface World {
  readonly server: KeyServer
  readonly sets: KeySets
  readonly rules: readonly JwtRule[]
  readonly warnings: readonly string[]
  /** What becomes of a request with this token. */
  readonly verdict: (token: string) => Promise<string>
}

interface Teardown {
  teardown(end: () => void): void
}

async function world(
  t: Teardown,
  answer: Parameters<typeof keyServer>[0],
  { timeout = '5s', ...options }: Partial<KeySetsOptions> & { readonly timeout?: string } = {}
): Promise<World> {
  const server = await keyServer(answer)
  t.teardown(() => server.close())
  const rules = rulesOf({ issuer, jwksUri: `${server.origin}/keys`, timeout })
  return { server, rules, ...keySets(t, rules, { blocked: [], ...options }) }
}

function keySets(
  t: Teardown,
  rules: readonly JwtRule[],
  options: Partial<KeySetsOptions> = {}
): Pick<World, 'sets' | 'warnings' | 'verdict'> {
  const ending = new AbortController()
  t.teardown(() => ending.abort())
  const warnings: string[] = []
  const log = new Logger('jwt', 'warn', (_level, _target, message, fields) =>
    warnings.push(`${message} ${JSON.stringify(fields)}`)
  )
  const retryMs = { initialMs: never, maxMs: never }
  const sets = new KeySets({ log, signal: ending.signal, retryMs, ...options })
  const verdict: World['verdict'] = async token => (await see(rules, bearer(token), sets)).verdict
  return { sets, warnings, verdict }
}

t.test('keys are fetched once, for all who wait', async t => {
  const { server, verdict } = await world(t, text(jwks(key)))
  const verdicts = await Promise.all(Array.from({ length: 20 }, () => verdict(key.token(claims))))
  t.strictSame([...new Set(verdicts)], [accepted])
  t.equal(await verdict(key.token(claims)), accepted)
  t.strictSame(server.asked, ['/keys'])
})

t.test('keys are there before the first request, and go with the last rule', async t => {
  const { server, sets, rules, verdict } = await world(t, text(jwks(key)))
  sets.keepOnly(rules)
  await eventually('the keys are asked for', () => server.asked.length === 1, { everyMs: 5 })
  t.equal(await verdict(key.token(claims)), accepted)
  sets.keepOnly(rules)
  t.equal(server.asked.length, 1)
  sets.keepOnly([])
  t.equal(await verdict(key.token(claims)), accepted)
  t.equal(server.asked.length, 2)
})

t.test('the OpenID configuration leads to the keys', async t => {
  const server = await keyServer((request, response) => {
    const configuration = JSON.stringify({ issuer: server.origin, jwks_uri: `${server.origin}/certs` })
    response.end(request.url === '/certs' ? jwks(key) : configuration)
  })
  t.teardown(() => server.close())
  const { verdict } = keySets(t, rulesOf({ issuer: `${server.origin}/` }), { blocked: [] })
  t.equal(await verdict(key.token({ ...claims, iss: `${server.origin}/` })), `${server.origin}//ann`)
  t.strictSame(server.asked, ['/.well-known/openid-configuration', '/certs'])
})

t.test('a key that is not known is asked for, once in a while', async t => {
  const { server, verdict } = await world(t, text(jwks(key)), { demandMs: 0 })
  t.equal(await verdict(key.token(claims)), accepted)
  server.answer = text(jwks(next))
  t.equal(await verdict(next.token(claims)), accepted, 'the server has changed its keys')
  t.equal(server.asked.length, 2)
  t.equal(await verdict(key.token(claims)), noKey, 'a token that was remembered goes with its key')

  const patient = await world(t, text(jwks(key)))
  t.equal(await patient.verdict(key.token(claims)), accepted)
  for (let n = 0; n < 5; n += 1) t.equal(await patient.verdict(next.token(claims)), noKey)
  t.equal(patient.server.asked.length, 1, 'whoever makes up key ids asks nobody')
})

t.test('keys are refreshed without anybody asking', async t => {
  const { server, verdict } = await world(t, text(jwks(key)), { refreshMs: 10 })
  t.equal(await verdict(key.token(claims)), accepted)
  server.answer = text(jwks(next))
  await eventually('the new key is there', async () => (await verdict(next.token(claims))) === accepted, {
    everyMs: 5
  })
})

t.test('the last good keys stay when the server fails', async t => {
  const { server, warnings, verdict } = await world(t, text(jwks(key)), {
    refreshMs: 5,
    retryMs: { initialMs: 5, maxMs: 20 }
  })
  t.equal(await verdict(key.token(claims)), accepted)
  server.answer = status(500)
  await eventually('a fetch has failed twice', () => warnings.length >= 2, { everyMs: 5 })
  t.equal(await verdict(key.token(claims)), accepted)
  t.match(warnings[0], /could not be fetched .*\/keys.*answered 500.*the last ones/)
  server.answer = text(jwks(next))
  await eventually('it is asked again', async () => (await verdict(next.token(claims))) === accepted, {
    everyMs: 5
  })
})

t.test('without keys every token is refused, until they come', async t => {
  const { server, warnings, verdict } = await world(t, status(503), { retryMs: { initialMs: 20, maxMs: 20 } })
  t.equal(await verdict(key.token(claims)), failed)
  t.match(warnings[0], /answered 503.*"kept":"none"/)
  server.answer = text(jwks(key))
  await eventually('the keys have come', async () => (await verdict(key.token(claims))) === accepted, {
    everyMs: 5
  })
})

t.test('an answer that is no set of keys is a failure, whatever it is', async t => {
  const big = Buffer.alloc(1024 * 1024 + 1, 0x20)
  const rows: readonly (readonly [name: string, Parameters<typeof keyServer>[0], RegExp])[] = [
    ['nothing', text(''), /JSON/],
    ['a page', text('<html>'), /JSON/],
    ['a list', text('[]'), /expected a JSON object/],
    ['no keys', text('{"keys":[]}'), /there is no key/],
    ['not found', status(404), /answered 404/],
    ['no content', status(204), /answered 204/],
    ['a redirect to nowhere', status(302), /answered 302/],
    ['a redirect to itself', status(302, { location: '/keys' }), /more than 3 redirects/],
    ['a redirect to another scheme', status(302, { location: 'https://x.example/' }), /another scheme/],
    ['a redirect to a file', status(302, { location: 'file:///etc/passwd' }), /another scheme/],
    ['a redirect to no address', status(302, { location: 'http://' }), /Invalid URL/],
    ['a closed connection', (_, response) => response.destroy(), /hang up/],
    ['half an answer', (_, response) => void response.writeHead(200, { 'content-length': 9 }).end('x'), /./],
    ['too long a one', (_, response) => response.end(big), /longer than 1048576 bytes/]
  ]
  for (const [name, answer, reason] of rows) {
    const { warnings, verdict } = await world(t, answer)
    t.equal(await verdict(key.token(claims)), failed, name)
    t.equal(warnings.length, 1, name)
    t.match(warnings[0], reason, name)
    t.match(warnings[0], /http:\/\/127\.0\.0\.1:\d+\/keys/, name)
  }
})

t.test('a redirect within its scheme is followed', async t => {
  const { server, verdict } = await world(t, (request, response) => {
    if (request.url === '/there') response.end(jwks(key))
    else response.writeHead(307, { location: '/there' }).end()
  })
  t.equal(await verdict(key.token(claims)), accepted)
  t.strictSame(server.asked, ['/keys', '/there'])
})

t.test('a server that is slow is waited for no longer than its time', async t => {
  const silent = await world(t, () => undefined, { timeout: '50ms' })
  t.equal(await silent.verdict(key.token(claims)), failed)
  t.match(silent.warnings[0], /no answer in 50 ms/)
  const dripping = await world(t, (_, response) => void response.write('{'), { timeout: '50ms' })
  t.equal(await dripping.verdict(key.token(claims)), failed, 'nor one that never comes to its end')
  t.match(dripping.warnings[0], /no answer in 50 ms/)
})

t.test('secrets are not taken from a server', async t => {
  const secret = signer('HS256')
  const { verdict } = await world(t, text(jwks(secret)))
  t.equal(await verdict(secret.token(claims)), noKey)
  const rules = rulesOf({ issuer, jwks: jwks(secret) })
  t.equal((await see(rules, bearer(secret.token(claims)))).verdict, accepted, 'but from the policy')
})

t.test('this host and link-local addresses are not asked', async t => {
  const server = await keyServer(text(jwks(key)))
  t.teardown(() => server.close())
  const { port } = new URL(server.origin)
  const hosts = ['127.0.0.1', '127.1', '0x7f000001', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', 'localhost']
  const near = ['169.254.169.254', '[fe80::1]', '2852039166']
  for (const host of [...hosts, ...near]) {
    const rules = rulesOf({ issuer, jwksUri: `http://${host}:${port}/keys` })
    const { warnings, verdict } = keySets(t, rules)
    t.equal(await verdict(key.token(claims)), failed, host)
    t.match(warnings[0], /is not an address that keys may be fetched from/, host)
  }
  t.strictSame(server.asked, [])
})

t.test('a server is found by its name', async t => {
  const server = await keyServer(text(jwks(key)))
  t.teardown(() => server.close())
  const rules = rulesOf({ issuer, jwksUri: `http://localhost:${new URL(server.origin).port}/keys` })
  t.equal(await keySets(t, rules, { blocked: [] }).verdict(key.token(claims)), accepted)
  const unknown = keySets(t, rulesOf({ issuer, jwksUri: 'http://keys.invalid/' }), { blocked: [] })
  t.equal(await unknown.verdict(key.token(claims)), failed)
  t.match(unknown.warnings[0], /keys\.invalid/)
})

t.test('by HTTPS the server has to be who it is', async t => {
  const certificate = loopbackCertificate()
  const server = await keyServer(text(jwks(key)), certificate)
  t.teardown(() => server.close())
  const rules = rulesOf({ issuer, jwksUri: `${server.origin}/keys` })
  const stranger = keySets(t, rules, { blocked: [] })
  t.equal(await stranger.verdict(key.token(claims)), failed)
  t.match(stranger.warnings[0], /self-signed certificate/)
  const known = keySets(t, rules, { blocked: [], roots: [certificate.cert] })
  t.equal(await known.verdict(key.token(claims)), accepted)
})

t.test('the end leaves nothing behind', async t => {
  const server = await keyServer(() => undefined)
  t.teardown(() => server.close())
  const ending = new AbortController()
  const sets = new KeySets({
    log: new Logger('jwt', 'warn', () => t.fail('an end is no failure')),
    signal: ending.signal,
    blocked: []
  })
  const rules = rulesOf({ issuer, jwksUri: `${server.origin}/keys` })
  const waiting = see(rules, bearer(key.token(claims)), sets)
  await eventually('the fetch is under way', () => server.asked.length === 1, { everyMs: 5 })
  ending.abort()
  t.equal((await waiting).verdict, failed)
})
