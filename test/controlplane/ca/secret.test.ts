import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { caFromFiles } from '../../../controlplane/ca/files.ts'
import { caFromSecret } from '../../../controlplane/ca/secret.ts'
import { splitPem } from '../../../shared/identity/certificate.ts'
import { createIntermediate, createRoot, issuerOf } from '../../../shared/identity/issue.ts'
import { secrets, type Secret } from '../../../shared/kube/core-api.ts'
import { FakeKube } from '../fake-kube.ts'

const day = 24 * 3_600_000
const now = Date.now()
const options = (client: FakeKube, at = now): Parameters<typeof caFromSecret>[0] => ({
  client,
  namespace: 'istio-system',
  trustDomain: 'cluster.local',
  now: at
})
const name = 'Secret istio-system/istio-ca-secret'

function secretOf(client: FakeKube): Record<string, string> {
  const secret: Secret | undefined = client.objects.get(name)
  const data = secret?.data ?? {}
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()])
  )
}

t.test('a root of our own', async t => {
  const client = new FakeKube()
  const issuer = await caFromSecret(options(client))
  t.strictSame(client.writes, [`create ${name}`])
  const secret = client.objects.get(name) as Secret
  t.equal(secret.type, 'istio.io/ca-root')
  t.strictSame(Object.keys(secret.data ?? {}).toSorted(), [
    'ca-cert.pem',
    'ca-key.pem',
    'cert-chain.pem',
    'key.pem',
    'root-cert.pem'
  ])
  const certificate = new X509Certificate(secretOf(client)['ca-cert.pem'] ?? '')
  t.ok(certificate.ca)
  t.equal(certificate.subject, 'O=cluster.local')
  t.equal(Math.round((Date.parse(certificate.validTo) - now) / day), 3650, 'for ten years')
  t.strictSame(issuer.chainPem, [], 'it signs itself')
  t.equal((await caFromSecret(options(client))).signerPem, issuer.signerPem, 'the next start finds it')
  t.equal(client.writes.length, 1)
})

t.test('two replicas that start at once have one root', async t => {
  const client = new FakeKube()
  const [a, b] = await Promise.all([caFromSecret(options(client)), caFromSecret(options(client))])
  t.equal(a.signerPem, b.signerPem)
  t.equal(client.writes.length, 1)
})

t.test('near its end it is renewed with its key', async t => {
  const client = new FakeKube()
  const first = await caFromSecret(options(client))
  const key = secretOf(client)['ca-key.pem']
  const later = now + 3650 * day * 0.81
  const second = await caFromSecret(options(client, later))
  t.not(second.signerPem, first.signerPem)
  t.equal(secretOf(client)['ca-key.pem'], key)
  t.equal(splitPem(second.rootsPem).length, 2, 'both are in the bundle')
  t.ok(new X509Certificate(second.signerPem).publicKey.equals(new X509Certificate(first.signerPem).publicKey))
  t.equal((await caFromSecret(options(client, later))).signerPem, second.signerPem, 'once')
  const racing = new FakeKube()
  await caFromSecret(options(racing))
  let other: string | undefined
  racing.beforeWrite = () => {
    racing.beforeWrite = () => undefined
    const secret = racing.objects.get(name)
    if (secret === undefined) throw new Error('no secret')
    const pair = createRoot({ organization: 'other', notBefore: later, notAfter: later + 3650 * day })
    other = pair.certificatePem
    const data = {
      'ca-cert.pem': Buffer.from(pair.certificatePem).toString('base64'),
      'ca-key.pem': Buffer.from(pair.keyPem).toString('base64')
    }
    racing.put(secrets, { ...secret, data } as Secret)
  }
  t.equal(
    (await caFromSecret(options(racing, later))).signerPem,
    other,
    'when another replica was faster, its root counts'
  )
})

t.test('a secret that istiod made', async t => {
  const client = new FakeKube()
  const pair = createRoot({
    organization: 'cluster.local',
    notBefore: now - day,
    notAfter: now + 3650 * day,
    keyType: 'rsa'
  })
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  client.put(secrets, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace: 'istio-system', name: 'istio-ca-secret' },
    type: 'istio.io/ca-root',
    data: {
      'ca-cert.pem': base64(pair.certificatePem),
      'ca-key.pem': base64(pair.keyPem),
      'root-cert.pem': base64(pair.certificatePem)
    }
  } as Secret)
  t.equal((await caFromSecret(options(client))).signerPem.trim(), pair.certificatePem.trim())
  t.strictSame(client.writes, [])
})

t.test('a secret that cannot be used says how to go on', async t => {
  const client = new FakeKube()
  client.put(secrets, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace: 'istio-system', name: 'istio-ca-secret' },
    data: {}
  } as Secret)
  await t.rejects(
    caFromSecret(options(client)),
    /istio-system\/istio-ca-secret lacks ca-cert\.pem.*delete it/
  )
})

t.test('certificates of the operator', async t => {
  const top = createRoot({
    organization: 'top',
    notBefore: now - day,
    notAfter: now + 3650 * day,
    keyType: 'rsa'
  })
  const above = issuerOf({ ...top, rootsPem: top.certificatePem })
  const mine = createIntermediate({
    organization: 'mine',
    notBefore: now - day,
    notAfter: now + 365 * day,
    issuer: above
  })
  const folderWith = (files: Record<string, string>): string => {
    const folder = mkdtempSync(path.join(tmpdir(), 'underpass-cacerts-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    for (const [file, text] of Object.entries(files)) writeFileSync(path.join(folder, file), text)
    return folder
  }
  const chain = mine.certificatePem + top.certificatePem
  const cacerts = {
    'ca-cert.pem': mine.certificatePem,
    'ca-key.pem': mine.keyPem,
    'cert-chain.pem': chain,
    'root-cert.pem': top.certificatePem
  }
  const issuer = await caFromFiles(folderWith(cacerts))
  t.strictSame(
    issuer?.chainPem.map(pem => pem.trim()),
    [mine.certificatePem.trim()],
    'neither itself nor the root is between'
  )
  const tls = { 'tls.crt': mine.certificatePem, 'tls.key': mine.keyPem, 'ca.crt': top.certificatePem }
  t.equal(
    (await caFromFiles(folderWith(tls)))?.signerPem.trim(),
    mine.certificatePem.trim(),
    'or as a TLS secret'
  )
  t.equal(await caFromFiles(folderWith({})), undefined)
  t.equal(await caFromFiles('/nowhere'), undefined)
  await t.rejects(caFromFiles(folderWith({ ...cacerts, 'ca-cert.pem': 'x' })), /not PEM/)
  await t.rejects(
    caFromFiles(folderWith({ 'ca-cert.pem': mine.certificatePem, 'root-cert.pem': 'x' })),
    /holds ca-cert\.pem but not ca-key\.pem/
  )
  await t.rejects(caFromFiles(folderWith({ ...cacerts, 'ca-key.pem': top.keyPem })), /cannot be used/)
})
