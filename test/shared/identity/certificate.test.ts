import t from 'tap'
import {
  CertificateError,
  readCertificate,
  splitPem,
  uriNames,
  workloadCertificate
} from '../../../shared/identity/certificate.ts'
import { FakeCa } from '../../../shared/identity/fake-ca.ts'
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { openssl } from '../../support/openssl.ts'

const web = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web') as SpiffeId
const signal = new AbortController().signal

t.test('what a certificate says is what openssl says', async t => {
  const { chainPem, serial, notAfter } = await new FakeCa().fetch(web, signal)
  const { output } = openssl(['x509', '-in', 'c.pem', '-noout', '-serial', '-enddate'], {
    'c.pem': chainPem[0] ?? ''
  })
  t.equal(BigInt(`0x${/serial=(\w+)/.exec(output)?.[1]}`).toString(), serial)
  t.equal(Date.parse(/notAfter=(.*)/.exec(output)?.[1] ?? ''), notAfter)
})

t.test('URI names in the text that Node gives a subjectAltName', async t => {
  const table: readonly (readonly [string | undefined, readonly string[]])[] = [
    [undefined, []],
    ['', []],
    ['URI:spiffe://a/ns/b/sa/c', ['spiffe://a/ns/b/sa/c']],
    ['DNS:x, URI:spiffe://a/ns/b/sa/c, IP Address:1.2.3.4', ['spiffe://a/ns/b/sa/c']],
    ['URI:one, URI:two', ['one', 'two']],
    [
      'URI:"spiffe://a/ns/b/sa/c, URI:spiffe://evil/ns/x/sa/y"',
      ['spiffe://a/ns/b/sa/c, URI:spiffe://evil/ns/x/sa/y']
    ],
    ['DNS:"a, URI:spiffe://evil/ns/x/sa/y"', []],
    ['DNS:"a\\", URI:spiffe://evil/ns/x/sa/y", URI:good', ['good']],
    ['no type, URI:spiffe://evil/ns/x/sa/y', []]
  ]
  for (const [text, uris] of table) t.strictSame(uriNames(text), uris, String(text))
})

t.test('a DNS name that pretends to hold a URI does not become an identity', async t => {
  const made = openssl(
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      '/dev/null',
      '-config',
      'c.cnf'
    ],
    {
      'c.cnf':
        '[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n[dn]\nO=x\n[v3]\nsubjectAltName=@san\n[san]\nDNS.1=a\\, URI:spiffe://evil/ns/x/sa/y\nURI.1=spiffe://good/ns/x/sa/y\n'
    }
  )
  const facts = readCertificate(splitPem(made.output)[0] ?? '')
  t.strictSame(facts.uris, ['spiffe://good/ns/x/sa/y'])
})

t.test('parts that do not belong together are refused, each with its reason', async t => {
  const one = await new FakeCa().fetch(web, signal)
  const two = await new FakeCa().fetch(web, signal)
  const situations = [
    { name: 'no chain', given: { ...one, chainPem: [] }, reason: /chain holds no certificate/ },
    { name: 'no root', given: { ...one, rootsPem: [] }, reason: /no root/ },
    { name: 'key of another', given: { ...one, keyPem: two.keyPem }, reason: /made for another key/ },
    { name: 'no certificate', given: { ...one, chainPem: ['x'] }, reason: /not a PEM certificate/ },
    {
      name: 'a leaf without identity',
      given: { ...one, chainPem: one.rootsPem },
      reason: /names no workload identity/
    }
  ]
  for (const { name, given, reason } of situations) {
    t.throws(() => workloadCertificate(given), { name: CertificateError.name, message: reason }, name)
  }
})
