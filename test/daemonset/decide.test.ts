import t from 'tap'
import { captureOf, decideEnrolment, defaultSelectors, readSelectors } from '../../daemonset/decide.ts'
import type { Pod } from '../../shared/kube/core-api.ts'
import type { Labels } from '../../shared/kube/object.ts'

const settings = {
  selectors: defaultSelectors,
  excludedNamespaces: new Set(['kube-system']),
  systemNamespace: 'istio-system',
  dnsCapture: false
}

interface Situation {
  readonly name: string
  readonly pod?: Labels
  readonly annotations?: Labels
  readonly namespace?: Labels
  readonly in?: string
  readonly hostNetwork?: boolean
  readonly phase?: 'Running' | 'Succeeded' | 'Failed'
  readonly expect: string
}

const mode = 'istio.io/dataplane-mode'
const situations: readonly Situation[] = [
  { name: 'a label on the namespace enrols its pods', namespace: { [mode]: 'ambient' }, expect: 'enrol' },
  { name: 'a label on the pod enrols it alone', pod: { [mode]: 'ambient' }, expect: 'enrol' },
  {
    name: 'a pod opts out of its namespace',
    namespace: { [mode]: 'ambient' },
    pod: { [mode]: 'none' },
    expect: 'not selected'
  },
  { name: 'no label, no mesh', expect: 'not selected' },
  { name: 'another value is none of ours', namespace: { [mode]: 'Kmesh' }, expect: 'not selected' },
  {
    name: 'a pod may say ambient where its namespace says none',
    namespace: { [mode]: 'none' },
    pod: { [mode]: 'ambient' },
    expect: 'enrol'
  },
  {
    name: 'a pod in the network of its node is never enrolled',
    namespace: { [mode]: 'ambient' },
    hostNetwork: true,
    expect: 'host network'
  },
  {
    name: 'any value of the sidecar status, even an empty one, keeps a pod out',
    namespace: { [mode]: 'ambient' },
    annotations: { 'sidecar.istio.io/status': '' },
    expect: 'has a sidecar'
  },
  {
    name: 'the label that asks for a sidecar says nothing',
    namespace: { [mode]: 'ambient' },
    pod: { 'sidecar.istio.io/inject': 'true' },
    expect: 'enrol'
  },
  {
    name: 'an excluded namespace wins over a label on the pod',
    in: 'kube-system',
    pod: { [mode]: 'ambient' },
    expect: 'excluded namespace'
  },
  {
    name: 'ztunnel itself is skipped',
    in: 'istio-system',
    namespace: { [mode]: 'ambient' },
    pod: { app: 'ztunnel' },
    expect: 'is a ztunnel'
  },
  {
    name: 'an application that calls itself ztunnel elsewhere is not',
    namespace: { [mode]: 'ambient' },
    pod: { app: 'ztunnel' },
    expect: 'enrol'
  },
  {
    name: 'a pod that succeeded is out',
    namespace: { [mode]: 'ambient' },
    phase: 'Succeeded',
    expect: 'has ended'
  },
  { name: 'a pod that failed is out', namespace: { [mode]: 'ambient' }, phase: 'Failed', expect: 'has ended' }
]

for (const situation of situations) {
  t.test(situation.name, async t => {
    const pod: Pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: 'web',
        namespace: situation.in ?? 'shop',
        labels: situation.pod ?? {},
        annotations: situation.annotations ?? {}
      },
      spec: { hostNetwork: situation.hostNetwork ?? false },
      status: { phase: situation.phase ?? 'Running' }
    }
    const decision = decideEnrolment(pod, situation.namespace ?? {}, settings)
    t.equal(decision.kind === 'enrol' ? 'enrol' : decision.reason, situation.expect)
  })
}

t.test('at CNI ADD the excluded namespaces are not asked again', async t => {
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'kube-system', labels: { [mode]: 'ambient' } }
  }
  t.equal(decideEnrolment(pod, {}, settings, { created: true }).kind, 'enrol')
})

const captures: readonly { name: string; annotations: Labels; dns?: boolean; expect: object }[] = [
  { name: 'no annotation', annotations: {}, expect: { inbound: true, dns: false, virtualInterfaces: [] } },
  {
    name: 'inbound is bypassed',
    annotations: { 'ambient.istio.io/bypass-inbound-capture': 'true' },
    expect: { inbound: false }
  },
  {
    name: 'a value that is no boolean is as if it were not there',
    annotations: { 'ambient.istio.io/bypass-inbound-capture': 'yes' },
    expect: { inbound: true }
  },
  {
    name: 'DNS is on for the node',
    annotations: { 'ambient.istio.io/dns-capture': 'T' },
    dns: true,
    expect: { dns: true }
  },
  {
    name: 'DNS is on for one pod',
    annotations: { 'ambient.istio.io/dns-capture': 'T' },
    expect: { dns: true }
  },
  {
    name: 'DNS is off for one pod',
    annotations: { 'ambient.istio.io/dns-capture': '0' },
    dns: true,
    expect: { dns: false }
  },
  {
    name: 'interfaces are names, and in an order of their own',
    annotations: {
      'istio.io/reroute-virtual-interfaces': ' tap1,docker0 ,, lo, "; drop, averyveryverylongname'
    },
    expect: { virtualInterfaces: ['docker0', 'tap1'] }
  }
]

for (const { name, annotations, dns = false, expect } of captures) {
  t.test(name, async t => t.match(captureOf(annotations, { dnsCapture: dns }), expect))
}

t.test('selectors from the chart are read, and refused with the place of the mistake', async t => {
  const value = [{ podSelector: { matchLabels: { a: 'b' } } }]
  t.match(readSelectors(value), value)
  t.throws(() => readSelectors('ambient'), /expected a list/)
  t.throws(() => readSelectors([{ podSelectors: {} }]), /\[0\]\.podSelectors: only/)
  t.throws(
    () => readSelectors([{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Is' }] } }]),
    /\[0\]\.podSelector\.matchExpressions\[0\]\.operator: expected In/
  )
})
