import t from 'tap'
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import tls from 'node:tls'
import { readCertificate, splitPem } from '../../../shared/identity/certificate.ts'
import { createCsr } from '../../../shared/identity/csr.ts'
import {
  createIntermediate,
  createRoot,
  issueCertificate,
  issuerOf,
  MAX_TTL_SECONDS,
  type Issuer
} from '../../../shared/identity/issue.ts'
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { openssl } from '../../support/openssl.ts'

const identity = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web') as SpiffeId
const day = 24 * 3600 * 1000
const now = Date.now()
const years = (count: number): number => now + count * 365 * day

function rootIssuer(keyType: 'ec' | 'rsa', notAfter = years(10)): Issuer {
  const root = createRoot({ organization: 'cluster.local', notBefore: now - day, notAfter, keyType })
  return issuerOf({ ...root, rootsPem: root.certificatePem })
}

function issue(issuer: Issuer, ttlSeconds = 3600): { chain: readonly string[]; keyPem: string } {
  const { csrPem, keyPem } = createCsr(identity)
  const issued = issueCertificate({ csrPem, identity, ttlSeconds, issuer, now })
  if (issued.kind === 'refused') throw new Error(issued.problem)
  return { chain: issued.certChain, keyPem }
}

for (const keyType of ['ec', 'rsa'] as const) {
  t.test(`openssl verifies a chain below an ${keyType} root, for a client and for a server`, async t => {
    const issuer = rootIssuer(keyType)
    const { chain } = issue(issuer)
    t.equal(chain.length, 2, 'leaf and roots')
    const files = { 'leaf.pem': chain[0] ?? '', 'root.pem': chain[1] ?? '' }
    for (const purpose of ['sslclient', 'sslserver']) {
      const { ok, output } = openssl(
        ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', 'root.pem', 'leaf.pem'],
        files
      )
      t.ok(ok, `${purpose}: ${output}`)
    }
  })
}

t.test('openssl reads every field of a leaf as the CA promises it', async t => {
  const { chain } = issue(rootIssuer('ec'), 3600)
  const { output } = openssl(['x509', '-in', 'leaf.pem', '-noout', '-text'], { 'leaf.pem': chain[0] ?? '' })
  t.match(output, /Version: 3/)
  t.match(output, /Subject: *\n/, 'the subject is empty')
  t.match(output, /Issuer: O ?= ?cluster\.local/)
  t.match(output, /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web\n/)
  t.match(output, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/)
  t.match(output, /Extended Key Usage: *\n\s+TLS Web Server Authentication, TLS Web Client Authentication/)
  t.match(output, /Basic Constraints: critical\s+CA:FALSE/)
  t.match(output, /Public Key Algorithm: id-ecPublicKey[\s\S]*NIST CURVE: P-256/)
  t.match(output, /Signature Algorithm: ecdsa-with-SHA256/)
  const facts = readCertificate(chain[0] ?? '')
  t.equal(facts.notBefore, Math.floor((now - 120_000) / 1000) * 1000, 'two minutes for slow clocks')
  t.equal(facts.notAfter, Math.floor((now + 3_600_000) / 1000) * 1000)
  t.equal(facts.identity, identity)
})

t.test('serial numbers are random: 200 leaves, 200 numbers, about 128 bits', async t => {
  const issuer = rootIssuer('ec')
  const { csrPem } = createCsr(identity)
  const serials = Array.from({ length: 200 }, () => {
    const issued = issueCertificate({ csrPem, identity, ttlSeconds: 60, issuer, now })
    return issued.kind === 'issued' ? readCertificate(issued.certChain[0] ?? '').serial : ''
  })
  t.equal(new Set(serials).size, 200)
  const bits = serials.map(serial => BigInt(serial).toString(2).length)
  t.ok(Math.max(...bits) <= 128 && Math.max(...bits) > 120)
})

t.test('a chain through an intermediate is answered leaf, intermediate, all roots', async t => {
  const root = createRoot({
    organization: 'offline',
    notBefore: now - day,
    notAfter: years(10),
    keyType: 'rsa'
  })
  const older = createRoot({ organization: 'older', notBefore: now - day, notAfter: years(1) })
  const above = issuerOf({ ...root, rootsPem: root.certificatePem })
  const below = createIntermediate({
    organization: 'cluster.local',
    notBefore: now - day,
    notAfter: years(5),
    issuer: above
  })
  const issuer = issuerOf({ ...below, rootsPem: root.certificatePem + older.certificatePem })
  const { chain } = issue(issuer)
  t.equal(chain.length, 3)
  t.ok(chain.every(pem => pem.endsWith('-----END CERTIFICATE-----\n')))
  t.equal(splitPem(chain[2] ?? '').length, 2, 'the last element holds both roots')
  const { ok, output } = openssl(
    ['verify', '-x509_strict', '-CAfile', 'roots.pem', '-untrusted', 'chain.pem', 'leaf.pem'],
    { 'leaf.pem': chain[0] ?? '', 'chain.pem': chain[1] ?? '', 'roots.pem': chain[2] ?? '' }
  )
  t.ok(ok, output)
  const ca = openssl(['x509', '-noout', '-text', '-in', 'ca.pem'], { 'ca.pem': below.certificatePem }).output
  t.match(ca, /CA:TRUE, pathlen:0/)
  t.match(ca, /Certificate Sign, CRL Sign/)
})

t.test('a root whose key identifier was made in another way is found by it', async t => {
  const keyPem = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString()
  const config = `[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
O = cluster.local
[extensions]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = DE:AD:BE:EF
`
  const files = { 'key.pem': keyPem, 'root.cnf': config }
  const { output: root } = openssl(['req', '-x509', '-new', '-key', 'key.pem', '-config', 'root.cnf'], files)
  const { chain } = issue(issuerOf({ certificatePem: root, keyPem, rootsPem: root }))
  const { ok, output } = openssl(['verify', '-CAfile', 'root.pem', 'leaf.pem'], {
    'leaf.pem': chain[0] ?? '',
    'root.pem': root
  })
  t.ok(ok, output)
})

t.test('a root renewed with its key verifies what the old one signed', async t => {
  const old = createRoot({ organization: 'cluster.local', notBefore: now - day, notAfter: years(1) })
  const renewed = createRoot({
    organization: 'cluster.local',
    notBefore: now - day,
    notAfter: years(10),
    keyPem: old.keyPem
  })
  const { chain } = issue(issuerOf({ ...old, rootsPem: old.certificatePem }))
  const files = { 'leaf.pem': chain[0] ?? '', 'root.pem': renewed.certificatePem }
  const { ok, output } = openssl(['verify', '-x509_strict', '-CAfile', 'root.pem', 'leaf.pem'], files)
  t.ok(ok, output)
})

t.test('the requested lifetime', async t => {
  const soon = now + 1800_000
  const situations = [
    { name: '0 is a day', ttl: 0, issuer: rootIssuer('ec'), expect: now + day },
    {
      name: 'the maximum is granted',
      ttl: MAX_TTL_SECONDS,
      issuer: rootIssuer('ec'),
      expect: now + 90 * day
    },
    { name: 'never longer than the CA lives', ttl: 3600, issuer: rootIssuer('ec', soon), expect: soon },
    {
      name: 'above the maximum is an error',
      ttl: MAX_TTL_SECONDS + 1,
      issuer: rootIssuer('ec'),
      problem: /maximum/
    },
    { name: 'negative is an error', ttl: -5, issuer: rootIssuer('ec'), problem: /positive/ },
    { name: 'not a number is an error', ttl: NaN, issuer: rootIssuer('ec'), problem: /positive/ },
    { name: 'an expired CA is an error', ttl: 60, issuer: rootIssuer('ec', now - 1000), problem: /expired/ }
  ]
  const { csrPem } = createCsr(identity)
  for (const { name, ttl, issuer, expect, problem } of situations) {
    const issued = issueCertificate({ csrPem, identity, ttlSeconds: ttl, issuer, now })
    if (issued.kind === 'refused') t.match(issued.problem, problem ?? /^$/, name)
    else t.ok(Math.abs(issued.notAfter - (expect ?? 0)) < 1000, name)
  }
})

t.test('dates from 2050 on are written as RFC 5280 asks', async t => {
  const root = createRoot({ organization: 'x', notBefore: now, notAfter: Date.UTC(2061, 4, 6, 7, 8, 9) })
  t.equal(readCertificate(root.certificatePem).notAfter, Date.UTC(2061, 4, 6, 7, 8, 9))
})

t.test('an issuer whose parts do not belong together is refused', async t => {
  const one = createRoot({ organization: 'one', notBefore: now, notAfter: years(1) })
  const two = createRoot({ organization: 'two', notBefore: now, notAfter: years(1) })
  const rootsPem = one.certificatePem
  t.throws(() => issuerOf({ ...one, keyPem: two.keyPem, rootsPem }), /another certificate/)
  t.throws(() => issuerOf({ ...one, rootsPem: '' }), /no root/)
  const { chain, keyPem } = issue(rootIssuer('ec'))
  t.throws(() => issuerOf({ certificatePem: chain[0] ?? '', keyPem, rootsPem }), /may not sign/)
})

t.test('node:tls takes the certificates for mutual TLS 1.3', async t => {
  const issuer = rootIssuer('rsa')
  const [server, client] = [issue(issuer), issue(issuer)]
  const listener = tls.createServer({
    cert: server.chain[0] ?? '',
    key: server.keyPem,
    ca: issuer.rootsPem,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3'
  })
  t.teardown(() => listener.close())
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as { port: number }
  const accepted = once(listener, 'secureConnection') as Promise<[tls.TLSSocket]>
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    cert: client.chain[0] ?? '',
    key: client.keyPem,
    ca: issuer.rootsPem,
    checkServerIdentity: () => undefined
  })
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect')
  const [peer] = await accepted
  t.teardown(() => peer.destroy())
  t.ok(socket.authorized)
  t.ok(peer.authorized)
  t.equal(peer.getPeerX509Certificate()?.subjectAltName, `URI:${identity}`)
})

t.test('a leaf belongs to the key of its request', async t => {
  const { chain, keyPem } = issue(rootIssuer('ec'))
  t.ok(new X509Certificate(chain[0] ?? '').checkPrivateKey(createPrivateKey(keyPem)))
})
