/** The node agent at a real kube-apiserver: what it reads, annotates and reports. */
import t from 'tap'
import { spawn } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { annotatePod } from '../../daemonset/cluster.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { events, pods, serviceAccounts } from '../../shared/kube/core-api.ts'
import {
  Agent,
  annotation,
  createNamespace,
  createPod,
  label,
  layOutPlaces,
  podOf,
  StandIn
} from '../netns/agent-world.ts'
import { netnsId } from '../../shared/net/netns.ts'
import { addresses, askOnce, makeWorld, serveLines } from '../netns/capture-world.ts'
import { eventually } from '../support/eventually.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'
import { joinNamespaces, makeNamespace, needsRoot, type Namespace } from '../support/namespaces.ts'
import { peerProgram } from '../support/two-nodes.ts'

t.setTimeout(300_000)

const skip = needsRoot() || needsKubeApiserver()

t.test('the node agent at a real API server', { skip }, async t => {
  const { kubeconfig } = await startKubeApiserver(t)
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const world = makeWorld(t)
  const { pod, peer: node } = world
  const appPort = await serveLines(t, pod, 'app')
  await createNamespace(client)
  const account = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'default', namespace: 'shop' }
  }
  await client.create(serviceAccounts, account)
  const uid = await createPod(client, appPort)
  const ztunnel = new StandIn(t, path.join(folder, 'zds.sock'))
  const { environment } = layOutPlaces(folder, { pods: [pod], node })
  const agent = new Agent(t, { folder, environment: { ...environment, KUBECONFIG: kubeconfig } })
  await agent.start()
  const into = { ip: addresses[6].pod, port: appPort }

  await t.test('the owner of a pod that waits finds an Event', async t => {
    await label(client, 'ambient')
    await eventually('the Event is there', async () => {
      const { items } = await client.list(events, { namespace: 'shop' })
      return items.some(
        ({ reason, message = '', involvedObject }) =>
          reason === 'EnrolmentFailed' && message.includes('no ztunnel') && involvedObject?.['uid'] === uid
      )
    })
    t.equal(await annotation(client), undefined)
  })

  await t.test('enrolment writes the annotation, opting out takes it away', async t => {
    ztunnel.connect()
    await eventually('enabled', async () => (await annotation(client)) === 'enabled')
    t.match(await askOnce(node, into), /app saw/)
    await label(client, null)
    await eventually('gone', async () => (await annotation(client)) === undefined)
  })

  await t.test('a newer pod of the same name is not annotated for the old one', async t => {
    const signal = AbortSignal.timeout(30_000)
    const old = { uid: '00000000-0000-0000-0000-000000000000', namespace: 'shop', name: 'web' }
    await annotatePod(client, old, 'enabled', signal)
    t.equal(await annotation(client), undefined)
    await annotatePod(client, { ...old, uid }, 'pending', signal)
    t.equal(await annotation(client), 'pending')
    await annotatePod(client, { ...old, name: 'nobody' }, 'enabled', signal)
  })

  await t.test("Istio's CNI plug-in enrols a new pod before it starts", async t => {
    const fresh = makeNamespace(t, 'uph3')
    joinNamespaces(
      { namespace: fresh, device: 'eth0', addresses: ['10.77.2.2/24'] },
      { namespace: node, device: 'veth2', addresses: ['10.77.2.1/24'] }
    )
    await label(client, 'ambient')
    const created = await client.create(pods, podOf('fresh', []))
    copyFileSync(kubeconfig, path.join(folder, 'cni/istio-cni-kubeconfig'))
    const result = await runPlugin(folder, { name: 'fresh', namespace: fresh, address: '10.77.2.2/24' })
    t.match(JSON.parse(result), { ips: [{ address: '10.77.2.2/24' }] }, 'the previous result is passed on')
    t.equal(ztunnel.namespaceOf(created.metadata.uid ?? ''), netnsId(fresh.fd))
    t.match(fresh.run('nft', 'list', 'ruleset'), /tproxy to :15006/)
    await eventually('annotated', async () => (await annotation(client, 'fresh')) === 'enabled')
    ztunnel.die()
    const other = makeNamespace(t, 'uph3')
    await t.rejects(
      runPlugin(folder, { name: 'fresh', namespace: other, address: '10.77.2.3/24' }),
      /"code"/,
      'without ztunnel the pod does not start'
    )
    ztunnel.connect()
  })

  await t.test('a deleted pod is let go', async t => {
    await label(client, 'ambient')
    await eventually('enabled', async () => (await annotation(client)) === 'enabled')
    await client.delete(pods, { namespace: 'shop', name: 'web' }, { gracePeriodSeconds: 0 })
    await eventually('ztunnel is told', () => ztunnel.namespaceOf(uid) === undefined)
    t.match(await agent.get('admin', '/v1/pods'), { pods: [] })
  })
})

interface PluginAdd {
  readonly name: string
  readonly namespace: Namespace
  /** With its prefix length. */
  readonly address: string
}

/** CNI ADD as a container runtime makes it, after the network plug-in; rejects with what the plug-in wrote. */
async function runPlugin(folder: string, { name, namespace, address }: PluginAdd): Promise<string> {
  const plugin = peerProgram('istio-cni')
  if ('reason' in plugin) throw new Error(plugin.reason)
  const configuration = {
    cniVersion: '1.0.0',
    name: 'k8s-pod-network',
    type: 'istio-cni',
    plugin_log_level: 'info',
    cni_agent_run_dir: path.join(folder, 'cni'),
    ambient_enabled: true,
    pod_namespace: 'istio-system',
    exclude_namespaces: ['kube-system'],
    enablement_selectors: [{ namespaceSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } } }],
    prevResult: {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'eth0', sandbox: namespace.path }],
      ips: [{ interface: 0, address }]
    }
  }
  const child = spawn(plugin.path, {
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'test',
      CNI_NETNS: namespace.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
      CNI_ARGS: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=test`
    }
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.resume()
  child.stdin.end(JSON.stringify(configuration))
  const code = await new Promise(resolve => child.once('close', resolve))
  if (code !== 0) throw new Error(output)
  return output
}
