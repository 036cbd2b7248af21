/** A service's port under a policy: what is counted, what it tells of pods, and what outlives a change of the policy. */
import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import { MeshError } from '../../../shared/runtime/errors.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { noLimits, usualConnections, type TrafficPolicy } from '../../../waypoint/traffic-policy.ts'
import { Cluster, type ClusterDeps } from '../../../waypoint/upstream/cluster.ts'
import { ClusterUse } from '../../../waypoint/upstream/cluster-use.ts'
import { Clusters } from '../../../waypoint/upstream/clusters.ts'
import type { Target } from '../../../waypoint/upstream/tunnels.ts'
import { addresses, endpointOf, service, storeOf, workload } from '../../support/mesh.ts'

const web = service({ name: 'web' })
const pods = ['a', 'b', 'c'].map(name =>
  workload({ name, addresses: addresses('10.1.0.1'), services: endpointOf('web') })
)

const config = {
  ...{ podName: 'waypoint-1', podNamespace: 'shop', nodeName: 'n1', clusterId: 'Kubernetes' },
  ...{ network: '', trustDomain: 'cluster.local' },
  self: { namespace: 'shop', hostname: 'waypoint.shop.svc.cluster.local' }
}

const usual: TrafficPolicy = {
  balancing: { kind: 'round-robin', warmup: undefined },
  locality: undefined,
  limits: noLimits,
  connections: usualConnections,
  outliers: undefined,
  retryBudget: undefined,
  tls: undefined,
  unsupported: undefined
}

const outliers = {
  consecutive5xx: 2,
  consecutiveGatewayErrors: 0,
  consecutiveLocalFailures: undefined,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionPercent: 50,
  minHealthPercent: 0
}

function world() {
  const store = storeOf({ services: [web], workloads: pods })
  const told: string[] = []
  let now = 0
  const deps: ClusterDeps = {
    view: () => store.view(),
    config,
    random: () => 0.5,
    clock: { now: () => now },
    events: {
      onEjected: ({ uid, reason }) => told.push(`${uid.replace(/.*\//, '')} ${reason}`),
      onReturned: uid => told.push(`${uid.replace(/.*\//, '')} is back`)
    }
  }
  return { store, deps, told, pass: (ms: number) => (now += ms) }
}

const pick = (cluster: Cluster): string => pickTarget(cluster).workload.name

function pickTarget(cluster: Cluster): Target {
  const target = cluster.pick(web, 80, { tried: new Set(), load: () => 0, hash: undefined })
  if (target === undefined) throw new Error('nobody can be used')
  return target
}

const times = (count: number, make: () => string): readonly string[] => Array.from({ length: count }, make)

t.test('turns go on when another service changes, and when a pod comes', async t => {
  const { store, deps } = world()
  const cluster = new Cluster(usual, deps)
  const first = times(3, () => pick(cluster))
  t.equal(new Set(first).size, 3)
  store.apply([{ kind: 'service', service: service({ name: 'other' }) }])
  t.strictSame(
    times(3, () => pick(cluster)),
    first
  )
  const late = workload({ name: 'd', addresses: addresses('10.1.0.4'), services: endpointOf('web') })
  store.apply([{ kind: 'workload', workload: late }])
  t.equal(new Set(times(4, () => pick(cluster))).size, 4)
})

t.test('outcomes lead to ejections, by what the pod itself did', async t => {
  const grpc = (code: string) => ({
    status: 200,
    headers: HeaderList.of('grpc-status', code),
    framing: { kind: 'none' as const }
  })
  const plain = (status: number) => ({
    status,
    headers: new HeaderList(),
    framing: { kind: 'none' as const }
  })
  const refusal = new MeshError('HTTP_STATUS', 'http status: 401', { peerStatus: 401 })
  const rows: readonly (readonly [name: string, tell: (use: ClusterUse) => void, ejected: boolean])[] = [
    ['500', use => use.answered(plain(500)), true],
    ['404', use => use.answered(plain(404)), false],
    ['UNAVAILABLE of gRPC', use => use.answered(grpc('14')), true],
    ['NOT_FOUND of gRPC', use => use.answered(grpc('5')), false],
    ['a connection that fails', use => use.failed(new Error('nobody answers')), true],
    ['no answer in time', use => use.failed(), true],
    ['a ztunnel that refuses us, RL-08', use => use.failed(refusal), false]
  ]
  for (const [name, tell, ejected] of rows) {
    const { deps, told } = world()
    const cluster = new Cluster({ ...usual, outliers }, deps)
    const target = pickTarget(cluster)
    for (let at = 0; at < 2; at += 1) {
      const use = new ClusterUse(cluster)
      use.attempt(target)
      tell(use)
    }
    t.equal(told.length, ejected ? 1 : 0, name)
    t.equal(cluster.ejected, ejected ? 1 : 0)
    t.equal(cluster.leavesOut(target), ejected)
  }
})

t.test('who is left out is not chosen, and comes back', async t => {
  const { deps, told, pass } = world()
  const cluster = new Cluster({ ...usual, outliers }, deps)
  const target = pickTarget(cluster)
  const { name } = target.workload
  for (let at = 0; at < 2; at += 1) cluster.answered(target, 500)
  t.strictSame(told, [`${name} consecutive-5xx`])
  t.notOk(times(10, () => pick(cluster)).includes(name))
  pass(30_000)
  pass(10_000)
  t.ok(times(10, () => pick(cluster)).includes(name))
  t.strictSame(told, [`${name} consecutive-5xx`, `${name} is back`])
})

t.test('what a request holds is given back, once', async t => {
  const { deps } = world()
  const cluster = new Cluster({ ...usual, limits: { ...noLimits, requests: 1, retries: 1 } }, deps)
  const [one, two] = [new ClusterUse(cluster), new ClusterUse(cluster)]
  t.equal(one.begin(), true)
  t.equal(two.begin(), false)
  two.over()
  t.equal(one.retry(), true)
  t.equal(one.retry(), true, 'the one before gives way')
  t.equal(new ClusterUse(cluster).retry(), false)
  one.over()
  one.over()
  t.strictSame([cluster.breaker.count('requests'), cluster.breaker.count('retries')], [0, 0])
  t.equal(two.begin(), true)
})

t.test('a retry budget takes the place of the limit of retries', async t => {
  const { deps } = world()
  const retryBudget = { percent: 50, minConcurrency: 0, intervalMs: 0 }
  const limits = { ...noLimits, retries: 0 }
  const cluster = new Cluster({ ...usual, limits, retryBudget }, deps)
  const uses = [1, 2].map(() => new ClusterUse(cluster))
  for (const use of uses) t.equal(use.begin(), true)
  t.strictSame(
    uses.map(use => use.retry()),
    [true, false],
    'half of two'
  )
})

t.test('without a policy nothing is held', async t => {
  const use = new ClusterUse(undefined)
  t.strictSame([use.begin(), use.retry()], [true, true])
  use.over()
})

t.test('connections have a key only where the policy looks at the address', async t => {
  const { deps } = world()
  const table = { kind: 'maglev', size: 65_537 } as const
  const keyed = (from: 'source-ip' | 'header') =>
    new Cluster(
      {
        ...usual,
        balancing: {
          kind: 'consistent-hash',
          key: from === 'header' ? { from, name: 'x-user' } : { from },
          table
        }
      },
      deps
    ).keyOfConnection(ip('10.0.0.1'))
  t.type(keyed('source-ip'), 'number')
  t.equal(keyed('header'), undefined)
  t.equal(new Cluster(usual, deps).keyOfConnection(ip('10.0.0.1')), undefined)
})

t.test('a cluster lives while its policy does, and its counts beyond it', async t => {
  const { deps, store } = world()
  let policy: TrafficPolicy | undefined = usual
  const clusters = new Clusters({
    ...deps,
    policies: { policyFor: () => policy },
    subsets: { subsetOf: () => undefined },
    eventsOf: () => deps.events
  })
  const first = clusters.of(web, 80)
  t.equal(first?.requestBegins(), true)
  t.equal(clusters.of(web, 80), first)
  policy = { ...usual, limits: { ...noLimits, requests: 1 } }
  const second = clusters.of(web, 80)
  t.not(second, first)
  t.equal(second?.requestBegins(), false, 'the request of before counts')
  first?.requestEnded()
  t.equal(second?.requestBegins(), true)
  policy = undefined
  t.equal(clusters.of(web, 80), undefined)
  policy = usual
  for (let at = 0; at < 1200; at += 1) clusters.of(service({ name: `s${at}` }), 80)
  t.ok([...clusters.all()].length < 300, 'those of services that nobody knows are let go')
  t.ok(store.view().service('shop/web.shop.svc.cluster.local'))
  t.ok([...clusters.all()].some(([key]) => key === '80 shop/web.shop.svc.cluster.local'))
})

t.test('a subset is the pods that have its labels, under a policy of its own, VS-28, VS-30', async t => {
  const { deps, store } = world()
  const labelled = (name: string, version: string): void => {
    const labels = new Map([['version', version]])
    const pod = workload({ name, addresses: addresses('10.1.0.1'), services: endpointOf('web'), labels })
    store.apply([{ kind: 'workload', workload: pod }])
  }
  labelled('b', 'v2')
  let labels: ReadonlyMap<string, string> = new Map([['version', 'v2']])
  const asked: (string | undefined)[] = []
  let chance = 0
  const clusters = new Clusters({
    ...deps,
    random: () => (chance = (chance + 0.37) % 1),
    policies: {
      policyFor: (_service, _port, subset) => {
        asked.push(subset)
        return undefined
      }
    },
    subsets: { subsetOf: (_service, name) => (name === 'v2' ? labels : undefined) },
    eventsOf: () => deps.events
  })
  const of = (subset: string): Cluster => {
    const cluster = clusters.of(web, 80, subset)
    if (cluster === undefined) throw new Error('there is no cluster')
    return cluster
  }
  t.strictSame(new Set(times(9, () => pick(of('v2')))), new Set(['b']))
  t.equal(of('v2'), of('v2'))
  t.strictSame(new Set(asked), new Set(['v2']))
  labelled('d', 'v2')
  t.strictSame(new Set(times(40, () => pick(of('v2')))).size, 2, 'a pod more')
  labelled('b', 'v1')
  t.strictSame(new Set(times(9, () => pick(of('v2')))), new Set(['d']), 'one less')
  const before = of('v2')
  labels = new Map([['version', 'v1']])
  t.not(of('v2'), before)
  t.strictSame(new Set(times(9, () => pick(of('v2')))), new Set(['b']), 'other labels')
  labels = new Map([['version', 'v3']])
  t.throws(() => pick(of('v2')), /nobody/)
  t.throws(() => pick(of('v9')), /nobody/, 'one that there is not')
  t.equal(clusters.has(web, 'v9'), false)
  t.equal(clusters.has(web, 'v2'), true)
  t.equal(clusters.of(web, 80), undefined, 'nothing is said of all pods')
  t.strictSame(new Set(Array.from(clusters.all(), ([key]) => key.split(' ')[0])), new Set(['80/v2', '80/v9']))
})
