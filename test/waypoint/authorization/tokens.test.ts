/** What policies say of tokens: AZ-27 to AZ-31. */
import t from 'tap'
import type { Claims } from '../../../waypoint/jwt/claims.ts'
import { matches, request } from './support.ts'

const issuer = 'https://issuer.example/realm'

const principals: readonly (readonly [value: string, iss: unknown, sub: unknown, matched: boolean])[] = [
  ['*', issuer, 'ann', true],
  ['*', issuer, '', false],
  ['*', '', 'ann', false],
  ['*', issuer, undefined, false],
  [`${issuer}/ann`, issuer, 'ann', true],
  [`${issuer}/ann`, issuer, 'anna', false],
  [`${issuer}/ann`, 'https://issuer.example', 'realm/ann', false],
  ['*/ann', issuer, 'ann', true],
  ['*/ann', issuer, 'joanna', false],
  ['*/*', issuer, 'ann', false],
  ['*/*', issuer, '*', true],
  ['*realm/ann', issuer, 'ann', true],
  ['*other/ann', issuer, 'ann', false],
  ['*nn', issuer, 'ann', true],
  ['*nn', '', 'ann', false],
  [`${issuer}/*`, issuer, 'ann', true],
  [`${issuer}/*`, issuer, '', false],
  [`${issuer}/*`, `${issuer}/x`, 'ann', false],
  [`${issuer}/an*`, issuer, 'ann', true],
  [`${issuer}/an*`, issuer, 'bob', false],
  ['issuer-*', 'issuer-1', 'ann', true],
  ['issuer-*', 'issuer-1', '', false],
  ['issuer-*', 'my-issuer-1', 'ann', false],
  ['issuer', 'issuer', 'ann', false],
  ['issuer', 'issuer', '', true],
  [`${issuer}/7`, issuer, 7, false]
]

t.test('AZ-27, AZ-28: issuer and subject are parted at the last slash', async t => {
  for (const [value, iss, sub, matched] of principals) {
    const facts = request({ claims: { iss, sub } })
    const rules = [
      { from: [{ source: { requestPrincipals: [value] } }] },
      { when: [{ key: 'request.auth.principal', values: [value] }] }
    ]
    for (const rule of rules) {
      t.equal(matches(rule, facts), matched, `${value} on ${String(iss)} and ${String(sub)}`)
    }
    const not = { from: [{ source: { notRequestPrincipals: [value] } }] }
    t.equal(matches(not, facts), !matched, `not ${value}`)
  }
})

const claims: readonly (readonly [key: string, value: string, claims: Claims, matched: boolean])[] = [
  ['request.auth.audiences', 'web', { aud: 'web' }, true],
  ['request.auth.audiences', 'web', { aud: ['shop', 'web'] }, true],
  ['request.auth.audiences', 'w*', { aud: ['shop', 'web'] }, true],
  ['request.auth.audiences', 'web', { aud: ['shop'] }, false],
  ['request.auth.audiences', 'web', {}, false],
  ['request.auth.presenter', 'app', { azp: 'app' }, true],
  ['request.auth.presenter', 'app', { aud: 'app' }, false],
  ['request.auth.claims[role]', 'admin', { role: 'admin' }, true],
  ['request.auth.claims[role]', 'Admin', { role: 'admin' }, false],
  ['request.auth.claims[role]', '*', { role: 'x' }, true],
  ['request.auth.claims[role]', '*', { role: '' }, false],
  ['request.auth.claims[role]', 'a*', { role: ['user', 'admin'] }, true],
  ['request.auth.claims[role]', '1', { role: 1 }, false],
  ['request.auth.claims[role]', 'true', { role: true }, false],
  ['request.auth.claims[role]', '*', { role: [1, null, {}] }, false],
  ['request.auth.claims[role]', '*', { role: { admin: 'x' } }, false],
  ['request.auth.claims[a][b]', 'x', { a: { b: 'x' } }, true],
  ['request.auth.claims[a][b]', 'x', { a: { b: ['y', 'x'] } }, true],
  ['request.auth.claims[a][b]', 'x', { a: 'x' }, false],
  ['request.auth.claims[a][b]', 'x', { a: null }, false],
  ['request.auth.claims[a][0]', 'x', { a: ['x'] }, false],
  ['request.auth.claims[a.b]', 'x', { 'a.b': 'x' }, true],
  ['request.auth.claims[a.b]', 'x', { a: { b: 'x' } }, false],
  ['request.auth.claims[https://x.example/[y]', 'x', { 'https://x.example/[y': 'x' }, true],
  ['request.auth.claims[constructor][name]', '*', {}, false],
  ['request.auth.claims[__proto__][x]', '*', {}, false]
]

t.test('AZ-29, AZ-30: claims are texts or lists of them', async t => {
  for (const [key, value, payload, matched] of claims) {
    const name = `${key} ${value} on ${JSON.stringify(payload)}`
    t.equal(matches({ when: [{ key, values: [value] }] }, request({ claims: payload })), matched, name)
    t.equal(matches({ when: [{ key, notValues: [value] }] }, request({ claims: payload })), !matched, name)
  }
})

t.test('AZ-22: without a token nothing of it is there', async t => {
  const keys = ['principal', 'audiences', 'presenter', 'claims[role]'].map(name => `request.auth.${name}`)
  for (const key of keys) {
    t.notOk(matches({ when: [{ key, values: ['*'] }] }, request()), key)
    t.ok(matches({ when: [{ key, notValues: ['*'] }] }, request()), `not ${key}`)
  }
})
