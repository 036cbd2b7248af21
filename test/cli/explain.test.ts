import t from 'tap'
import { explainPath, type ExplainRequest } from '../../shared/mesh/explain.ts'
import { MeshStore, type MeshChange } from '../../shared/mesh/store.ts'
import { shop } from '../shared/mesh/explained-shop.ts'
import { controlPlanePod, fakeCluster, fakePod, ztunnelPod, type FakePod } from './fake-cluster.ts'
import { dumpFile, run } from './run-cli.ts'

/** An agent or control plane that answers from its own copy of the mesh. */
function explaining(
  state: string,
  changes: readonly MeshChange[],
  asked: string[] = []
): Record<string, unknown> {
  const store = new MeshStore()
  store.apply(changes)
  return {
    'POST /v1/explain': (content: string) => {
      const request = JSON.parse(content) as ExplainRequest
      asked.push(`${state} ${request.from}`)
      return {
        apiVersion: 'underpass.dev/v1',
        state,
        result: explainPath(store.view(), request, { network: '' })
      }
    }
  }
}

const withoutPolicies = shop.filter(({ kind }) => kind !== 'policy')

async function env(pods: readonly FakePod[]): Promise<{ env: Record<string, string> }> {
  return { env: { KUBECONFIG: (await fakeCluster(t, { pods })).kubeconfig } }
}

t.test('both ends are asked, and agree with what is desired', async t => {
  const asked: string[] = []
  const io = await env([
    controlPlanePod(explaining('desired', shop, asked)),
    ztunnelPod('node-1', explaining('node-1', shop, asked)),
    ztunnelPod('node-2', explaining('node-2', shop, asked)),
    ztunnelPod('node-3', explaining('node-3', shop, asked))
  ])
  const { code, out, err } = await run(['explain', '--from', 'deploy/web', '--to', 'svc/cart:80'], io)
  t.equal(err, '')
  t.equal(code, 0)
  t.match(out, /^deploy\/web → svc\/cart:80, as desired\n\n 1 {2}source: shop\/web-1 on node-1/)
  t.match(out, /ALLOW shop\/cart-clients: rule 1 matches/)
  t.match(out, /\nresult: allowed\nagents: node-1 and node-2 hold the same\n$/)
  t.strictSame(
    asked.toSorted(),
    ['desired deploy/web', 'node-1 Kubernetes//Pod/shop/web-1', 'node-2 Kubernetes//Pod/shop/web-1'],
    'only the agents of both ends, for the very pod that was found'
  )
})

t.test('an agent that is out of date is shown, and fails an expectation', async t => {
  const io = await env([
    controlPlanePod(explaining('desired', shop)),
    ztunnelPod('node-1', explaining('node-1', shop)),
    ztunnelPod('node-2', explaining('node-2', withoutPolicies))
  ])
  const words = ['explain', '--from', 'other', '--to', 'cart:80']
  const { code, out } = await run(words, io)
  t.equal(code, 0)
  t.match(
    out,
    /result: refused\nagents hold something else:\n {2}policies on node-2: desired but not held: deny/
  )
  t.equal((await run([...words, '--expect', 'refused'], io)).code, 2, 'desired, but not what would happen')
  const json = JSON.parse((await run([...words, '-o', 'json'], io)).out) as {
    held: { node: string; role: string }[]
    differences: string[]
  }
  t.match(json, {
    apiVersion: 'underpass.dev/v1',
    kind: 'Explanation',
    outcome: 'refused',
    desired: { kind: 'explanation' }
  })
  t.strictSame(
    json.held.map(({ node, role }) => `${node} ${role}`),
    ['node-1 source', 'node-2 destination']
  )
  t.ok(json.differences.length > 0)
})

t.test('agents of all nodes where the connection can arrive are asked', async t => {
  const asked: string[] = []
  const nodes = ['node-1', 'node-2', 'node-3'].map(node =>
    ztunnelPod(node, explaining(node, node === 'node-3' ? withoutPolicies.slice(0, -1) : shop, asked))
  )
  const io = await env([controlPlanePod(explaining('desired', shop)), ...nodes])
  const { out } = await run(['explain', '--from', 'web', '--to', 'spread:80'], io)
  t.strictSame(new Set(asked.map(line => line.split(' ')[0])), new Set(['node-1', 'node-2', 'node-3']))
  t.match(out, /arrives at shop\/spread-\d on node-\d \(and 2 more like it\)/)
  t.match(out, /agents: node-1 and node-2 and node-3 hold the same/)
})

t.test('an expectation is an exit code', async t => {
  const io = await env([
    controlPlanePod(explaining('desired', shop)),
    ztunnelPod('node-1', explaining('node-1', shop)),
    ztunnelPod('node-2', explaining('node-2', shop))
  ])
  const expect = async (from: string, outcome: string) =>
    (await run(['explain', '--from', from, '--to', 'cart:80', '--expect', outcome], io)).code
  t.equal(await expect('web', 'allowed'), 0)
  t.equal(await expect('web', 'refused'), 2)
  t.equal(await expect('other', 'refused'), 0)
  t.equal(await expect('other', 'allowed'), 2)
})

t.test('without our control plane the agents still explain', async t => {
  const istiod = controlPlanePod({})
  const io = await env([
    istiod,
    ztunnelPod('node-1', explaining('node-1', shop)),
    ztunnelPod('node-2', explaining('node-2', shop))
  ])
  const { code, out, err } = await run(['explain', '--from', 'web', '--to', 'cart:80'], io)
  t.equal(code, 3)
  t.match(out, /as the agent on node-1 holds it/)
  t.match(out, /result: allowed\n$/)
  t.match(
    err,
    /warning: the control plane was not asked for the desired state: it does not know this request/
  )
})

t.test('what cannot be found or asked is told', async t => {
  const io = await env([
    controlPlanePod(explaining('desired', shop)),
    { pod: fakePod('ztunnel-node-1', 'node-1', { app: 'ztunnel' }) },
    ztunnelPod('node-3', {})
  ])
  t.match(await run(['explain', '--from', 'nobody', '--to', 'cart:80'], io), {
    code: 1,
    err: /^error: --from: no pod, deployment or service nobody in namespace shop/
  })
  t.match(await run(['explain', '--from', 'web', '--to', 'svc/nothing:80'], io), {
    code: 1,
    err: /^error: --to: no service nothing/
  })
  const { code, out, err } = await run(['explain', '--from', 'web', '--to', 'cart:80'], io)
  t.equal(code, 3)
  t.match(out, /result: allowed/)
  t.match(err, /the agent on node-1 was not asked: .*connection refused/)
  t.match(err, /no ztunnel on node node-2 to ask/)
})

t.test('a dump can be asked without a cluster', async t => {
  const ask = (...words: string[]) => run(['explain', '-f', dumpFile, '-n', 'shop', ...words])
  const refused = await ask('--from', 'web', '--to', 'pod/cart-7d8c9-x2x7q:8080', '--expect', 'refused')
  t.equal(refused.code, 0)
  t.match(refused.out, /^web → pod\/cart-7d8c9-x2x7q:8080, as .*config-dump\.json holds it\n/)
  t.match(
    refused.out,
    /route from shop\/web-6c9f4-abcde: none: unknown waypoint: shop\/waypoint/,
    'it has no endpoint'
  )
  const service = await ask('--from', 'legacy-0', '--to', 'svc/web:80')
  t.match(service.out, /legacy-0 is not enrolled/)
  t.match(service.out, /arrives at shop\/web-6c9f4-abcde on node-1, 10\.1\.1\.5:8080, in the clear/)
  t.match(service.out, /DENY {2}shop\/no-admin: no rule matches\n {8}rule 1: namespaces \[.*admin.*\] ✗/)
  t.match(
    service.out,
    /REFUSED: allow policies exist, but none allowed/,
    'by the global policy without rules'
  )
  t.equal((await ask('--from', 'legacy-0', '--to', 'svc/web:80', '--expect', 'allowed')).code, 2)
  t.match(await ask('--from', 'nobody', '--to', 'svc/web:80'), { code: 1, err: /^error: --from: no pod/ })
  t.match(await ask('--from', 'web', '--to', 'example.org:443'), {
    code: 1,
    err: /^error: --to: .*; for a host outside of the mesh give its IP address/
  })
  const folder = t.testdir({
    bad: '{"workloads": [{"uid": "x", "namespace": "shop", "workloadIps": ["300.1.1.1"]}]}'
  })
  t.match(await run(['explain', '-f', `${folder}/bad`, '--from', 'a', '--to', 'b:1']), {
    code: 1,
    err: /the dump cannot be explained: .*300\.1\.1\.1/s
  })
})

t.test('proxy-status joins what was sent with what is held', async t => {
  const address = 'type.googleapis.com/istio.workload.Address'
  const policies = 'type.googleapis.com/istio.security.Authorization'
  const xds = (more = {}) => ({
    'GET /v1/xds': {
      connected: true,
      types: [
        { typeUrl: address, resources: 12, synced: true },
        { typeUrl: policies, resources: 3, synced: true }
      ],
      ...more
    }
  })
  const io = await env([
    controlPlanePod({
      'GET /debug/syncz': [
        {
          proxy: 'ztunnel~10.0.0.1~ztunnel-node-1.istio-system~istio-system.svc.cluster.local-1',
          types: {
            [address]: { status: 'SYNCED', sent: 5, acked: 5 },
            [policies]: { status: 'ERROR', sent: 2, acked: 1, error: 'shop/bad: rules: unreadable' }
          }
        },
        {
          proxy: 'ztunnel~10.0.0.4~ztunnel-node-4.istio-system~x',
          types: { [address]: { status: 'STALE', sent: 2, acked: 1 } }
        }
      ]
    }),
    ztunnelPod('node-1', xds()),
    ztunnelPod('node-2', xds({ connected: false })),
    ztunnelPod('node-3', { 'GET /v1/xds': { state: 'off' } }),
    ztunnelPod('node-4', {})
  ])
  const { code, out, err } = await run(['ps', '--no-headers'], io)
  t.equal(code, 0)
  t.equal(err, '')
  t.strictSame(
    out
      .trimEnd()
      .split('\n')
      .map(line => line.split(/ {3,}/)),
    [
      ['ztunnel-node-1', 'node-1', 'Address', 'SYNCED', '12', '-', 'istiod-0'],
      ['ztunnel-node-1', 'node-1', 'Authorization', 'ERROR', '3', 'shop/bad: rules: unreadable', 'istiod-0'],
      ['ztunnel-node-2', 'node-2', 'Address', 'DISCONNECTED', '12', '-', '-'],
      ['ztunnel-node-2', 'node-2', 'Authorization', 'DISCONNECTED', '3', '-', '-'],
      ['ztunnel-node-3', 'node-3', '-', 'OFF', '-', '-', '-'],
      ['ztunnel-node-4', 'node-4', 'Address', 'STALE', '-', '-', 'istiod-0']
    ]
  )
})
