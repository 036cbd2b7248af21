import t from 'tap'
import { FrameReader } from '../../../shared/hbone/frame-reader.ts'
import {
  clientPreface,
  errorCode,
  frameHeader,
  frameType,
  goawayFrame,
  headersFrames,
  pingFrame,
  rstStreamFrame,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
  type Fault
} from '../../../shared/hbone/frames.ts'
import { encodeHeaders } from '../../../shared/hbone/hpack.ts'
import { connectFields, Recorder, type Recorded } from './raw-peer.ts'
import { randomFrom, seedOf, secondsOf } from './chance.ts'

const limits = { maxFrameSize: 1 << 20, maxHeaderBlock: 65_536, maxContinuations: 16 }
const block = encodeHeaders(connectFields)

function dataFrame(streamId: number, content: string, flags = 0): Buffer {
  return Buffer.concat([frameHeader(content.length, frameType.data, flags, streamId), Buffer.from(content)])
}

function raw(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(payload)
  return Buffer.concat([frameHeader(bytes.length, type, flags, streamId), bytes])
}

/** One of everything that is allowed, with padding, priority, CONTINUATION, and a type nobody knows. */
const conversation = Buffer.concat([
  clientPreface,
  settingsFrame([
    [1, 0],
    [4, 4 << 20]
  ]),
  settingsAckFrame(),
  windowUpdateFrame(0, 1234),
  headersFrames(1, block, false, 16_384),
  headersFrames(3, block, false, 7), // needs CONTINUATION
  raw(
    frameType.headers,
    0x4 | 0x8 | 0x20,
    5,
    Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 16]), block, Buffer.alloc(3)])
  ),
  dataFrame(1, 'hello'),
  dataFrame(1, ''),
  raw(frameType.data, 0x8, 1, Buffer.concat([Buffer.from([4]), Buffer.from('padded'), Buffer.alloc(4)])),
  raw(frameType.data, 0x8, 1, Buffer.concat([Buffer.from([2]), Buffer.alloc(2)])),
  raw(0xbe, 0xff, 1, 'nobody knows this'),
  raw(0xbf, 0, 0),
  raw(frameType.priority, 0, 7, Buffer.alloc(5)),
  pingFrame(Buffer.from('12345678'), false),
  pingFrame(Buffer.from('87654321'), true),
  windowUpdateFrame(1, 99),
  dataFrame(1, 'bye', 0x1),
  rstStreamFrame(3, errorCode.CANCEL),
  goawayFrame(5, errorCode.NO_ERROR, 'so long')
])

/** What a reader says to these bytes in these pieces; pieces of one DATA frame are joined. */
function readIn(pieces: Iterable<Buffer>, preface = true): { frames: Recorded[]; fault: Fault | undefined } {
  const recorder = new Recorder()
  const reader = new FrameReader(recorder, limits, preface)
  let fault: Fault | undefined
  for (const piece of pieces) {
    fault ??= reader.read(piece)
  }
  const frames: Recorded[] = []
  for (const frame of recorder.frames) {
    const last = frames.at(-1)
    if (
      frame.kind === 'data' &&
      last?.kind === 'data' &&
      last.streamId === frame.streamId &&
      !last.endStream
    ) {
      frames[frames.length - 1] = { ...frame, bytes: Buffer.concat([last.bytes, frame.bytes]) }
    } else {
      frames.push(frame)
    }
  }
  return { frames, fault }
}

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length))
}

t.test('a conversation reads as it was written', async t => {
  const { frames, fault } = readIn([conversation])
  t.equal(fault, undefined)
  t.strictSame(
    frames.map(frame => frame.kind),
    [
      ...[
        'settings',
        'settings-ack',
        'window',
        'headers',
        'headers',
        'headers',
        'data',
        'padding',
        'data',
        'padding'
      ],
      ...['data', 'idle', 'idle', 'idle', 'ping', 'ping', 'window', 'data', 'rst', 'goaway']
    ]
  )
  t.match(frames[0], {
    pairs: [
      [1, 0],
      [4, 4 << 20]
    ]
  })
  t.strictSame(
    frames.filter(frame => frame.kind === 'headers').map(frame => frame.fields),
    [connectFields, connectFields, connectFields]
  )
  const text = frames.flatMap(frame => (frame.kind === 'data' ? [frame.bytes.toString()] : [])).join('')
  t.equal(text, 'hellopaddedbye')
  t.match(frames.at(-1), { lastStreamId: 5, code: 'NO_ERROR', debug: 'so long' })
})

t.test('it reads the same, split at every byte', async t => {
  const whole = readIn([conversation])
  for (let at = 1; at < conversation.length; at++) {
    const split = readIn(cut(conversation, [at]))
    if (JSON.stringify(split) !== JSON.stringify(whole)) t.strictSame(split, whole, `split at ${at}`)
  }
  t.strictSame(readIn([...conversation].map(byte => Buffer.from([byte]))), whole, 'one byte at a time')
})

t.test('DATA is handed out in place, not copied', async t => {
  const frame = dataFrame(1, 'x'.repeat(1000))
  const pieces: Buffer[] = []
  const recorder = new Recorder()
  const handler = Object.assign(recorder, {
    data: (_id: number, piece: Buffer): undefined => {
      pieces.push(piece)
      return undefined
    }
  })
  const reader = new FrameReader(handler, limits, false)
  reader.read(Buffer.concat([settingsFrame([])]))
  reader.read(frame)
  t.equal(pieces[0]?.buffer, frame.buffer)
  t.equal(pieces[0]?.byteOffset, frame.byteOffset + 9)
})

const violations: readonly {
  readonly name: string
  readonly bytes: Buffer
  readonly code: keyof typeof errorCode
}[] = [
  {
    name: 'a frame beyond the announced size',
    bytes: frameHeader((1 << 20) + 1, 0, 0, 1),
    code: 'FRAME_SIZE_ERROR'
  },
  { name: 'DATA on stream 0', bytes: dataFrame(0, 'x'), code: 'PROTOCOL_ERROR' },
  {
    name: 'DATA with more padding than frame',
    bytes: raw(0, 0x8, 1, Buffer.from([2, 0])),
    code: 'PROTOCOL_ERROR'
  },
  { name: 'padded DATA without Pad Length', bytes: raw(0, 0x8, 1), code: 'FRAME_SIZE_ERROR' },
  { name: 'HEADERS on stream 0', bytes: headersFrames(0, block, true, 16_384), code: 'PROTOCOL_ERROR' },
  {
    name: 'HEADERS with more padding than frame',
    bytes: raw(1, 0xc, 1, Buffer.from([9, 0x82])),
    code: 'PROTOCOL_ERROR'
  },
  { name: 'padded HEADERS without Pad Length', bytes: raw(1, 0xc, 1), code: 'FRAME_SIZE_ERROR' },
  {
    name: 'HEADERS shorter than its priority',
    bytes: raw(1, 0x24, 1, Buffer.alloc(4)),
    code: 'FRAME_SIZE_ERROR'
  },
  { name: 'PRIORITY on stream 0', bytes: raw(2, 0, 0, Buffer.alloc(5)), code: 'PROTOCOL_ERROR' },
  { name: 'RST_STREAM on stream 0', bytes: rstStreamFrame(0, 8), code: 'PROTOCOL_ERROR' },
  { name: 'RST_STREAM of 3 bytes', bytes: raw(3, 0, 1, Buffer.alloc(3)), code: 'FRAME_SIZE_ERROR' },
  { name: 'SETTINGS on a stream', bytes: raw(4, 0, 1), code: 'PROTOCOL_ERROR' },
  { name: 'SETTINGS of 7 bytes', bytes: raw(4, 0, 0, Buffer.alloc(7)), code: 'FRAME_SIZE_ERROR' },
  { name: 'an acknowledgement with content', bytes: raw(4, 1, 0, Buffer.alloc(6)), code: 'FRAME_SIZE_ERROR' },
  { name: 'SETTINGS of 2,731 pairs', bytes: raw(4, 0, 0, Buffer.alloc(16_386)), code: 'ENHANCE_YOUR_CALM' },
  { name: 'PUSH_PROMISE', bytes: raw(5, 4, 1, Buffer.alloc(8)), code: 'PROTOCOL_ERROR' },
  { name: 'PING on a stream', bytes: raw(6, 0, 1, Buffer.alloc(8)), code: 'PROTOCOL_ERROR' },
  { name: 'PING of 7 bytes', bytes: raw(6, 0, 0, Buffer.alloc(7)), code: 'FRAME_SIZE_ERROR' },
  { name: 'GOAWAY on a stream', bytes: raw(7, 0, 1, Buffer.alloc(8)), code: 'PROTOCOL_ERROR' },
  { name: 'GOAWAY of 7 bytes', bytes: raw(7, 0, 0, Buffer.alloc(7)), code: 'FRAME_SIZE_ERROR' },
  { name: 'WINDOW_UPDATE of 3 bytes', bytes: raw(8, 0, 0, Buffer.alloc(3)), code: 'FRAME_SIZE_ERROR' },
  { name: 'WINDOW_UPDATE of 0 on the connection', bytes: windowUpdateFrame(0, 0), code: 'PROTOCOL_ERROR' },
  { name: 'CONTINUATION without HEADERS', bytes: raw(9, 4, 1), code: 'PROTOCOL_ERROR' },
  {
    name: 'another frame inside a header block',
    bytes: Buffer.concat([raw(1, 0, 1, block), dataFrame(1, 'x')]),
    code: 'PROTOCOL_ERROR'
  },
  {
    name: 'CONTINUATION of another stream inside a header block',
    bytes: Buffer.concat([raw(1, 0, 1, block), raw(9, 4, 3)]),
    code: 'PROTOCOL_ERROR'
  },
  {
    name: 'an unknown frame inside a header block',
    bytes: Buffer.concat([raw(1, 0, 1, block), raw(0xbe, 0, 1)]),
    code: 'PROTOCOL_ERROR'
  },
  { name: 'a header block beyond the limit', bytes: frameHeader(65_537, 1, 4, 1), code: 'ENHANCE_YOUR_CALM' },
  {
    name: '17 CONTINUATION frames',
    bytes: Buffer.concat([raw(1, 0, 1, block), ...Array.from({ length: 17 }, () => raw(9, 0, 1))]),
    code: 'ENHANCE_YOUR_CALM'
  }
]

for (const { name, bytes, code } of violations) {
  t.test(`${code}: ${name}`, async t => {
    const { fault } = readIn([settingsFrame([]), bytes], false)
    t.equal(fault?.code, errorCode[code])
    const split = readIn(
      [...Buffer.concat([settingsFrame([]), bytes])].map(byte => Buffer.from([byte])),
      false
    )
    t.strictSame(split.fault, fault, 'also byte by byte')
  })
}

t.test('the first frame must be SETTINGS', async t => {
  for (const first of [dataFrame(1, 'x'), settingsAckFrame(), raw(0xbe, 0, 0)]) {
    t.match(readIn([first], false).fault, { code: errorCode.PROTOCOL_ERROR, reason: /not SETTINGS/ })
  }
})

t.test('a server wants the preface', async t => {
  for (const text of ['GET / HTTP/1.1\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r!']) {
    t.match(readIn([Buffer.from(text)]).fault, { code: errorCode.PROTOCOL_ERROR, reason: /preface/ })
  }
})

t.test('after a fault nothing is read', async t => {
  const recorder = new Recorder()
  const reader = new FrameReader(recorder, limits, false)
  t.ok(reader.read(dataFrame(0, 'x')))
  t.equal(reader.read(settingsFrame([])), undefined)
  t.strictSame(recorder.frames, [])
})

t.test('random and mutated frames never throw and read the same however they are split', async t => {
  const seed = seedOf()
  t.comment(`seed ${seed}; UNDERPASS_SEED=${seed} repeats it`)
  const random = randomFrom(seed)
  const deadline = Date.now() + secondsOf(3) * 1000
  let rounds = 0
  let faults = 0
  while (Date.now() < deadline || rounds < 200) {
    rounds += 1
    const bytes = random() < 0.3 ? noise(random) : mutated(random)
    const whole = readIn([bytes])
    const cuts = Array.from({ length: 5 }, () => Math.floor(random() * bytes.length)).toSorted(
      (a, b) => a - b
    )
    const split = readIn(cut(bytes, cuts))
    if (whole.fault !== undefined) faults += 1
    if (JSON.stringify(whole) !== JSON.stringify(split)) {
      t.strictSame(split, whole, `seed ${seed}, round ${rounds}: ${bytes.toString('hex')}`)
      return
    }
  }
  t.comment(`${rounds} rounds, ${faults} faults`)
  t.ok(faults > 0 && faults < rounds, 'some were accepted, some refused')
})

function mutated(random: () => number): Buffer {
  const bytes = Buffer.from(conversation)
  const changes = Math.floor(random() * 4)
  for (let change = 0; change < changes; change++) {
    bytes[clientPreface.length + Math.floor(random() * (bytes.length - clientPreface.length))] =
      random() * 256
  }
  return random() < 0.2 ? bytes.subarray(0, Math.floor(random() * bytes.length)) : bytes
}

/** Frames with plausible heads and random bodies. */
function noise(random: () => number): Buffer {
  const parts = [clientPreface, settingsFrame([])]
  const count = 1 + Math.floor(random() * 8)
  for (let index = 0; index < count; index++) {
    const payload = Buffer.alloc(Math.floor(random() * 40))
    for (let at = 0; at < payload.length; at++) payload[at] = random() * 256
    parts.push(raw(Math.floor(random() * 12), Math.floor(random() * 256), Math.floor(random() * 4), payload))
  }
  return Buffer.concat(parts)
}
