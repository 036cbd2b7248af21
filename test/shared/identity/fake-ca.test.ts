import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { FakeCa } from '../../../shared/identity/fake-ca.ts'
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { openssl } from '../../support/openssl.ts'

const web = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web') as SpiffeId
const signal = new AbortController().signal

t.test('two processes trust each other: leaves of one verify with the root of the other', async t => {
  const [one, two] = await Promise.all([new FakeCa().fetch(web, signal), new FakeCa().fetch(web, signal)])
  t.not(one.rootsPem[0], two.rootsPem[0], 'the roots were signed apart')
  const files = { 'leaf.pem': one.chainPem.join(''), 'root.pem': two.rootsPem.join('') }
  const { ok, output } = openssl(['verify', '-x509_strict', '-CAfile', 'root.pem', 'leaf.pem'], files)
  t.ok(ok, output)
  t.equal(new X509Certificate(one.chainPem[0] ?? '').subjectAltName, `URI:${web}`)
})

t.test('the asked lifetime is given', async t => {
  const { notBefore, notAfter } = await new FakeCa({ ttlSeconds: 300 }).fetch(web, signal)
  t.equal(notAfter - notBefore, 420_000, 'five minutes, and two for slow clocks')
})
