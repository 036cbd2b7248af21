import { duplexPair } from 'node:stream'
import t from 'tap'
import { errorCode, rstStreamFrame, settingsFrame, windowUpdateFrame } from '../../../shared/hbone/frames.ts'
import { serveTunnels } from '../../../shared/hbone/server.ts'
import { ClientSession } from '../../../shared/hbone/session.ts'
import type { Tunnel } from '../../../shared/hbone/tunnel.ts'
import { eventually } from '../../support/eventually.ts'
import { RawPeer } from './raw-peer.ts'
import { echo, never, readAll, sessionPair } from './support.ts'

const mebibyte = 1 << 20

/** Writes until told to stop, and again when told that it may; counts. */
function pour(tunnel: Tunnel, total: number): { written: number } {
  const state = { written: 0 }
  const chunk = Buffer.alloc(65_536, 1)
  const go = (): void => {
    while (state.written < total) {
      state.written += chunk.length
      if (!tunnel.write(chunk)) return
    }
    tunnel.end()
  }
  tunnel.attach({ data: () => undefined, end: () => undefined, drain: go, close: () => undefined })
  tunnel.resume()
  go()
  return state
}

t.test('a reader that stops makes its writer stop within one stream window; the others go on', async t => {
  const inbound: Tunnel[] = []
  const { client } = await sessionPair(t, request => {
    const tunnel = request.accept([])
    if (request.authority === 'stalled:1') inbound.push(tunnel)
    else echo(tunnel)
  })
  const { tunnel: stalled } = await client.openTunnel({ authority: 'stalled:1', headers: [] }, never)
  const state = pour(stalled, 64 * mebibyte)
  await eventually('the writer was stopped', async () => {
    const before = state.written
    await new Promise(resolve => setTimeout(resolve, 100))
    return state.written === before
  })
  t.ok(state.written <= 4 * mebibyte + 2 * 65_536, `it wrote ${state.written} bytes`)

  const { tunnel: other } = await client.openTunnel({ authority: 'echo:1', headers: [] }, never)
  const sent = Buffer.alloc(24 * mebibyte, 'x')
  const read = readAll(other)
  other.write(sent)
  other.end()
  t.equal((await read).length, sent.length, 'more than both windows passed on another stream')
  t.ok(state.written <= 4 * mebibyte + 2 * 65_536, 'and the stalled one did not move')

  const [first] = inbound
  t.ok(first !== undefined)
  if (first !== undefined) t.equal((await readAll(first)).length, 64 * mebibyte, 'then it is read whole')
})

t.test('seven stalled readers hold up nobody; with more the session holds at most 32 MiB', async t => {
  const stalledTunnels: Tunnel[] = []
  const { client } = await sessionPair(t, request => {
    const tunnel = request.accept([])
    if (request.authority?.startsWith('stalled')) stalledTunnels.push(tunnel)
    else echo(tunnel)
  })
  const states: { written: number }[] = []
  for (let index = 0; index < 7; index++) {
    const { tunnel } = await client.openTunnel({ authority: `stalled:${index}`, headers: [] }, never)
    states.push(pour(tunnel, 16 * mebibyte))
  }
  await eventually('seven windows are full', () => states.every(({ written }) => written >= 4 * mebibyte))
  const { tunnel: other } = await client.openTunnel({ authority: 'echo:1', headers: [] }, never)
  const read = readAll(other)
  other.write(Buffer.alloc(20 * mebibyte, 'x'))
  other.end()
  t.equal((await read).length, 20 * mebibyte)

  for (let index = 0; index < 5; index++) {
    const { tunnel } = await client.openTunnel({ authority: `stalled-too:${index}`, headers: [] }, never)
    states.push(pour(tunnel, 16 * mebibyte))
  }
  let total = 0
  await eventually('nothing moves any more', async () => {
    const before = total
    total = states.reduce((sum, { written }) => sum + written, 0)
    await new Promise(resolve => setTimeout(resolve, 100))
    return before === total
  })
  // What a writer was told to stop at waits on its own side: one chunk a stream.
  t.ok(total <= 32 * mebibyte + states.length * 2 * 65_536, `${total} bytes in all`)
  const ends = stalledTunnels.map(async tunnel => (await readAll(tunnel)).length)
  t.strictSame(
    await Promise.all(ends),
    stalledTunnels.map(() => 16 * mebibyte)
  )
})

t.test('we send no more than the windows of the peer', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(near, true)
  t.teardown(() => near.destroy())
  let tunnel: Tunnel | undefined
  serveTunnels(far, {}, request => {
    tunnel = request.accept([])
  })
  peer.greet([[4, 1000]])
  peer.request(1)
  await peer.frame('headers')
  const sum = (): number =>
    peer.frames.reduce((all, frame) => all + (frame.kind === 'data' ? frame.bytes.length : 0), 0)
  t.notOk(tunnel?.write(Buffer.alloc(200_000)))
  tunnel?.end()
  await peer.settled()
  t.equal(sum(), 1000, 'the initial window')
  peer.send(windowUpdateFrame(1, 500))
  await peer.settled()
  t.equal(sum(), 1500, 'more by WINDOW_UPDATE')
  peer.send(settingsFrame([[4, 100]])) // 900 less: the window is at -900 now
  peer.send(windowUpdateFrame(1, 800))
  await peer.settled()
  t.equal(sum(), 1500, 'a window may be negative')
  peer.send(settingsFrame([[4, 1100]]))
  await peer.settled()
  t.equal(sum(), 2400, 'more by SETTINGS')
  peer.send(windowUpdateFrame(1, 1_000_000))
  await peer.settled()
  t.equal(sum(), 65_535, 'the connection window')
  peer.send(windowUpdateFrame(0, 1_000_000))
  t.ok(await peer.frame('data', frame => frame.endStream), 'END_STREAM comes after the last byte')
  t.equal(sum(), 200_000)
})

t.test('no frame is larger than the peer takes', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(near, true)
  t.teardown(() => near.destroy())
  let tunnel: Tunnel | undefined
  serveTunnels(far, {}, request => {
    tunnel = request.accept([['baggage', 'x'.repeat(40_000)]])
  })
  peer.greet([
    [4, 1 << 20],
    [5, 20_000]
  ])
  peer.request(1)
  t.match(await peer.frame('headers'), { fields: { length: 2 } }, 'a header block too, by CONTINUATION')
  let largest = 0
  const seen: number[] = []
  near.on('data', (chunk: Buffer) => seen.push(chunk.length))
  tunnel?.write(Buffer.alloc(60_000, 1))
  await peer.settled()
  const lengths = peer.frames.flatMap(frame => (frame.kind === 'data' ? [frame.bytes.length] : []))
  largest = Math.max(...lengths)
  t.ok(largest <= 20_000, `${largest}`)
  t.equal(
    lengths.reduce((a, b) => a + b, 0),
    60_000
  )
})

t.test('credit comes back at half a window, padding included', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(near, true)
  t.teardown(() => near.destroy())
  serveTunnels(far, { streamWindow: 1000, connectionWindow: 100_000 }, request => {
    const tunnel = request.accept([])
    tunnel.attach({
      data: () => undefined,
      end: () => undefined,
      drain: () => undefined,
      close: () => undefined
    })
    tunnel.resume()
  })
  peer.greet()
  peer.request(1)
  peer.sendData(1, Buffer.alloc(499))
  await peer.settled()
  t.notOk(peer.frames.some(frame => frame.kind === 'window' && frame.streamId === 1))
  peer.send(Buffer.from([0, 0, 21, 0, 8, 0, 0, 0, 1, 20]), Buffer.alloc(20)) // 21 bytes of padding, no content
  t.match(await peer.frame('window', frame => frame.streamId === 1), { increment: 520 })
})

t.test('bytes of a stream that nobody reads any more still return their credit', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(near, true)
  t.teardown(() => near.destroy())
  serveTunnels(far, { streamWindow: 100_000, connectionWindow: 200_000 }, request =>
    request.accept([]).destroy()
  )
  peer.greet()
  for (let streamId = 1; streamId < 20; streamId += 2) {
    peer.request(streamId)
    peer.sendData(streamId, Buffer.alloc(16_000))
  }
  t.match(await peer.frame('window', frame => frame.increment !== 200_000 - 65_535), {
    streamId: 0,
    increment: 112_000
  })
})

t.test('streams that wait for the connection window take turns', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(far, false)
  t.teardown(() => near.destroy())
  const session = new ClientSession(near)
  peer.send(settingsFrame([[4, 1 << 20]]))
  const opening = [1, 2, 3].map(index => session.openTunnel({ authority: `a:${index}`, headers: [] }, never))
  for (const id of [1, 3, 5]) peer.request(id, [[':status', '200']])
  for (const { tunnel } of await Promise.all(opening)) tunnel.write(Buffer.alloc(100_000))
  await peer.settled()
  const order = (): number[] => peer.frames.flatMap(frame => (frame.kind === 'data' ? [frame.streamId] : []))
  t.strictSame([...new Set(order())], [1], 'the first took the whole window')
  for (let round = 0; round < 3; round++) {
    peer.send(windowUpdateFrame(0, 10_000))
    await peer.settled()
  }
  t.strictSame(
    order()
      .slice(-3)
      .toSorted((a, b) => a - b),
    [1, 3, 5]
  )
})

t.test('a session may be lost while a reader has not read all that was sent whole', async t => {
  let inbound: Tunnel | undefined
  const { client } = await sessionPair(t, request => {
    inbound = request.accept([])
  })
  const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
  tunnel.write(Buffer.alloc(100_000, 1))
  tunnel.end()
  await eventually('the end has arrived', () => inbound?.remoteEnded === true)
  client.destroy(new Error('gone'))
  await eventually('the session is over', () => inbound?.over === true)
  const received: number[] = []
  await new Promise<void>(resolve => {
    inbound?.attach({
      data: chunk => received.push(chunk.length),
      end: () => received.push(-1),
      drain: () => undefined,
      close: error => {
        t.ok(error, 'the answer is lost, and that is said')
        resolve()
      }
    })
    inbound?.resume()
  })
  t.equal(
    received.reduce((a, b) => a + b, 0),
    100_000 - 1
  )
})

t.test('a disposable chunk is freed when it has been sent, any other stays as it is', async t => {
  const { client } = await sessionPair(t, request => echo(request.accept([])))
  const { tunnel } = await client.openTunnel({ authority: 'a:1', headers: [] }, never)
  // Both own their whole memory, as what Node reads from a socket does.
  const kept = Buffer.from(new ArrayBuffer(50_000)).fill('k')
  const freed = Buffer.from(new ArrayBuffer(50_000)).fill('f')
  const slice = Buffer.from(new ArrayBuffer(60_000)).subarray(0, 50_000).fill('s')
  const small = Buffer.from(new ArrayBuffer(1000)).fill('t')
  const read = readAll(tunnel)
  tunnel.write(kept)
  for (const chunk of [freed, slice, small]) tunnel.write(chunk, true)
  tunnel.end()
  const received = await read
  t.equal(
    received.toString(),
    'k'.repeat(50_000) + 'f'.repeat(50_000) + 's'.repeat(50_000) + 't'.repeat(1000)
  )
  t.strictSame(
    [kept, freed, slice, small].map(({ length }) => length),
    [50_000, 0, 50_000, 1000]
  )
})

t.test('a disposable chunk that waits for a window is sent whole', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(near, true)
  t.teardown(() => near.destroy())
  let tunnel: Tunnel | undefined
  serveTunnels(far, {}, request => {
    tunnel = request.accept([])
  })
  peer.greet([[4, 30_000]])
  peer.request(1)
  await peer.frame('headers')
  tunnel?.write(Buffer.from(new ArrayBuffer(65_536)).fill('w'), true)
  await peer.settled()
  peer.send(windowUpdateFrame(1, 100_000))
  tunnel?.end()
  await peer.settled()
  const text = peer.frames.flatMap(frame => (frame.kind === 'data' ? [frame.bytes.toString()] : [])).join('')
  t.equal(text, 'w'.repeat(65_535), 'as much as the connection window allows')
})

t.test('what a stream that is over holds unread goes back to the window when it is destroyed', async t => {
  const [near, far] = duplexPair()
  const options = { streamWindow: 65_536, connectionWindow: 131_072 }
  const tunnels: Tunnel[] = []
  serveTunnels(far, options, request => tunnels.push(request.accept([])))
  t.teardown(() => {
    near.destroy()
    far.destroy()
  })
  const peer = new RawPeer(near, true)
  peer.greet()
  // Far more than the connection's window, each time cancelled before anybody has read it.
  for (let streamId = 1; streamId < 40; streamId += 2) {
    peer.request(streamId)
    peer.sendData(streamId, Buffer.alloc(60_000))
    peer.send(rstStreamFrame(streamId, errorCode.CANCEL))
    await peer.settled()
    tunnels.at(-1)?.destroy()
  }
  peer.request(41)
  peer.sendData(41, Buffer.alloc(60_000), true)
  await peer.settled()
  t.notOk(peer.frames.find(({ kind }) => kind === 'goaway'))
  const last = tunnels.at(-1)
  t.equal(last === undefined ? 0 : (await readAll(last)).length, 60_000)
})
