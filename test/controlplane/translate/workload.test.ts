import t from 'tap'
import type { Cluster } from '../../../controlplane/cluster/cluster.ts'
import type { WorkloadMessage } from '../../../controlplane/translate/messages.ts'
import {
  translatePod,
  translateServiceEntryEndpoints,
  translateSlice,
  translateWorkloadEntry
} from '../../../controlplane/translate/workload.ts'
import { shown, world } from '../world.ts'

const web = `
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: n1, serviceAccountName: web, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}], conditions: [{type: Ready, status: "True"}]}
`

/** The pod `shop/web` changed as a row says: `metadata`, `spec` and `status` are merged in. */
function podWith(change: { metadata?: object; spec?: object; status?: object }, more = ''): Cluster {
  const pod = {
    kind: 'Pod',
    metadata: { name: 'web', labels: { app: 'web' }, ...change.metadata },
    spec: { nodeName: 'n1', serviceAccountName: 'web', ...change.spec },
    status: {
      phase: 'Running',
      podIPs: [{ ip: '10.0.0.1' }],
      conditions: [{ type: 'Ready', status: 'True' }],
      ...change.status
    }
  }
  return world(`${JSON.stringify(pod)}\n${more === '' ? '' : `---\n${more}`}`)
}

function podOf(view: Cluster, key = 'shop/web'): WorkloadMessage | undefined {
  const pod = view.get('Pod', key)
  if (pod === undefined) throw new Error(`no pod ${key}`)
  return shown(translatePod(view, pod)) as WorkloadMessage | undefined
}

t.test('a pod, whole', async t => {
  const view = world(`${web}---
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}
---
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}
---
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
`)
  t.strictSame(podOf(view), {
    uid: 'Kubernetes//Pod/shop/web',
    name: 'web',
    namespace: 'shop',
    addresses: ['10.0.0.1'],
    network: 'net1',
    serviceAccount: 'web',
    node: 'n1',
    clusterId: 'Kubernetes',
    locality: { region: 'r', zone: 'z', subzone: 's' },
    workloadType: 'POD',
    workloadName: 'web',
    canonicalName: 'web',
    canonicalRevision: 'latest',
    services: { 'shop/web.shop.svc.cluster.local': { ports: [{ servicePort: 80, targetPort: 8080 }] } }
  })
})

t.test('which pods are workloads, and in which state', async t => {
  const terminating = { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } }
  const unready = { status: { conditions: [{ type: 'Ready', status: 'False' }] } }
  const rows = [
    { name: 'a ready one is healthy, which is the default', given: {}, expect: { status: undefined } },
    { name: 'an unready one is not', given: unready, expect: { status: 'UNHEALTHY' } },
    {
      name: 'nor one without the condition',
      given: { status: { conditions: [] } },
      expect: { status: 'UNHEALTHY' }
    },
    { name: 'nor a terminating one', given: terminating, expect: { status: 'UNHEALTHY' } },
    {
      name: 'a pending one with an address is known',
      given: { status: { phase: 'Pending', conditions: [] } },
      expect: { uid: 'Kubernetes//Pod/shop/web', status: 'UNHEALTHY' }
    },
    { name: 'without an address it is unknown', given: { status: { podIPs: [] } }, expect: undefined },
    { name: 'one that succeeded is gone', given: { status: { phase: 'Succeeded' } }, expect: undefined },
    { name: 'one that failed is gone', given: { status: { phase: 'Failed' } }, expect: undefined },
    {
      name: 'both families are addresses',
      given: { status: { podIPs: [{ ip: '10.0.0.1' }, { ip: '2001:db8::1' }] } },
      expect: { addresses: ['10.0.0.1', '2001:db8::1'] }
    },
    {
      name: 'an API server that knows only podIP',
      given: { status: { podIPs: undefined, podIP: '10.0.0.9' } },
      expect: { addresses: ['10.0.0.9'] }
    },
    {
      name: 'the network of its node',
      given: { spec: { hostNetwork: true } },
      expect: { networkMode: 'HOST_NETWORK' }
    }
  ]
  for (const { name, given, expect } of rows) {
    const workload = podOf(podWith(given))
    if (expect === undefined) t.equal(workload, undefined, name)
    else
      for (const [field, value] of Object.entries(expect))
        t.strictSame(workload?.[field as never], value, name)
  }
})

t.test('how a pod takes tunnels', async t => {
  const rows = [
    { name: 'not at all', given: {}, expect: [undefined, undefined] },
    {
      name: 'through its node, once the agent enrolled it',
      given: { metadata: { annotations: { 'ambient.istio.io/redirection': 'enabled' } } },
      expect: ['HBONE', undefined]
    },
    {
      name: 'not when the agent says otherwise',
      given: { metadata: { annotations: { 'ambient.istio.io/redirection': 'disabled' } } },
      expect: [undefined, undefined]
    },
    {
      name: 'by itself',
      given: { metadata: { labels: { 'networking.istio.io/tunnel': 'http' } } },
      expect: ['HBONE', true]
    },
    {
      name: 'by itself, among others',
      given: { metadata: { labels: { 'networking.istio.io/tunnel': 'x,http' } } },
      expect: ['HBONE', true]
    },
    {
      name: 'the mark of sidecars is no tunnel',
      given: { metadata: { labels: { 'security.istio.io/tlsMode': 'istio' } } },
      expect: [undefined, undefined]
    }
  ]
  for (const { name, given, expect } of rows) {
    const workload = podOf(podWith(given))
    t.strictSame([workload?.tunnelProtocol, workload?.nativeTunnel], expect, name)
  }
})

t.test('the names that telemetry shows', async t => {
  const owner = (kind: string, name: string, labels: object = {}, annotations: object = {}): object => ({
    generateName: 'x-',
    labels,
    annotations,
    ownerReferences: [{ apiVersion: 'v1', kind, name, uid: 'u', controller: true }]
  })
  const hash = { 'pod-template-hash': '5d4f' }
  const rows = [
    { name: 'a pod of its own', given: { labels: {} }, expect: 'web' },
    {
      name: 'a Deployment, not its ReplicaSet',
      given: owner('ReplicaSet', 'shop-5d4f', hash),
      expect: 'shop'
    },
    { name: 'a ReplicaSet of its own', given: owner('ReplicaSet', 'shop-5d4f'), expect: 'shop-5d4f' },
    {
      name: 'a Rollout',
      given: owner('ReplicaSet', 'shop-77', { 'rollouts-pod-template-hash': '77' }),
      expect: 'shop'
    },
    { name: 'a StatefulSet', given: owner('StatefulSet', 'db'), expect: 'db' },
    { name: 'a CronJob, not its Job', given: owner('Job', 'nightly-28123456'), expect: 'nightly' },
    { name: 'a Job', given: owner('Job', 'once'), expect: 'once' },
    {
      name: 'a DeploymentConfig',
      given: owner('ReplicationController', 'dc-1', {}, { 'openshift.io/deployment-config.name': 'dc' }),
      expect: 'dc'
    },
    {
      name: 'what a label says',
      given: owner('ReplicaSet', 'shop-5d4f', { ...hash, 'service.istio.io/workload-name': 'named' }),
      expect: 'named'
    },
    { name: 'no controller', given: { generateName: 'x-', labels: {} }, expect: 'web' }
  ]
  for (const { name, given, expect } of rows) {
    t.equal(podOf(podWith({ metadata: given }))?.workloadName, expect, name)
  }
  const canonical = [
    { labels: {}, expect: ['web', 'latest'] },
    { labels: { app: 'a', version: 'v' }, expect: ['a', 'v'] },
    {
      labels: { app: 'a', version: 'v', 'app.kubernetes.io/name': 'b', 'app.kubernetes.io/version': 'w' },
      expect: ['b', 'w']
    },
    {
      labels: {
        app: 'a',
        'app.kubernetes.io/name': 'b',
        'service.istio.io/canonical-name': 'c',
        'service.istio.io/canonical-revision': 'x'
      },
      expect: ['c', 'x']
    }
  ]
  for (const { labels, expect } of canonical) {
    const workload = podOf(podWith({ metadata: { labels } }))
    t.strictSame([workload?.canonicalName, workload?.canonicalRevision], expect, expect.join(' '))
  }
})

t.test('ports of the services that select a pod', async t => {
  const spec = {
    containers: [
      { name: 'c', ports: [{ name: 'web', containerPort: 8080 }] },
      { name: 'd', ports: [{ name: 'dns', containerPort: 53, protocol: 'UDP' }] }
    ],
    initContainers: [
      { name: 'sidecar', restartPolicy: 'Always', ports: [{ name: 'metrics', containerPort: 9090 }] },
      { name: 'once', ports: [{ name: 'setup', containerPort: 7 }] }
    ]
  }
  const rows = [
    { name: 'a number is itself', port: { port: 80, targetPort: 8000 }, expect: [80, 8000] },
    { name: 'none is the service port', port: { port: 80 }, expect: [80, 80] },
    { name: 'a name is that of a container port', port: { port: 80, targetPort: 'web' }, expect: [80, 8080] },
    { name: 'or of a native sidecar', port: { port: 80, targetPort: 'metrics' }, expect: [80, 9090] },
    {
      name: 'not of an init container that ends',
      port: { port: 80, targetPort: 'setup' },
      expect: undefined
    },
    { name: 'not of a UDP port', port: { port: 80, targetPort: 'dns' }, expect: undefined },
    {
      name: 'a name that nobody has leaves this port out',
      port: { port: 80, targetPort: 'no' },
      expect: undefined
    },
    {
      name: 'nor of what every object has',
      port: { port: 80, targetPort: 'constructor' },
      expect: undefined
    },
    { name: 'UDP is left out', port: { port: 80, targetPort: 80, protocol: 'UDP' }, expect: undefined }
  ]
  for (const { name, port, expect } of rows) {
    const service = {
      kind: 'Service',
      metadata: { name: 's' },
      spec: { selector: { app: 'web' }, ports: [port, { name: 'other', port: 1, targetPort: 2 }] }
    }
    const ports = podOf(podWith({ spec }, JSON.stringify(service)))?.services?.[
      'shop/s.shop.svc.cluster.local'
    ]?.ports
    t.strictSame(
      ports?.map(({ servicePort, targetPort }) => [servicePort, targetPort]),
      expect === undefined ? [[1, 2]] : [expect, [1, 2]],
      name
    )
  }
})

t.test('which services a pod belongs to', async t => {
  const service = (name: string, spec: string, namespace = 'shop'): string =>
    `kind: Service\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}\n---\n`
  const keys = (more: string, change: object = {}): readonly string[] =>
    Object.keys(podOf(podWith(change, more))?.services ?? {})
  t.strictSame(
    keys(service('s', '{selector: {app: web}}')),
    ['shop/s.shop.svc.cluster.local'],
    'by its labels'
  )
  t.strictSame(keys(service('s', '{selector: {app: web, x: y}}')), [], 'by all of them')
  t.strictSame(keys(service('s', '{}')), [], 'an empty selector selects nothing')
  t.strictSame(keys(service('s', '{selector: {app: web}}', 'other')), [], 'in its namespace only')
  t.strictSame(keys(service('s', '{type: ExternalName, selector: {app: web}}')), [], 'an alias is none')
  const slice = `
kind: EndpointSlice
metadata: {name: e, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: shop, name: web, uid: UID}}]`
  const uid = { metadata: { uid: 'u1', labels: {} } }
  t.strictSame(
    keys(service('s', '{}') + slice.replace('UID', 'u1'), uid),
    ['shop/s.shop.svc.cluster.local'],
    'by a slice that names it'
  )
  t.strictSame(
    keys(service('s', '{}') + slice.replace('UID', 'u0'), uid),
    [],
    'not one that names its predecessor'
  )
  const entry = 'kind: ServiceEntry\nmetadata: {name: e}\nspec: '
  t.strictSame(
    keys(
      `${entry}{hosts: [a.example, b.example], resolution: STATIC, workloadSelector: {labels: {app: web}}}`
    ),
    ['shop/a.example', 'shop/b.example'],
    'by a ServiceEntry, for each of its hosts'
  )
  t.strictSame(
    keys(
      `${service('s', '{selector: {app: other}}')}${entry}{hosts: [s.shop.svc.cluster.local], resolution: STATIC, workloadSelector: {labels: {app: web}}}`
    ),
    [],
    'not for a host that a Service has'
  )
})

t.test('a WorkloadEntry', async t => {
  const yaml = (spec: string, more = ''): Cluster =>
    world(`kind: WorkloadEntry\nmetadata: {name: vm, labels: {app: vm}}\nspec: ${spec}\n${more}`)
  const entryOf = (view: Cluster): WorkloadMessage => {
    const entry = view.get('WorkloadEntry', 'shop/vm')
    if (entry === undefined) throw new Error('no entry')
    return shown(translateWorkloadEntry(view, entry)) as WorkloadMessage
  }
  const spec =
    '{address: 192.0.2.1, serviceAccount: vm, locality: r/z/s, weight: 3, network: net2, labels: {version: v2}}'
  t.strictSame(entryOf(yaml(spec)), {
    uid: 'Kubernetes/networking.istio.io/WorkloadEntry/shop/vm',
    name: 'vm',
    namespace: 'shop',
    addresses: ['192.0.2.1'],
    network: 'net2',
    serviceAccount: 'vm',
    clusterId: 'Kubernetes',
    locality: { region: 'r', zone: 'z', subzone: 's' },
    capacity: { value: 3 },
    workloadType: 'POD',
    workloadName: 'vm',
    canonicalName: 'vm',
    canonicalRevision: 'v2'
  })
  t.match(entryOf(yaml('{address: vm.example}')), { hostname: 'vm.example', addresses: undefined }, 'by name')
  t.match(
    entryOf(yaml('{address: 192.0.2.1}', 'status: {conditions: [{type: Healthy, status: "False"}]}\n')),
    { status: 'UNHEALTHY' },
    'its health counts'
  )
  const entry =
    '---\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [h], workloadSelector: {labels: {app: vm}}, resolution: STATIC, ports: [{number: 80, name: http, targetPort: 8080}, {number: 81, name: x}]}\n'
  t.strictSame(
    entryOf(yaml('{address: 192.0.2.1, ports: {http: 9999}}', entry)).services,
    {
      'shop/h': {
        ports: [
          { servicePort: 80, targetPort: 9999 },
          { servicePort: 81, targetPort: 81 }
        ]
      }
    },
    'its ports override those of the ServiceEntry by name'
  )
  const service =
    '---\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: vm}, ports: [{name: http, port: 80, targetPort: web}, {name: x, port: 81, targetPort: 82}, {name: y, port: 83, targetPort: no}]}\n'
  t.strictSame(
    entryOf(yaml('{address: 192.0.2.1, ports: {web: 9999, x: 1234}}', service)).services,
    {
      'shop/s.shop.svc.cluster.local': {
        ports: [
          { servicePort: 80, targetPort: 9999 },
          { servicePort: 81, targetPort: 1234 }
        ]
      }
    },
    'a Service selects it too'
  )
})

t.test('endpoints of a ServiceEntry', async t => {
  const endpoints = (
    spec: string,
    more = '',
    metadata = '{name: e, labels: {app: e}}'
  ): readonly WorkloadMessage[] => {
    const view = world(`kind: ServiceEntry\nmetadata: ${metadata}\nspec: ${spec}\n${more}`)
    const entry = view.get('ServiceEntry', 'shop/e')
    if (entry === undefined) throw new Error('no entry')
    return shown(translateServiceEntryEndpoints(view, entry)) as readonly WorkloadMessage[]
  }
  t.strictSame(
    endpoints(
      '{hosts: [h], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 192.0.2.1, ports: {http: 8080}, network: far}, {address: 192.0.2.2}]}'
    ),
    [
      {
        uid: 'Kubernetes/networking.istio.io/ServiceEntry/shop/e/192.0.2.1',
        name: 'e',
        namespace: 'shop',
        addresses: ['192.0.2.1'],
        network: 'far',
        clusterId: 'Kubernetes',
        workloadType: 'POD',
        workloadName: 'e',
        canonicalName: 'e',
        canonicalRevision: 'latest',
        services: { 'shop/h': { ports: [{ servicePort: 80, targetPort: 8080 }] } }
      },
      {
        uid: 'Kubernetes/networking.istio.io/ServiceEntry/shop/e/192.0.2.2',
        name: 'e',
        namespace: 'shop',
        addresses: ['192.0.2.2'],
        clusterId: 'Kubernetes',
        workloadType: 'POD',
        workloadName: 'e',
        canonicalName: 'e',
        canonicalRevision: 'latest',
        services: { 'shop/h': { ports: [{ servicePort: 80, targetPort: 80 }] } }
      }
    ],
    'one workload each, and the network of one is not that of the next'
  )
  const hostnames = (list: readonly WorkloadMessage[]): readonly unknown[] => list.map(each => each.hostname)
  t.strictSame(
    hostnames(endpoints('{hosts: [a, b], resolution: DNS}')),
    ['a', 'b'],
    'resolved by DNS, each host is one'
  )
  t.strictSame(endpoints('{hosts: [a], resolution: NONE}'), [], 'passed through, none')
  t.strictSame(endpoints('{hosts: ["*.a"], resolution: DYNAMIC_DNS}'), [], 'a wildcard is no name to look up')
  t.strictSame(endpoints('{hosts: [a], resolution: STATIC}'), [], 'static without endpoints, none')
  t.strictSame(
    endpoints('{hosts: [a], resolution: DNS, workloadSelector: {labels: {x: y}}}'),
    [],
    'with a selector, those it selects instead'
  )
  const older =
    '---\nkind: ServiceEntry\nmetadata: {name: older, creationTimestamp: "2020-01-01T00:00:00Z"}\nspec: {hosts: [a], resolution: DNS}\n'
  const young = '{name: e, creationTimestamp: "2021-01-01T00:00:00Z"}'
  t.strictSame(
    endpoints('{hosts: [a], resolution: DNS}', older, young),
    [],
    'none when an older entry has the host'
  )
  t.strictSame(
    hostnames(endpoints('{hosts: [a, b], resolution: DNS}', older, young)),
    ['b'],
    'only those of the hosts that are left'
  )
})

t.test('slices that somebody wrote by hand', async t => {
  const view = (
    endpoints: string,
    ports = '[{name: http, port: 8080, protocol: TCP}]',
    type = 'IPv4'
  ): Cluster =>
    world(`
kind: Service
metadata: {name: s}
spec: {ports: [{name: http, port: 80}]}
---
kind: EndpointSlice
metadata: {name: e, labels: {kubernetes.io/service-name: s}}
addressType: ${type}
ports: ${ports}
endpoints: ${endpoints}
`)
  const slices = (cluster: Cluster): readonly WorkloadMessage[] => {
    const slice = cluster.get('EndpointSlice', 'shop/e')
    if (slice === undefined) throw new Error('no slice')
    return shown(translateSlice(cluster, slice)) as readonly WorkloadMessage[]
  }
  t.strictSame(slices(view('[{addresses: [192.0.2.1]}]')), [
    {
      uid: 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/e/192.0.2.1',
      name: 'e',
      namespace: 'shop',
      addresses: ['192.0.2.1'],
      clusterId: 'Kubernetes',
      services: { 'shop/s.shop.svc.cluster.local': { ports: [{ servicePort: 80, targetPort: 8080 }] } },
      networkMode: 'HOST_NETWORK'
    }
  ])
  t.match(slices(view('[{addresses: [192.0.2.1], conditions: {ready: false}}]')), [{ status: 'UNHEALTHY' }])
  t.strictSame(
    slices(view('[{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: shop, name: web, uid: u}}]')),
    [],
    'a pod is known from the pod'
  )
  t.strictSame(slices(view('[{addresses: [a.example]}]', '[]', 'FQDN')), [], 'names are none')
  t.equal(slices(view('[{addresses: [192.0.2.1]}, {addresses: [192.0.2.1]}]')).length, 1, 'each address once')
  t.strictSame(
    slices(
      view(
        '[{addresses: [192.0.2.1]}]',
        '[{name: dns, port: 53, protocol: UDP}, {name: other, port: 1, protocol: TCP}]'
      )
    )[0]?.services,
    { 'shop/s.shop.svc.cluster.local': { ports: [] } },
    'ports by the names of the service’s, TCP only'
  )
})
