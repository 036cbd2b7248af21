import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { workloadCertificate } from '../../../shared/identity/certificate.ts'
import { createCsr } from '../../../shared/identity/csr.ts'
import {
  createIntermediate,
  createRoot,
  issueCertificate,
  issuerOf,
  type Issuer
} from '../../../shared/identity/issue.ts'
import { RevocationFile } from '../../../shared/identity/revocation-file.ts'
import { chainOf, checkRevoked, RevocationList } from '../../../shared/identity/revocation.ts'
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { LogOutput } from '../../../shared/telemetry/logger.ts'
import { crlBy } from '../../support/revocation-list.ts'

const identity = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web') as SpiffeId
const day = 86_400_000
const valid = { notBefore: Date.now() - day, notAfter: Date.now() + 365 * day }

interface Leaf {
  readonly certificate: X509Certificate
  readonly pem: string
  readonly keyPem: string
}

function leafOf(issuer: Issuer): Leaf {
  const { csrPem, keyPem } = createCsr(identity)
  const issued = issueCertificate({ csrPem, identity, ttlSeconds: 3600, issuer, now: Date.now() })
  if (issued.kind === 'refused') throw new Error(issued.problem)
  const pem = issued.certChain[0] ?? ''
  return { certificate: new X509Certificate(pem), pem, keyPem }
}

for (const keyType of ['ec', 'rsa'] as const) {
  t.test(`what an ${keyType} root took back is found, and nothing else`, async t => {
    const root = createRoot({ organization: 'cluster.local', ...valid, keyType })
    const issuer = issuerOf({ ...root, rootsPem: root.certificatePem })
    const [good, bad, worse] = [leafOf(issuer), leafOf(issuer), leafOf(issuer)]
    const roots = [new X509Certificate(root.certificatePem)]
    const { pem, der } = crlBy(t, root, [bad.pem, worse.pem])
    for (const list of [RevocationList.read(Buffer.from(pem)), RevocationList.read(der)]) {
      t.equal(list.size, 2)
      t.equal(list.revokedIn([good.certificate], roots), undefined)
      t.equal(list.revokedIn([bad.certificate], roots), bad.certificate)
      t.equal(list.revokedIn([worse.certificate], roots), worse.certificate)
    }
  })
}

t.test('lists by openssl without any entry, none at all, and several in one text', async t => {
  const one = createRoot({ organization: 'one', ...valid })
  const two = createRoot({ organization: 'two', ...valid })
  const leaf = leafOf(issuerOf({ ...two, rootsPem: two.certificatePem }))
  const roots = [one, two].map(({ certificatePem }) => new X509Certificate(certificatePem))
  const empty = crlBy(t, one, []).pem
  t.equal(RevocationList.read(Buffer.from(empty)).size, 0)
  for (const nothing of ['', ' \n']) t.equal(RevocationList.read(Buffer.from(nothing)).size, 0)
  const both = RevocationList.read(Buffer.from(`${empty}\n${crlBy(t, two, [leaf.pem]).pem}`))
  t.equal(both.revokedIn([leaf.certificate], roots), leaf.certificate)
  t.equal(RevocationList.empty.revokedIn([leaf.certificate], roots), undefined)
})

t.test('an authority below the root that was taken back takes its leaves along', async t => {
  const root = createRoot({ organization: 'root', ...valid })
  const above = issuerOf({ ...root, rootsPem: root.certificatePem })
  const middle = createIntermediate({ organization: 'middle', ...valid, issuer: above })
  const leaf = leafOf(issuerOf({ ...middle, rootsPem: root.certificatePem }))
  const chain = [leaf.certificate, new X509Certificate(middle.certificatePem)]
  const roots = [new X509Certificate(root.certificatePem)]
  const list = RevocationList.read(Buffer.from(crlBy(t, root, [middle.certificatePem]).pem))
  t.equal(list.revokedIn(chain, roots), chain[1])
})

t.test('only the issuer can take back', async t => {
  const root = createRoot({ organization: 'cluster.local', ...valid })
  const namesake = createRoot({ organization: 'cluster.local', ...valid })
  const stranger = createRoot({ organization: 'stranger', ...valid })
  const leaf = leafOf(issuerOf({ ...root, rootsPem: root.certificatePem }))
  const roots = [root, namesake, stranger].map(({ certificatePem }) => new X509Certificate(certificatePem))
  for (const [name, ca] of [
    ['of the same name', namesake],
    ['of another name', stranger]
  ] as const) {
    const list = RevocationList.read(Buffer.from(crlBy(t, ca, [leaf.pem]).pem))
    t.equal(list.size, 1)
    t.equal(list.revokedIn([leaf.certificate], roots), undefined, `a list by somebody ${name}`)
  }
  const unknown = RevocationList.read(Buffer.from(crlBy(t, root, [leaf.pem]).pem))
  t.equal(
    unknown.revokedIn([leaf.certificate], []),
    leaf.certificate,
    'without the issuer at hand the list counts'
  )
  const der = Buffer.from(crlBy(t, root, [leaf.pem]).der)
  der[der.length - 1] = (der.at(-1) ?? 0) ^ 1
  t.equal(
    RevocationList.read(der).revokedIn([leaf.certificate], roots),
    undefined,
    'a list whose signature is broken'
  )
})

t.test('what is no list is refused with the reason', async t => {
  const root = createRoot({ organization: 'x', ...valid })
  const table: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['a certificate', Buffer.from(root.certificatePem), /no PEM block of type X509 CRL/],
    ['garbage', Buffer.from('garbage'), /not a certificate revocation list/],
    ['cut short', crlBy(t, root, []).der.subarray(0, 60), /not a certificate revocation list/],
    [
      'a list of changes only',
      crlBy(t, root, [], '2.5.29.27=critical,DER:020101').der,
      /critical extension 2\.5\.29\.27 is not supported/
    ]
  ]
  for (const [name, bytes, reason] of table) {
    t.throws(() => RevocationList.read(bytes), { name: 'CertificateError', message: reason }, name)
  }
})

t.test('what a handshake brought, and what we know ourselves, is enough on both sides', async t => {
  const root = createRoot({ organization: 'root', ...valid })
  const above = issuerOf({ ...root, rootsPem: root.certificatePem })
  const middle = createIntermediate({ organization: 'middle', ...valid, issuer: above })
  const issuer = issuerOf({ ...middle, rootsPem: root.certificatePem })
  const [server, client] = [leafOf(issuer), leafOf(issuer)]
  const options = (leaf: Leaf): tls.SecureContextOptions => ({
    cert: leaf.pem + middle.certificatePem,
    key: leaf.keyPem,
    ca: root.certificatePem
  })
  const listener = tls.createServer({ ...options(server), requestCert: true, rejectUnauthorized: false })
  t.teardown(() => listener.close())
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const accepted = once(listener, 'secureConnection') as Promise<[tls.TLSSocket]>
  const { port } = listener.address() as { port: number }
  const socket = tls.connect({
    ...options(client),
    port,
    host: '127.0.0.1',
    checkServerIdentity: () => undefined
  })
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect')
  const [peer] = await accepted
  t.teardown(() => peer.destroy())
  const known = [new X509Certificate(middle.certificatePem), new X509Certificate(root.certificatePem)]
  for (const [side, seen, leaf] of [
    ['server', peer, client],
    ['client', socket, server]
  ] as const) {
    const chain = chainOf(seen)
    t.equal(chain[0]?.serialNumber, leaf.certificate.serialNumber, side)
    const byMiddle = RevocationList.read(crlBy(t, middle, [leaf.pem]).der)
    t.equal(
      byMiddle.revokedIn(chain, known)?.serialNumber,
      leaf.certificate.serialNumber,
      `${side}: the leaf`
    )
    const byRoot = RevocationList.read(crlBy(t, root, [middle.certificatePem]).der)
    t.ok(byRoot.revokedIn(chain, known), `${side}: the authority`)
    const own = workloadCertificate({
      chainPem: [leaf.pem, middle.certificatePem],
      rootsPem: [root.certificatePem],
      keyPem: leaf.keyPem
    })
    t.throws(() => checkRevoked(byMiddle, chain, own), {
      code: 'PEER_REVOKED',
      responseFlag: 'CERT_REVOKED',
      message: /^connection closed: peer certificate revoked by CRL: serial \d+, URI:spiffe:/
    })
    checkRevoked(RevocationList.read(crlBy(t, middle, []).der), chain, own)
    checkRevoked(RevocationList.empty, chain, own)
  }
})

t.test('the file is read again when it was replaced; a broken one changes nothing', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-crl-file-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const root = createRoot({ organization: 'x', ...valid })
  const leaf = leafOf(issuerOf({ ...root, rootsPem: root.certificatePem }))
  const file = path.join(folder, 'ca-crl.pem')
  const sizes: number[] = []
  let changed = Promise.withResolvers<void>()
  const errors: string[] = []
  const logs = new LogOutput({
    filter: { fallback: 'error', targets: new Map() },
    format: 'plain',
    sink: {
      write: line => {
        errors.push(line)
        changed.resolve()
      }
    }
  })
  const alive = setInterval(() => undefined, 1000) // neither the watcher nor its timer keeps a process running
  t.teardown(() => clearInterval(alive))
  const watched = new RevocationFile({
    file,
    settleMs: 20,
    log: logs.logger('test'),
    onChange: list => {
      sizes.push(list.size)
      changed.resolve()
    }
  })
  t.teardown(() => watched.close())
  t.strictSame(sizes, [0], 'without a file nothing is taken back')
  const replace = async (text: string): Promise<void> => {
    changed = Promise.withResolvers<void>()
    writeFileSync(`${file}.new`, text)
    renameSync(`${file}.new`, file)
    await changed.promise
  }
  await replace(crlBy(t, root, [leaf.pem]).pem)
  t.strictSame(sizes, [0, 1])
  await replace('-----BEGIN CERTIFICATE-----')
  t.strictSame(sizes, [0, 1])
  t.match(errors, [/cannot be read; the old ones stay/])
  await replace(crlBy(t, root, []).pem)
  t.strictSame(sizes, [0, 1, 0])
})
