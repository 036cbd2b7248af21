import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type net from 'node:net'
import t from 'tap'
import { relay, type RelayCounters } from '../../../shared/net/relay.ts'
import { MeshError } from '../../../shared/runtime/errors.ts'
import type { Tunnel } from '../../../shared/hbone/tunnel.ts'
import { eventually } from '../../support/eventually.ts'
import { never, sessionPair, tcpPair, type SessionPair } from '../hbone/support.ts'

type Test = Parameters<typeof tcpPair>[0]

interface Line {
  /** The application that dialled. */
  readonly near: net.Socket
  /** The application that was dialled. */
  readonly far: net.Socket
  readonly done: Promise<void>[]
  readonly counters: RelayCounters
  readonly abort: AbortController
  readonly sessions?: SessionPair
}

/** Application, relay, application. */
async function direct(t: Test): Promise<Line> {
  const [near, a] = await tcpPair(t)
  const [b, far] = await tcpPair(t)
  const counters = { aToB: 0, bToA: 0 }
  const abort = new AbortController()
  return { near, far, counters, abort, done: [quietly(relay(a, b, counters, abort.signal))] }
}

/** Application, relay, tunnel, relay, application: both hops of a mesh. */
async function tunnelled(t: Test): Promise<Line> {
  const [near, a] = await tcpPair(t)
  const [b, far] = await tcpPair(t)
  const abort = new AbortController()
  const counters = { aToB: 0, bToA: 0 }
  let accepted: (tunnel: Tunnel) => void = () => undefined
  const inbound = new Promise<Tunnel>(resolve => {
    accepted = resolve
  })
  const sessions = await sessionPair(t, request => accepted(request.accept([])))
  const { tunnel } = await sessions.client.openTunnel({ authority: 'a:1', headers: [] }, never)
  const done = [
    quietly(relay(a, tunnel, counters, abort.signal)),
    quietly(relay(await inbound, b, { aToB: 0, bToA: 0 }, never))
  ]
  return { near, far, done, counters, abort, sessions }
}

/** A rejection that is looked at later is not unhandled meanwhile. */
function quietly(work: Promise<void>): Promise<void> {
  work.catch(() => undefined)
  return work
}

for (const [name, lay] of [
  ['two sockets', direct],
  ['sockets over a tunnel', tunnelled]
] as const) {
  t.test(`${name}: bytes pass both ways and are counted`, async t => {
    const { near, far, counters, done } = await lay(t)
    near.write('ping')
    t.equal(String((await once(far, 'data'))[0]), 'ping')
    far.write('pong!')
    t.equal(String((await once(near, 'data'))[0]), 'pong!')
    t.strictSame(counters, { aToB: 4, bToA: 5 })
    near.end()
    far.end()
    await Promise.all(done)
  })

  t.test(`${name}: the dialling side may end first and still hear the answer`, async t => {
    const { near, far, done } = await lay(t)
    near.end('question')
    const question = await readToEnd(far)
    t.equal(question, 'question')
    far.write('late ')
    t.equal(String((await once(near, 'data'))[0]), 'late ')
    far.end('answer')
    t.equal(await readToEnd(near), 'answer')
    await Promise.all(done)
  })

  t.test(`${name}: the dialled side may end first and still be spoken to`, async t => {
    const { near, far, done } = await lay(t)
    far.end('greeting')
    t.equal(await readToEnd(near), 'greeting')
    near.write('more ')
    t.equal(String((await once(far, 'data'))[0]), 'more ')
    near.end('bytes')
    t.equal(await readToEnd(far), 'bytes')
    await Promise.all(done)
  })

  t.test(`${name}: a reset reaches the other application as a reset`, async t => {
    const { near, far, done } = await lay(t)
    near.write('x')
    await once(far, 'data')
    near.resetAndDestroy()
    const [error] = await once(far, 'error')
    t.match(error, { code: 'ECONNRESET' })
    await Promise.all(done) // an application that leaves is no fault
  })

  t.test(`${name}: a reader that stops makes the writer stop, and gets everything later`, async t => {
    const { near, far, counters, done } = await lay(t)
    const total = 48 << 20
    const chunk = Buffer.alloc(1 << 20, 7)
    let written = 0
    const write = (): void => {
      while (written < total) {
        written += chunk.length
        if (!near.write(chunk)) return void near.once('drain', write)
      }
      near.end()
    }
    far.pause()
    write()
    let passed = -1
    await eventually('no more bytes move', () => {
      const still = passed === counters.aToB && passed > 0
      passed = counters.aToB
      return still
    })
    t.ok(passed < 32 << 20, `the writer was stopped after ${passed >> 20} MiB`)
    let received = 0
    far.on('data', (data: Buffer) => {
      received += data.length
    })
    far.resume()
    await once(far, 'end')
    t.equal(received, total)
    far.end()
    near.resume()
    await Promise.all(done)
  })

  t.test(`${name}: every byte arrives as it was sent, both ways at once`, async t => {
    const { near, far, done } = await lay(t)
    const [there, back] = [randomBytes(24 << 20), randomBytes(24 << 20)]
    const hashOf = async (socket: net.Socket): Promise<string> => {
      const hash = createHash('sha256')
      socket.on('data', (chunk: Buffer) => hash.update(chunk))
      await once(socket, 'end')
      return hash.digest('hex')
    }
    const hashes = Promise.all([hashOf(far), hashOf(near)])
    near.end(there)
    far.end(back)
    const expected = [there, back].map(bytes => createHash('sha256').update(bytes).digest('hex'))
    t.strictSame(await hashes, expected)
    await Promise.all(done)
  })

  t.test(`${name}: abort cuts both applications with a reset and rejects with the reason`, async t => {
    const { near, far, done, abort } = await lay(t)
    near.write('x')
    await once(far, 'data')
    const reason = new MeshError('POLICY_CHANGED', 'no longer allowed')
    const [cutNear, cutFar] = [once(near, 'error'), once(far, 'error')]
    abort.abort(reason)
    await t.rejects(done[0] ?? Promise.resolve(), reason)
    t.match(await cutNear, [{ code: 'ECONNRESET' }])
    t.match(await cutFar, [{ code: 'ECONNRESET' }])
  })
}

t.test('a signal that has aborted before the start cuts at once', async t => {
  const [near, a] = await tcpPair(t)
  const [b] = await tcpPair(t)
  const cut = once(near, 'error')
  const reason = new MeshError('DRAINED', 'too late')
  await t.rejects(relay(a, b, { aToB: 0, bToA: 0 }, AbortSignal.abort(reason)), reason)
  await cut
})

t.test('a socket that is gone before the start resets the other one', async t => {
  const [, a] = await tcpPair(t)
  const [b, far] = await tcpPair(t)
  a.destroy()
  const cut = once(far, 'error')
  await relay(a, b, { aToB: 0, bToA: 0 }, never)
  t.match(await cut, [{ code: 'ECONNRESET' }])
})

t.test('losing the session resets the application and is an error', async t => {
  const { near, far, done, sessions } = await tunnelled(t)
  near.write('x')
  await once(far, 'data')
  const cut = once(near, 'error')
  sessions?.client.destroy(new MeshError('PEER_REVOKED', 'the peer certificate was revoked'))
  await t.rejects(done[0] ?? Promise.resolve(), { code: 'PEER_REVOKED' })
  t.match(await cut, [{ code: 'ECONNRESET' }])
})

for (const side of ['a', 'b'] as const) {
  t.test(`the stream that failed is told: ${side}`, async t => {
    const { client } = await sessionPair(t, request => void request.accept([]))
    const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
    const [near, socket] = await tcpPair(t)
    near.on('error', () => undefined)
    const counters: RelayCounters = { aToB: 0, bToA: 0 }
    const done =
      side === 'a' ? relay(tunnel, socket, counters, never) : relay(socket, tunnel, counters, never)
    client.destroy(new MeshError('PEER_REVOKED', 'the peer certificate was revoked'))
    await t.rejects(done, { code: 'PEER_REVOKED' })
    t.equal(counters.cut, side)
  })
}

t.test('what was sent before a clean cancellation still arrives', async t => {
  let inbound: Tunnel | undefined
  const { client } = await sessionPair(t, request => {
    inbound = request.accept([])
  })
  const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
  const [near, a] = await tcpPair(t)
  const done = relay(a, tunnel, { aToB: 0, bToA: 0 }, never)
  const bytes = Buffer.alloc(300_000, 'z')
  inbound?.write(bytes)
  inbound?.destroy()
  t.equal((await readToEnd(near)).length, bytes.length)
  await done
})

function readToEnd(socket: net.Socket): Promise<string> {
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
  })
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.once('end', () => {
      socket.removeAllListeners('data')
      resolve(text)
    })
  })
}
