/** What `kubectl get` shows, and in which order versions are preferred. */
import t from 'tap'
import type { ApiObject } from '../../lab/api-store/object.ts'
import { builtinColumns } from '../../lab/api-store/rest/columns.ts'
import { humanDuration } from '../../lab/api-store/rest/duration.ts'
import { valuesAt } from '../../lab/api-store/rest/json-path.ts'
import { podReady, podRestarts, podStatus } from '../../lab/api-store/rest/pod-summary.ts'
import { compareVersions } from '../../lab/api-store/rest/versions.ts'

const metadata = { name: 'x', uid: 'u', resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' }
const now = Date.parse('2026-01-01T01:00:00Z')

t.test('durations take as few characters as kubectl does', async t => {
  const [second, minute, hour, day] = [1000, 60_000, 3_600_000, 86_400_000]
  const cases: readonly [number, string][] = [
    [-5 * second, '<invalid>'],
    [-500, '0s'],
    [0, '0s'],
    [119 * second, '119s'],
    [120 * second, '2m'],
    [125 * second, '2m5s'],
    [10 * minute + second, '10m'],
    [179 * minute, '179m'],
    [3 * hour, '3h'],
    [3 * hour + 20 * minute, '3h20m'],
    [8 * hour + minute, '8h'],
    [47 * hour, '47h'],
    [2 * day, '2d'],
    [2 * day + hour, '2d1h'],
    [8 * day + hour, '8d'],
    [729 * day, '729d'],
    [730 * day, '2y'],
    [3 * 365 * day + 12 * day, '3y12d'],
    [9 * 365 * day, '9y']
  ]
  for (const [ms, text] of cases) t.equal(humanDuration(ms), text)
})

t.test('a pod is summed up in one word', async t => {
  const pod = (spec: object, status: object, more: object = {}): ApiObject => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...metadata, ...more },
    spec: { containers: [{ name: 'a' }, { name: 'b' }], ...spec },
    status
  })
  const running = { ready: true, restartCount: 0, state: { running: {} } }
  const waiting = (reason: string): object => ({
    ready: false,
    restartCount: 3,
    state: { waiting: { reason } }
  })
  const ended = (exitCode: number, reason?: string): object => ({
    ready: false,
    restartCount: 1,
    state: { terminated: { exitCode, ...(reason === undefined ? {} : { reason }) } },
    lastState: { terminated: { finishedAt: '2026-01-01T00:58:00Z' } }
  })
  const cases: readonly [string, ApiObject, string, string, string][] = [
    ['nothing known', pod({}, {}), '0/2', 'Unknown', '0'],
    ['not placed', pod({}, { phase: 'Pending' }), '0/2', 'Pending', '0'],
    ['running', pod({}, { phase: 'Running', containerStatuses: [running, running] }), '2/2', 'Running', '0'],
    [
      'one crashes',
      pod({}, { phase: 'Running', containerStatuses: [running, waiting('CrashLoopBackOff')] }),
      '1/2',
      'CrashLoopBackOff',
      '3'
    ],
    [
      'one failed a while ago',
      pod({}, { phase: 'Running', containerStatuses: [running, ended(1, 'Error')] }),
      '1/2',
      'Error',
      '1 (2m ago)'
    ],
    [
      'ended by a number',
      pod({}, { phase: 'Failed', containerStatuses: [ended(3)] }),
      '0/2',
      'ExitCode:3',
      '1 (2m ago)'
    ],
    ['evicted', pod({}, { phase: 'Failed', reason: 'Evicted' }), '0/2', 'Evicted', '0'],
    [
      'one done, one running and ready',
      pod(
        {},
        {
          phase: 'Running',
          conditions: [{ type: 'Ready', status: 'True' }],
          containerStatuses: [running, ended(0, 'Completed')]
        }
      ),
      '1/2',
      'Running',
      '1 (2m ago)'
    ],
    [
      'one done, one running and not ready',
      pod({}, { phase: 'Running', containerStatuses: [running, ended(0, 'Completed')] }),
      '1/2',
      'NotReady',
      '1 (2m ago)'
    ],
    [
      'an init container works',
      pod(
        { initContainers: [{ name: 'i' }, { name: 'j' }] },
        {
          phase: 'Pending',
          initContainerStatuses: [
            { name: 'i', state: { terminated: { exitCode: 0 } } },
            { name: 'j', state: { running: {} } }
          ]
        }
      ),
      '0/2',
      'Init:1/2',
      '0'
    ],
    [
      'an init container fails',
      pod(
        { initContainers: [{ name: 'i' }] },
        {
          phase: 'Pending',
          initContainerStatuses: [{ name: 'i', state: { waiting: { reason: 'CrashLoopBackOff' } } }]
        }
      ),
      '0/2',
      'Init:CrashLoopBackOff',
      '0'
    ],
    [
      'a sidecar counts',
      pod(
        { initContainers: [{ name: 's', restartPolicy: 'Always' }] },
        {
          phase: 'Running',
          initContainerStatuses: [{ name: 's', started: true, ready: true, state: { running: {} } }],
          containerStatuses: [running, running]
        }
      ),
      '3/3',
      'Running',
      '0'
    ],
    [
      'being deleted',
      pod({}, { phase: 'Running', containerStatuses: [running, running] }, { deletionTimestamp: 'x' }),
      '2/2',
      'Terminating',
      '0'
    ],
    [
      'done and being deleted',
      pod(
        {},
        { phase: 'Succeeded', containerStatuses: [ended(0, 'Completed'), ended(0, 'Completed')] },
        { deletionTimestamp: 'x' }
      ),
      '0/2',
      'Completed',
      '2 (2m ago)'
    ]
  ]
  for (const [name, object, ready, status, restarts] of cases) {
    t.strictSame(
      [podReady(object), podStatus(object), podRestarts(object, now)],
      [ready, status, restarts],
      name
    )
  }
})

t.test('rows say what is to be said of Services, nodes and events', async t => {
  const cells = (collection: string, object: object): unknown[] =>
    (builtinColumns[collection] ?? []).map(({ cell }) =>
      cell({ apiVersion: 'v1', kind: 'X', metadata, ...object }, now)
    )
  t.strictSame(
    cells('/services', {
      spec: {
        type: 'LoadBalancer',
        clusterIP: '10.0.0.1',
        selector: { b: '2', a: '1' },
        ports: [
          { port: 80, nodePort: 30000, protocol: 'TCP' },
          { port: 53, protocol: 'UDP' }
        ]
      }
    }),
    ['x', 'LoadBalancer', '10.0.0.1', '<pending>', '80:30000/TCP,53/UDP', '60m', 'a=1,b=2']
  )
  t.strictSame(
    cells('/services', { spec: { type: 'ExternalName', externalName: 'example.org' } }).slice(0, 5),
    ['x', 'ExternalName', '<none>', 'example.org', '<none>']
  )
  t.strictSame(
    cells('/nodes', {
      metadata: { ...metadata, labels: { 'node-role.kubernetes.io/worker': '' } },
      spec: { unschedulable: true },
      status: {
        conditions: [{ type: 'Ready', status: 'True' }],
        nodeInfo: { kubeletVersion: 'v1' },
        addresses: [{ type: 'InternalIP', address: '10.0.0.2' }]
      }
    }).slice(0, 6),
    ['x', 'Ready,SchedulingDisabled', 'worker', '60m', 'v1', '10.0.0.2']
  )
  t.strictSame(
    cells('/events', {
      type: 'Warning',
      reason: 'BackOff',
      message: ' again ',
      count: 2,
      involvedObject: { kind: 'Pod', name: 'p' },
      lastTimestamp: '2026-01-01T00:59:30Z',
      source: { component: 'kubelet' }
    }).slice(0, 7),
    ['30s', 'Warning', 'BackOff', 'pod/p', '', 'kubelet', 'again']
  )
  for (const [collection, columns] of Object.entries(builtinColumns)) {
    for (const { name, cell } of columns) {
      t.doesNotThrow(
        () => cell({ apiVersion: 'v1', kind: 'X', metadata }, now),
        `${collection} ${name} of an empty object`
      )
    }
  }
})

t.test('JSON paths of columns', async t => {
  const object = {
    spec: {
      'a.b': 1,
      hosts: ['x', 'y'],
      list: [
        { type: 'Ready', status: 'True', on: true },
        { type: 'Other', status: 'False' }
      ],
      map: { k: { v: 1 } }
    }
  }
  const cases: readonly [string, unknown[]][] = [
    ['.spec.hosts', [['x', 'y']]],
    ['.spec.hosts[0]', ['x']],
    ['.spec.hosts[-1]', ['y']],
    ['.spec.hosts[9]', []],
    ['.spec.hosts[*]', ['x', 'y']],
    ['{.spec.hosts[1]}', ['y']],
    ["$.spec['a.b']", [1]],
    ['.spec.a\\.b', [1]],
    ['.spec.list[?(@.type=="Ready")].status', ['True']],
    ["$.spec.list[?(@.type != 'Ready')].status", ['False']],
    ['.spec.list[?(@.on==true)].type', ['Ready']],
    ['.spec.map.*.v', [1]],
    ['.spec.none.deeper', []],
    ['.spec.list[?(broken', []],
    ['.spec.toString', []]
  ]
  for (const [path, expected] of cases) t.strictSame(valuesAt(object, path), expected, path)
})

t.test('versions are preferred by stability, then by number', async t => {
  const order = [
    'v10',
    'v2',
    'v1',
    'v11beta2',
    'v10beta3',
    'v3beta1',
    'v12alpha1',
    'v11alpha2',
    'foo1',
    'foo10'
  ]
  t.strictSame(order.toReversed().toSorted(compareVersions), order)
})
