import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { MeshError } from '../../shared/runtime/errors.ts'
import { Connections, type TrackedConnection } from '../../ztunnel/connections.ts'

const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' })

function inbound(port: number): TrackedConnection {
  return {
    direction: 'inbound',
    source: { ip: ip('10.0.0.1'), port },
    identity,
    target: { ip: ip('10.0.0.2'), port: 8080 },
    forwardedHost: 'cart.shop'
  }
}

const outbound: TrackedConnection = {
  direction: 'outbound',
  source: { ip: ip('10.0.0.2'), port: 5 },
  originalDestination: { ip: ip('10.96.0.1'), port: 80 },
  destination: { ip: ip('10.0.0.9'), port: 15008 },
  protocol: 'HBONE'
}

t.test('a policy change closes what is not allowed any more, and nothing else', async t => {
  const connections = new Connections(() => 0)
  const bytes = { aToB: 0, bToA: 0 }
  const [first, second, other] = [inbound(1), inbound(2), outbound].map(facts =>
    connections.track(facts, bytes)
  )
  const closed = connections.recheck(({ sourceIp, identity: who, destinationIp, destinationPort }) => {
    t.same([sourceIp, who, destinationIp, destinationPort], ['10.0.0.1', identity, '10.0.0.2', 8080])
    return false
  })
  t.equal(closed, 2)
  for (const connection of [first, second]) {
    const reason = connection?.signal.reason as MeshError
    t.equal(reason.code, 'POLICY_CHANGED')
    t.equal(reason.responseFlag, 'DENY')
    t.equal(reason.message, 'connection closed due to policy change')
  }
  t.notOk(other?.signal.aborted, 'outbound connections are the destination’s business')
  t.equal(
    connections.recheck(() => true),
    0
  )
})

t.test('a connection is live until it is disposed', async t => {
  const connections = new Connections(() => 0)
  {
    using connection = connections.track(outbound, { aToB: 0, bToA: 0 })
    t.equal(connections.size, 1)
    t.notOk(connection.signal.aborted)
  }
  t.equal(connections.size, 0)
})

t.test('the list shows both directions as config_dump has them, and the bytes of now', async t => {
  let now = 1000
  const connections = new Connections(() => now)
  const bytes = { aToB: 0, bToA: 0 }
  connections.track(inbound(1), bytes)
  connections.track(outbound, { aToB: 0, bToA: 0 })
  bytes.aToB = 7
  bytes.bToA = 9
  now = 1500
  t.strictSame(connections.list(), [
    {
      direction: 'inbound',
      src: '10.0.0.1:1',
      bytesFromClient: 7,
      bytesToClient: 9,
      ageMs: 500,
      originalDst: 'cart.shop',
      actualDst: '10.0.0.2:8080',
      protocol: 'HBONE',
      identity
    },
    {
      direction: 'outbound',
      src: '10.0.0.2:5',
      bytesFromClient: 0,
      bytesToClient: 0,
      ageMs: 500,
      originalDst: '10.96.0.1:80',
      actualDst: '10.0.0.9:15008',
      protocol: 'HBONE',
      identity: null
    }
  ])
})

t.test('only what moves no byte for the whole time is idle', async t => {
  let now = 0
  const connections = new Connections(() => now)
  const [still, busy] = [
    { aToB: 0, bToA: 0 },
    { aToB: 0, bToA: 0 }
  ]
  const first = connections.track(inbound(1), still)
  const second = connections.track(inbound(2), busy)
  for (now = 100; now <= 900; now += 100) {
    busy.bToA += 1
    connections.closeIdle(1000)
  }
  t.notOk(first.signal.aborted)
  now = 1000
  connections.closeIdle(1000)
  t.equal((first.signal.reason as MeshError).code, 'IDLE_TIMEOUT')
  t.notOk(second.signal.aborted)
})

t.test('all can be closed with one reason', async t => {
  const connections = new Connections(() => 0)
  const connection = connections.track(outbound, { aToB: 0, bToA: 0 })
  const reason = new MeshError('DRAINED', 'over')
  connections.closeAll(reason)
  t.equal(connection.signal.reason, reason)
})

t.test('connections that have lasted are counted', async t => {
  let now = 0
  const connections = new Connections(() => now)
  const counters = { aToB: 0, bToA: 0 }
  using old = connections.track(inbound(1), counters)
  now = 10_000
  using young = connections.track(outbound, counters)
  now = 30_000
  t.equal(connections.countOlderThan(30_000), 1)
  t.equal(connections.countOlderThan(30_001), 0)
  t.ok(old.startedAt < young.startedAt)
})
