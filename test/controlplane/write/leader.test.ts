import t from 'tap'
import { Leader, leaseName, type Lease } from '../../../controlplane/write/leader.ts'
import { silent } from '../../../shared/telemetry/logger.ts'
import { eventually } from '../../support/eventually.ts'
import { FakeKube } from '../fake-kube.ts'

const config = { leaderElection: true, podName: 'replica', mesh: { systemNamespace: 'istio-system' } }
const timing = { leaseMs: 1000, renewMs: 20, retryMs: 10 }
const name = `Lease istio-system/${leaseName}`

function replica(
  t: { teardown(fn: () => void): unknown },
  client: FakeKube,
  change: Partial<typeof config> = {}
): { leader: Leader; elections: boolean[]; end: AbortController } {
  const end = new AbortController()
  t.teardown(() => end.abort())
  const leader = new Leader({
    client,
    config: { ...config, ...change },
    log: silent,
    signal: end.signal,
    timing
  })
  const elections: boolean[] = []
  leader.onElected(elected => void elections.push(elected))
  return { leader, elections, end }
}

function holder(client: FakeKube): string | undefined {
  const lease: Lease | undefined = client.objects.get(name)
  return lease?.spec?.holderIdentity
}

t.test('one of two leads, and the other follows when it resigns', async t => {
  const client = new FakeKube()
  const a = replica(t, client)
  const b = replica(t, client)
  a.leader.start()
  await eventually('the first leads', () => a.leader.elected)
  b.leader.start()
  await a.leader.resign()
  t.notOk(a.leader.elected)
  await eventually('the second leads', () => b.leader.elected)
  t.strictSame([a.elections, b.elections], [[true, false], [true]], 'never both, and each is told once')
})

t.test('a leader that dies is followed when its lease has run out', async t => {
  const client = new FakeKube()
  const a = replica(t, client)
  a.leader.start()
  await eventually('the first leads', () => a.leader.elected)
  a.end.abort()
  const before = holder(client)
  const b = replica(t, client)
  const started = performance.now()
  b.leader.start()
  await eventually('the second leads', () => b.leader.elected)
  t.ok(performance.now() - started > 900, 'not before')
  t.not(holder(client), before)
})

t.test('a leader that cannot renew stops writing before others start', async t => {
  const client = new FakeKube()
  const a = replica(t, client)
  a.leader.start()
  await eventually('it leads', () => a.leader.elected)
  client.beforeWrite = () => {
    throw new Error('the API server is gone')
  }
  await eventually('it stops', () => !a.leader.elected)
  t.strictSame(a.elections, [true, false])
})

t.test('without election everybody leads', async t => {
  const client = new FakeKube()
  const a = replica(t, client, { leaderElection: false })
  a.leader.start()
  t.ok(a.leader.elected)
  t.strictSame(client.writes, [])
})
