import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { CertificateAuthority, endsSoon, issuerProblem } from '../../../controlplane/ca/authority.ts'
import { splitPem } from '../../../shared/identity/certificate.ts'
import { createCsr } from '../../../shared/identity/csr.ts'
import { createIntermediate, createRoot, issuerOf, type Issuer } from '../../../shared/identity/issue.ts'
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'

const hour = 3_600_000
const day = 24 * hour
const start = Math.floor(Date.now() / 1000) * 1000 // certificates have whole seconds
const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' })
const { csrPem } = createCsr(identity)

function root(name: string, keyType: 'ec' | 'rsa' = 'ec'): Issuer {
  const pair = createRoot({
    organization: name,
    notBefore: start - hour,
    notAfter: start + 3650 * day,
    keyType
  })
  return issuerOf({ ...pair, rootsPem: pair.certificatePem })
}

function below(above: Issuer, name: string, rootsPem = above.rootsPem): Issuer {
  const pair = createIntermediate({
    organization: name,
    notBefore: start - hour,
    notAfter: start + 365 * day,
    issuer: above
  })
  return issuerOf({ ...pair, intermediatesPem: above.chainPem, rootsPem })
}

function authority(issuer: Issuer): {
  ca: CertificateAuthority
  clock: { time: number }
  changes: () => number
} {
  const clock = { time: start }
  const ca = new CertificateAuthority({
    issuer,
    clock: { now: () => clock.time },
    maxTtlSeconds: 90 * 24 * 3600,
    overlapMs: day
  })
  let changes = 0
  ca.onChange(() => (changes += 1))
  return { ca, clock, changes: () => changes }
}

function chainOf(ca: CertificateAuthority): readonly string[] {
  const issued = ca.issue({ csrPem, identity, ttlSeconds: 3600 })
  if (issued.kind !== 'issued') throw new Error(issued.problem)
  return issued.certChain
}

/** Whether a peer that has these roots accepts this chain. */
function accepts(rootsPem: string, chain: readonly string[]): boolean {
  const certificates = chain.slice(0, -1).map(pem => new X509Certificate(pem))
  const roots = splitPem(rootsPem).map(pem => new X509Certificate(pem))
  return certificates.every((certificate, index) => {
    const above = certificates[index + 1]
    const issuers = above === undefined ? roots : [above]
    return issuers.some(issuer => certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey))
  })
}

const bundleSize = (ca: CertificateAuthority): number => splitPem(ca.bundlePem).length

t.test('the answer: leaf, what is between, and last all roots in one', async t => {
  for (const [name, issuer, length] of [
    ['own root', root('a'), 2],
    ['own RSA root', root('a', 'rsa'), 2],
    ['an intermediate', below(root('a'), 'b'), 3],
    ['two of them', below(below(root('a'), 'b'), 'c'), 4]
  ] as const) {
    const chain = chainOf(authority(issuer).ca)
    t.equal(chain.length, length, name)
    t.ok(
      chain.every(pem => pem.endsWith('-----END CERTIFICATE-----\n')),
      'every element ends with a newline'
    )
    t.ok(accepts(chain.at(-1) ?? '', chain), 'and they lead to the root')
  }
})

t.test('a root that is announced first breaks nobody', async t => {
  const [old, young] = [root('old'), root('new')]
  const { ca, clock, changes } = authority(old)
  const held: { rootsPem: string; chain: readonly string[] }[] = []
  const renew = (): void => {
    const chain = chainOf(ca)
    held.push({ rootsPem: chain.at(-1) ?? '', chain })
  }
  renew()
  t.match(ca.adopt(young), { kind: 'announced', at: start + day })
  t.equal(changes(), 1, 'whoever distributes the bundle is told')
  t.equal(bundleSize(ca), 2, 'both roots are in the bundle')
  t.match(ca.adopt(young), { kind: 'unchanged' }, 'asking again changes nothing')
  // Everybody renews somewhere within a day; the changeover is in the middle of it all.
  for (let hours = 3; hours <= 60; hours += 3) {
    clock.time += 3 * hour
    renew()
    // Those that live are at most a day old.
    const alive = held.slice(-8)
    const everybody = alive.every(one => alive.every(other => accepts(one.rootsPem, other.chain)))
    if (!everybody) t.fail(`after ${hours} hours somebody meets a certificate that it cannot verify`)
  }
  t.pass('for sixty hours everybody accepted everybody')
  t.ok(accepts(young.rootsPem, chainOf(ca)), 'in the end the new root signs')
  t.equal(bundleSize(ca), 1, 'and the old one is gone')
  const told = changes()
  ca.settle()
  t.equal(changes(), told + 1, 'of which those who distribute the bundle are told')
  ca.settle()
  t.equal(changes(), told + 1, 'once')
})

t.test('a signer below a root that is known signs at once', async t => {
  const top = root('top')
  const { ca } = authority(below(top, 'a'))
  t.match(ca.adopt(below(top, 'b')), { kind: 'adopted' })
  t.equal(bundleSize(ca), 1)
  t.equal(new X509Certificate(chainOf(ca)[1] ?? '').subject, 'O=b')
})

t.test('a bundle that the operator extends is taken at once', async t => {
  const [old, young] = [root('old'), root('new')]
  const { ca } = authority(old)
  t.match(ca.adopt({ ...old, rootsPem: old.rootsPem + young.rootsPem }), { kind: 'adopted' })
  t.equal(bundleSize(ca), 2)
  t.match(
    ca.adopt({ ...young, rootsPem: old.rootsPem + young.rootsPem }),
    { kind: 'adopted' },
    'then the signer may change'
  )
  t.ok(accepts(young.rootsPem, chainOf(ca)))
  t.match(ca.adopt(young), { kind: 'adopted' }, 'then the old root may go')
  t.equal(bundleSize(ca), 2, 'and stays in the bundle for as long as certificates below it live')
})

t.test('a root that is renewed with its key verifies both ways', async t => {
  const first = createRoot({ organization: 'a', notBefore: start - hour, notAfter: start + day })
  const second = createRoot({
    organization: 'a',
    notBefore: start,
    notAfter: start + 365 * day,
    keyPem: first.keyPem
  })
  const old = issuerOf({ ...first, rootsPem: first.certificatePem })
  const { ca } = authority(old)
  const before = chainOf(ca)
  t.match(ca.adopt(issuerOf({ ...second, rootsPem: second.certificatePem + first.certificatePem })), {
    kind: 'adopted'
  })
  const after = chainOf(ca)
  t.ok(accepts(before.at(-1) ?? '', after), 'who has the old root accepts new certificates')
  t.ok(accepts(after.at(-1) ?? '', before), 'and the other way round')
})

t.test('what may be asked for', async t => {
  const { ca, clock } = authority(root('a'))
  const ask = (ttlSeconds: number, csr = csrPem): ReturnType<CertificateAuthority['issue']> =>
    ca.issue({ csrPem: csr, identity, ttlSeconds })
  const lives = (ttlSeconds: number): number => {
    const issued = ask(ttlSeconds)
    return issued.kind === 'issued' ? Math.round((issued.notAfter - clock.time) / 1000) : -1
  }
  t.equal(lives(3600), 3600)
  t.equal(lives(0), 24 * 3600, 'a day by default')
  t.equal(lives(90 * 24 * 3600), 90 * 24 * 3600)
  t.match(ask(90 * 24 * 3600 + 1), { kind: 'refused', problem: /maximum/ }, 'more is refused, not cut')
  t.match(ask(-1), { kind: 'refused' })
  t.match(ask(3600, 'nonsense'), { kind: 'refused', problem: /CERTIFICATE REQUEST/ })
  clock.time = start + 3649 * day
  t.equal(lives(10 * 24 * 3600), 24 * 3600, 'nothing outlives its issuer')
  clock.time = start + 3651 * day
  t.match(ask(3600), { kind: 'refused', problem: /expired/ })
})

t.test('a signer that nobody would accept is known before it signs', async t => {
  const [top, other] = [root('top'), root('other')]
  const signer = below(top, 'signer')
  t.equal(issuerProblem(top, start), undefined)
  t.equal(issuerProblem(signer, start), undefined)
  t.equal(issuerProblem(below(signer, 'deeper'), start), undefined, 'with two between')
  t.match(issuerProblem(below(top, 'astray', other.rootsPem), start), /does not lead to a root/)
  t.match(issuerProblem(signer, start + 366 * day), /signer expired on .*renew/)
  t.match(issuerProblem(signer, start - day), /valid from .*clocks/)
  t.equal(endsSoon(signer, start), undefined)
  t.match(endsSoon(signer, start + 300 * day), /signer on/)
})
