/** What leaves together, and in which order. */
import t from 'tap'
import type { ByteStream } from '../../../shared/net/byte-stream.ts'
import type { Framing } from '../../../waypoint/http/framing.ts'
import { MessageWriter } from '../../../waypoint/http1/message-writer.ts'

const head = 'HTTP/1.1 200 OK\r\n\r\n'

/** What is written to a connection, one entry a write. */
function record(framing: Framing): { readonly written: string[]; readonly writer: MessageWriter } {
  const written: string[] = []
  const stream: ByteStream = {
    exclusive: false,
    attach: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
    write: chunk => written.push(chunk.toString('latin1')) > 0,
    cork: () => undefined,
    uncork: () => undefined,
    end: () => undefined,
    close: () => undefined,
    destroy: () => void written.push('destroyed')
  }
  const events = { finished: () => undefined, drained: () => undefined }
  return { written, writer: new MessageWriter(stream, head, framing, events) }
}

t.test('a head leaves in one write with a small body that comes at once', async t => {
  const { written, writer } = record({ kind: 'length', bytes: 4 })
  writer.data(Buffer.from('ab'))
  writer.data(Buffer.from('cd'))
  writer.end()
  await Promise.resolve()
  t.strictSame(written, [`${head}ab`, 'cd'])
})

t.test('a head does not wait for a body that comes later', async t => {
  const { written, writer } = record({ kind: 'length', bytes: 2 })
  t.strictSame(written, [])
  await Promise.resolve()
  t.strictSame(written, [head])
  writer.data(Buffer.from('ab'))
  writer.end()
  t.strictSame(written, [head, 'ab'])
})

t.test('a large body is not copied to leave with the head', async t => {
  const body = 'x'.repeat(5000)
  const { written, writer } = record({ kind: 'length', bytes: 5000 })
  writer.data(Buffer.from(body))
  t.strictSame(written, [head, body])
})

t.test('a head comes first whatever follows it', async t => {
  const none = record({ kind: 'none' })
  none.writer.end()
  t.strictSame(none.written, [head], 'the end')
  const chunked = record({ kind: 'chunked' })
  chunked.writer.data(Buffer.from('ab'))
  chunked.writer.end()
  t.equal(chunked.written.join(''), `${head}2\r\nab\r\n0\r\n\r\n`, 'chunks')
  const cut = record({ kind: 'length', bytes: 4 })
  cut.writer.fail()
  await Promise.resolve()
  t.strictSame(cut.written, [head, 'destroyed'], 'a failure')
  const long = record({ kind: 'length', bytes: 1 })
  long.writer.data(Buffer.from('ab'))
  t.strictSame(long.written, [head, 'destroyed'], 'more than was announced')
})
