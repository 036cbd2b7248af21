/** What `check` finds, by table, and how it says so. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { checks, checksReference, type CheckId, type Finding } from '../../cli/check/findings.ts'
import { findVersionSkew, podFindings } from '../../cli/check/mesh.ts'
import { findBlockingPolicies } from '../../cli/check/network-policies.ts'
import { findCalicoSettings, findCiliumSettings } from '../../cli/check/network-plugins.ts'
import { findClockSkew, findUnfitNodes } from '../../cli/check/nodes.ts'
import { findBypassableWaypoints } from '../../cli/check/waypoints.ts'
import type { MeshPod } from '../../cli/mesh-pods.ts'
import { configMaps, namespaces, nodes, type Node, type Pod } from '../../shared/kube/core-api.ts'
import type { NetworkPolicy } from '../../shared/kube/networking-api.ts'
import { namedType, type ResourceType } from '../../shared/kube/object.ts'
import type { Lease } from '../../cli/check/nodes.ts'
import { apiCluster } from './api-cluster.ts'
import { fakeCluster } from './fake-cluster.ts'
import { now, run } from './run-cli.ts'

const ids = (findings: readonly Finding[]): readonly string[] => findings.map(({ id }) => id)
const meta = (name: string, labels: Record<string, string> = {}) => ({ name, namespace: 'shop', labels })

const web: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: meta('web', { app: 'web' }),
  spec: { containers: [{ name: 'c', readinessProbe: {} } as never] }
}
const policy = (spec: NetworkPolicy['spec'] & object): NetworkPolicy => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: meta('p'),
  spec
})
const port = (number: number | string, endPort?: number) =>
  endPort === undefined ? { port: number } : { port: number, endPort }

const policies = [
  { name: 'no policy closes nothing', spec: undefined, expect: [] },
  { name: 'default deny', spec: {}, expect: ['UP0012'] },
  {
    name: 'the application is let in, the mesh is not',
    spec: { ingress: [{ ports: [port(8080)] }] },
    expect: ['UP0011']
  },
  { name: 'a named port is not ours', spec: { ingress: [{ ports: [port('http')] }] }, expect: ['UP0011'] },
  {
    name: 'UDP does not help',
    spec: { ingress: [{ ports: [{ protocol: 'UDP' as const, port: 15008 }] }] },
    expect: ['UP0011']
  },
  { name: 'port 15008 is let in', spec: { ingress: [{ ports: [port(8080), port(15008)] }] }, expect: [] },
  { name: 'a range around it', spec: { ingress: [{ ports: [port(15000, 15010)] }] }, expect: [] },
  { name: 'every port from somewhere', spec: { ingress: [{ from: [{ podSelector: {} }] }] }, expect: [] },
  {
    name: 'about other pods',
    spec: { podSelector: { matchLabels: { app: 'db' } } },
    expect: []
  },
  {
    name: 'out to the application only',
    spec: { policyTypes: ['Egress' as const], egress: [{ ports: [port(8080)] }] },
    expect: ['UP0013']
  },
  {
    name: 'out to DNS only is meant so',
    spec: { policyTypes: ['Egress' as const], egress: [{ ports: [port(53)] }] },
    expect: []
  },
  { name: 'out to everywhere', spec: { policyTypes: ['Egress' as const], egress: [{}] }, expect: [] }
]
for (const { name, spec, expect } of policies) {
  t.test(`network policies: ${name}`, async t => {
    const given = spec === undefined ? [] : [policy(spec)]
    t.same(ids(findBlockingPolicies(given, [web], { cilium: false })), expect)
  })
}

t.test('under Cilium, health checks need a rule of their own', async t => {
  const from = (cidr: string, except?: string[]) => [
    policy({ ingress: [{ from: [{ ipBlock: { cidr, ...(except === undefined ? {} : { except }) } }] }] })
  ]
  const found = (given: readonly NetworkPolicy[]) => ids(findBlockingPolicies(given, [web], { cilium: true }))
  t.same(found(from('10.0.0.0/8')), ['UP0014'])
  t.same(found(from('169.254.7.127/32')), [])
  t.same(found(from('0.0.0.0/0', ['169.254.0.0/16'])), ['UP0014'])
  t.same(found([policy({ ingress: [{ ports: [port(15008)] }] })]), [], 'from anywhere')
})

const cilium = (data: Record<string, string>) =>
  ids(findCiliumSettings({ apiVersion: 'v1', kind: 'ConfigMap', metadata: meta('cilium-config'), data }))
t.test('settings of network plug-ins that do not go with the mesh', async t => {
  t.same(findCiliumSettings(undefined), [])
  t.same(cilium({ 'cni-exclusive': 'false' }), [])
  t.same(cilium({}), ['UP0007'], 'exclusive is the default')
  t.same(cilium({ 'cni-exclusive': 'false', 'enable-bpf-masquerade': 'true' }), ['UP0008'])
  t.same(cilium({ 'cni-exclusive': 'false', 'kube-proxy-replacement': 'true' }), ['UP0009'])
  t.same(cilium({ 'cni-exclusive': 'false', 'bpf-lb-sock': 'true', 'bpf-lb-sock-hostns-only': 'true' }), [])
  const felix = (spec: object) =>
    ids(
      findCalicoSettings([{ apiVersion: 'x', kind: 'FelixConfiguration', metadata: meta('default'), spec }])
    )
  t.same(felix({ bpfEnabled: true }), ['UP0010'])
  t.same(felix({ bpfEnabled: true, bpfConnectTimeLoadBalancing: 'Disabled' }), [])
  t.same(felix({}), [])
})

const node = (name: string, nodeInfo: Record<string, string> = {}, ready = true): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  status: { nodeInfo, conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] }
})
t.test('nodes that do not fit', async t => {
  const found = (info: Record<string, string>) => ids(findUnfitNodes([node('n', info)]))
  t.same(found({ operatingSystem: 'windows' }), ['UP0006'])
  t.same(found({ operatingSystem: 'linux', kernelVersion: '4.18.0-553.el8' }), ['UP0005'])
  t.same(found({ kernelVersion: '6.1.0', containerRuntimeVersion: 'docker://28.0' }), ['UP0023'])
  t.same(found({ kernelVersion: '5.10.0', containerRuntimeVersion: 'containerd://2.2.0' }), [])
})

t.test('clocks are compared by the Leases of nodes that are ready', async t => {
  const found = (seconds: number, ready = true) => {
    const renewTime = new Date(now + seconds * 1000).toISOString()
    const lease: Lease = { apiVersion: 'x', kind: 'Lease', metadata: { name: 'n' }, spec: { renewTime } }
    return findClockSkew([lease], [node('n', {}, ready)], now).map(({ problem }) => problem)
  }
  t.same(found(-20), [])
  t.same(found(-300), ['300 s behind'])
  t.same(found(30), ['30 s ahead'])
  t.same(found(-300, false), [], 'a node that is gone renews nothing')
})

t.test('a waypoint is bypassed unless pods let only it in', async t => {
  const space = {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'shop', labels: { 'istio.io/use-waypoint': 'w' } }
  }
  const gateway = (labels: Record<string, string>) => ({
    apiVersion: 'x',
    kind: 'Gateway',
    metadata: meta('w', labels)
  })
  const atWaypoint = {
    apiVersion: 'x',
    kind: 'AuthorizationPolicy',
    metadata: meta('l7'),
    spec: { targetRefs: [{ kind: 'Service', name: 'web', group: '' }] }
  }
  const onlyIt = {
    apiVersion: 'x',
    kind: 'AuthorizationPolicy',
    metadata: meta('only'),
    spec: { rules: [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/w'] } }] }] }
  }
  const found = (labels: Record<string, string>, given: object[]) =>
    ids(findBypassableWaypoints([space], [gateway(labels)], given as never))
  t.same(found({}, [atWaypoint]), ['UP0021'])
  t.same(found({}, [atWaypoint, onlyIt]), [])
  t.same(found({}, []), [], 'nothing is enforced there')
  t.same(found({ 'istio.io/waypoint-for': 'all' }, [atWaypoint]), [])
})

t.test('pods and their certificates', async t => {
  const pod = (fields: object): MeshPod =>
    ({
      namespace: 'shop',
      name: 'web',
      rules: 'ok',
      proxy: 'ok',
      problem: '',
      enrolment: { wantedBy: 'namespace label', state: 'enabled', reason: '' },
      ...fields
    }) as MeshPod
  t.same(podFindings(pod({ certificate: 3_600_000 })), [])
  t.match(podFindings(pod({ certificate: 60_000 })), [
    { id: 'UP0019', severity: 'warning', problem: /1 min/ }
  ])
  t.match(podFindings(pod({ certificate: -1 })), [{ id: 'UP0019', severity: 'error', problem: /expired/ }])
  t.match(podFindings(pod({ certificate: 'CA refused' })), [{ id: 'UP0019', problem: 'CA refused' }])
  t.match(podFindings(pod({ rules: 'absent' })), [{ id: 'UP0018' }])
})

t.test('only our programs are compared by version', async t => {
  const agent = (labels: Record<string, string>): Pod => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'a', namespace: 'istio-system', labels }
  })
  const ours = { 'app.kubernetes.io/part-of': 'underpass' }
  const found = (version: string) =>
    ids(findVersionSkew([agent({ ...ours, 'app.kubernetes.io/version': version })], '0.3.0'))
  t.same(found('0.2.0'), [])
  t.same(found('0.1.0'), ['UP0016'])
  t.same(findVersionSkew([agent({ 'app.kubernetes.io/version': '1.32.0' })], '0.3.0'), [])
})

t.test('a cluster without a mesh: nothing is in the way, and the mesh is missing', async t => {
  const { client, run } = await apiCluster(t)
  const pre = await run(['check', '--pre'])
  t.equal(pre.code, 0, pre.out + pre.err)
  t.match(pre.out, /0 errors/)
  const { code, out } = await run(['check', '-o', 'json'])
  t.equal(code, 2)
  const { kind, items } = JSON.parse(out) as { kind: string; items: Finding[] }
  t.equal(kind, 'FindingList')
  t.match(items[0], { id: 'UP0015', severity: 'error', remedy: /install/ })

  await client.create(nodes, node('n', { operatingSystem: 'windows' }))
  await client.create(leases, {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { namespace: 'kube-node-lease', name: 'n' },
    spec: { renewTime: new Date(now - 600_000).toISOString().replace('Z', '000Z') }
  })
  await client.create(configMaps, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'kube-system', name: 'cilium-config' },
    data: { 'cni-exclusive': 'true' }
  })
  await client.create(namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'istio-system', labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } }
  })
  const found = await run(['check', '--pre'])
  t.equal(found.code, 2)
  for (const id of ['UP0006', 'UP0007', 'UP0022']) t.match(found.out, id)
  t.match(found.out, /error UP0007 configmap kube-system\/cilium-config: .*\n {2}set `cni\.exclusive=false`/)
})

const leases: ResourceType<Lease> = namedType('coordination.k8s.io', 'v1', 'Lease')

t.test('what may not be read is named, and the rest is checked', async t => {
  const { kubeconfig } = await fakeCluster(t, {
    pods: [],
    forbid: ['GET /api/v1/nodes', 'POST /apis/authorization.k8s.io']
  })
  const { out, code } = await run(['check', '--pre'], { env: { KUBECONFIG: kubeconfig } })
  t.match(out, /warning UP0002 you: not checked for lack of: list nodes/, String(code))
})

t.test('docs/reference/checks.md is what the checks say', async t => {
  const file = path.resolve(import.meta.dirname, '../../docs/reference/checks.md')
  t.equal(
    readFileSync(file, 'utf8'),
    checksReference(),
    'run: node scripts/reference-checks.ts > docs/reference/checks.md'
  )
  t.same(
    Object.keys(checks),
    Object.keys(checks).toSorted(),
    'ids are in order, so that a new one goes to the end'
  )
  for (const id of Object.keys(checks) as CheckId[]) t.match(id, /^UP\d{4}$/)
})
