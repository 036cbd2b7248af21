import t from 'tap'
import type { WorkloadCertificate } from '../../shared/identity/certificate.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { CertificateCache } from '../../ztunnel/certificate-cache.ts'

const identity = spiffeId({ trustDomain: 'td', namespace: 'ns', serviceAccount: 'a' })
const certificate = (serial: string, notAfter = 1000): WorkloadCertificate => ({
  identity,
  serial,
  notAfter,
  notBefore: 0,
  chainPem: [],
  rootsPem: [],
  keyPem: ''
})
const never = new AbortController().signal

t.test('one question for all who wait, none while the answer holds', async t => {
  const { cache, asked } = world()
  const both = [cache.get(identity, never), cache.get(identity, never)]
  t.strictSame(asked, [{ id: 1, identity }])
  cache.answered(1, certificate('1'))
  t.strictSame(
    (await Promise.all(both)).map(({ serial }) => serial),
    ['1', '1']
  )
  await cache.get(identity, never)
  t.equal(asked.length, 1)
})

t.test('an expired certificate is asked for again', async t => {
  const { cache, asked, at } = world()
  cache.answered(0, certificate('1'))
  at.now = 1000
  const next = cache.get(identity, never)
  t.equal(asked.length, 1)
  cache.answered(1, certificate('2', 2000))
  t.equal((await next).serial, '2')
})

t.test('a failure is told, and the next connection asks again', async t => {
  const { cache, asked } = world()
  const first = cache.get(identity, never)
  cache.failed(1, 'the CA said no')
  await t.rejects(first, { message: 'the CA said no' })
  const second = cache.get(identity, never)
  t.equal(asked.length, 2)
  cache.answered(2, certificate('1'))
  t.equal((await second).serial, '1')
})

t.test('a renewal replaces what is held, and only that', async t => {
  const { cache, asked } = world()
  cache.renewed(certificate('0'))
  const first = cache.get(identity, never)
  t.equal(asked.length, 1, 'a renewal of what was never asked for is not kept')
  cache.answered(1, certificate('1'))
  await first
  cache.renewed(certificate('2'))
  t.equal((await cache.get(identity, never)).serial, '2')
  cache.forget(identity)
  void cache.get(identity, never).catch(() => undefined)
  t.equal(asked.length, 2)
})

t.test('who gives up gets the reason; the answer still serves the others', async t => {
  const { cache } = world()
  const gone = new AbortController()
  const impatient = cache.get(identity, gone.signal)
  const patient = cache.get(identity, never)
  gone.abort(new Error('gone'))
  await t.rejects(impatient, { message: 'gone' })
  cache.answered(1, certificate('1'))
  t.equal((await patient).serial, '1')
})

function world(): {
  cache: CertificateCache
  asked: { id: number; identity: string }[]
  at: { now: number }
} {
  const at = { now: 0 }
  const asked: { id: number; identity: string }[] = []
  const cache = new CertificateCache(
    (id, identity) => asked.push({ id, identity }),
    () => at.now
  )
  return { cache, asked, at }
}
