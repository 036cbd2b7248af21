/** The real istioctl at our control plane, through port-forwards to its pod, as operators use it. */
import t from 'tap'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { startApp } from '../../controlplane/app.ts'
import { readConfig } from '../../controlplane/config.ts'
import { addressType, authorizationType } from '../../controlplane/desired/snapshot.ts'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import type { PodRuntime } from '../../lab/api-store/pod-runtime.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { DeltaClient } from '../controlplane/xds/delta-client.ts'

t.setTimeout(120_000)

const istioctl = path.join(process.env['UNDERPASS_PEERS'] ?? '/nowhere', 'istioctl')
const skip = existsSync(istioctl) ? false : 'needs istioctl in UNDERPASS_PEERS'

t.test('istioctl at our control plane', { skip }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-istioctl-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const ports = new Map<number, number>()
  const store = await startApiStore({
    listeners: [{ host: '127.0.0.1', port: 0 }],
    pods: forwardsOnly(ports)
  })
  t.teardown(async () => store.close())
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  t.teardown(() => client.close())
  for (const name of ['istio-system', 'shop'])
    await client.create(coreApi.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  for (const name of ['default', 'ztunnel']) {
    const metadata = { namespace: 'istio-system', name }
    if ((await client.find(coreApi.serviceAccounts, metadata)) === undefined)
      await client.create(coreApi.serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata })
  }
  await runPod(client, 'istiod-1', 'default', {
    app: 'istiod',
    istio: 'pilot',
    'istio.io/rev': 'default'
  })
  await runPod(client, 'ztunnel-1', 'ztunnel', { app: 'ztunnel' })

  const { config } = readConfig({
    UNDERPASS_LISTEN: '127.0.0.1',
    UNDERPASS_XDS_PORT: '0',
    UNDERPASS_MONITORING_PORT: '0',
    UNDERPASS_READY_PORT: '0',
    UNDERPASS_WEBHOOK_PORT: '0',
    TERMINATION_DRAIN_DURATION: '100ms',
    POD_NAME: 'istiod-1',
    ROOT_CA_DIR: path.join(folder, 'none')
  })
  const logs = new LogOutput({ ...config.log, sink: { write: () => undefined } })
  const app = await startApp({ config, client, logs })
  t.teardown(async () => app.close())
  await app.ready
  ports.set(15012, app.addresses.xds.port)
  for (const { port } of app.addresses.monitoring) ports.set(15014, port)

  const run = async (...words: readonly string[]): Promise<string> => {
    const { stdout } = await promisify(execFile)(istioctl, ['--kubeconfig', kubeconfig, ...words], {
      timeout: 60_000
    })
    return stdout
  }
  const ztunnel = new DeltaClient({
    target: `127.0.0.1:${app.addresses.xds.port}`,
    rootsPem: app.authority.bundlePem,
    token: store.issueToken('istio-system', 'ztunnel', { audiences: ['istio-ca'], pod: 'ztunnel-1' })
  })
  t.teardown(() => ztunnel.close())
  ztunnel.subscribe(authorizationType)
  const policies = await ztunnel.next()
  if (policies !== undefined) ztunnel.ack(policies)
  await ztunnel.all(addressType)

  t.test('proxy-status lists the ztunnel with what it subscribed to', async t => {
    const table = (await run('proxy-status')).split('\n').map(line => line.split(/ {2,}/))
    t.strictSame(table[0]?.slice(0, 3), ['NAME', 'CLUSTER', 'ISTIOD'])
    t.match(table[1], ['ztunnel-test.istio-system', 'Kubernetes', 'istiod-1'])
    t.match(table[1]?.at(-1), /^2 \(/, 'two types')
    const verbose = await run('proxy-status', '-v', '1')
    t.match(verbose, /SYNCED/)
    t.notMatch(verbose, /STALE|ERROR/)
  })

  t.test('proxy-status as JSON says who answered', async t => {
    t.match(JSON.parse(await run('proxy-status', '-o', 'json')), {
      resources: [{ node: { id: 'ztunnel-test.istio-system', metadata: { CLUSTER_ID: 'Kubernetes' } } }],
      controlPlane: { identifier: /"ID":"istiod-1"/ }
    })
  })

  t.test('version tells that of the control plane and of the proxies', async t => {
    t.match(await run('version', '-o', 'json'), /"Component": *"pilot"/)
    const text = await run('version')
    t.match(text, /control plane version: \d+\.\d+\.\d+/)
    t.match(text, /data plane version: 1\.2\.3 \(1 prox/)
  })

  t.test('internal-debug shows a page of /debug', async t => {
    const page = await run('experimental', 'internal-debug', 'syncz')
    t.match(page, /ztunnel~127\.0\.0\.1~ztunnel-test\.istio-system/)
    t.match(await run('experimental', 'internal-debug', 'ambientz', '--all'), /"workloads"/)
  })
})

/** Port-forwards lead to what listens on this machine; nothing else runs in the pods. */
function forwardsOnly(ports: ReadonlyMap<number, number>): PodRuntime {
  const absent = async (): Promise<never> => {
    throw new Error('nothing runs in the pods of this test')
  }
  return {
    logs: absent,
    exec: absent,
    portForward: async (_, port) => net.connect({ host: '127.0.0.1', port: ports.get(port) ?? 1 })
  }
}

async function runPod(
  client: KubeClient,
  name: string,
  account: string,
  labels: Readonly<Record<string, string>>
): Promise<void> {
  const namespace = 'istio-system'
  await client.create(coreApi.pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels },
    spec: { nodeName: 'n1', serviceAccountName: account, containers: [{ name: 'c', image: 'x' }] }
  })
  const ready = [
    { type: 'Ready', status: 'True' },
    { type: 'ContainersReady', status: 'True' }
  ]
  const status = {
    phase: 'Running',
    podIP: '10.0.0.5',
    podIPs: [{ ip: '10.0.0.5' }],
    conditions: ready,
    containerStatuses: [{ name: 'c', ready: true, state: { running: {} } }]
  }
  await client.patch(coreApi.pods, { namespace, name }, { status }, { kind: 'merge', subresource: 'status' })
}
