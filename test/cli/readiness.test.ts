/** Decisions of installing, by table: readiness, what is in the way, which versions may follow, definitions. */
import t from 'tap'
import type { Pod } from '../../shared/kube/core-api.ts'
import type { CustomResourceDefinition } from '../../shared/kube/definitions.ts'
import { changedFields, withoutServerFields } from '../../cli/install/changes.ts'
import { compareDefinition, isBefore } from '../../cli/install/definitions.ts'
import { findObstacles } from '../../cli/install/in-the-way.ts'
import type { Manifest } from '../../cli/install/manifest.ts'
import { cleanupPod, problemOf } from '../../cli/install/node-cleanup.ts'
import { ofNextGeneration } from '../../cli/install/replace.ts'
import { daemonSetRollout, deploymentRollout, podTrouble } from '../../cli/install/readiness.ts'
import { skewOf } from '../../cli/install/versions.ts'

const pod = (status: NonNullable<Pod['status']>): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'n' },
  status
})
const container = (fields: object) => ({
  phase: 'Running' as const,
  containerStatuses: [{ name: 'c', ready: false, restartCount: 3, image: 'r/i:1', ...fields }]
})

const troubles = [
  {
    name: 'a ready pod has none',
    status: { phase: 'Running' as const, conditions: [{ type: 'Ready', status: 'True' as const }] },
    expect: undefined
  },
  {
    name: 'no node takes it',
    status: {
      phase: 'Pending' as const,
      conditions: [{ type: 'PodScheduled', status: 'False' as const, message: '0/2 nodes are available' }]
    },
    expect: { kind: 'stuck', text: /cannot be scheduled: 0\/2 nodes/ }
  },
  {
    name: 'an image that is not there',
    status: container({ state: { waiting: { reason: 'ImagePullBackOff', message: 'Back-off\nx' } } }),
    expect: { kind: 'stuck', text: /image r\/i:1 cannot be pulled \(ImagePullBackOff\): Back-off$/ }
  },
  {
    name: 'a crash loop',
    status: container({
      state: { waiting: { reason: 'CrashLoopBackOff' } },
      lastState: { terminated: { exitCode: 78 } }
    }),
    expect: { kind: 'crashing', container: 'c', text: /exit code 78, 3 restarts/ }
  },
  {
    name: 'out of memory',
    status: container({ state: { terminated: { reason: 'OOMKilled', exitCode: 137 } } }),
    expect: { kind: 'crashing', text: /out of memory/ }
  },
  {
    name: 'a container that cannot be made',
    status: container({
      state: { waiting: { reason: 'CreateContainerConfigError', message: 'configmap "x" not found' } }
    }),
    expect: { kind: 'stuck', text: /CreateContainerConfigError: configmap "x" not found/ }
  },
  {
    name: 'running and not ready yet',
    status: container({ state: { running: {} } }),
    expect: { kind: 'starting', text: /not ready yet/ }
  },
  {
    name: 'just made',
    status: { phase: 'Pending' as const },
    expect: { kind: 'starting', text: /being started/ }
  }
]
for (const { name, status, expect } of troubles) {
  t.test(`why a pod is not ready: ${name}`, async t => {
    if (expect === undefined) t.equal(podTrouble(pod(status)), undefined)
    else t.match(podTrouble(pod(status)), expect)
  })
}

const head = { apiVersion: 'apps/v1', metadata: { name: 'x', generation: 2 } }
t.test('a rollout is done when the newest generation runs everywhere', async t => {
  const set = (status: object) => daemonSetRollout({ ...head, kind: 'DaemonSet', status })
  const all = { desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2 }
  t.match(set({ ...all, observedGeneration: 2 }), { done: true, ready: 2, wanted: 2 })
  t.match(set({ ...all, observedGeneration: 1 }), { done: false })
  t.match(set({ ...all, observedGeneration: 2, updatedNumberScheduled: 1 }), { done: false, ready: 1 })
  t.match(daemonSetRollout({ ...head, kind: 'DaemonSet' }), { done: false })
  const deployment = (status: object) =>
    deploymentRollout({ ...head, kind: 'Deployment', spec: { replicas: 2 }, status })
  const up = { replicas: 2, updatedReplicas: 2, availableReplicas: 2, observedGeneration: 2 }
  t.match(deployment(up), { done: true })
  t.match(deployment({ ...up, replicas: 3 }), { done: false }, 'an old pod is still there')
})

const object = (kind: string, metadata: object, rest: object = {}): Manifest => ({
  apiVersion: 'apps/v1',
  kind,
  metadata: { name: 'x', ...metadata },
  ...rest
})
const obstacles = [
  {
    name: "Istio's node agent in kube-system",
    object: object('DaemonSet', { namespace: 'kube-system', labels: { 'k8s-app': 'istio-cni-node' } }),
    expect: 'node-agent'
  },
  {
    name: 'a revision of istiod elsewhere',
    object: object('Deployment', { namespace: 'mesh', name: 'istiod-canary', labels: { app: 'istiod' } }),
    expect: 'control-plane'
  },
  {
    name: 'an injector',
    object: object(
      'MutatingWebhookConfiguration',
      {},
      { webhooks: [{ clientConfig: { service: { name: 'istiod' } } }] }
    ),
    expect: 'control-plane'
  },
  {
    name: 'an endpoint of istiod that somebody wrote',
    object: object('EndpointSlice', {
      namespace: 'istio-system',
      labels: { 'kubernetes.io/service-name': 'istiod' }
    }),
    expect: 'control-plane'
  },
  {
    name: 'an endpoint that Kubernetes wrote',
    object: object('EndpointSlice', {
      namespace: 'istio-system',
      labels: { 'kubernetes.io/service-name': 'istiod', 'endpointslice.kubernetes.io/managed-by': 'c' }
    }),
    expect: undefined
  },
  {
    name: 'our own',
    object: object('DaemonSet', { labels: { app: 'ztunnel', 'app.kubernetes.io/managed-by': 'underpass' } }),
    expect: undefined
  },
  {
    name: "our chart's release",
    object: object('DaemonSet', {
      labels: {
        app: 'ztunnel',
        'app.kubernetes.io/part-of': 'underpass',
        'app.kubernetes.io/managed-by': 'Helm'
      }
    }),
    expect: 'ztunnel'
  },
  { name: "somebody's web shop", object: object('Deployment', { labels: { app: 'web' } }), expect: undefined }
]
for (const { name, object, expect } of obstacles) {
  t.test(`in the way: ${name}: ${expect ?? 'no'}`, async t => {
    t.equal(findObstacles([object])[0]?.part, expect)
  })
}

const versions = [
  { from: '0.1.0', to: '0.1.0', expect: { kind: 'same' } },
  { from: '0.1.0', to: '0.2.3', expect: { kind: 'allowed', direction: 'up' } },
  { from: '0.2.0', to: '0.1.9', expect: { kind: 'allowed', direction: 'down' } },
  { from: '0.1.0', to: '0.3.0', expect: { kind: 'too far' } },
  { from: '1.0.0', to: '2.0.0', expect: { kind: 'too far' } },
  { from: '', to: '0.1.0', expect: { kind: 'too far', why: /unknown/ } }
]
for (const { from, to, expect } of versions) {
  t.test(`from version ${from || 'unknown'} to ${to}: ${expect.kind}`, async t => {
    t.match(skewOf(from, to), expect)
  })
}

t.test('versions are compared by numbers', async t => {
  t.ok(isBefore('v1.9.0', 'v1.10.0'))
  t.notOk(isBefore('v1.6.0', 'v1.6.0'))
  t.notOk(isBefore('v2.0.0', 'v1.9.9'))
})

t.test('a definition is older when it serves less or says so', async t => {
  const definition = (versions: string[], bundle?: string): CustomResourceDefinition => ({
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: 'x',
      ...(bundle === undefined ? {} : { annotations: { 'gateway.networking.k8s.io/bundle-version': bundle } })
    },
    spec: {
      group: 'g',
      names: { kind: 'X', plural: 'xs' },
      versions: versions.map(name => ({ name, served: true }))
    }
  })
  t.match(compareDefinition(definition(['v1']), undefined), { kind: 'absent' })
  t.match(compareDefinition(definition(['v1', 'v2']), definition(['v1'])), { kind: 'older', lacks: /v2/ })
  t.match(compareDefinition(definition(['v1']), definition(['v1', 'v2'])), { kind: 'present' })
  t.match(compareDefinition(definition(['v1'], 'v1.6.0'), definition(['v1'], 'v1.2.0')), { kind: 'older' })
  t.match(compareDefinition(definition(['v1'], 'v1.6.0'), definition(['v1'], 'v1.7.0')), { kind: 'present' })
})

t.test('changed fields are named, what the server keeps is not', async t => {
  const before = object(
    'Deployment',
    { resourceVersion: '1' },
    { spec: { a: [1, 2], b: { c: 1 } }, status: { x: 1 } }
  )
  const after = object(
    'Deployment',
    { resourceVersion: '2' },
    { spec: { a: [1, 3], b: { d: 1 } }, status: { x: 2 } }
  )
  t.same(changedFields(before, after), ['spec.a[1]', 'spec.b.c', 'spec.b.d'])
})

t.test('adopted pods are never of the generation of the DaemonSet that adopts them', async t => {
  const key = 'deprecated.daemonset.template.generation'
  const generation = (metadata: object, kind = 'DaemonSet') =>
    ofNextGeneration(object(kind, { annotations: { a: 'b' } }), object(kind, metadata)).metadata.annotations
  t.same(generation({ annotations: { [key]: '7' } }), { a: 'b', [key]: '8' })
  t.same(generation({ generation: 3 }), { a: 'b', [key]: '4' })
  t.same(
    generation({ generation: 3 }, 'Deployment'),
    { a: 'b' },
    'that of a Deployment is in its ReplicaSets'
  )
  t.same(
    withoutServerFields(object('DaemonSet', { annotations: { [key]: '7', a: 'b' } })).metadata.annotations,
    { a: 'b' }
  )
})

t.test('the pod that cleans a node runs the agent without its probes', async t => {
  const agent = {
    ...head,
    kind: 'DaemonSet',
    spec: {
      template: {
        spec: {
          hostNetwork: true,
          containers: [{ name: 'a', args: ['/app/daemonset/main.js'], readinessProbe: {}, image: 'i' }]
        }
      }
    }
  }
  t.match(cleanupPod(agent, 'node1'), {
    metadata: { name: 'underpass-uninstall-node1' },
    spec: {
      nodeName: 'node1',
      hostNetwork: true,
      initContainers: [{ args: ['/app/daemonset/main.js', 'uninstall'], image: 'i' }],
      containers: [{ args: ['/app/daemonset/main.js', 'inventory'], readinessProbe: undefined }]
    }
  })
})

t.test('a node is clean when nothing is left and the pod ended well', async t => {
  const ended = (phase: 'Succeeded' | 'Failed') => pod({ phase })
  t.equal(problemOf(ended('Succeeded'), 'removed: a\nwould remove: folder /var/run/ztunnel'), undefined)
  t.match(problemOf(ended('Succeeded'), 'would remove: 3 rules in /run/netns/x'), /still there: 3 rules/)
  t.match(problemOf(ended('Failed'), 'removed: a\nno permission'), /failed: no permission/)
  t.match(problemOf(undefined, ''), /did not end within 120 s/)
})
