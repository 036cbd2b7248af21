/** Each limit against a peer that attacks it: what the attacker is told, and that the rest goes on or ends. */
import { duplexPair } from 'node:stream'
import t from 'tap'
import { serveTunnels, type ServerOptions, type ServerSession } from '../../../shared/hbone/server.ts'
import {
  clientPreface,
  frameHeader,
  frameType,
  headersFrames,
  rstStreamFrame,
  settingsFrame,
  windowUpdateFrame
} from '../../../shared/hbone/frames.ts'
import { encodeHeaders } from '../../../shared/hbone/hpack.ts'
import { defaultAllowances, PeerBudget } from '../../../shared/hbone/limits.ts'
import type { Tunnel } from '../../../shared/hbone/tunnel.ts'
import { connectFields, RawPeer } from './raw-peer.ts'

type Test = { teardown(end: () => unknown): void }

interface Target {
  readonly peer: RawPeer
  readonly session: ServerSession
  readonly tunnels: Tunnel[]
}

/** A server that accepts whatever it is asked. */
function target(t: Test, options: ServerOptions = {}): Target {
  const [near, far] = duplexPair()
  const tunnels: Tunnel[] = []
  const session = serveTunnels(far, options, request => tunnels.push(request.accept([])))
  t.teardown(() => {
    near.destroy()
    far.destroy()
  })
  return { peer: new RawPeer(near, true), session, tunnels }
}

function raw(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(payload)
  return Buffer.concat([frameHeader(bytes.length, type, flags, streamId), bytes])
}

/** The sessions' own timers keep no process alive, and there is no socket here that would. */
const alive = setInterval(() => undefined, 1000)
t.teardown(() => clearInterval(alive))

const connect = (streamId: number): Buffer =>
  headersFrames(streamId, encodeHeaders(connectFields), false, 16_384)

/** Frames that each flood sends, one for each call. */
const floods: readonly {
  readonly name: string
  readonly says: RegExp
  readonly allowed: number
  readonly frame: (index: number) => Buffer
  readonly first?: Buffer
}[] = [
  { name: 'PING', says: /a flood of PING/, allowed: 100, frame: () => raw(6, 0, 0, '12345678') },
  {
    name: 'SETTINGS',
    says: /a flood of SETTINGS/,
    allowed: 19,
    frame: index => settingsFrame([[4, 1000 + index]])
  },
  {
    name: 'rapid reset',
    says: /reset at once/,
    allowed: 1000,
    frame: index => Buffer.concat([connect(1 + 2 * index), rstStreamFrame(1 + 2 * index, 8)])
  },
  {
    name: 'PRIORITY',
    says: /PRIORITY or unknown/,
    allowed: 1000,
    frame: () => raw(2, 0, 1, Buffer.alloc(5))
  },
  { name: 'unknown frames', says: /PRIORITY or unknown/, allowed: 1000, frame: () => raw(0xbe, 0, 0, 'x') },
  { name: 'empty DATA', says: /empty DATA/, allowed: 1000, frame: () => raw(0, 0, 1), first: connect(1) },
  {
    name: 'stream errors that we have to answer',
    says: /stream errors/,
    allowed: 100,
    frame: index => Buffer.concat([connect(1 + 2 * index), windowUpdateFrame(1 + 2 * index, 0)])
  },
  {
    name: 'malformed requests',
    says: /stream errors/,
    allowed: 100,
    frame: index => headersFrames(1 + 2 * index, encodeHeaders([['x', 'y']]), true, 16_384)
  }
]

for (const { name, says, allowed, frame, first } of floods) {
  t.test(`a flood of ${name} ends the connection, its allowance does not`, async t => {
    const clock = { now: () => 0 }
    // A server that takes its time, so that resets come before the answer.
    const [near, far] = duplexPair()
    const session = serveTunnels(far, { clock }, request => {
      if (name !== 'rapid reset') request.accept([])
    })
    const peer = new RawPeer(near, true)
    t.teardown(() => near.destroy())
    peer.greet()
    if (first !== undefined) peer.send(first)
    for (let index = 0; index < allowed; index++) peer.send(frame(index))
    await tick()
    await tick()
    t.notOk(session.closed.aborted, `${allowed} are fine`)
    for (let index = allowed; index < allowed + 5; index++) peer.send(frame(index))
    t.match(await peer.frame('goaway'), { code: 'ENHANCE_YOUR_CALM', debug: says })
    await peer.end()
    t.ok(session.closed.aborted)
    t.equal(session.streams, 0)
  })
}

t.test('a PING beside each message measures the path, and is no flood', async t => {
  const { peer, session, tunnels } = target(t)
  peer.greet()
  peer.send(connect(1))
  await tick()
  tunnels[0]?.resume()
  const ping = raw(6, 0, 0, '12345678')
  for (let index = 0; index < 500; index++) {
    peer.send(raw(0, 0, 1, 'x'))
    peer.send(ping)
  }
  await tick()
  await tick()
  t.notOk(session.closed.aborted)
  for (let index = 0; index < 105; index++) peer.send(ping)
  t.match(
    await peer.frame('goaway'),
    { code: 'ENHANCE_YOUR_CALM', debug: /a flood of PING/ },
    'alone it is one'
  )
})

t.test('what is earned is never more than was spent', async t => {
  const budget = new PeerBudget(defaultAllowances, { now: () => 0 })
  for (let count = 0; count < 1000; count++) budget.earn('ping')
  for (let count = 0; count < 100; count++) t.notOk(budget.spend('ping'))
  budget.earn('ping')
  t.notOk(budget.spend('ping'))
  t.match(budget.spend('ping'), { reason: /a flood of PING/ })
})

t.test('an allowance refills with time', async t => {
  let now = 0
  const budget = new PeerBudget(defaultAllowances, { now: () => now })
  for (let count = 0; count < 100; count++) t.notOk(budget.spend('ping'))
  now = 500 // 10 a second: 5 more
  for (let count = 0; count < 5; count++) t.notOk(budget.spend('ping'))
  t.match(budget.spend('ping'), { reason: /a flood of PING, 100 at once and 10 a second are allowed/ })
})

t.test('a clock that goes back refills nothing and blocks nothing for good', async t => {
  let now = 1_000_000
  const budget = new PeerBudget(defaultAllowances, { now: () => now })
  t.notOk(budget.spend('settings'))
  now = 0
  t.notOk(budget.spend('settings'))
  for (let count = 0; count < 18; count++) budget.spend('settings')
  t.ok(budget.spend('settings'))
  now = 10_000
  t.notOk(budget.spend('settings'))
})

t.test('resets after the answer are how applications leave: no limit', async t => {
  const { peer, session } = target(t)
  peer.greet()
  for (let index = 0; index < 3000; index++) {
    peer.send(connect(1 + 2 * index))
    if (index % 100 === 99) await peer.settled()
    peer.send(rstStreamFrame(1 + 2 * index, 8))
    if (index % 100 === 99) await tick()
  }
  await tick()
  t.notOk(session.closed.aborted)
})

t.test('the 201st stream is refused, the 200 live on', async t => {
  const { peer, session, tunnels } = target(t)
  peer.greet()
  for (let index = 0; index < 201; index++) peer.send(connect(1 + 2 * index))
  t.match(await peer.frame('rst'), { streamId: 401, code: 'REFUSED_STREAM' })
  await peer.settled()
  t.equal(session.streams, 200)
  t.equal(tunnels.length, 200)
  peer.send(rstStreamFrame(1, 8), connect(403))
  t.ok(await peer.frame('headers', frame => frame.streamId === 403), 'one that ends makes room')
})

t.test('a client that ignores the stream limit loses its connection', async t => {
  const { peer } = target(t, { clock: { now: () => 0 } })
  peer.greet()
  for (let index = 0; index < 1300; index++) peer.send(connect(1 + 2 * index))
  t.match(await peer.frame('goaway'), { code: 'ENHANCE_YOUR_CALM', debug: /exceed the limit/ })
})

t.test('a header list beyond 64 KiB is answered 431 without being kept, also one of a few bytes', async t => {
  const { peer, session, tunnels } = target(t)
  peer.greet()
  // An entry of 4000 bytes in the dynamic table, then 5000 references to it: 20 MB from 9 KB.
  const entry = Buffer.concat([
    Buffer.from('400161', 'hex'),
    Buffer.from('7fa11e', 'hex'),
    Buffer.alloc(4000, 'v')
  ])
  const bomb = Buffer.concat([encodeHeaders(connectFields), entry, Buffer.alloc(5000, 0xbe)])
  const before = process.memoryUsage().heapUsed
  peer.send(headersFrames(1, bomb, false, 16_384))
  t.match(await peer.frame('headers'), { streamId: 1, fields: [[':status', '431']], endStream: true })
  t.ok(process.memoryUsage().heapUsed - before < 10 << 20)
  t.equal(tunnels.length, 0)
  peer.send(connect(3))
  t.ok(await peer.frame('headers', frame => frame.streamId === 3), 'the connection lives on')
  t.equal(session.streams, 1)
})

t.test('a header block that never ends', async t => {
  const { peer } = target(t)
  peer.greet()
  peer.send(raw(frameType.headers, 0, 1, encodeHeaders(connectFields)))
  for (let index = 0; index < 17; index++) peer.send(raw(frameType.continuation, 0, 1, 'x'))
  t.match(await peer.frame('goaway'), { code: 'ENHANCE_YOUR_CALM', debug: /more than 16 CONTINUATION/ })
})

t.test('a header block of megabytes in few frames', async t => {
  const { peer } = target(t)
  peer.greet()
  peer.send(
    raw(frameType.headers, 0, 1, Buffer.alloc(60_000)),
    raw(frameType.continuation, 0, 1, Buffer.alloc(60_000))
  )
  t.match(await peer.frame('goaway'), {
    code: 'ENHANCE_YOUR_CALM',
    debug: /a header block of more than 65536/
  })
})

t.test('a zero window stalls only its own stream, and little waits for it', async t => {
  const { peer, session, tunnels } = target(t)
  peer.greet([[4, 0]])
  for (let index = 0; index < 200; index++) peer.send(connect(1 + 2 * index))
  await peer.settled()
  t.equal(session.streams, 200)
  const chunk = Buffer.alloc(65_536)
  let taken = 0
  for (const tunnel of tunnels) {
    // A writer that obeys is stopped by its first chunk.
    while (tunnel.write(chunk) && taken < 1000) taken += 1
  }
  t.equal(taken, 0)
  await peer.settled()
  t.notOk(peer.frames.some(frame => frame.kind === 'data'))
  peer.send(windowUpdateFrame(399, 10))
  t.match(await peer.frame('data'), { streamId: 399, bytes: { length: 10 } })
})

t.test('a peer that says nothing after the TLS handshake', async t => {
  const { peer, session } = target(t, { settingsTimeoutMs: 30 })
  t.match(await peer.frame('goaway'), { code: 'SETTINGS_TIMEOUT' })
  await peer.end()
  t.match(session.closed.reason, { code: 'HTTP2_FAILED', message: /no SETTINGS within 30 ms/ })
})

t.test('a peer that sends its preface a byte at a time', async t => {
  const { peer, session } = target(t, { settingsTimeoutMs: 60 })
  let at = 0
  const slow = setInterval(() => peer.send(clientPreface.subarray(at, ++at)), 5)
  t.teardown(() => clearInterval(slow))
  t.match(await peer.frame('goaway'), { code: 'SETTINGS_TIMEOUT' })
  t.ok(session.closed.aborted)
})

t.test('a peer that answers no PING is dead', async t => {
  const { peer, session, tunnels } = target(t, { pingIntervalMs: 20, pingTimeoutMs: 40 })
  peer.greet()
  peer.send(connect(1))
  await peer.frame('headers')
  t.match(await peer.frame('goaway'), { code: 'NO_ERROR', debug: 'ping timeout' })
  t.match(session.closed.reason, { message: /HBONE ping timeout/ })
  t.ok(tunnels[0]?.over)
})

t.test('a peer that answers lives on', async t => {
  const { peer, session } = target(t, { pingIntervalMs: 5, pingTimeoutMs: 10_000 })
  peer.greet()
  for (let answered = 0; answered < 4; answered++) {
    const count = (): number => peer.frames.filter(frame => frame.kind === 'ping' && !frame.ack).length
    await peer.frame('ping', () => count() > answered)
    const ping = peer.frames.findLast(frame => frame.kind === 'ping' && !frame.ack)
    peer.send(raw(6, 1, 0, ping?.kind === 'ping' ? ping.opaque : ''))
  }
  t.notOk(session.closed.aborted)
})

t.test('a peer that stops in the middle of a header block cannot answer PING either', async t => {
  const { peer } = target(t, { pingIntervalMs: 10, pingTimeoutMs: 30 })
  peer.greet()
  peer.send(raw(frameType.headers, 0, 1, encodeHeaders(connectFields)))
  await peer.end()
  t.ok(peer.ended)
})

t.test('a peer that reads nothing: writers stop, then the connection ends', async t => {
  const [near, far] = duplexPair({ highWaterMark: 65_536 })
  t.teardown(() => near.destroy())
  const tunnels: Tunnel[] = []
  const session = serveTunnels(far, { pingIntervalMs: 20, pingTimeoutMs: 60 }, request => {
    tunnels.push(request.accept([]))
  })
  near.write(
    Buffer.concat([clientPreface, settingsFrame([[4, 1 << 30]]), windowUpdateFrame(0, 1 << 30), connect(1)])
  )
  while (tunnels.length === 0) await tick()
  const [tunnel] = tunnels
  const chunk = Buffer.alloc(65_536)
  let written = 0
  for (let ready = true; ready; written += chunk.length) ready = tunnel?.write(chunk) ?? false
  t.ok(written < 1 << 20, `${written} bytes wait for the transport`)
  await new Promise(resolve => session.closed.addEventListener('abort', resolve))
  t.ok(tunnel?.over)
})

function tick(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
