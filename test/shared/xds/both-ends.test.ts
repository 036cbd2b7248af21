/** Our clients at our own control plane, which watches the lab's API store: what is written there is what decisions see. */
import t from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApp, type App } from '../../../controlplane/app.ts'
import { readConfig } from '../../../controlplane/config.ts'
import { startApiStore } from '../../../lab/api-store/api-store.ts'
import { CaClient } from '../../../shared/identity/ca-client.ts'
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'
import { KubeClient } from '../../../shared/kube/client.ts'
import { loadKubeConfig } from '../../../shared/kube/config.ts'
import * as coreApi from '../../../shared/kube/core-api.ts'
import { decideRoute } from '../../../shared/mesh/route.ts'
import { ip } from '../../../shared/net/address.ts'
import { LogOutput } from '../../../shared/telemetry/logger.ts'
import type { ControlPlaneTarget } from '../../../shared/xds/grpc-client.ts'
import { eventually } from '../../support/eventually.ts'
import { ADDRESS, followMesh } from '../../support/follow-mesh.ts'

const pod = { name: 'ztunnel', node: 'n1' }

t.test('from the API store to a decision', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-both-ends-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(async () => store.close())
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  t.teardown(() => client.close())
  for (const name of ['istio-system', 'shop']) {
    await client.create(coreApi.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  await runPod(client, 'istio-system', 'ztunnel', '10.0.0.100')
  await runPod(client, 'shop', 'web', '10.0.0.1')
  await runPod(client, 'shop', 'client', '10.0.0.2', 'n2')
  await client.create(coreApi.services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'web' },
    spec: {
      clusterIP: '10.96.0.80',
      clusterIPs: ['10.96.0.80'],
      selector: { app: 'web' },
      sessionAffinity: 'ClientIP',
      ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' }]
    }
  })
  const start = async (port = '0'): Promise<App> => {
    const { config } = readConfig({
      UNDERPASS_LISTEN: '127.0.0.1',
      UNDERPASS_XDS_PORT: port,
      UNDERPASS_MONITORING_PORT: '0',
      UNDERPASS_READY_PORT: '0',
      UNDERPASS_WEBHOOK_PORT: '0',
      TERMINATION_DRAIN_DURATION: '50ms',
      ROOT_CA_DIR: path.join(folder, 'none')
    })
    const app = await startApp({
      config,
      client,
      logs: new LogOutput({ ...config.log, sink: { write: () => undefined } })
    })
    await app.ready
    return app
  }
  let app = await start()
  t.teardown(async () => app.close())
  const { port } = app.addresses.xds
  const bundle = async (): Promise<string> =>
    (await client.find(coreApi.configMaps, { namespace: 'shop', name: 'istio-ca-root-cert' }))?.data?.[
      'root-cert.pem'
    ] ?? ''
  await eventually('the trust bundle is there', async () => (await bundle()) !== '')
  const target: ControlPlaneTarget = {
    address: `https://127.0.0.1:${port}`,
    roots: await bundle(),
    altHostname: 'istiod.istio-system.svc',
    token: store.issueToken('istio-system', 'ztunnel', { audiences: ['istio-ca'], pod: 'ztunnel' }),
    clusterId: 'Kubernetes',
    headers: []
  }
  const mesh = followMesh(t, target, pod, 'wildcard')
  await mesh.client.synced
  const view = mesh.store.view()

  await t.test('a service leads to its pod; its client affinity came along', async t => {
    const source = view.workloadByName('shop', 'client', 'client')
    if (source === undefined) throw new Error('the client is not known')
    const context = { network: '', source, sourceIp: ip('10.0.0.2'), random: () => 0 }
    t.match(decideRoute(view, context, { ip: ip('10.96.0.80'), port: 80 }), {
      kind: 'hbone',
      authority: '10.0.0.1:8080',
      hop: { expected: ['spiffe://cluster.local/ns/shop/sa/web'] }
    })
    t.strictSame(view.service('shop/web.shop.svc.cluster.local')?.traffic, {
      clientIpAffinitySeconds: 10_800
    })
  })

  await t.test('one address on demand', async t => {
    const { client, store } = followMesh(t, target, pod, 'on-demand')
    await client.synced
    t.equal(store.view().workloadByAddress('', ip('10.0.0.2')), undefined)
    await client.subscribe(ADDRESS, '/10.0.0.2')
    t.equal(store.view().workloadByAddress('', ip('10.0.0.2'))?.name, 'client')
    await client.subscribe(ADDRESS, '/10.9.9.9')
    t.equal(store.view().workloadByAddress('', ip('10.9.9.9')), undefined)
  })

  await t.test('a certificate for a pod of this node', async t => {
    const ca = new CaClient({ target, ttlSeconds: 600, impersonate: true })
    t.teardown(() => ca.close())
    const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' })
    const certificate = await ca.fetch(identity, AbortSignal.timeout(10_000))
    t.equal(certificate.identity, identity)
    const nobody = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'nobody' })
    await t.rejects(ca.fetch(nobody, AbortSignal.timeout(10_000)), /UNAUTHENTICATED/)
  })

  await t.test('what changed while the control plane was away is known after it came back', async t => {
    await app.close()
    await eventually('the client notices', () => !mesh.client.state().connected, { everyMs: 20 })
    t.equal(view.workloadByAddress('', ip('10.0.0.1'))?.name, 'web', 'what was known stays')
    await client.delete(coreApi.pods, { namespace: 'shop', name: 'web' }, { gracePeriodSeconds: 0 })
    app = await start(String(port))
    await eventually('the removal arrives', () => view.workloadByAddress('', ip('10.0.0.1')) === undefined, {
      everyMs: 20
    })
    t.equal(view.workloadByAddress('', ip('10.0.0.2'))?.name, 'client')
    await runPod(client, 'shop', 'late', '10.0.0.3')
    await eventually(
      'and later changes too',
      () => view.workloadByAddress('', ip('10.0.0.3')) !== undefined,
      { everyMs: 20 }
    )
  })
})

async function runPod(
  client: KubeClient,
  namespace: string,
  name: string,
  address: string,
  node = 'n1'
): Promise<void> {
  await client.create(coreApi.serviceAccounts, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { namespace, name }
  })
  const labels = { app: name, 'istio.io/dataplane-mode': 'ambient' }
  await client.create(coreApi.pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels, annotations: { 'ambient.istio.io/redirection': 'enabled' } },
    spec: { nodeName: node, serviceAccountName: name, containers: [{ name: 'c', image: 'x' }] }
  })
  const status = {
    phase: 'Running',
    podIP: address,
    podIPs: [{ ip: address }],
    conditions: [{ type: 'Ready', status: 'True' }]
  }
  await client.patch(coreApi.pods, { namespace, name }, { status }, { kind: 'merge', subresource: 'status' })
}
