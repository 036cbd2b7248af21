/** The controllers over a real store; the test plays the kubelet, pod by pod. */
import t, { type Test } from 'tap'
import { allControllers } from '../../lab/controllers.ts'
import { runControllers } from '../../lab/controllers/reconciler.ts'
import { registerCluster } from '../../lab/cluster-objects.ts'
import {
  jobs,
  labDaemonSets,
  labDeployments,
  labPods,
  refOf,
  replicaSets,
  statefulSets,
  type LabPod,
  type LabPodStatus
} from '../../lab/kinds.ts'
import type { ObjectAccess } from '../../lab/api-store/object-access.ts'
import { ip } from '../../shared/net/address.ts'
import {
  configMaps,
  endpointSlices,
  namespaces,
  serviceAccounts,
  services
} from '../../shared/kube/core-api.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { startStore } from './api-store-start.ts'

const template = (version = 'v1') => ({
  metadata: { labels: { app: 'web' }, annotations: { version } },
  spec: { containers: [{ name: 'web', image: 'web', ports: [{ name: 'http', containerPort: 8080 }] }] }
})

const selector = { matchLabels: { app: 'web' } }

async function cluster(t: Test): Promise<ObjectAccess> {
  const { store, api } = await startStore(t)
  const { objects } = store
  const nodes = [1, 2].map(index => ({
    name: `node${index}`,
    ipv4: ip(`10.50.0.1${index}`),
    ipv6: undefined,
    podCidrs: [`10.244.${index}.0/24`],
    netns: ''
  }))
  registerCluster(objects, nodes)
  const bind = async (
    { namespace, name }: { namespace: string; name: string },
    node: string
  ): Promise<void> => {
    const body = {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name },
      target: { kind: 'Node', name: node }
    }
    const { status } = await api.post(`/api/v1/namespaces/${namespace}/pods/${name}/binding`, body)
    if (status > 201) throw new Error(`binding: ${status}`)
  }
  const stopping = new AbortController()
  t.teardown(() => stopping.abort())
  const output = new LogOutput({
    filter: { fallback: 'warn', targets: new Map() },
    format: 'plain',
    sink: { write: line => t.comment(line.trim()) }
  })
  runControllers(objects, allControllers({ bind, caPem: 'ROOT' }), output.logger('test'), stopping.signal)
  await until(() => objects.get(serviceAccounts, { namespace: 'default', name: 'default' }) !== undefined)
  return objects
}

/** What is expected comes with the next turns of the loop; fails by time. */
async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`never became true: ${holds.toString()}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

function podsOf(objects: ObjectAccess): readonly LabPod[] {
  return objects.list(labPods, { namespace: 'default' })
}

const byName = (a = '', b = ''): number => a.localeCompare(b)

let address = 1

function setStatus(objects: ObjectAccess, pod: LabPod, status: LabPodStatus): void {
  objects.edit(labPods, refOf(pod), current => ({ ...current, status: { ...current.status, ...status } }), {
    subresource: 'status'
  })
}

/** As a kubelet: bound pods become ready, deleted ones go. */
function playKubelet(objects: ObjectAccess, t: Test): void {
  const stop = objects.watch(labPods, {}, ({ type, object }) => {
    if (type === 'deleted') return
    if (object.metadata.deletionTimestamp !== undefined)
      objects.delete(labPods, refOf(object), { gracePeriodSeconds: 0 })
    else if (object.spec?.nodeName !== undefined && object.status?.podIP === undefined) {
      const podIP = `10.244.1.${(address += 1)}`
      setStatus(objects, object, {
        phase: 'Running',
        podIP,
        podIPs: [{ ip: podIP }],
        conditions: [{ type: 'Ready', status: 'True' }]
      })
    }
  })
  t.teardown(stop)
}

function create<T extends KubeObject>(objects: ObjectAccess, type: ResourceType<T>, object: T): void {
  objects.create(type, object)
}

t.test('a Deployment gets its pods, spread over the nodes, and replaces them step by step', async t => {
  const objects = await cluster(t)
  playKubelet(objects, t)
  create(objects, labDeployments, {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'default' },
    spec: { replicas: 2, selector, template: template() }
  })
  const status = () => objects.get(labDeployments, { namespace: 'default', name: 'web' })?.status
  await until(() => status()?.availableReplicas === 2)
  t.strictSame(
    podsOf(objects)
      .map(({ spec }) => spec?.nodeName)
      .toSorted(byName),
    ['node1', 'node2']
  )
  t.match(status()?.conditions, [{ type: 'Available', status: 'True' }, { reason: 'NewReplicaSetAvailable' }])

  const fewest: number[] = []
  const stop = objects.watch(labPods, {}, () =>
    fewest.push(podsOf(objects).filter(({ metadata }) => metadata.deletionTimestamp === undefined).length)
  )
  objects.edit(labDeployments, { namespace: 'default', name: 'web' }, current => ({
    ...current,
    spec: { ...current.spec, template: template('v2') }
  }))
  await until(
    () =>
      podsOf(objects).length === 2 &&
      podsOf(objects).every(({ metadata }) => metadata.annotations?.['version'] === 'v2')
  )
  stop()
  t.ok(Math.min(...fewest) >= 2, 'never fewer than wanted')
  await until(() => status()?.updatedReplicas === 2 && status()?.replicas === 2)
  t.equal(objects.list(replicaSets).length, 2, 'the old set is kept to roll back')

  objects.delete(labDeployments, { namespace: 'default', name: 'web' })
  await until(() => podsOf(objects).length === 0)
  t.equal(objects.list(replicaSets).length, 0, 'what it owned goes with it')
})

t.test('a pod that goes away is replaced, and one of the same labels is adopted', async t => {
  const objects = await cluster(t)
  playKubelet(objects, t)
  create(objects, labPods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'orphan', namespace: 'default', labels: { app: 'web' } },
    spec: template().spec
  })
  create(objects, replicaSets, {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'web', namespace: 'default' },
    spec: { replicas: 2, selector, template: template() }
  })
  const set = () => objects.get(replicaSets, { namespace: 'default', name: 'web' })?.status?.readyReplicas
  await until(() => set() === 2)
  t.ok(
    objects.get(labPods, { namespace: 'default', name: 'orphan' })?.metadata.ownerReferences?.[0]?.name ===
      'web'
  )
  objects.delete(labPods, { namespace: 'default', name: 'orphan' })
  await until(
    () =>
      podsOf(objects).length === 2 &&
      podsOf(objects).every(({ metadata }) => metadata.name !== 'orphan') &&
      set() === 2
  )
})

t.test('a StatefulSet starts its pods one after the other, with names that stay', async t => {
  const objects = await cluster(t)
  create(objects, statefulSets, {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'db', namespace: 'default' },
    spec: { replicas: 2, serviceName: 'db', selector, template: template() }
  })
  await until(() => podsOf(objects)[0]?.spec?.nodeName !== undefined)
  t.match(podsOf(objects), [{ metadata: { name: 'db-0' }, spec: { hostname: 'db-0', subdomain: 'db' } }])
  t.equal(podsOf(objects).length, 1, 'the second waits for the first')
  playKubelet(objects, t)
  await until(
    () => objects.get(statefulSets, { namespace: 'default', name: 'db' })?.status?.readyReplicas === 2
  )
  objects.delete(labPods, { namespace: 'default', name: 'db-1' })
  const uid = objects.get(labPods, { namespace: 'default', name: 'db-1' })?.metadata.uid
  await until(() => {
    const again = objects.get(labPods, { namespace: 'default', name: 'db-1' })
    return again !== undefined && again.metadata.uid !== uid
  })
})

t.test('a DaemonSet has one pod on every node, a Job ends', async t => {
  const objects = await cluster(t)
  create(objects, labDaemonSets, {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'agent', namespace: 'default' },
    spec: { selector, template: template() }
  })
  create(objects, jobs, {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: 'once', namespace: 'default' },
    spec: { backoffLimit: 1, template: { spec: { ...template().spec, restartPolicy: 'Never' } } }
  })
  const ofJob = () => podsOf(objects).filter(({ metadata }) => metadata.ownerReferences?.[0]?.kind === 'Job')
  await until(() => podsOf(objects).length === 3 && ofJob().length === 1)
  t.strictSame(
    podsOf(objects)
      .filter(pod => !ofJob().includes(pod))
      .map(({ spec }) => spec?.nodeName)
      .toSorted(byName),
    ['node1', 'node2']
  )
  const [first] = ofJob()
  if (first !== undefined) setStatus(objects, first, { phase: 'Failed' })
  await until(() => ofJob().length === 2)
  const second = ofJob().find(({ status }) => status?.phase !== 'Failed')
  if (second !== undefined) setStatus(objects, second, { phase: 'Succeeded' })
  const job = () => objects.get(jobs, { namespace: 'default', name: 'once' })?.status
  await until(() => job()?.conditions?.[0]?.type === 'Complete')
  t.match(job(), { succeeded: 1, failed: 1 })
})

t.test('a Service knows its ready pods, and names in a new namespace are ready for pods', async t => {
  const objects = await cluster(t)
  playKubelet(objects, t)
  create(objects, services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default' },
    spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] }
  })
  create(objects, labPods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'default', labels: { app: 'web' } },
    spec: template().spec
  })
  const slice = () =>
    objects.list(endpointSlices, { namespace: 'default', labelSelector: 'kubernetes.io/service-name=web' })[0]
  await until(() => slice()?.endpoints?.[0]?.conditions?.ready === true)
  t.match(slice(), { ports: [{ port: 8080 }], endpoints: [{ targetRef: { name: 'web' } }] })
  const pod = objects.get(labPods, { namespace: 'default', name: 'web' })
  if (pod !== undefined) setStatus(objects, pod, { conditions: [{ type: 'Ready', status: 'False' }] })
  await until(() => slice()?.endpoints?.[0]?.conditions?.ready === false)

  create(objects, namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  await until(
    () =>
      objects.get(serviceAccounts, { namespace: 'shop', name: 'default' }) !== undefined &&
      objects.get(configMaps, { namespace: 'shop', name: 'kube-root-ca.crt' }) !== undefined
  )
  t.match(objects.get(configMaps, { namespace: 'shop', name: 'kube-root-ca.crt' }), {
    data: { 'ca.crt': 'ROOT' }
  })
  objects.delete(configMaps, { namespace: 'shop', name: 'kube-root-ca.crt' })
  await until(() => objects.get(configMaps, { namespace: 'shop', name: 'kube-root-ca.crt' }) !== undefined)
})
