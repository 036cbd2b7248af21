import t from 'tap'
import { readFileSync, writeFileSync } from 'node:fs'
import { enrolmentOf } from '../../cli/enrolment.ts'
import type { Namespace } from '../../shared/kube/core-api.ts'
import type { ConnectionEvent } from '../../shared/telemetry/connection-events.ts'
import {
  controlPlanePod,
  fakeCluster,
  fakePod,
  nodeAgentPod,
  ztunnelPod,
  type FakePod
} from './fake-cluster.ts'
import { cells, dumpFile, run } from './run-cli.ts'

const dump = JSON.parse(readFileSync(dumpFile, 'utf8')) as Record<string, unknown>
const state = (name: string) => ({
  state: 'Up',
  info: { name, namespace: 'shop', serviceAccount: name },
  connections: { inbound: [{}], outbound: [] }
})
const nodeOne = {
  ...dump,
  workloadState: { 'uid-web': state('web'), 'uid-slow': { ...state('slow'), state: 'Pending' } }
}
const nodeTwo = { ...dump, workloadState: { 'uid-cart': state('cart') } }

const namespace = (name: string, labels: Record<string, string> = {}): Namespace => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels }
})
const captured = { 'ambient.istio.io/redirection': 'enabled' }
const inShop = { namespace: 'shop' }

const mesh: readonly FakePod[] = [
  ztunnelPod('node-1', { 'GET /config_dump': nodeOne }),
  ztunnelPod('node-2', { 'GET /config_dump': nodeTwo }),
  nodeAgentPod('node-1', {
    'GET /v1/pods': {
      node: 'node-1',
      pods: [
        { namespace: 'shop', name: 'web', uid: 'uid-web', rulesWritten: true, ztunnel: 'up', problem: null },
        {
          namespace: 'shop',
          name: 'slow',
          uid: 'uid-slow',
          rulesWritten: true,
          ztunnel: 'waiting',
          problem: 'ztunnel has not answered'
        }
      ]
    },
    'GET /v1/rules?pod=shop%2Fweb': {
      pod: 'shop/web',
      netns: '/var/run/netns/web',
      mode: 'tproxy',
      backend: 'nft',
      desired: ['rule one', 'rule two'],
      actual: ['rule one', 'rule three'],
      drift: { missing: ['rule two'], unexpected: ['rule three'] },
      summary: '1 rule is missing, 1 is not ours'
    },
    'GET /v1/rules?pod=shop%2Fslow': {
      pod: 'shop/slow',
      desired: ['a'],
      actual: ['a'],
      drift: { missing: [], unexpected: [] },
      summary: ''
    }
  }),
  nodeAgentPod('node-2', {
    'GET /v1/pods': {
      pods: [
        { namespace: 'shop', name: 'cart', uid: 'uid-cart', rulesWritten: true, ztunnel: 'up', problem: null }
      ]
    }
  }),
  controlPlanePod({ 'GET /version': { version: '0.1.0', revision: 'default' } }),
  { pod: fakePod('web', 'node-1', {}, { ...inShop, annotations: captured, serviceAccount: 'web' }) },
  {
    pod: fakePod(
      'slow',
      'node-1',
      {},
      { ...inShop, annotations: { 'ambient.istio.io/redirection': 'pending' } }
    )
  },
  { pod: fakePod('cart', 'node-2', {}, { ...inShop, annotations: captured, serviceAccount: 'cart' }) },
  { pod: fakePod('forgotten', 'node-2', {}, inShop) },
  { pod: fakePod('out', 'node-2', { 'istio.io/dataplane-mode': 'none' }, inShop) },
  { pod: fakePod('injected', 'node-2', {}, { ...inShop, annotations: { 'sidecar.istio.io/status': '{}' } }) },
  { pod: fakePod('tool', 'node-1', {}, { ...inShop, hostNetwork: true }) },
  { pod: fakePod('left', 'node-1', {}, { namespace: 'other', annotations: captured }) },
  { pod: fakePod('asked', 'node-1', { 'istio.io/dataplane-mode': 'ambient' }, { namespace: 'other' }) }
]
const objects = {
  namespaces: [
    namespace('shop', { 'istio.io/dataplane-mode': 'ambient' }),
    namespace('other'),
    namespace('istio-system')
  ],
  nodes: [
    { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1' } },
    { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-2' } }
  ]
}

t.test('pods joins labels, annotations and what the agents hold', async t => {
  const env = { KUBECONFIG: (await fakeCluster(t, { pods: mesh, objects })).kubeconfig }
  const { code, out, err } = await run(['pods'], { env })
  t.equal(err, '')
  t.equal(code, 0)
  const rows = cells(out)
  t.strictSame(rows[0], [
    'NAMESPACE',
    'POD',
    'NODE',
    'WANTED BY',
    'STATE',
    'RULES',
    'PROXY',
    'CERT',
    'CONNS',
    'WHY'
  ])
  const byName = Object.fromEntries(rows.slice(1).map(row => [row[1], row.slice(2)]))
  t.strictSame(byName, {
    cart: ['node-2', 'namespace label', 'enabled', 'ok', 'ok', 'expired', '1', '-'],
    forgotten: [
      'node-2',
      'namespace label',
      'unprotected',
      'absent',
      'absent',
      '-',
      '-',
      'wanted in the mesh, but not captured'
    ],
    injected: [
      'node-2',
      'namespace label',
      'sidecar',
      '-',
      '-',
      '-',
      '-',
      'has a sidecar, which does the same work'
    ],
    out: ['node-2', '-', 'outside', '-', '-', '-', '-', 'has the label istio.io/dataplane-mode=none'],
    slow: ['node-1', 'namespace label', 'pending', 'ok', 'pending', '-', '1', 'ztunnel has not answered'],
    tool: ['node-1', '-', 'host network', '-', '-', '-', '-', 'shares the network of its node'],
    web: ['node-1', 'namespace label', 'enabled', 'ok', 'ok', '3501d', '1', '-']
  })
  const unprotected = await run(['pods', '-A', '--unprotected', '-o', 'name'], { env })
  t.strictSame(unprotected.out.trim().split('\n'), ['pod/other/asked', 'pod/shop/forgotten', 'pod/shop/slow'])
  const other = cells((await run(['pods', '-n', 'other'], { env })).out)
  t.strictSame(
    other.map(row => row.slice(1, 5)),
    [
      ['POD', 'NODE', 'WANTED BY', 'STATE'],
      ['asked', 'node-1', 'pod label', 'unprotected'],
      ['left', 'node-1', '-', 'leftover']
    ]
  )
})

t.test('pods says what it could not ask', async t => {
  const pods = mesh.filter(
    ({ pod }) => pod.metadata.labels?.['k8s-app'] === undefined && pod.metadata.name !== 'ztunnel-node-2'
  )
  const env = { KUBECONFIG: (await fakeCluster(t, { pods, objects })).kubeconfig }
  const { code, out, err } = await run(['pods'], { env })
  t.equal(code, 3)
  t.match(err, /warning: no node agent runs in namespace istio-system/)
  const cart = cells(out).find(row => row[1] === 'cart')
  t.strictSame(cart?.slice(5, 8), ['?', '?', '-'])
})

t.test('status shows the mesh and its problems on one screen', async t => {
  const env = { KUBECONFIG: (await fakeCluster(t, { pods: mesh, objects })).kubeconfig }
  const { code, out, err } = await run(['status', '--color', 'never'], { env })
  t.equal(err, '')
  t.equal(code, 2, 'there are problems')
  for (const line of [
    /^context +fake$/m,
    /^control plane +1\/1 ready$/m,
    /^node agent +2\/2 ready$/m,
    /^ztunnel +2\/2 ready$/m,
    /^nodes +2$/m,
    /^pods +2 enabled, 1 host network, 1 leftover, \d outside, 1 pending, 1 sidecar, 2 unprotected$/m,
    /^certificates +2 valid, 4 failing, next expiry in 3501d$/m,
    /^configuration +8 workloads, 6 services, 4 policies; 0\/0 agents in sync$/m,
    /pod shop\/forgotten on node-2: wanted in the mesh, but not captured; see the log of the node agent on node-2$/m,
    /certificate of spiffe:\/\/cluster\.local\/ns\/data\/sa\/db on node-1: gRPC connection error/
  ]) {
    t.match(out, line)
  }
  t.match(JSON.parse((await run(['status', '-o', 'json'], { env })).out), {
    apiVersion: 'underpass.dev/v1',
    kind: 'Status',
    nodes: 2
  })
  t.match((await run(['status', '--color', 'always'], { env })).out, '\u001b[31m')
  const bare = await fakeCluster(t, { pods: [mesh[0] as FakePod], objects })
  const half = await run(['status'], { env: { KUBECONFIG: bare.kubeconfig } })
  t.equal(half.code, 3)
  t.match(half.out, /no control plane is installed; install it, or name the mesh's namespace/)
})

t.test('status tells of agents that do not have what the control plane sent', async t => {
  const states = [
    { connected: true, types: [{ typeUrl: 'x/istio.workload.Address', synced: true }] },
    { connected: false, lastError: 'connection refused', types: [] },
    { connected: true, types: [{ typeUrl: 'x/istio.security.Authorization', synced: false }] },
    { connected: true, types: [{ typeUrl: 'x', synced: true, lastRejection: 'shop/bad: rules[0]' }] }
  ]
  const pods = states.map((state, index) =>
    ztunnelPod(`node-${index}`, { 'GET /config_dump': nodeOne, 'GET /v1/xds': state })
  )
  const { out } = await run(['status'], {
    env: { KUBECONFIG: (await fakeCluster(t, { pods, objects })).kubeconfig }
  })
  t.match(out, /; 1\/4 agents in sync\n/)
  t.match(out, 'agent on node-1 is not connected to the control plane (connection refused)')
  t.match(out, 'agent on node-2 still waits for Authorization')
  t.match(out, 'agent on node-3 refused configuration: shop/bad: rules[0]')
})

t.test('node rules shows desired and actual, and exits with 2 when they differ', async t => {
  const env = { KUBECONFIG: (await fakeCluster(t, { pods: mesh, objects })).kubeconfig }
  const drifted = await run(['node', 'node-1', 'rules', '--pod', 'web'], { env })
  t.equal(drifted.code, 2)
  t.equal(
    drifted.out,
    `shop/web (tproxy, nft, /var/run/netns/web)

desired
  rule one
  rule two

actual
  rule one
  rule three

The rules are not as they should be: 1 rule is missing, 1 is not ours
- rule two
+ rule three
`
  )
  t.equal((await run(['node', 'node-1', 'rules', '--pod', 'slow.shop', '-n', 'elsewhere'], { env })).code, 0)
  t.match(JSON.parse((await run(['node', 'node-1', 'rules', '-p', 'web', '-o', 'json'], { env })).out), {
    kind: 'PodRules',
    node: 'node-1',
    desired: ['rule one', 'rule two']
  })
  t.match(await run(['node', 'node-9', 'rules', '--pod', 'web'], { env }), {
    code: 1,
    err: /no node agent on node "node-9"/
  })
})

t.test('a pod without rules is told from an agent that does not answer', async t => {
  const env = { KUBECONFIG: (await fakeCluster(t, { pods: mesh, objects })).kubeconfig }
  const rows: readonly (readonly [node: string, pod: string, message: string])[] = [
    ['node-1', 'we', 'no pod we in namespace shop (on node-1 there is: web)'],
    [
      'node-2',
      'ghost',
      'no pod ghost in namespace shop (on node-2 there is: cart, forgotten, out, injected)'
    ],
    ['node-1', 'web.nowhere', 'no pod web in namespace nowhere'],
    ['node-2', 'web', 'pod shop/web runs on node-1: underpass node node-1 rules --pod web.shop'],
    [
      'node-1',
      'tool',
      'pod shop/tool is not in the mesh, so it has no capture rules; "underpass pods -n shop" says why'
    ]
  ]
  for (const [node, pod, message] of rows) {
    const { code, err } = await run(['node', node, 'rules', '--pod', pod], { env })
    t.equal(code, 1, pod)
    t.equal(err, `error: ${message}\n`)
  }
})

t.test('pods outside say why', async t => {
  const labelled = (mode?: string) =>
    namespace('n', mode === undefined ? {} : { 'istio.io/dataplane-mode': mode })
  const pod = (labels: Record<string, string>, space = 'n') =>
    fakePod('p', 'node-1', labels, { namespace: space })
  const mode = (value: string) => ({ 'istio.io/dataplane-mode': value })
  const none = new Set<string>()
  t.equal(
    enrolmentOf(pod({}), labelled(), none).reason,
    'namespace n has no label istio.io/dataplane-mode=ambient'
  )
  t.equal(
    enrolmentOf(pod({}), labelled('sidecar'), none).reason,
    'namespace n has the label istio.io/dataplane-mode=sidecar, not ambient'
  )
  t.equal(
    enrolmentOf(pod(mode('none')), labelled('ambient'), none).reason,
    'has the label istio.io/dataplane-mode=none'
  )
  t.equal(
    enrolmentOf(pod({}), labelled('ambient'), new Set(['n'])).reason,
    'nothing of namespace n is captured'
  )
  t.equal(enrolmentOf(pod({ app: 'ztunnel' }, 'istio-system'), undefined, none).reason, 'is the proxy itself')
  t.equal(enrolmentOf(pod(mode('ambient')), labelled(), none).reason, '', 'its own label is enough')
})

t.test('a cluster that does not answer is told once', async t => {
  const { kubeconfig } = await fakeCluster(t, { pods: [] })
  writeFileSync(kubeconfig, readFileSync(kubeconfig, 'utf8').replace(/127\.0\.0\.1:\d+/, '127.0.0.1:1'))
  for (const verb of ['status', 'pods', 'log', 'tap']) {
    const { code, err } = await run([verb], { env: { KUBECONFIG: kubeconfig } })
    t.equal(code, 1, verb)
    t.match(
      err,
      /^error: cannot reach the API server \S+: connect ECONNREFUSED \S+ \(is it running[^)]*\)\n$/,
      verb
    )
  }
  const version = await run(['version'], { env: { KUBECONFIG: kubeconfig } })
  t.match(version, { code: 3, out: /^client version: \d/, err: /^warning: cannot reach [^\n]+\n$/ })
})

t.test('version names every program that runs', async t => {
  const env = { KUBECONFIG: (await fakeCluster(t, { pods: mesh, objects })).kubeconfig }
  const { code, out } = await run(['version'], { env })
  t.equal(code, 0)
  t.match(out, /^client version: \d/)
  t.match(out, /control plane +node-1 +istiod-0 +0\.1\.0 \(revision default\)/)
  t.match(out, /ztunnel +node-2 +ztunnel-node-2 +0\.1\.0/)
  const istiod = controlPlanePod({ 'GET /version': '1.32.0-dev\nsome revision\n' })
  const beside = await fakeCluster(t, { pods: [istiod, mesh[0] as FakePod] })
  t.match(
    (await run(['version'], { env: { KUBECONFIG: beside.kubeconfig } })).out,
    /istiod-0 +1\.32\.0-dev\n/
  )
})

const event = (kind: ConnectionEvent['kind'], more: Partial<ConnectionEvent> = {}): string =>
  `${JSON.stringify({
    kind,
    time: Date.parse('2026-06-01T10:11:12.123Z'),
    direction: 'inbound',
    source: {
      address: '10.1.1.5:5123',
      workload: 'web-1',
      namespace: 'shop',
      identity: 'spiffe://cluster.local/ns/shop/sa/web'
    },
    destination: {
      address: '10.1.2.7:8080',
      workload: 'cart-1',
      namespace: 'shop',
      identity: 'spiffe://cluster.local/ns/shop/sa/cart'
    },
    service: 'cart.shop.svc.cluster.local',
    mutualTls: true,
    ...more
  })}\n`

/** A ztunnel whose tap says these lines and then ends, or stays open. */
function tapped(node: string, lines: readonly string[], asked: string[] = [], ends = false): FakePod {
  return {
    pod: fakePod(`ztunnel-${node}`, node, { app: 'ztunnel' }),
    ports: {
      15000: (request, response) => {
        asked.push(`${request.method} ${request.url} ${request.content}`)
        response.writeHead(200, { 'content-type': 'application/x-ndjson' })
        for (const line of lines) response.write(line)
        if (ends) response.end()
      }
    }
  }
}

t.test('tap shows connections of all nodes as they come, with identities, bytes and reasons', async t => {
  const asked: string[] = []
  const cluster = await fakeCluster(t, {
    pods: [
      tapped(
        'node-1',
        [
          event('opened'),
          event('closed', {
            bytesFromClient: 512,
            bytesToClient: 2_100_000,
            durationMs: 12.3,
            responseFlags: '-'
          })
        ],
        asked
      ),
      tapped('node-2', [
        event('refused', {
          error: 'policy rejected: explicitly denied by: shop/no-admin',
          responseFlags: 'DENY',
          mutualTls: false
        }),
        '{"lost":7}\n'
      ])
    ]
  })
  const env = { KUBECONFIG: cluster.kubeconfig }
  const { code, out, err } = await run(
    [
      'tap',
      '--count',
      '3',
      '--kind',
      'opened',
      '--kind',
      'closed',
      '--kind',
      'refused',
      '--max-rps',
      '5',
      '--for',
      '20s'
    ],
    { env }
  )
  t.equal(code, 0)
  const lines = out.trimEnd().split('\n').toSorted()
  t.strictSame(lines, [
    '10:11:12.123  node-1  in   closed   shop/web-1:5123 [sa/web] → shop/cart-1:8080 [sa/cart]  mTLS  512B↑ 2.1MB↓  12ms',
    '10:11:12.123  node-1  in   opened   shop/web-1:5123 [sa/web] → shop/cart-1:8080 [sa/cart]  mTLS',
    '10:11:12.123  node-2  in   refused  shop/web-1:5123 [sa/web] → shop/cart-1:8080 [sa/cart]  clear  DENY  policy rejected: explicitly denied by: shop/no-admin'
  ])
  t.ok(err === '' || err === 'warning: node-2: 7 events were dropped\n')
  t.strictSame(asked, ['POST /v1/tap {"kinds":["opened","closed","refused"],"maxPerSecond":5}'])
  const wide = await run(['tap', '--count', '1', '-o', 'wide', '--node', 'node-1'], { env })
  t.match(
    wide.out,
    /source=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web +destination=spiffe.* +service=cart\.shop/
  )
  const json = await run(['tap', '--count', '1', '-o', 'jsonl', '--node', 'node-1'], { env })
  t.match(JSON.parse(json.out), {
    apiVersion: 'underpass.dev/v1',
    kind: 'ConnectionEvent',
    node: 'node-1',
    event: { kind: 'opened' }
  })
})

t.test('nothing that a stranger says commands the terminal', async t => {
  const nasty = event('refused', {
    error: '\u001b[2Jgone\u0007 \u009b31m',
    source: { address: '1.2.3.4:5', workload: 'w\u001b]0;title\u0007', namespace: 'n' }
  })
  const cluster = await fakeCluster(t, { pods: [tapped('node-1', [nasty], [], true)] })
  const { out } = await run(['tap', '--color', 'always'], { env: { KUBECONFIG: cluster.kubeconfig } })
  t.match(out, 'n/w?]0;title?:5')
  t.match(out, '?[2Jgone? ?31m')
  t.match(out, '\u001b[31mrefused\u001b[0m', 'our colours stay')
})

t.test('tap shows only what was asked for', async t => {
  const lines = [
    event('opened'),
    event('opened', { direction: 'outbound' }),
    event('opened', { source: { address: '10.9.9.9:1', workload: 'stranger-7f-x', namespace: 'other' } }),
    event('opened', { destination: { address: '10.1.2.9:443' }, service: 'edge.data.svc' })
  ]
  const cluster = await fakeCluster(t, { pods: [tapped('node-1', lines, [], true)] })
  const shown = async (...words: string[]): Promise<number> => {
    const { out } = await run(['tap', ...words], { env: { KUBECONFIG: cluster.kubeconfig } })
    return out.split('\n').length - 1
  }
  const rows: readonly (readonly [string[], number])[] = [
    [[], 4],
    [['--direction', 'outbound'], 1],
    [['-n', 'other'], 1],
    [['deploy/stranger', '-n', 'other'], 1],
    [['cart'], 3],
    [['cart.other'], 0],
    [['--from', 'web-1.shop'], 3],
    [['--from', 'other/'], 1],
    [['--from', '10.9.9.9'], 1],
    [['--to', ':443'], 1],
    [['--to', 'svc/edge.data'], 1],
    [['--to', 'cart:8080'], 3],
    [['--from', 'stranger', '--to', 'cart'], 1]
  ]
  for (const [words, count] of rows) t.equal(await shown(...words), count, words.join(' '))
})

t.test('tap opens a stream again that its agent ended after its time', async t => {
  const asked: string[] = []
  const cluster = await fakeCluster(t, { pods: [tapped('node-1', [event('opened')], asked, true)] })
  let time = 0
  const { code, out } = await run(['tap', '--count', '3'], {
    env: { KUBECONFIG: cluster.kubeconfig },
    now: () => (time += 61_000)
  })
  t.equal(code, 0)
  t.equal(out.trim().split('\n').length, 3)
  t.equal(asked.length, 3)
})

t.test('tap goes on with the agent that takes the place of another', async t => {
  const pods: FakePod[] = []
  const renamed = (name: string, { pod, ports }: FakePod): FakePod => ({
    pod: { ...pod, metadata: { ...pod.metadata, name } },
    ...(ports === undefined ? {} : { ports })
  })
  const second = renamed('ztunnel-second', tapped('node-1', [event('closed')]))
  const first = tapped('node-1', [event('opened')], [], true)
  const going = { ...first.pod.metadata, deletionTimestamp: '2026-06-01T10:11:13Z' }
  pods.push(first)
  const cluster = await fakeCluster(t, { pods })
  const { code, out, err } = await run(['tap', '--count', '2'], {
    env: { KUBECONFIG: cluster.kubeconfig },
    out: text => {
      if (!text.includes('opened')) return
      pods.splice(0, 1, { ...first, pod: { ...first.pod, metadata: going } })
      setTimeout(() => pods.splice(0, 1, second), 50)
    }
  })
  t.equal(code, 0)
  t.match(out, /opened .*\n.*closed /)
  t.match(err, /warning: node-1: ztunnel-second takes the place of ztunnel-node-1/)
})

t.test('tap tells a terminal whom it listens to, and a pipe nothing', async t => {
  const cluster = await fakeCluster(t, { pods: [tapped('node-1', [event('opened')])] })
  const io = { env: { KUBECONFIG: cluster.kubeconfig } }
  const words = ['tap', '--count', '1']
  t.equal((await run(words, { ...io, terminal: true })).err, 'tapping node-1; Ctrl-C ends\n')
  t.equal((await run(words, io)).err, '')
})

t.test('tap stops with the user, and tells of streams that end by themselves', async t => {
  const stop = new AbortController()
  const silent: FakePod = {
    pod: fakePod('ztunnel-node-4', 'node-4', { app: 'ztunnel' }),
    ports: { 15000: () => undefined }
  }
  const cluster = await fakeCluster(t, {
    pods: [
      tapped('node-1', [event('opened')]),
      tapped('node-2', [], [], true),
      ztunnelPod('node-3', {}),
      silent
    ]
  })
  let told = 0
  const { code, err, out } = await run(['tap', '--timeout', '5s'], {
    env: { KUBECONFIG: cluster.kubeconfig },
    signal: stop.signal,
    err: () => {
      told += 1
      if (told === 3) stop.abort() // the stream of node-1 goes on until the user ends it
    }
  })
  t.equal(code, 3)
  t.match(out, /opened/)
  t.match(err, /warning: node-2: the agent ended the stream/)
  t.match(err, /warning: node-3: not tapped: it does not know this request/)
  t.match(err, /warning: node-4: not tapped: no answer in time \(see --timeout\)/)
  const gone = await fakeCluster(t, { pods: [ztunnelPod('node-3', {})] })
  t.equal((await run(['tap'], { env: { KUBECONFIG: gone.kubeconfig } })).code, 1)
})
