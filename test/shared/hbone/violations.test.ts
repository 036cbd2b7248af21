/** What a server does with input that RFC 9113 forbids, in the manner of h2spec: the right code, never an exception. */
import { duplexPair } from 'node:stream'
import t from 'tap'
import { serveTunnels, type TunnelRequest } from '../../../shared/hbone/server.ts'
import { ClientSession } from '../../../shared/hbone/session.ts'
import {
  clientPreface,
  errorCode,
  frameHeader,
  frameType,
  headersFrames,
  rstStreamFrame,
  settingsFrame,
  windowUpdateFrame
} from '../../../shared/hbone/frames.ts'
import type { HeaderList } from '../../../shared/hbone/header-field.ts'
import { encodeHeaders } from '../../../shared/hbone/hpack.ts'
import { randomFrom, secondsOf, seedOf } from './chance.ts'
import { connectFields, RawPeer } from './raw-peer.ts'
import { echo, never } from './support.ts'

type Test = Parameters<typeof serverFor>[0]

function serverFor(
  t: { teardown(end: () => unknown): void },
  onRequest: (request: TunnelRequest) => void
): RawPeer {
  const [near, far] = duplexPair()
  serveTunnels(far, {}, onRequest)
  t.teardown(() => {
    near.destroy()
    far.destroy()
  })
  return new RawPeer(near, true)
}

function raw(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(payload)
  return Buffer.concat([frameHeader(bytes.length, type, flags, streamId), bytes])
}

function headers(streamId: number, fields: HeaderList, endStream = false): Buffer {
  return headersFrames(streamId, encodeHeaders(fields), endStream, 16_384)
}

const connect = (streamId: number, endStream = false): Buffer => headers(streamId, connectFields, endStream)
const data = (streamId: number, text: string, endStream = false): Buffer =>
  raw(0, endStream ? 1 : 0, streamId, text)
const setting = (id: number, value: number): Buffer => settingsFrame([[id, value]])
const maxIncrement = 0x7fff_ffff

interface Violation {
  readonly section: string
  readonly name: string
  /** After preface and SETTINGS. */
  readonly bytes: readonly Buffer[]
  /** Code of GOAWAY; */
  readonly connection?: keyof typeof errorCode
  /** or the RST_STREAM that is expected, with the connection living on. */
  readonly stream?: readonly [id: number, code: keyof typeof errorCode]
}

const get: HeaderList = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a']
]
const invalidHeads: readonly (readonly [section: string, name: string, fields: HeaderList])[] = [
  ['8.2.1', 'a header name in upper case', [...connectFields, ['X-Test', 'ok']]],
  ['8.2.1', 'a header name with a space', [...connectFields, ['x test', 'ok']]],
  ['8.2.1', 'an empty header name', [...connectFields, ['', 'ok']]],
  ['8.2.1', 'a header value with a line break', [...connectFields, ['x-test', 'a\r\nb: c']]],
  ['8.2.1', 'a header value with NUL', [...connectFields, ['x-test', 'a\0b']]],
  ['8.2.1', 'a header value with a blank at its end', [...connectFields, ['x-test', 'a ']]],
  ['8.2.2', 'connection', [...connectFields, ['connection', 'keep-alive']]],
  ['8.2.2', 'transfer-encoding', [...connectFields, ['transfer-encoding', 'chunked']]],
  ['8.2.2', 'te other than trailers', [...connectFields, ['te', 'trailers, deflate']]],
  ['8.3', 'an unknown pseudo header', [...connectFields, [':test', 'ok']]],
  ['8.3', 'a pseudo header of responses', [...connectFields, [':status', '200']]],
  [
    '8.3',
    'a pseudo header after a regular one',
    [
      [':method', 'CONNECT'],
      ['x-test', 'ok'],
      [':authority', 'a:1']
    ]
  ],
  ['8.3.1', ':method twice', [[':method', 'CONNECT'], ...connectFields]],
  ['8.3.1', 'no :method', [[':authority', 'a:1']]],
  ['8.3.1', 'GET without :path', get.filter(([name]) => name !== ':path')],
  [
    '8.3.1',
    'GET with an empty :path',
    get.map(([name, value]) => [name, name === ':path' ? '' : value] as const)
  ],
  ['8.3.1', 'GET without :scheme', get.filter(([name]) => name !== ':scheme')],
  ['8.5', 'CONNECT with :path', [...connectFields, [':path', '/']]],
  ['8.5', 'CONNECT with :scheme', [...connectFields, [':scheme', 'https']]],
  ['RFC 8441', 'CONNECT with :protocol', [...connectFields, [':protocol', 'websocket']]]
]

const violations: readonly Violation[] = [
  ...invalidHeads.map(([section, name, fields]) => ({
    section,
    name,
    bytes: [headers(1, fields)],
    stream: [1, 'PROTOCOL_ERROR'] as const
  })),
  {
    section: '4.1',
    name: 'a frame of an unknown type is skipped',
    bytes: [raw(0xbe, 0xff, 0, 'x'.repeat(99))]
  },
  { section: '4.1', name: 'undefined flags are skipped', bytes: [raw(6, 0xfe, 0, '01234567')] },
  { section: '4.1', name: 'the reserved bit is skipped', bytes: [raw(6, 0, -0x8000_0000, '01234567')] },
  {
    section: '4.3',
    name: 'a header block that is no HPACK',
    bytes: [raw(1, 5, 1, '\x80')],
    connection: 'COMPRESSION_ERROR'
  },
  { section: '5.1', name: 'idle: DATA', bytes: [data(1, 'x')], connection: 'PROTOCOL_ERROR' },
  { section: '5.1', name: 'idle: RST_STREAM', bytes: [rstStreamFrame(1, 8)], connection: 'PROTOCOL_ERROR' },
  {
    section: '5.1',
    name: 'idle: WINDOW_UPDATE',
    bytes: [windowUpdateFrame(1, 100)],
    connection: 'PROTOCOL_ERROR'
  },
  { section: '5.1', name: 'idle: CONTINUATION', bytes: [raw(9, 4, 1)], connection: 'PROTOCOL_ERROR' },
  { section: '5.1', name: 'idle: PRIORITY is allowed', bytes: [raw(2, 0, 1, Buffer.alloc(5))] },
  {
    section: '5.1',
    name: 'half closed: DATA',
    bytes: [connect(1, true), data(1, 'x')],
    stream: [1, 'STREAM_CLOSED']
  },
  {
    section: '5.1',
    name: 'half closed: HEADERS',
    bytes: [connect(1, true), connect(1)],
    stream: [1, 'STREAM_CLOSED']
  },
  {
    section: '5.1',
    name: 'half closed: WINDOW_UPDATE is allowed',
    bytes: [connect(1, true), windowUpdateFrame(1, 9)]
  },
  {
    section: '5.1',
    name: 'closed: DATA after RST_STREAM',
    bytes: [connect(1), rstStreamFrame(1, 8), data(1, 'x')],
    stream: [1, 'STREAM_CLOSED']
  },
  {
    section: '5.1',
    name: 'closed: HEADERS after RST_STREAM',
    bytes: [connect(1), rstStreamFrame(1, 8), connect(1)],
    connection: 'STREAM_CLOSED'
  },
  {
    section: '5.1',
    name: 'closed: WINDOW_UPDATE is allowed',
    bytes: [connect(1), rstStreamFrame(1, 8), windowUpdateFrame(1, 9)]
  },
  {
    section: '5.1',
    name: 'closed: a second RST_STREAM is allowed',
    bytes: [connect(1), rstStreamFrame(1, 8), rstStreamFrame(1, 8)]
  },
  { section: '5.1.1', name: 'an even stream identifier', bytes: [connect(2)], connection: 'PROTOCOL_ERROR' },
  {
    section: '5.1.1',
    name: 'a stream identifier that goes back',
    bytes: [connect(5), connect(3)],
    connection: 'STREAM_CLOSED'
  },
  {
    section: '6.2',
    name: 'HEADERS with padding beyond its end',
    bytes: [raw(1, 0xc, 1, Buffer.from([200, 1]))],
    connection: 'PROTOCOL_ERROR'
  },
  {
    section: '6.3',
    name: 'PRIORITY of 4 bytes',
    bytes: [connect(1), raw(2, 0, 1, Buffer.alloc(4))],
    stream: [1, 'FRAME_SIZE_ERROR']
  },
  { section: '6.5.2', name: 'ENABLE_PUSH of 2', bytes: [setting(2, 2)], connection: 'PROTOCOL_ERROR' },
  {
    section: '6.5.2',
    name: 'INITIAL_WINDOW_SIZE of 2^31',
    bytes: [setting(4, 0x8000_0000)],
    connection: 'FLOW_CONTROL_ERROR'
  },
  {
    section: '6.5.2',
    name: 'MAX_FRAME_SIZE of 16383',
    bytes: [setting(5, 16_383)],
    connection: 'PROTOCOL_ERROR'
  },
  {
    section: '6.5.2',
    name: 'MAX_FRAME_SIZE of 2^24',
    bytes: [setting(5, 1 << 24)],
    connection: 'PROTOCOL_ERROR'
  },
  { section: '6.5.2', name: 'an unknown setting is skipped', bytes: [setting(0xff, 1)] },
  { section: '6.8', name: 'GOAWAY of a client changes nothing', bytes: [raw(7, 0, 0, Buffer.alloc(8))] },
  {
    section: '6.9',
    name: 'WINDOW_UPDATE of 0 on a stream',
    bytes: [connect(1), windowUpdateFrame(1, 0)],
    stream: [1, 'PROTOCOL_ERROR']
  },
  {
    section: '6.9.1',
    name: 'a connection window beyond 2^31 - 1',
    bytes: [windowUpdateFrame(0, maxIncrement)],
    connection: 'FLOW_CONTROL_ERROR'
  },
  {
    section: '6.9.1',
    name: 'a stream window beyond 2^31 - 1',
    bytes: [connect(1), windowUpdateFrame(1, maxIncrement)],
    stream: [1, 'FLOW_CONTROL_ERROR']
  },
  {
    section: '6.9.2',
    name: 'SETTINGS that push a stream window beyond 2^31 - 1',
    bytes: [connect(1), windowUpdateFrame(1, 1000), setting(4, maxIncrement)],
    connection: 'FLOW_CONTROL_ERROR'
  },
  {
    section: '6.9.1',
    name: 'more DATA than the window of its stream',
    bytes: [connect(1), ...Array.from({ length: 5 }, () => raw(0, 0, 1, Buffer.alloc(1 << 20)))],
    stream: [1, 'FLOW_CONTROL_ERROR']
  },
  {
    section: '8.1',
    name: 'trailers without END_STREAM',
    bytes: [connect(1), headers(1, [['x-test', 'ok']])],
    stream: [1, 'PROTOCOL_ERROR']
  },
  {
    section: '8.1',
    name: 'trailers with a pseudo header',
    bytes: [connect(1), headers(1, connectFields, true)],
    stream: [1, 'PROTOCOL_ERROR']
  },
  { section: '8.1', name: 'trailers are ignored', bytes: [connect(1), headers(1, [['x-test', 'ok']], true)] },
  {
    section: '8.4',
    name: 'PUSH_PROMISE of a client',
    bytes: [connect(1), raw(5, 4, 1, Buffer.alloc(8))],
    connection: 'PROTOCOL_ERROR'
  }
]

for (const { section, name, bytes, connection, stream } of violations) {
  t.test(`${section} ${name}`, async t => {
    const peer = serverFor(t, request => request.accept([]))
    peer.greet()
    peer.send(...bytes)
    if (connection !== undefined) {
      t.equal((await peer.frame('goaway'))?.code, connection)
      await peer.end()
      return
    }
    if (stream !== undefined) {
      t.match(await peer.frame('rst'), { streamId: stream[0], code: stream[1] })
    }
    await peer.settled()
    t.notOk(peer.ended, 'the connection lives on')
    if (stream === undefined)
      t.notOk(peer.frames.some(frame => frame.kind === 'rst' || frame.kind === 'goaway'))
    await stillServes(t, peer)
  })
}

t.test('3.4 a client that speaks HTTP/1.1', async t => {
  const peer = serverFor(t, request => request.accept([]))
  peer.send(Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n'))
  t.equal((await peer.frame('goaway'))?.code, 'PROTOCOL_ERROR')
  await peer.end()
})

t.test('3.4 a client whose first frame is not SETTINGS', async t => {
  const peer = serverFor(t, request => request.accept([]))
  peer.send(clientPreface, connect(1))
  t.equal((await peer.frame('goaway'))?.code, 'PROTOCOL_ERROR')
})

t.test('6.5.3 SETTINGS are acknowledged, PING is answered with its content', async t => {
  const peer = serverFor(t, () => undefined)
  peer.greet()
  peer.send(raw(6, 0, 0, 'content!'))
  t.ok(await peer.frame('settings-ack'))
  t.ok(await peer.frame('ping', frame => frame.ack && frame.opaque === 'content!'))
})

t.test('what a server announces', async t => {
  const peer = serverFor(t, () => undefined)
  peer.greet()
  t.strictSame((await peer.frame('settings'))?.pairs, [
    [1, 0],
    [3, 200],
    [4, 4 << 20],
    [5, 1 << 20],
    [6, 65_536]
  ])
  t.match(await peer.frame('window'), { streamId: 0, increment: (16 << 20) - 65_535 })
})

t.test('a request for something else than a tunnel reaches whoever decides', async t => {
  const peer = serverFor(t, request => {
    t.strictSame([request.method, request.authority], ['GET', 'a'])
    request.refuse(400)
  })
  peer.greet()
  peer.send(headers(1, get, true))
  t.match(await peer.frame('headers'), { fields: [[':status', '400']], endStream: true })
  await peer.settled()
  t.notOk(
    peer.frames.some(frame => frame.kind === 'rst'),
    'both sides had ended the stream'
  )
})

t.test('a refused stream that its client has not ended is reset without error', async t => {
  const peer = serverFor(t, request => request.refuse(401))
  peer.greet()
  peer.send(connect(1), data(1, 'early'))
  t.match(await peer.frame('headers'), { fields: [[':status', '401']], endStream: true })
  t.match(await peer.frame('rst'), { streamId: 1, code: 'NO_ERROR' })
  peer.send(data(1, 'late', true))
  await peer.settled()
  t.equal(peer.frames.filter(frame => frame.kind === 'rst').length, 1, 'what was on its way is no violation')
  t.notOk(peer.ended)
})

// ---- the other role

interface BadServer {
  readonly name: string
  readonly bytes: readonly Buffer[]
  readonly error: { readonly code: string; readonly message: RegExp }
  readonly connection?: keyof typeof errorCode
  readonly stream?: readonly [id: number, code: keyof typeof errorCode]
}

const ok: HeaderList = [[':status', '200']]
const badServers: readonly BadServer[] = [
  {
    name: 'DATA before the response',
    bytes: [data(1, 'x')],
    error: { code: 'STREAM_FAILED', message: /before it answered/ },
    stream: [1, 'PROTOCOL_ERROR']
  },
  {
    name: 'a response without :status',
    bytes: [headers(1, [['a', 'b']])],
    error: { code: 'STREAM_FAILED', message: /before it answered/ },
    stream: [1, 'PROTOCOL_ERROR']
  },
  {
    name: 'a response with :status OK',
    bytes: [headers(1, [[':status', 'OK']])],
    error: { code: 'STREAM_FAILED', message: /before it answered/ },
    stream: [1, 'PROTOCOL_ERROR']
  },
  {
    name: 'an interim response that ends the stream',
    bytes: [headers(1, [[':status', '100']], true)],
    error: { code: 'STREAM_FAILED', message: /before it answered/ },
    stream: [1, 'PROTOCOL_ERROR']
  },
  {
    name: 'a stream that only clients open',
    bytes: [headers(3, ok)],
    error: { code: 'HTTP2_FAILED', message: /only we could open/ },
    connection: 'PROTOCOL_ERROR'
  },
  {
    name: 'a pushed stream',
    bytes: [headers(2, ok)],
    error: { code: 'HTTP2_FAILED', message: /PROTOCOL_ERROR/ },
    connection: 'PROTOCOL_ERROR'
  },
  {
    name: 'ENABLE_PUSH of 1',
    bytes: [setting(2, 1)],
    error: { code: 'HTTP2_FAILED', message: /ENABLE_PUSH of 1/ },
    connection: 'PROTOCOL_ERROR'
  },
  {
    name: 'RST_STREAM',
    bytes: [rstStreamFrame(1, errorCode.INTERNAL_ERROR)],
    error: { code: 'STREAM_FAILED', message: /INTERNAL_ERROR/ }
  },
  {
    name: 'REFUSED_STREAM',
    bytes: [rstStreamFrame(1, errorCode.REFUSED_STREAM)],
    error: { code: 'HTTP2_FAILED', message: /refused the stream/ }
  },
  {
    name: 'GOAWAY that leaves the stream out',
    bytes: [raw(7, 0, 0, Buffer.alloc(8))],
    error: { code: 'HTTP2_FAILED', message: /closed the HBONE session/ }
  },
  {
    name: 'a response of 503',
    bytes: [headers(1, [[':status', '503']], true)],
    error: { code: 'HTTP_STATUS', message: /^http status: 503$/ }
  },
  {
    name: 'a response with too many headers',
    bytes: [headers(1, [...ok, ['x', 'y'.repeat(16_000)], ['z', 'y'.repeat(300)]])],
    error: { code: 'STREAM_FAILED', message: /more headers/ },
    stream: [1, 'CANCEL']
  }
]

for (const { name, bytes, error, connection, stream } of badServers) {
  t.test(`a client meets ${name}`, async t => {
    const [near, far] = duplexPair()
    const peer = new RawPeer(far, false)
    const session = new ClientSession(near)
    t.teardown(() => near.destroy())
    const opening = t.rejects(session.openTunnel({ authority: 'a:1', headers: [] }, never), error)
    peer.send(settingsFrame([]))
    await peer.frame('headers')
    peer.send(...bytes)
    await opening
    if (connection !== undefined) t.equal((await peer.frame('goaway'))?.code, connection)
    if (stream !== undefined) t.match(await peer.frame('rst'), { streamId: stream[0], code: stream[1] })
  })
}

t.test('a client waits through interim responses', async t => {
  const [near, far] = duplexPair()
  const peer = new RawPeer(far, false)
  const session = new ClientSession(near)
  t.teardown(() => near.destroy())
  const opening = session.openTunnel({ authority: 'a:1', headers: [] }, never)
  peer.send(settingsFrame([]), headers(1, [[':status', '103']]), headers(1, [...ok, ['a', 'b']]))
  t.match(await opening, { headers: [...ok, ['a', 'b']] })
})

t.test('no bytes, however random, make a server throw', async t => {
  const seed = seedOf()
  t.comment(`seed ${seed}; UNDERPASS_SEED=${seed} repeats it`)
  const random = randomFrom(seed)
  const deadline = Date.now() + secondsOf(3) * 1000
  let rounds = 0
  let ends = 0
  while (Date.now() < deadline || rounds < 50) {
    rounds += 1
    const peer = serverFor(t, request => {
      const choice = random()
      if (choice < 0.2) request.refuse(401)
      else if (choice < 0.9) echo(request.accept([]))
    })
    peer.greet()
    const count = Math.floor(random() * 30)
    for (let index = 0; index < count; index++) peer.send(anyFrame(random))
    await new Promise(resolve => setImmediate(resolve))
    if (random() < 0.5) peer.stream.end()
    else await Promise.race([peer.settled(), peer.end()])
    if (peer.frames.some(frame => frame.kind === 'goaway')) ends += 1
    peer.stream.destroy()
  }
  t.comment(`${rounds} connections, ${ends} ended by GOAWAY`)
  t.ok(ends > 0 && ends < rounds)
})

function anyFrame(random: () => number): Buffer {
  const pick = (below: number): number => Math.floor(random() * below)
  const streamId = 1 + 2 * pick(4)
  const bytes = Buffer.alloc(pick(60))
  for (let at = 0; at < bytes.length; at++) bytes[at] = pick(256)
  switch (pick(12)) {
    case 0:
    case 1:
    case 2:
      return connect(streamId, random() < 0.2)
    case 3:
    case 4:
      return data(streamId, bytes.toString('latin1'), random() < 0.2)
    case 5:
      return rstStreamFrame(streamId, pick(14))
    case 6:
      return windowUpdateFrame(random() < 0.5 ? 0 : streamId, 1 + pick(1000))
    case 7:
      return setting(3 + pick(4), pick(100_000))
    case 8:
      return raw(frameType.data, 8, streamId, bytes)
    case 9:
      return raw(pick(12), pick(256), pick(9), bytes)
    case 10:
      return raw(frameType.headers, 4, streamId, bytes)
    default:
      return raw(6, 0, 0, '12345678')
  }
}

async function stillServes(t: Test, peer: RawPeer): Promise<void> {
  peer.request(99)
  const answer = await peer.frame('headers', frame => frame.streamId === 99)
  if (answer?.fields[0]?.[1] !== '200') throw new Error('the connection serves no more')
  void t
}
