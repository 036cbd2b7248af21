/** SPDY/3.1 frames and connections, also broken ones. */
import t from 'tap'
import { once } from 'node:events'
import { Duplex, PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { SpdyConnection, type SpdyStream } from '../../lab/api-store/streams/spdy.ts'
import {
  controlFrame,
  dataFrame,
  frameLength,
  frameType,
  HeaderCodec,
  maxFrameBytes,
  readFrame,
  uint32
} from '../../lab/api-store/streams/spdy-frames.ts'

interface Peer {
  readonly streams: SpdyStream[]
  readonly codec: HeaderCodec
  write(...frames: Buffer[]): void
  /** Frames that the server sent. */
  sent(): Buffer[]
  readonly ended: Promise<void>
}

function connect(): Peer {
  const [toServer, toClient] = [new PassThrough(), new PassThrough()]
  const transport = Duplex.from({ readable: toServer, writable: toClient })
  const streams: SpdyStream[] = []
  const ended = new SpdyConnection(transport, stream => streams.push(stream)).run()
  let bytes = Buffer.alloc(0)
  toClient.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
  })
  toServer.on('error', () => undefined)
  toClient.on('error', () => undefined)
  return {
    streams,
    codec: new HeaderCodec(),
    write: (...frames) => {
      for (const frame of frames) toServer.write(frame)
    },
    sent: () => {
      const frames: Buffer[] = []
      for (let rest: Buffer = bytes; rest.length >= 8; rest = rest.subarray(frameLength(rest)))
        frames.push(rest.subarray(0, frameLength(rest)))
      return frames
    },
    ended
  }
}

async function synStream(codec: HeaderCodec, id: number, headers: Record<string, string>): Promise<Buffer> {
  const block = await codec.encode(new Map(Object.entries(headers)))
  return controlFrame(frameType.synStream, 0, Buffer.concat([uint32(id), uint32(0), Buffer.of(0, 0), block]))
}

async function eventually(condition: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 400 && !condition(); attempt += 1) await delay(10)
}

t.test('header blocks of a connection share their compression', async t => {
  const [sender, receiver] = [new HeaderCodec(), new HeaderCodec()]
  const headers = new Map([
    ['streamtype', 'data'],
    ['port', '80'],
    ['x', 'ü'.repeat(1000)]
  ])
  const first = await sender.encode(headers)
  const second = await sender.encode(headers)
  t.strictSame(await receiver.decode(first), headers)
  t.strictSame(await receiver.decode(second), headers)
  t.ok(second.length < first.length)
  await t.rejects(receiver.decode(Buffer.from('no zlib')))
})

t.test('a stream opens, is answered, carries data and ends one way at a time', async t => {
  const peer = connect()
  peer.write(
    await synStream(peer.codec, 1, { StreamType: 'data', port: '80' }),
    dataFrame(1, false, Buffer.from('hello'))
  )
  await eventually(() => peer.streams.length === 1)
  const [stream] = peer.streams
  if (stream === undefined) return
  t.equal(stream.headers.get('streamtype'), 'data')
  const [data] = (await once(stream.duplex, 'data')) as [Buffer]
  t.equal(data.toString(), 'hello')
  peer.write(dataFrame(1, true, Buffer.alloc(0)))
  await once(stream.duplex, 'end')
  stream.duplex.end('back')
  await eventually(() => peer.sent().length >= 3)
  const frames = peer.sent().map(readFrame)
  t.match(frames, [
    { kind: 'control', type: frameType.synReply },
    { kind: 'data', streamId: 1, fin: false },
    { kind: 'data', streamId: 1, fin: true }
  ])
})

t.test('a ping is answered; unknown frames and data of no stream are skipped', async t => {
  const peer = connect()
  peer.write(
    controlFrame(99, 0, Buffer.from('x')),
    dataFrame(77, false, Buffer.from('lost')),
    controlFrame(frameType.settings, 0, uint32(0)),
    controlFrame(frameType.ping, 0, uint32(7))
  )
  await eventually(() => peer.sent().length > 0)
  t.match(peer.sent().map(readFrame), [{ kind: 'control', type: frameType.ping, payload: uint32(7) }])
})

t.test('a stream number is used once', async t => {
  const peer = connect()
  peer.write(await synStream(peer.codec, 1, { port: '80' }), await synStream(peer.codec, 1, { port: '80' }))
  await eventually(() => peer.sent().length >= 2)
  t.match(peer.sent().map(readFrame), [{ type: frameType.synReply }, { type: frameType.rstStream }])
  t.equal(peer.streams.length, 1)
})

t.test('frames may come in any pieces', async t => {
  const peer = connect()
  const bytes = Buffer.concat([
    await synStream(peer.codec, 1, { port: '80' }),
    dataFrame(1, true, Buffer.from('pieces'))
  ])
  for (const byte of bytes) peer.write(Buffer.of(byte))
  await eventually(() => peer.streams.length === 1)
  const received: Buffer[] = []
  for await (const chunk of peer.streams[0]?.duplex ?? []) received.push(chunk as Buffer)
  t.equal(Buffer.concat(received).toString(), 'pieces')
})

t.test('a broken peer ends its own connection and all of its streams', async t => {
  const block = controlFrame(
    frameType.synStream,
    0,
    Buffer.concat([uint32(3), uint32(0), Buffer.of(0, 0), Buffer.from('no zlib')])
  )
  const long = controlFrame(frameType.ping, 0, Buffer.alloc(4))
  long.writeUIntBE(maxFrameBytes + 1, 5, 3)
  for (const [name, bytes] of [
    ['headers that are not compressed', block],
    ['a frame too long', long],
    ['a stream frame cut short', controlFrame(frameType.synStream, 0, Buffer.of(1))]
  ] as const) {
    const peer = connect()
    peer.write(await synStream(peer.codec, 1, { port: '80' }))
    await eventually(() => peer.streams.length === 1)
    peer.write(bytes)
    await peer.ended
    t.ok(peer.streams[0]?.duplex.destroyed, name)
  }
})

t.test('random bytes never do more than end the connection', async t => {
  const seed = Date.now() % 1_000_000
  let state = seed
  const random = (below: number): number => {
    state = (state * 1103515245 + 12345) & 0x7fffffff
    return (state >> 8) % below
  }
  for (let round = 0; round < 100; round += 1) {
    const peer = connect()
    const bytes = Buffer.concat([
      await synStream(peer.codec, 1, { port: '80' }),
      dataFrame(1, false, Buffer.from('data')),
      controlFrame(frameType.rstStream, 0, Buffer.concat([uint32(1), uint32(1)]))
    ])
    for (let change = 0; change < 3; change += 1) bytes[random(bytes.length)] = random(256)
    peer.write(bytes)
    await delay(0)
  }
  t.pass(`seed ${seed}`)
})
