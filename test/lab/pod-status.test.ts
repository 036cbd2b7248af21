import t from 'tap'
import type { ContainerState, LabPod } from '../../lab/kinds.ts'
import { podStatus, type ContainerReport, type PodReport } from '../../lab/pod-status.ts'
import { ProbeVerdict } from '../../lab/probes.ts'
import { isEnrolled } from '../../lab/cni.ts'
import { hostsFile, resolvConf } from '../../lab/pod-files.ts'
import { ip } from '../../shared/net/address.ts'

const pod = (spec: LabPod['spec'] = {}, metadata: Partial<LabPod['metadata']> = {}): LabPod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web-1', namespace: 'shop', ...metadata },
  spec
})

const running: ContainerState = { running: { startedAt: '2026-01-01T00:00:00Z' } }
const waiting: ContainerState = { waiting: { reason: 'ContainerCreating' } }
const ended = (exitCode: number): ContainerState => ({
  terminated: { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error', startedAt: '', finishedAt: '' }
})

const container = (state: ContainerState, extra: Partial<ContainerReport> = {}): ContainerReport => ({
  name: 'web',
  image: 'web',
  says: '',
  pid: undefined,
  state,
  lastState: {},
  started: state.running !== undefined,
  ready: state.running !== undefined,
  restarts: 0,
  sidecar: false,
  ...extra
})

const report = (main: ContainerReport[], init: ContainerReport[] = []): PodReport => ({
  ips: ['10.244.1.2', 'fd00::2'],
  hostIp: '10.50.0.11',
  startedAt: 0,
  sandbox: true,
  main,
  init
})

const situations: readonly (readonly [
  claim: string,
  spec: LabPod['spec'],
  report: PodReport,
  phase: string,
  ready: string
])[] = [
  ['a running, ready container', {}, report([container(running)]), 'Running', 'True'],
  ['one that is not ready', {}, report([container(running, { ready: false })]), 'Running', 'False'],
  ['one that starts', {}, report([container(waiting)]), 'Pending', 'False'],
  ['one between two restarts', {}, report([container(waiting, { lastState: ended(1) })]), 'Running', 'False'],
  ['a job that succeeded', { restartPolicy: 'Never' }, report([container(ended(0))]), 'Succeeded', 'False'],
  ['a job that failed', { restartPolicy: 'Never' }, report([container(ended(3))]), 'Failed', 'False'],
  [
    'a job that will be tried again',
    { restartPolicy: 'OnFailure' },
    report([container(ended(3))]),
    'Running',
    'False'
  ],
  ['an init container that runs', {}, report([container(waiting)], [container(running)]), 'Pending', 'False'],
  [
    'an init container that failed for good',
    { restartPolicy: 'Never' },
    report([container(waiting)], [container(ended(1))]),
    'Failed',
    'False'
  ],
  [
    'a sidecar that has started',
    {},
    report([container(running)], [container(running, { sidecar: true })]),
    'Running',
    'True'
  ],
  [
    'a sidecar that is not ready',
    {},
    report([container(running)], [container(running, { sidecar: true, ready: false })]),
    'Running',
    'False'
  ]
]

t.test('the phase and readiness of a pod follow from its containers', async t => {
  for (const [claim, spec, containers, phase, ready] of situations) {
    const status = podStatus(pod(spec), containers, 1000)
    t.equal(status.phase, phase, claim)
    t.equal(status.conditions?.find(({ type }) => type === 'Ready')?.status, ready, claim)
  }
})

t.test('a condition keeps its time while it does not change, and those of others stay', async t => {
  const first = podStatus(pod(), report([container(running)]), 1000)
  const known = {
    ...pod(),
    status: {
      ...first,
      conditions: [...(first.conditions ?? []), { type: 'example.org/gate', status: 'True' as const }]
    }
  }
  const second = podStatus(known, report([container(running)]), 60_000)
  t.strictSame(second.conditions?.slice(0, 5), first.conditions)
  t.equal(second.conditions?.at(-1)?.type, 'example.org/gate')
})

t.test('a probe turns after as many attempts in a row as its thresholds say', async t => {
  const verdict = new ProbeVerdict({ failureThreshold: 3, successThreshold: 2 }, true)
  t.strictSame(
    [false, false, true, false, false, false].map(ok => verdict.count(ok)),
    [true, true, true, true, true, false]
  )
  t.strictSame(
    [true, true].map(ok => verdict.count(ok)),
    [false, true]
  )
})

const ambient = { 'istio.io/dataplane-mode': 'ambient' }
const enrolment: readonly (readonly [
  claim: string,
  pod: LabPod,
  namespaceLabels: Record<string, string>,
  enrolled: boolean
])[] = [
  ['its namespace is labelled', pod(), ambient, true],
  ['it is labelled itself', pod({}, { labels: ambient }), {}, true],
  ['it declines', pod({}, { labels: { 'istio.io/dataplane-mode': 'none' } }), ambient, false],
  ['nobody asks', pod(), {}, false],
  ['it is on the host network', pod({ hostNetwork: true }), ambient, false],
  ['it has a sidecar', pod({}, { annotations: { 'sidecar.istio.io/status': '' } }), ambient, false],
  ['its namespace is excluded', pod({}, { namespace: 'kube-system' }), ambient, false]
]

t.test('the plug-in asks the node agent of exactly the pods that are to be enrolled', async t => {
  for (const [claim, candidate, labels, enrolled] of enrolment)
    t.equal(isEnrolled(candidate, labels), enrolled, claim)
})

t.test('a pod finds the cluster by its resolv.conf and itself by its hosts', async t => {
  t.equal(
    resolvConf(pod()),
    'nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n'
  )
  t.equal(resolvConf(pod({ hostNetwork: true })), 'nameserver 10.96.0.10\n', 'the node’s own')
  t.match(resolvConf(pod({ hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' })), 'search shop.svc')
  t.equal(
    resolvConf(
      pod({
        dnsPolicy: 'None',
        dnsConfig: { nameservers: ['192.0.2.1'], options: [{ name: 'ndots', value: '1' }] }
      })
    ),
    'nameserver 192.0.2.1\noptions ndots:1\n'
  )
  t.match(
    hostsFile(pod({ hostname: 'web-0', subdomain: 'web' }), [ip('10.244.1.2')]),
    '10.244.1.2 web-0.web.shop.svc.cluster.local web-0'
  )
})
