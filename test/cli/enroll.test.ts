/** Enrolling and unenrolling: what is announced, what is changed, and who is waited for. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import { namespaces, pods, type Namespace, type Pod } from '../../shared/kube/core-api.ts'
import { changesOf, modeFor, type Target } from '../../cli/enrolment-change.ts'
import { eventually } from '../support/eventually.ts'
import { apiCluster, type ApiCluster } from './api-cluster.ts'
import { fakeCluster, fakePod, nodeAgentPod, ztunnelPod } from './fake-cluster.ts'
import { dumpFile, run } from './run-cli.ts'

const label = 'istio.io/dataplane-mode'
const redirection = 'ambient.istio.io/redirection'
const space = (labels: Record<string, string> = {}, name = 'shop'): Namespace => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels }
})
const pod = (name: string, fields: Partial<Pod['metadata']> = {}, spec: Pod['spec'] = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop', uid: name, ...fields },
  spec,
  status: { phase: 'Running' }
})
const shop: Target = { kind: 'namespace', name: 'shop' }
const web: Target = { kind: 'pod', namespace: 'shop', name: 'web' }

const situations = [
  { name: 'a namespace joins', target: shop, inside: true, labels: {}, pod: pod('web'), effect: 'joins' },
  {
    name: 'an opt-out stays outside',
    target: shop,
    inside: true,
    labels: {},
    pod: pod('web', { labels: { [label]: 'none' } }),
    effect: 'stays outside',
    reason: /label istio\.io\/dataplane-mode=none/
  },
  {
    name: 'the network of the node stays outside',
    target: shop,
    inside: true,
    labels: {},
    pod: pod('web', {}, { hostNetwork: true }),
    effect: 'stays outside',
    reason: /network of its node/
  },
  {
    name: 'a sidecar stays outside',
    target: shop,
    inside: true,
    labels: {},
    pod: pod('web', { annotations: { 'sidecar.istio.io/status': '{}' } }),
    effect: 'stays outside',
    reason: /sidecar/
  },
  {
    name: 'a namespace leaves',
    target: shop,
    inside: false,
    labels: { [label]: 'ambient' },
    pod: pod('web'),
    effect: 'leaves'
  },
  {
    name: 'a pod with a label of its own stays inside',
    target: shop,
    inside: false,
    labels: { [label]: 'ambient' },
    pod: pod('web', { labels: { [label]: 'ambient' } }),
    effect: 'stays inside',
    reason: /pod label/
  },
  { name: 'one pod joins', target: web, inside: true, labels: {}, pod: pod('web'), effect: 'joins' },
  {
    name: 'one pod leaves a namespace that stays',
    target: web,
    inside: false,
    labels: { [label]: 'ambient' },
    pod: pod('web'),
    effect: 'leaves'
  }
]
for (const { name, target, inside, labels, pod, effect, reason } of situations) {
  t.test(name, async t => {
    const namespace = space(labels)
    const [change] = changesOf(target, modeFor(target, inside, namespace), namespace, [pod])
    t.equal(change?.effect, effect)
    if (reason !== undefined) t.match(change?.reason, reason)
  })
}

t.test('pods that have ended do not count', async t => {
  const ended: Pod = { ...pod('web'), status: { phase: 'Succeeded' } }
  t.same(changesOf(shop, 'ambient', space(), [ended]), [])
})

t.test('a namespace is enrolled once its pods are captured', async t => {
  const cluster = await apiCluster(t)
  const { client, run } = cluster
  await running(cluster, ['web', 'cart'])
  const tried = await run(['enroll', 'shop', '--dry-run'])
  t.equal(tried.code, 0, tried.err)
  t.match(tried.out, /web +node-1 +joins/)
  t.equal((await client.get(namespaces, { name: 'shop' })).metadata.labels?.[label], undefined)

  const enrolling = run(['enroll', 'shop', '--wait'])
  await eventually('the label is set', async () => {
    return (await client.get(namespaces, { name: 'shop' })).metadata.labels?.[label] === 'ambient'
  })
  for (const name of ['web', 'cart']) await annotate(cluster, name, 'enabled')
  const enrolled = await enrolling
  t.equal(enrolled.code, 0, enrolled.err)
  t.match(enrolled.out, /2 pods are in the mesh/)

  const alone = await run(['unenroll', 'pod/web', '-n', 'shop'])
  t.equal(alone.code, 0, alone.err)
  t.equal((await client.get(pods, { namespace: 'shop', name: 'web' })).metadata.labels?.[label], 'none')
  const late = await run(['unenroll', 'shop', '--wait', '--ready-timeout', '1ms'])
  t.equal(late.code, 2, 'pods that do not leave are an error')
  t.match(late.err, /pod cart is not out of the mesh yet/)
  t.equal((await client.get(namespaces, { name: 'shop' })).metadata.labels?.[label], undefined)
})

t.test('what does not exist is named, with what does', async t => {
  const cluster = await apiCluster(t)
  await running(cluster, ['web'])
  const rows = [
    { words: ['enroll', 'shpo'], says: /no namespace "shpo" \(there are: .*shop.*pod\/NAME/ },
    { words: ['enroll', 'cart.shop'], says: /no pod cart in namespace shop/ },
    { words: ['enroll', 'a.b.c'], says: /is not a pod/ },
    { words: ['enroll', 'shop', '--ready-timeout', 'x'], says: /--ready-timeout "x"/ }
  ]
  for (const { words, says } of rows) {
    const { code, err } = await cluster.run(words)
    t.equal(code, 1, words.join(' '))
    t.match(err, says)
  }
})

t.test('the connections that would end are counted at the agents', async t => {
  const connections = { inbound: [{}, {}], outbound: [{}] }
  const dump = {
    ...(JSON.parse(readFileSync(dumpFile, 'utf8')) as object),
    workloadState: { 'uid-web': { state: 'Up', info: { name: 'web', namespace: 'shop' }, connections } }
  }
  const inMesh = { namespace: 'shop', annotations: { [redirection]: 'enabled' } }
  const { kubeconfig } = await fakeCluster(t, {
    pods: [
      ztunnelPod('node-1', { 'GET /config_dump': dump }),
      nodeAgentPod('node-1', { 'GET /v1/pods': { pods: [] } }),
      { pod: fakePod('web', 'node-1', {}, inMesh) }
    ],
    objects: { namespaces: [space({ [label]: 'ambient' })] }
  })
  const { code, out, err } = await run(['unenroll', 'shop', '--dry-run'], { env: { KUBECONFIG: kubeconfig } })
  t.equal(code, 0, err)
  t.match(out, /web +node-1 +leaves +3/)
  t.match(out, /3 open connections through the mesh end/)
})

async function running({ client }: ApiCluster, names: readonly string[]): Promise<void> {
  await client.create(namespaces, space())
  for (const name of names) {
    const ref = { namespace: 'shop', name }
    await client.create(pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: ref,
      spec: { nodeName: 'node-1', containers: [{ name: 'c', image: 'i' }] }
    })
    await client.patch(pods, ref, { status: { phase: 'Running' } }, { kind: 'merge', subresource: 'status' })
  }
}

async function annotate({ client }: ApiCluster, name: string, value: string): Promise<void> {
  await client.patch(
    pods,
    { namespace: 'shop', name },
    { metadata: { annotations: { [redirection]: value } } },
    { kind: 'merge' }
  )
}
