import t, { type Test } from 'tap'
import * as grpc from '@grpc/grpc-js'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import path from 'node:path'
import { CaClient, type CaClientOptions } from '../../../shared/identity/ca-client.ts'
import { fakeIssuer } from '../../../shared/identity/fake-ca.ts'
import { createIntermediate, createRoot, issueCertificate, issuerOf } from '../../../shared/identity/issue.ts'
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { FakeControlPlane } from '../../support/fake-control-plane.ts'

const web = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web') as SpiffeId
const other = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/other') as SpiffeId
const signal = new AbortController().signal

async function world(
  t: Test,
  options: Partial<CaClientOptions> = {},
  target: Partial<CaClientOptions['target']> = {}
): Promise<{ server: FakeControlPlane; client: CaClient }> {
  const server = new FakeControlPlane()
  await server.start()
  const issuer = fakeIssuer()
  server.answerCsr = ({ csr, validityDuration }) => {
    const issued = issueCertificate({
      csrPem: csr,
      identity: web,
      ttlSeconds: validityDuration,
      issuer,
      now: Date.now()
    })
    if (issued.kind === 'issued') return issued
    return { status: grpc.status.INVALID_ARGUMENT, details: issued.problem }
  }
  const client = new CaClient({
    target: {
      address: server.address,
      roots: server.certificatePem,
      altHostname: undefined,
      token: 'the-token',
      clusterId: 'c1',
      headers: [['x-extra', 'yes']],
      ...target
    },
    ttlSeconds: 3600,
    impersonate: true,
    ...options
  })
  t.teardown(() => {
    client.close()
    server.stop()
  })
  return { server, client }
}

t.test('a certificate is asked for and checked: request, metadata, chain, roots, key', async t => {
  const { server, client } = await world(t)
  const certificate = await client.fetch(web, signal)
  t.match(certificate, { identity: web, chainPem: [/BEGIN CERTIFICATE/], rootsPem: [/BEGIN CERTIFICATE/] })
  t.equal(certificate.notAfter - certificate.notBefore, 3_720_000)
  t.match(server.csrs[0]?.request, {
    csr: /^-----BEGIN CERTIFICATE REQUEST-----/,
    validityDuration: 3600,
    metadata: { fields: { ImpersonatedIdentity: { stringValue: web } } }
  })
  const sent = server.csrs[0]?.metadata
  t.strictSame(sent?.get('authorization'), ['Bearer the-token'])
  t.strictSame(sent?.get('clusterid'), ['c1'])
  t.strictSame(sent?.get('x-extra'), ['yes'])
  await client.fetch(web, signal)
  t.not(server.csrs[0]?.request.csr, server.csrs[1]?.request.csr, 'every request has a key of its own')
})

t.test('without impersonation the request names nobody', async t => {
  const { server, client } = await world(t, { impersonate: false })
  await client.fetch(web, signal)
  t.equal(server.csrs[0]?.request.metadata, undefined)
})

t.test('a chain with an intermediate and two roots is told apart', async t => {
  const { server, client } = await world(t)
  const valid = { notBefore: Date.now() - 1000, notAfter: Date.now() + 86_400_000 }
  const root = createRoot({ organization: 'root', ...valid })
  const second = createRoot({ organization: 'second', ...valid })
  const above = issuerOf({ ...root, rootsPem: root.certificatePem })
  const below = createIntermediate({ organization: 'below', ...valid, issuer: above })
  const issuer = issuerOf({ ...below, rootsPem: root.certificatePem + second.certificatePem })
  server.answerCsr = ({ csr }) => {
    const issued = issueCertificate({ csrPem: csr, identity: web, ttlSeconds: 60, issuer, now: Date.now() })
    return issued.kind === 'issued' ? issued : { certChain: [] }
  }
  const { chainPem, rootsPem } = await client.fetch(web, signal)
  t.equal(chainPem.length, 2)
  t.strictSame(rootsPem, [root.certificatePem, second.certificatePem])
})

t.test('answers that cannot be used are refused with the reason', async t => {
  const { server, client } = await world(t)
  const good = server.answerCsr
  const issuer = fakeIssuer()
  const situations: readonly (readonly [string, FakeControlPlane['answerCsr'], RegExp])[] = [
    ['empty', () => ({ certChain: [] }), /answered without a certificate/],
    [
      'no root',
      async request => ({
        certChain: [...((await good(request)) as { certChain: string[] }).certChain.slice(0, 1)]
      }),
      /without a root/
    ],
    ['garbage', () => ({ certChain: ['x', 'y'] }), /chain holds no certificate/],
    [
      'another identity',
      ({ csr }) => {
        const issued = issueCertificate({
          csrPem: csr,
          identity: other,
          ttlSeconds: 60,
          issuer,
          now: Date.now()
        })
        return issued.kind === 'issued' ? issued : { certChain: [] }
      },
      /certificate of spiffe:\/\/cluster\.local\/ns\/shop\/sa\/other/
    ],
    [
      'refused',
      () => ({
        status: grpc.status.UNAUTHENTICATED,
        details: 'request impersonation authentication failure'
      }),
      /UNAUTHENTICATED: request impersonation authentication failure/
    ]
  ]
  for (const [name, answer, reason] of situations) {
    server.answerCsr = answer
    await t.rejects(client.fetch(web, signal), { message: reason }, name)
  }
})

t.test('a token file is read for every request', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-ca-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const token = path.join(folder, 'token')
  writeFileSync(token, 'one\n')
  const { server, client } = await world(t, {}, { token })
  await client.fetch(web, signal)
  writeFileSync(token, 'two')
  await client.fetch(web, signal)
  t.strictSame(
    server.csrs.map(({ metadata }) => metadata.get('authorization')),
    [['Bearer one'], ['Bearer two']]
  )
})

t.test('a token file that is not there is an error, not a token', async t => {
  const { server, client } = await world(t, {}, { token: '/nowhere/istio-token' })
  await t.rejects(client.fetch(web, signal), /cannot read the token \/nowhere\/istio-token: ENOENT/)
  t.equal(server.csrs.length, 0)
})

t.test('new roots in the file are used from the next request on', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-ca-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const roots = path.join(folder, 'root.pem')
  writeFileSync(roots, new FakeControlPlane().certificatePem)
  const { server, client } = await world(t, {}, { roots })
  await t.rejects(
    client.fetch(web, signal),
    /cannot connect to https:\/\/localhost:\d+: .*(self-signed|unable to verify)/
  )
  writeFileSync(roots, server.certificatePem)
  t.equal((await client.fetch(web, signal)).identity, web)
})

t.test('a CA that was away for long is found by the first request after its return', async t => {
  const { server, client } = await world(t)
  await client.fetch(web, signal)
  server.stop()
  const port = new URL(server.address).port
  // Each failure lengthens the channel's own back-off, of which nobody must be the victim.
  for (let attempt = 0; attempt < 5; attempt += 1) {
    await t.rejects(client.fetch(web, signal), /UNAVAILABLE|cannot connect/)
    await delay(attempt * 200)
  }
  await server.start()
  t.equal(new URL(server.address).port, port)
  t.equal((await client.fetch(web, signal)).identity, web)
})

t.test('an aborted request ends at once', async t => {
  const { server, client } = await world(t)
  server.answerCsr = () => new Promise(() => undefined)
  const stopping = new AbortController()
  const waiting = client.fetch(web, stopping.signal)
  while (server.csrs.length === 0) await new Promise(resolve => setTimeout(resolve, 5))
  stopping.abort(new Error('enough'))
  await t.rejects(waiting, /enough/)
})
