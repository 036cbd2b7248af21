import t from 'tap'
import { TunnelPool, type PoolKey, type PoolableSession } from '../../../shared/hbone/pool.ts'
import { ClientSession, Unprocessed } from '../../../shared/hbone/session.ts'
import { serveTunnels } from '../../../shared/hbone/server.ts'
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'
import { ip } from '../../../shared/net/address.ts'
import { MeshError } from '../../../shared/runtime/errors.ts'
import { eventually } from '../../support/eventually.ts'
import { never, tlsPair } from './support.ts'

const identity = (serviceAccount: string): ReturnType<typeof spiffeId> =>
  spiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount })
const key: PoolKey = {
  source: identity('client'),
  expected: [identity('server'), identity('other')],
  address: { ip: ip('10.0.0.2'), port: 15008 },
  sourceIp: ip('10.0.0.1')
}
const head = { authority: '10.0.0.2:80', headers: [] }

/** A session whose every answer the test decides. */
class FakeSession implements PoolableSession {
  streams = 0
  maxStreams = 100
  usable = true
  closedByPool = false
  readonly closed = never
  refusal: Error | undefined

  async openTunnel(): ReturnType<ClientSession['openTunnel']> {
    this.streams += 1
    if (this.refusal !== undefined) throw this.refusal
    return { tunnel: {} as Awaited<ReturnType<ClientSession['openTunnel']>>['tunnel'], headers: [] }
  }

  close(): void {
    this.closedByPool = true
  }
}

interface Dials {
  readonly sessions: FakeSession[]
  readonly dial: () => Promise<FakeSession>
}

/** Dials that succeed at once. */
function dials(prepare: (session: FakeSession) => void = () => undefined): Dials {
  const sessions: FakeSession[] = []
  const dial = async (): Promise<FakeSession> => {
    const session = new FakeSession()
    prepare(session)
    sessions.push(session)
    return session
  }
  return { sessions, dial }
}

const differences: readonly {
  readonly name: string
  readonly other: Partial<PoolKey>
  readonly shared?: boolean
}[] = [
  { name: 'nothing', other: {}, shared: true },
  {
    name: 'equal values in other objects',
    other: { expected: [...key.expected], address: { ...key.address } },
    shared: true
  },
  { name: 'the source identity', other: { source: identity('somebody') } },
  { name: 'the expected identities', other: { expected: [identity('server')] } },
  { name: 'the order of the expected identities', other: { expected: key.expected.toReversed() } },
  { name: 'the address', other: { address: { ip: ip('10.0.0.3'), port: 15008 } } },
  { name: 'the port', other: { address: { ip: ip('10.0.0.2'), port: 15009 } } },
  { name: 'the source IP', other: { sourceIp: ip('10.0.0.9') } }
]
for (const { name, other, shared = false } of differences) {
  t.test(`rule 1: ${name} differs, so the session is ${shared ? '' : 'not '}shared`, async t => {
    const { sessions, dial } = dials()
    const pool = new TunnelPool({ dial })
    t.teardown(() => pool.close())
    const first = await pool.tunnel(key, head, never)
    const second = await pool.tunnel({ ...key, ...other }, head, never)
    t.equal(first.session === second.session, shared)
    t.equal(sessions.length, shared ? 1 : 2)
  })
}

t.test('rule 2: a hundred who ask at once share one dial', async t => {
  const { sessions, dial } = dials()
  const pool = new TunnelPool({ dial })
  t.teardown(() => pool.close())
  await Promise.all(Array.from({ length: 100 }, () => pool.tunnel(key, head, never)))
  t.equal(sessions.length, 1)
  t.equal(sessions[0]?.streams, 100)
})

t.test('rule 2: a dial that fails, fails for all who waited for it; the next call dials again', async t => {
  let attempts = 0
  const pool = new TunnelPool({
    dial: async () => {
      attempts += 1
      await new Promise(resolve => setImmediate(resolve))
      if (attempts === 1) throw new MeshError('CONNECT_FAILED', 'nobody answers')
      return new FakeSession()
    }
  })
  t.teardown(() => pool.close())
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => pool.tunnel(key, head, never)))
  t.strictSame(
    outcomes.map(outcome => (outcome.status === 'rejected' ? String(outcome.reason) : 'opened')),
    Array.from({ length: 5 }, () => 'MeshError: nobody answers')
  )
  t.equal(attempts, 1, 'they did not wait for a dial each, one after the other')
  t.ok(await pool.tunnel(key, head, never))
})

t.test(
  'rule 2: a dial that its caller gives up is nobody else’s failure: the next who waits dials',
  async t => {
    let attempts = 0
    const pool = new TunnelPool({
      dial: async (_key, signal) => {
        attempts += 1
        if (attempts > 1) return new FakeSession()
        return new Promise<FakeSession>((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error))
        )
      }
    })
    t.teardown(() => pool.close())
    const caller = new AbortController()
    const first = pool.tunnel(key, head, caller.signal)
    const others = [pool.tunnel(key, head, never), pool.tunnel(key, head, never)]
    caller.abort(new Error('the application left'))
    await t.rejects(first, { message: 'the application left' })
    t.equal((await Promise.all(others)).length, 2)
    t.equal(attempts, 2)
  }
)

t.test('rule 2: whoever waits may give up; the dial goes on for the rest', async t => {
  let finish: (session: FakeSession) => void = () => undefined
  const pool = new TunnelPool({ dial: () => new Promise<FakeSession>(resolve => (finish = resolve)) })
  t.teardown(() => pool.close())
  const controller = new AbortController()
  const first = pool.tunnel(key, head, never)
  const second = pool.tunnel(key, head, controller.signal)
  controller.abort(new Error('gave up'))
  await t.rejects(second, { message: 'gave up' })
  finish(new FakeSession())
  t.ok(await first)
})

t.test('rule 2: other keys dial meanwhile', async t => {
  const pool = new TunnelPool({
    dial: ({ sourceIp }) =>
      sourceIp === key.sourceIp
        ? new Promise<FakeSession>(() => undefined)
        : Promise.resolve(new FakeSession())
  })
  t.teardown(() => pool.close())
  void pool.tunnel(key, head, never)
  t.ok(await pool.tunnel({ ...key, sourceIp: ip('10.0.0.9') }, head, never))
})

t.test('rule 3: a full session leaves the pool and never comes back', async t => {
  const { sessions, dial } = dials()
  const pool = new TunnelPool({ dial, maxStreams: 2 })
  t.teardown(() => pool.close())
  for (let index = 0; index < 3; index++) await pool.tunnel(key, head, never)
  t.equal(sessions.length, 2)
  const [full, current] = sessions
  t.ok(full?.closedByPool, 'it ends with its last tunnel')
  if (full !== undefined) full.streams = 0
  t.equal((await pool.tunnel(key, head, never)).session, current)
  t.strictSame(pool.sessions(), [], 'that one is full now, too')
})

t.test('rule 3: the peer may allow fewer', async t => {
  const { sessions, dial } = dials(session => {
    session.maxStreams = 1
  })
  const pool = new TunnelPool({ dial })
  t.teardown(() => pool.close())
  await pool.tunnel(key, head, never)
  await pool.tunnel(key, head, never)
  t.equal(sessions.length, 2)
})

t.test('rule 4: a session is let go when nobody has asked for it for the release time', async t => {
  let now = 0
  const { sessions, dial } = dials()
  const pool = new TunnelPool({ dial, unusedReleaseMs: 20, clock: { now: () => now } })
  t.teardown(() => pool.close())
  await pool.tunnel(key, head, never)
  now = 15
  await pool.tunnel(key, head, never)
  now = 34
  await new Promise(resolve => setTimeout(resolve, 40))
  t.notOk(sessions[0]?.closedByPool, 'the second checkout was 19 ms ago')
  now = 35
  await eventually('it is let go', () => sessions[0]?.closedByPool === true, { everyMs: 5 })
  t.strictSame(pool.sessions(), [])
  await pool.tunnel(key, head, never)
  t.equal(sessions.length, 2)
})

t.test('rule 5: a session that takes no more is replaced at checkout', async t => {
  const { sessions, dial } = dials()
  const pool = new TunnelPool({ dial })
  t.teardown(() => pool.close())
  await pool.tunnel(key, head, never)
  if (sessions[0] !== undefined) sessions[0].usable = false
  await pool.tunnel(key, head, never)
  t.equal(sessions.length, 2)
  t.ok(sessions[0]?.closedByPool)
})

const unprocessed = new MeshError('HTTP2_FAILED', 'GOAWAY', { cause: new Unprocessed() })

t.test('rule 5: a request that the peer did not look at is tried on another session', async t => {
  const { sessions, dial } = dials(session => {
    if (sessions.length < 2) session.refusal = unprocessed
  })
  const pool = new TunnelPool({ dial })
  t.teardown(() => pool.close())
  t.equal((await pool.tunnel(key, head, never)).session, sessions[2])
})

t.test('rule 5: but at most twice, and nothing else is tried again', async t => {
  const refusing = dials(session => {
    session.refusal = unprocessed
  })
  await t.rejects(new TunnelPool({ dial: refusing.dial }).tunnel(key, head, never), unprocessed)
  t.equal(refusing.sessions.length, 3)
  const answering = dials(session => {
    session.refusal = new MeshError('HTTP_STATUS', 'http status: 401')
  })
  await t.rejects(new TunnelPool({ dial: answering.dial }).tunnel(key, head, never), {
    message: 'http status: 401'
  })
  t.equal(answering.sessions.length, 1)
})

t.test('rule 6: a closed pool holds and dials nothing', async t => {
  const { sessions, dial } = dials()
  const pool = new TunnelPool({ dial })
  await pool.tunnel(key, head, never)
  pool.close()
  t.ok(sessions[0]?.closedByPool)
  await t.rejects(pool.tunnel(key, head, never), { code: 'DRAINED' })
  t.equal(sessions.length, 1)
})

t.test('rule 6: a dial that was under way when the pool closed is not used', async t => {
  let finish: (session: FakeSession) => void = () => undefined
  const pool = new TunnelPool({ dial: () => new Promise<FakeSession>(resolve => (finish = resolve)) })
  const opening = pool.tunnel(key, head, never)
  pool.close()
  const session = new FakeSession()
  finish(session)
  await t.rejects(opening, { code: 'DRAINED' })
  t.strictSame(pool.sessions(), [])
  t.ok(session.closedByPool)
})

t.test('rule 3: a crowd that waits for one dial never overbooks its session', async t => {
  const { sessions, dial } = dials(session => {
    session.maxStreams = 10
  })
  const pool = new TunnelPool({ dial })
  t.teardown(() => pool.close())
  await Promise.all(Array.from({ length: 95 }, () => pool.tunnel(key, head, never)))
  t.strictSame(
    sessions.map(({ streams }) => streams),
    [...Array.from({ length: 9 }, () => 10), 5]
  )
})

t.test('with real sessions: a draining server is replaced, its tunnels live on', async t => {
  const drains: (() => void)[] = []
  const pool = new TunnelPool({
    dial: async () => {
      const [near, far] = await tlsPair(t)
      const session = serveTunnels(far, {}, request => request.accept([]))
      drains.push(() => session.drain())
      return new ClientSession(near)
    }
  })
  t.teardown(() => pool.close())
  const first = await pool.tunnel(key, head, never)
  drains[0]?.()
  await eventually('the client has heard GOAWAY', () => !first.session.usable, { everyMs: 5 })
  const second = await pool.tunnel(key, head, never)
  t.not(first.session, second.session)
  t.notOk(first.tunnel.over)
  t.notOk(first.session.closed.aborted)
  first.tunnel.destroy()
  await eventually('the drained session ends with its last tunnel', () => first.session.closed.aborted, {
    everyMs: 5
  })
})
