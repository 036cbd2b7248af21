import t from 'tap'
import { controlPlanePod, fakeCluster, fakePod, ztunnelPod, type FakePod } from './fake-cluster.ts'
import { cells, run } from './run-cli.ts'

const level = (text: string): Record<string, unknown> => ({
  'POST /logging': `current log level is ${text}\n`
})

t.test('agents of all nodes are asked, at most 16 at once', async t => {
  const nodes = Array.from({ length: 40 }, (_, index) => `node-${String(index).padStart(2, '0')}`)
  const slow: FakePod[] = nodes.map(node => ({
    pod: fakePod(`ztunnel-${node}`, node, { app: 'ztunnel' }),
    ports: {
      15000: (_request, response) => void setTimeout(() => response.end(`current log level is ${node}\n`), 50)
    }
  }))
  const cluster = await fakeCluster(t, { pods: slow })
  const { code, out } = await run(['log'], { env: { KUBECONFIG: cluster.kubeconfig } })
  t.equal(code, 0)
  t.strictSame(
    cells(out).slice(1),
    nodes.map(node => [node, `ztunnel-${node}`, node]),
    'in the order of the nodes'
  )
  t.equal(new Set(cluster.forwarded).size, 40)
  t.ok(cluster.mostAtOnce() <= 16 && cluster.mostAtOnce() > 4, `${cluster.mostAtOnce()} at once`)
})

t.test('an agent that does not answer is named, and the rest is shown with exit code 3', async t => {
  const cluster = await fakeCluster(t, {
    pods: [
      ztunnelPod('node-1', level('info')),
      { pod: fakePod('ztunnel-node-2', 'node-2', { app: 'ztunnel' }) },
      { pod: fakePod('ztunnel-node-3', 'node-3', { app: 'ztunnel' }, { phase: 'Pending' }) },
      { pod: fakePod('ztunnel-node-4', 'node-4', { app: 'ztunnel' }), ports: { 15000: () => undefined } },
      ztunnelPod('node-5', {})
    ]
  })
  const { code, out, err } = await run(['log', '--timeout', '3s'], {
    env: { KUBECONFIG: cluster.kubeconfig }
  })
  t.equal(code, 3)
  t.strictSame(cells(out), [
    ['NODE', 'AGENT', 'LEVEL'],
    ['node-1', 'ztunnel-node-1', 'info']
  ])
  t.match(
    err,
    /warning: node-2: ztunnel ztunnel-node-2 did not answer: port 15000 of pod istio-system\/ztunnel-node-2: .*connection refused/
  )
  t.match(err, /warning: node-3: .* its pod is Pending/)
  t.match(err, /warning: node-4: .* no answer in time \(see --timeout\)/)
  t.match(err, /warning: node-5: .* does not know this request/)
})

t.test('when nobody answers it fails', async t => {
  const cluster = await fakeCluster(t, { pods: [{ pod: fakePod('ztunnel-a', 'a', { app: 'ztunnel' }) }] })
  const { code, out, err } = await run(['log'], { env: { KUBECONFIG: cluster.kubeconfig } })
  t.equal(code, 1)
  t.equal(out, '')
  t.match(err, /^error: a: ztunnel ztunnel-a did not answer/)
})

t.test('a missing permission is named once', async t => {
  const pods = [ztunnelPod('node-1', level('info')), ztunnelPod('node-2', level('info'))]
  const noList = await fakeCluster(t, { pods, forbid: ['GET /api/v1/namespaces/istio-system/pods'] })
  const listing = await run(['log'], { env: { KUBECONFIG: noList.kubeconfig } })
  t.equal(listing.code, 1)
  t.match(listing.err, /^error: user "test" cannot GET .*\nneeds: list pods in namespace istio-system\n$/)
  const noForward = await fakeCluster(t, { pods, forbid: ['CONNECT '] })
  const forwarding = await run(['log'], { env: { KUBECONFIG: noForward.kubeconfig } })
  t.equal(forwarding.code, 1)
  t.match(
    forwarding.err,
    /^error: pods "ztunnel-node-\d" is forbidden\nneeds: create pods\/portforward in namespace istio-system\n$/
  )
})

t.test('agents that are not there are told apart from a mesh that is not there', async t => {
  const cluster = await fakeCluster(t, {
    pods: [
      ztunnelPod('node-1', level('info')),
      { pod: fakePod('lonely', 'node-9', {}, { namespace: 'shop' }) }
    ]
  })
  const env = { KUBECONFIG: cluster.kubeconfig }
  const rows: readonly (readonly [string[], RegExp])[] = [
    [['--node', 'node-7'], /no ztunnel on node "node-7" \(there is one on: node-1\)/],
    [['--pod', 'lonely'], /no ztunnel on node node-9, where pod shop\/lonely runs/],
    [['--pod', 'nobody.shop'], /no pod nobody in namespace shop/],
    [['--pod', 'a/b/c'], /"a\/b\/c" is not a pod: write NAME or NAME\.NAMESPACE/],
    [['-i', 'elsewhere'], /no ztunnel runs in namespace elsewhere .*--istio-namespace/],
    [['--context', 'prod'], /no context "prod" \(there are: fake\)/],
    [['--kubeconfig', '/nowhere'], /cannot read the kubeconfig: ENOENT/]
  ]
  for (const [words, message] of rows) {
    const { code, err } = await run(['log', ...words], { env })
    t.equal(code, 1, words.join(' '))
    t.match(err, message)
  }
})

t.test('an agent that is being replaced is passed over, one that just goes is told', async t => {
  const going = (name: string, node: string): FakePod => {
    const pod = fakePod(name, node, { app: 'ztunnel' })
    return { pod: { ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } } }
  }
  const pods = [
    ztunnelPod('node-1', level('info')),
    going('ztunnel-old', 'node-1'),
    going('ztunnel-gone', 'node-2')
  ]
  const { kubeconfig } = await fakeCluster(t, { pods })
  const { code, out, err } = await run(['log'], { env: { KUBECONFIG: kubeconfig } })
  t.equal(code, 3)
  t.strictSame(cells(out).slice(1), [['node-1', 'ztunnel-node-1', 'info']])
  t.equal(err, 'warning: node-2: ztunnel ztunnel-gone did not answer: its pod is being deleted\n')
})

t.test('the control plane has levels too', async t => {
  const pods = [
    controlPlanePod({ 'POST /logging?level=xds%3Ddebug': 'current log level is xds=debug,info\n' })
  ]
  const { kubeconfig } = await fakeCluster(t, { pods })
  const { code, out } = await run(['log', '--of', 'control-plane', '--level', 'xds=debug'], {
    env: { KUBECONFIG: kubeconfig }
  })
  t.equal(code, 0)
  t.strictSame(cells(out)[1], ['node-1', 'istiod-0', 'xds=debug,info'])
})

t.test('log sets and resets levels, in the words of ztunnel', async t => {
  const asked: string[] = []
  const cluster = await fakeCluster(t, {
    pods: [
      {
        pod: fakePod('ztunnel-1', 'node-1', { app: 'ztunnel' }),
        ports: {
          15000: (request, response) => {
            asked.push(`${request.method} ${request.url}`)
            response.end('current log level is access=debug,info\n')
          }
        }
      }
    ]
  })
  const env = { KUBECONFIG: cluster.kubeconfig }
  const rows: readonly (readonly [string[], string])[] = [
    [['log', '--level', 'DEBUG'], 'POST /logging?level=debug'],
    [
      ['log', '--level', 'access:info,proxy::inbound=debug'],
      `POST /logging?level=${encodeURIComponent('access=info,proxy::inbound=debug')}`
    ],
    [['zc', 'log', '--level', 'warning', '-r'], 'POST /logging?level=warn&reset'],
    [['log', '--reset'], 'POST /logging?reset']
  ]
  for (const [words, line] of rows) {
    const { code, out } = await run(words, { env })
    t.equal(code, 0, words.join(' '))
    t.equal(asked.at(-1), line)
    t.match(out, /access=debug,info/)
  }
  const wrong = await run(['log', '--level', 'loud'], { env })
  t.equal(wrong.code, 1)
  t.match(wrong.err, /--level "loud": expected LEVEL or TARGET=LEVEL with a level of off, error/)
  t.equal(asked.length, rows.length, 'nothing was set')
})
