import t from 'tap'
import { generateKeyPairSync } from 'node:crypto'
import { createCsr, readCsr } from '../../../shared/identity/csr.ts'
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { openssl } from '../../support/openssl.ts'

const identity = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web') as SpiffeId

t.test('openssl verifies our request and reads an empty subject and one critical SAN', async t => {
  const { csrPem, keyPem } = createCsr(identity)
  const { ok, output } = openssl(['req', '-in', 'r.csr', '-verify', '-noout', '-text'], { 'r.csr': csrPem })
  t.ok(ok, output)
  t.match(output, /verify OK/)
  t.match(output, /Subject: *\n/)
  t.match(output, /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web\n/)
  t.match(output, /ecdsa-with-SHA256/)
  t.match(keyPem, /^-----BEGIN PRIVATE KEY-----/)
})

t.test('our reader takes what our writer makes, and a new key each time', async t => {
  const one = createCsr(identity)
  const read = readCsr(one.csrPem)
  t.match(read, { kind: 'csr', uris: [identity], emptySubject: true })
  t.not(createCsr(identity).keyPem, one.keyPem)
})

const requests = [
  { name: 'P-256', args: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'] },
  { name: 'RSA 2048', args: ['-newkey', 'rsa:2048'] },
  { name: 'RSA 2048 with SHA-512', args: ['-newkey', 'rsa:2048', '-sha512'] },
  { name: 'RSA 1024', args: ['-newkey', 'rsa:1024'], problem: /1024 bits is too short; use 2048/ },
  {
    name: 'P-384',
    args: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384'],
    problem: /curve secp384r1 is not accepted; use P-256/
  },
  { name: 'Ed25519', args: ['-newkey', 'ed25519'], problem: /key type ed25519 is not accepted/ },
  {
    name: 'SHA-1',
    args: ['-newkey', 'rsa:2048', '-sha1'],
    problem: /signature algorithm 1\.2\.840\.113549\.1\.1\.5 is not accepted/
  }
]
for (const { name, args, problem } of requests) {
  t.test(`a request by openssl with ${name} is ${problem === undefined ? 'taken' : 'refused'}`, async t => {
    const { output } = openssl([
      'req',
      '-new',
      '-nodes',
      '-keyout',
      '/dev/null',
      '-subj',
      '/O=test',
      ...args,
      '-addext',
      'subjectAltName=URI:spiffe://a/ns/b/sa/c,DNS:x.example'
    ])
    const pem = /-----BEGIN CERTIFICATE REQUEST-----[\s\S]*-----END CERTIFICATE REQUEST-----/.exec(
      output
    )?.[0]
    const read = readCsr(pem ?? '')
    if (problem === undefined)
      t.match(read, { kind: 'csr', uris: ['spiffe://a/ns/b/sa/c'], emptySubject: false })
    else t.match(read, { kind: 'problem', problem })
  })
}

t.test('a request is refused, with the problem named, when', async t => {
  const { csrPem } = createCsr(identity)
  const der = Buffer.from(csrPem.replaceAll(/-----.*-----|\n/g, ''), 'base64')
  const pemOf = (bytes: Buffer): string =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
  const forged = Buffer.from(der)
  forged.write('sa/adm', der.indexOf('sa/web'), 'latin1')
  const keyPem = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .publicKey.export({ type: 'spki', format: 'pem' })
    .toString()
  const situations: readonly (readonly [string, string, RegExp])[] = [
    ['a signed byte was changed', pemOf(forged), /signature does not verify/],
    ['it is cut short', pemOf(der.subarray(0, 100)), /not a PKCS #10 request/],
    ['bytes follow', pemOf(Buffer.concat([der, Buffer.of(0)])), /not a PKCS #10 request/],
    ['it is empty', '', /not one PEM block/],
    ['it is another PEM', keyPem, /not one PEM block/],
    ['it is two', csrPem + csrPem, /not one PEM block/],
    ['it is huge', csrPem + ' '.repeat(20_000), /longer than/],
    ['it is an ASN.1 integer', pemOf(Buffer.of(2, 1, 0)), /not a PKCS #10 request/]
  ]
  for (const [name, pem, problem] of situations) t.match(readCsr(pem), { kind: 'problem', problem }, name)
})

t.test('no mutation of a request makes the reader throw or accept', async t => {
  const { csrPem } = createCsr(identity)
  const der = Buffer.from(csrPem.replaceAll(/-----.*-----|\n/g, ''), 'base64')
  let accepted = 0
  for (let bit = 0; bit < der.length * 8; bit += 1) {
    const mutated = Buffer.from(der)
    mutated[bit >> 3] = (mutated[bit >> 3] ?? 0) ^ (1 << (bit % 8))
    const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${mutated.toString('base64')}\n-----END CERTIFICATE REQUEST-----`
    if (readCsr(pem).kind === 'csr') accepted += 1
  }
  t.equal(accepted, 0)
})
