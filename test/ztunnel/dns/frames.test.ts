import t from 'tap'
import { frame, FrameReader } from '../../../ztunnel/dns/frames.ts'

const messages = [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(65_535, 7), Buffer.from('last')]

t.test('messages come back whole, however the stream was cut', async t => {
  const stream = Buffer.concat(messages.map(frame))
  for (const size of [1, 2, 3, 7, 1000, 65_536, stream.length]) {
    const reader = new FrameReader()
    const found: Buffer[] = []
    for (let at = 0; at < stream.length; at += size) {
      found.push(...reader.push(stream.subarray(at, at + size)).map(message => Buffer.from(message)))
    }
    t.strictSame(found, messages, `in pieces of ${size}`)
  }
})

t.test('what is unfinished waits', async t => {
  const reader = new FrameReader()
  t.strictSame(reader.push(Buffer.from([0])), [])
  t.strictSame(reader.push(Buffer.from([2, 65])), [])
  t.strictSame(reader.push(Buffer.from([66, 0])), [Buffer.from('AB')])
})
