import t from 'tap'
import { ruleset, virtualAddresses } from '../../lab/service-nat.ts'
import { slicesOf } from '../../lab/controllers/endpoint-slice.ts'
import { chooseNode } from '../../lab/controllers/scheduler.ts'
import type { LabPod } from '../../lab/kinds.ts'
import { ip } from '../../shared/net/address.ts'
import type { EndpointSlice, Node, Service } from '../../shared/kube/core-api.ts'

const service = (spec: NonNullable<Service['spec']>): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'shop' },
  spec
})

const slice = (endpoints: NonNullable<EndpointSlice['endpoints']>, name = 'http'): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ports: [{ name, port: 8080, protocol: 'TCP' }],
  endpoints
})

const web = service({ clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80 }] })
const ready = { ready: true, serving: true, terminating: false }
const leaving = { ready: false, serving: true, terminating: true }
const broken = { ready: false, serving: false, terminating: false }

t.test('only endpoints that serve are behind an address', async t => {
  const behind = (...endpoints: NonNullable<EndpointSlice['endpoints']>) =>
    virtualAddresses([web], [slice(endpoints)])[0]?.endpoints.map(({ address }) => address)
  t.strictSame(
    behind(
      { addresses: ['10.244.1.2'], conditions: ready },
      { addresses: ['10.244.1.3'], conditions: broken }
    ),
    ['10.244.1.2']
  )
  t.strictSame(
    behind(
      { addresses: ['10.244.1.2'], conditions: ready },
      { addresses: ['10.244.1.3'], conditions: leaving }
    ),
    ['10.244.1.2']
  )
  t.strictSame(
    behind({ addresses: ['10.244.1.3'], conditions: leaving }),
    ['10.244.1.3'],
    'the last one serves until it is gone'
  )
  t.strictSame(behind(), [], 'an address without endpoints is still there, to be refused')
})

t.test('headless Services, other port names and other Services are left out', async t => {
  t.strictSame(virtualAddresses([service({ clusterIP: 'None', ports: [{ port: 80 }] })], []), [])
  t.strictSame(virtualAddresses([web], [slice([{ addresses: ['10.244.1.2'] }], 'grpc')])[0]?.endpoints, [])
  const other = {
    ...slice([{ addresses: ['10.244.1.2'] }]),
    metadata: { name: 'x', namespace: 'other', labels: { 'kubernetes.io/service-name': 'web' } }
  }
  t.strictSame(virtualAddresses([web], [other])[0]?.endpoints, [])
})

t.test('node ports, external addresses and stickiness become rules', async t => {
  const full = service({
    type: 'NodePort',
    clusterIP: '10.96.1.1',
    externalIPs: ['192.0.2.7'],
    sessionAffinity: 'ClientIP',
    ports: [{ name: 'http', port: 80, nodePort: 30080 }]
  })
  const rules = ruleset(
    { ipv4: ip('10.50.0.11') },
    virtualAddresses([full], [slice([{ addresses: ['10.244.1.2'] }, { addresses: ['10.244.2.2'] }])])
  )
  t.match(rules, '10.96.1.1 . tcp . 80 : goto')
  t.match(rules, '192.0.2.7 . tcp . 80 : goto')
  t.match(rules, '10.50.0.11 . tcp . 30080 : goto')
  t.match(rules, 'jhash ip saddr mod 2')
  t.match(rules, '10.244.2.2 . 10.244.2.2', 'a pod that reaches itself')
})

const pod = (name: string, port: number, extra: Partial<LabPod['spec'] & object> = {}): LabPod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name,
    namespace: 'shop',
    uid: name,
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: 'rs' }]
  },
  spec: { containers: [{ name: 'web', ports: [{ name: 'http', containerPort: port }] }], ...extra },
  status: { podIPs: [{ ip: `10.244.1.${port % 250}` }], conditions: [{ type: 'Ready', status: 'True' }] }
})

t.test('pods that give a named port different numbers are in different slices', async t => {
  const named = service({ ports: [{ name: 'http', port: 80, targetPort: 'http' }] })
  const slices = slicesOf(named, [pod('a', 8080), pod('b', 9090), pod('c', 8080)], 'IPv4')
  t.match(slices, [
    { ports: [{ port: 8080 }], endpoints: [{ targetRef: { name: 'a' } }, { targetRef: { name: 'c' } }] },
    { ports: [{ port: 9090 }], endpoints: [{ targetRef: { name: 'b' } }] }
  ])
  t.match(slicesOf(named, [], 'IPv4'), [{ endpoints: [] }], 'an empty slice stands for no pods')
})

t.test('pods of one owner are spread, and go only where their selector fits', async t => {
  const node = (name: string, labels = {}): Node => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels }
  })
  const nodes = [node('node1'), node('node2', { disk: 'ssd' })]
  t.equal(chooseNode(pod('a', 80), nodes, []), 'node1')
  t.equal(chooseNode(pod('a', 80), nodes, [pod('b', 80, { nodeName: 'node1' })]), 'node2')
  t.equal(chooseNode(pod('a', 80, { nodeSelector: { disk: 'ssd' } }), nodes, []), 'node2')
  t.equal(chooseNode(pod('a', 80, { nodeSelector: { disk: 'tape' } }), nodes, []), undefined)
  t.equal(chooseNode(pod('a', 80), [{ ...node('node1'), spec: { unschedulable: true } }], []), undefined)
})
