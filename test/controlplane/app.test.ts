/** The whole control plane at the lab's API store: what is written, what is served, what a restart changes. */
import t, { type Test } from 'tap'
import { X509Certificate } from 'node:crypto'
import { addressType, authorizationType } from '../../controlplane/desired/snapshot.ts'
import { createCsr } from '../../shared/identity/csr.ts'
import {
  createIntermediate,
  createRoot,
  issueServerCertificate,
  issuerOf
} from '../../shared/identity/issue.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { eventually } from '../support/eventually.ts'
import { requestCertificate } from './ca/ca-client.ts'
import { storeWorld, type StoreWorld } from './store-world.ts'
import { DeltaClient } from './xds/delta-client.ts'

t.setTimeout(180_000)

interface World extends StoreWorld {
  readonly token: (namespace: string, account: string, pod?: string) => string
}

async function world(t: Test): Promise<World> {
  const made = await storeWorld(t)
  const { store, client } = made
  await account(client, 'istio-system', 'ztunnel')
  await account(client, 'shop', 'web')
  const token = (namespace: string, name: string, pod?: string): string =>
    store.issueToken(namespace, name, { audiences: ['istio-ca'], ...(pod === undefined ? {} : { pod }) })
  return { ...made, token }
}

async function account(client: KubeClient, namespace: string, name: string): Promise<void> {
  await client.create(coreApi.serviceAccounts, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { namespace, name }
  })
}

async function runPod(
  client: KubeClient,
  namespace: string,
  name: string,
  sa: string,
  ip: string
): Promise<void> {
  const pod: coreApi.Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels: { app: name, 'istio.io/dataplane-mode': 'ambient' } },
    spec: { nodeName: 'n1', serviceAccountName: sa, containers: [{ name: 'c', image: 'x' }] }
  }
  await client.create(coreApi.pods, pod)
  const status = {
    phase: 'Running',
    podIP: ip,
    podIPs: [{ ip }],
    conditions: [{ type: 'Ready', status: 'True' }]
  }
  await client.patch(coreApi.pods, { namespace, name }, { status }, { kind: 'merge', subresource: 'status' })
}

const bundleOf = async (client: KubeClient, namespace: string): Promise<string | undefined> =>
  (await client.find(coreApi.configMaps, { namespace, name: 'istio-ca-root-cert' }))?.data?.['root-cert.pem']

const http = async (
  address: { port: number } | undefined,
  at: string,
  method = 'GET'
): Promise<{ status: number; body: string }> => {
  const response = await fetch(`http://127.0.0.1:${address?.port}${at}`, { method })
  return { status: response.status, body: await response.text() }
}

t.test('from an empty cluster to a served one', async t => {
  const { client, start, token, lines } = await world(t)
  await runPod(client, 'istio-system', 'ztunnel-1', 'ztunnel', '10.0.0.100')
  const app = await start()
  await app.ready
  await eventually('the trust bundle is there', async () => (await bundleOf(client, 'shop')) !== undefined)
  const rootsPem = (await bundleOf(client, 'shop')) ?? ''
  const target = `127.0.0.1:${app.addresses.xds.port}`
  const bearer = token('istio-system', 'ztunnel', 'ztunnel-1')

  t.test('it is ready, and says what it knows', async t => {
    t.match(await http(app.addresses.ready[0], '/ready'), { status: 200, body: 'ready\n' })
    const metrics = (await http(app.addresses.monitoring[0], '/metrics')).body
    t.match(metrics, /^pilot_xds 0$/m)
    t.match(metrics, /^istio_build\{component="pilot",tag="\d+\.\d+\.\d+"\} 1$/m)
    t.match(metrics, /^process_resident_memory_bytes \d+$/m)
    t.match(JSON.parse((await http(app.addresses.monitoring[0], '/version')).body), {
      version: /^\d+\.\d+\.\d+$/,
      revision: 'default'
    })
    t.match(JSON.parse((await http(app.addresses.monitoring[0], '/debug/ambientz')).body), {
      workloads: [{ name: 'Kubernetes//Pod/istio-system/ztunnel-1' }]
    })
    t.match(await http(app.addresses.monitoring[0], '/logging?level=xds=debug', 'POST'), {
      body: /^current log level is xds=debug,/
    })
    t.match(await http(app.addresses.monitoring[0], '/logging?reset', 'POST'), {
      body: /^current log level is info$/m
    })
    t.match(await http(app.addresses.monitoring[0], '/nothing'), { status: 404 })
    t.match(await http(app.addresses.monitoring[0], '/v1/explain'), { status: 404 }, 'nobody explains here')
  })

  t.test('a pod that starts is sent, and only it', async t => {
    const xds = new DeltaClient({ target, rootsPem, token: bearer })
    t.teardown(() => xds.close())
    xds.subscribe(authorizationType)
    const policies = await xds.next()
    if (policies !== undefined) xds.ack(policies)
    t.ok((await xds.all(addressType)).size > 0)
    await runPod(client, 'shop', 'web', 'web', '10.0.0.1')
    const heard = await xds.next()
    t.strictSame(
      heard?.resources.map(({ name }) => name),
      ['Kubernetes//Pod/shop/web']
    )
    const [entry] = JSON.parse((await http(app.addresses.monitoring[0], '/debug/syncz')).body) as {
      proxy: string
      types: Record<string, { status: string }>
    }[]
    t.match(entry, { proxy: /^ztunnel~/ })
    t.equal(entry?.types[authorizationType]?.status, 'SYNCED')
    t.equal(entry?.types[addressType]?.status, 'STALE', 'it has not acknowledged yet')
  })

  t.test('its ztunnel gets the certificate of the pod', async t => {
    const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' })
    const answer = await requestCertificate({
      target,
      rootsPem,
      token: bearer,
      csrPem: createCsr(identity).csrPem,
      impersonate: identity
    })
    t.equal(answer.kind, 'certificates', JSON.stringify(answer))
    if (answer.kind === 'certificates') {
      t.match(new X509Certificate(answer.chain[0] ?? '').subjectAltName, identity)
      t.equal(answer.chain.at(-1), rootsPem)
    }
    t.match(
      (await http(app.addresses.monitoring[0], '/metrics')).body,
      /^citadel_server_success_cert_issuance_count 1$/m
    )
  })

  t.test('who has no token, or somebody else’s, gets nothing', async t => {
    const nobody = new DeltaClient({ target, rootsPem })
    nobody.subscribe(addressType)
    t.match(await nobody.ended(), { code: 16 })
    const stranger = new DeltaClient({ target, rootsPem, token: token('shop', 'web', 'web') })
    stranger.subscribe(addressType)
    t.match(await stranger.ended(), { code: 7 }, 'the node must be its own')
    t.match(lines.join(''), /refused an xDS client/)
    t.notMatch(lines.join(''), bearer)
  })

  t.test('the trust bundle is put right', async t => {
    t.equal(await bundleOf(client, 'kube-public'), undefined, 'not in namespaces without pods')
    t.equal(await bundleOf(client, 'kube-system'), rootsPem)
    await client.delete(coreApi.configMaps, { namespace: 'shop', name: 'istio-ca-root-cert' })
    await eventually('it is made again', async () => (await bundleOf(client, 'shop')) === rootsPem)
    const ref = { namespace: 'shop', name: 'istio-ca-root-cert' }
    await client.patch(coreApi.configMaps, ref, { data: { 'root-cert.pem': 'x' } }, { kind: 'merge' })
    await eventually('it is put right', async () => (await bundleOf(client, 'shop')) === rootsPem)
    await client.create(coreApi.namespaces, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'young' }
    })
    await eventually('a new namespace has it', async () => (await bundleOf(client, 'young')) === rootsPem)
  })
})

t.test('a broken object among good ones changes nothing', async t => {
  const { client, start, lines } = await world(t)
  await runPod(client, 'shop', 'web', 'web', '10.0.0.1')
  await runPod(client, 'shop', 'db', 'web', '10.0.0.2')
  const app = await start()
  await app.ready
  const workloads = (): readonly string[] =>
    [...app.desired.snapshot.table('address').keys()].filter(name => name.includes('/shop/')).toSorted()
  t.strictSame(workloads(), ['Kubernetes//Pod/shop/db', 'Kubernetes//Pod/shop/web'])
  const version = app.desired.snapshot.table('address').get('Kubernetes//Pod/shop/web')?.version
  const garbage = { status: { podIPs: [{ ip: 'not an address' }] } }
  await client.patch(coreApi.pods, { namespace: 'shop', name: 'web' }, garbage, {
    kind: 'merge',
    subresource: 'status'
  })
  await eventually('it is in the log', () => lines.some(line => line.includes('status.podIPs[0].ip')))
  t.equal(
    app.desired.snapshot.table('address').get('Kubernetes//Pod/shop/web')?.version,
    version,
    'what it said before stays'
  )
  t.match(
    (await http(app.addresses.monitoring[0], '/metrics')).body,
    /^pilot_k8s_object_errors\{kind="Pod"\} 1$/m
  )
  await runPod(client, 'shop', 'new', 'web', '10.0.0.3')
  await eventually('others come and go', () => workloads().length === 3)
})

t.test('a restart changes nothing for those who come back', async t => {
  const { client, start, token } = await world(t)
  await runPod(client, 'shop', 'web', 'web', '10.0.0.1')
  await runPod(client, 'istio-system', 'ztunnel-1', 'ztunnel', '10.0.0.100')
  const first = await start()
  await first.ready
  const versions = Object.fromEntries(
    [...first.desired.snapshot.table('address').values()].map(({ name, version }) => [name, version])
  )
  const root = first.authority.bundlePem
  await first.close()
  const second = await start()
  await second.ready
  t.equal(second.authority.bundlePem, root, 'the root is the same')
  const xds = new DeltaClient({
    target: `127.0.0.1:${second.addresses.xds.port}`,
    rootsPem: root,
    token: token('istio-system', 'ztunnel', 'ztunnel-1')
  })
  t.teardown(() => xds.close())
  xds.subscribe(addressType, { initialResourceVersions: versions })
  t.match(await xds.next(), { resources: [], removedResources: [] })
})

t.test('the mesh configuration', async t => {
  const { client, start, lines } = await world(t)
  await runPod(client, 'shop', 'web', 'web', '10.0.0.1')
  const map = (mesh: string): coreApi.ConfigMap => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'istio-system', name: 'istio' },
    data: { mesh }
  })
  await client.create(coreApi.configMaps, map('trustDomain: example.org\nrootNamespace: policies\n'))
  const app = await start()
  await app.ready
  t.match(app.desired.view.settings, { trustDomain: 'example.org', rootNamespace: 'policies' })
  const write = async (mesh: string): Promise<unknown> =>
    client.patch(coreApi.configMaps, { namespace: 'istio-system', name: 'istio' }, map(mesh), {
      kind: 'merge'
    })
  await write('trustDomain: [1]\n')
  await eventually('what is wrong is told', () =>
    lines.some(line => line.includes('mesh configuration cannot be read'))
  )
  t.equal(app.desired.view.settings.trustDomain, 'example.org', 'and the former stays in force')
  await write('discoverySelectors: [{matchLabels: {mesh: "on"}}]\n')
  await eventually('unselected namespaces are gone', () => app.desired.snapshot.table('address').size === 0)
})

t.test('a new root from the operator, while a client is connected', async t => {
  const { client, start, token } = await world(t)
  await runPod(client, 'istio-system', 'ztunnel-1', 'ztunnel', '10.0.0.100')
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-cacerts-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const give = (organization: string): string => {
    const pair = createRoot({
      organization,
      notBefore: Date.now() - 60_000,
      notAfter: Date.now() + 86_400_000
    })
    for (const [file, text] of [
      ['root-cert.pem', pair.certificatePem],
      ['ca-key.pem', pair.keyPem],
      ['ca-cert.pem', pair.certificatePem]
    ] as const) {
      writeFileSync(path.join(folder, `${file}.new`), text)
      renameSync(path.join(folder, `${file}.new`), path.join(folder, file))
    }
    return pair.certificatePem
  }
  const old = give('old')
  const app = await start({
    ROOT_CA_DIR: folder,
    UNDERPASS_ROOT_REFRESH: '20ms',
    UNDERPASS_ROOT_OVERLAP: '2s'
  })
  await app.ready
  const bearer = token('istio-system', 'ztunnel', 'ztunnel-1')
  const target = `127.0.0.1:${app.addresses.xds.port}`
  const xds = new DeltaClient({ target, rootsPem: old, token: bearer })
  t.teardown(() => xds.close())
  await xds.all(addressType)
  const signer = async (rootsPem: string): Promise<{ issuer: string; bundle: string }> => {
    const identity = spiffeId({
      trustDomain: 'cluster.local',
      namespace: 'istio-system',
      serviceAccount: 'ztunnel'
    })
    const answer = await requestCertificate({
      target,
      rootsPem,
      token: bearer,
      csrPem: createCsr(identity).csrPem
    })
    if (answer.kind !== 'certificates') throw new Error(JSON.stringify(answer))
    return { issuer: new X509Certificate(answer.chain[0] ?? '').issuer, bundle: answer.chain.at(-1) ?? '' }
  }
  t.match(await signer(old), { issuer: 'O=old' })
  const young = give('new')
  const both = (text: string | undefined): boolean => text?.includes(old) === true && text.includes(young)
  await eventually('both roots are distributed', async () => both(await bundleOf(client, 'shop')), {
    everyMs: 10
  })
  const during = await signer(old + young)
  t.ok(both(during.bundle), 'and come with every certificate')
  await eventually('then the new one signs', async () => (await signer(old + young)).issuer === 'O=new')
  t.match(await signer(young), { issuer: 'O=new' }, 'and the port proves itself with it')
  await runPod(client, 'shop', 'web', 'web', '10.0.0.1')
  const heard = await xds.next()
  t.strictSame(
    heard?.resources.map(({ name }) => name),
    ['Kubernetes//Pod/shop/web'],
    'the stream from before goes on'
  )
})

t.test('what the operator gives and nobody would accept changes nothing', async t => {
  const { start, lines } = await world(t)
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-cacerts-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const times = { notBefore: Date.now() - 120_000, notAfter: Date.now() + 86_400_000 }
  const [good, other] = ['good', 'other'].map(organization => createRoot({ organization, ...times }))
  if (good === undefined || other === undefined) throw new Error('two roots')
  const past = createIntermediate({
    organization: 'past',
    notBefore: times.notBefore,
    notAfter: Date.now() - 60_000,
    issuer: issuerOf({ ...good, rootsPem: good.certificatePem })
  })
  const give = (pair: typeof good, rootsPem: string): void => {
    for (const [name, text] of [
      ['root-cert.pem', rootsPem],
      ['ca-key.pem', pair.keyPem],
      ['ca-cert.pem', pair.certificatePem]
    ] as const) {
      writeFileSync(path.join(folder, `${name}.new`), text)
      renameSync(path.join(folder, `${name}.new`), path.join(folder, name))
    }
  }
  give(good, good.certificatePem)
  const app = await start({
    ROOT_CA_DIR: folder,
    UNDERPASS_ROOT_REFRESH: '20ms',
    UNDERPASS_ROOT_OVERLAP: '50ms'
  })
  await app.ready
  const told = async (what: RegExp): Promise<void> =>
    eventually(`the log says ${what.source}`, () => what.test(lines.join('')), { everyMs: 10 })
  give(past, good.certificatePem)
  await told(/is not used.*past expired/)
  give(other, good.certificatePem)
  await told(/is not used.*does not lead to a root/)
  t.equal(app.authority.issuer.signerPem.trim(), good.certificatePem.trim())
  t.equal(app.authority.bundlePem.trim(), good.certificatePem.trim())
  await t.rejects(start({ ROOT_CA_DIR: folder }), /does not lead to a root/, 'and nothing starts with it')
})

t.test('beside an authority of others', async t => {
  const { client, start, token } = await world(t)
  await runPod(client, 'istio-system', 'ztunnel-1', 'ztunnel', '10.0.0.100')
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-csr-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const times = { notBefore: Date.now() - 60_000, notAfter: Date.now() + 86_400_000 }
  const theirs = createRoot({ organization: 'theirs', ...times })
  const issuer = issuerOf({ ...theirs, rootsPem: theirs.certificatePem })
  const serving = issueServerCertificate({ names: ['localhost'], issuer, ...times })
  writeFileSync(path.join(folder, 'tls.crt'), serving.certificatePem)
  writeFileSync(path.join(folder, 'tls.key'), serving.keyPem)
  writeFileSync(path.join(folder, 'ca.crt'), theirs.certificatePem)
  const app = await start({ ENABLE_CA_SERVER: 'false', UNDERPASS_SERVING_CERTIFICATE_DIR: folder })
  await app.ready
  const target = `127.0.0.1:${app.addresses.xds.port}`
  const bearer = token('istio-system', 'ztunnel', 'ztunnel-1')
  const identity = spiffeId({
    trustDomain: 'cluster.local',
    namespace: 'istio-system',
    serviceAccount: 'ztunnel'
  })
  const { csrPem } = createCsr(identity)
  const answer = await requestCertificate({ target, rootsPem: theirs.certificatePem, token: bearer, csrPem })
  t.match(answer, { kind: 'refused', code: 12 }, 'no certificates are issued here')
  const xds = new DeltaClient({ target, rootsPem: theirs.certificatePem, token: bearer })
  t.teardown(() => xds.close())
  t.ok(await xds.all(addressType), 'but the mesh is served, with the certificate that was given')
  await client.create(coreApi.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'late' } })
  await runPod(client, 'shop', 'web', 'web', '10.0.0.1')
  await xds.next()
  t.equal(await bundleOf(client, 'late'), undefined, 'and their roots are theirs to publish')
})

t.test('what was revoked is published beside the roots', async t => {
  const { client, start } = await world(t)
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-cacerts-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  await start({ ROOT_CA_DIR: folder, UNDERPASS_ROOT_REFRESH: '20ms' })
  const published = async (namespace: string): Promise<string | undefined> =>
    (await client.find(coreApi.configMaps, { namespace, name: 'istio-ca-crl' }))?.data?.['ca-crl.pem']
  for (const list of ['first', 'second']) {
    writeFileSync(path.join(folder, 'ca-crl.pem.new'), list)
    renameSync(path.join(folder, 'ca-crl.pem.new'), path.join(folder, 'ca-crl.pem'))
    await eventually(`the ${list} list is there`, async () => (await published('shop')) === list, {
      everyMs: 20
    })
  }
  await client.delete(coreApi.configMaps, { namespace: 'shop', name: 'istio-ca-crl' })
  await eventually('it comes back', async () => (await published('shop')) === 'second', { everyMs: 20 })
  t.equal(await published('istio-system'), 'second')
})
