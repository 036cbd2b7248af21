import t from 'tap'
import { SentChunks } from '../../../shared/net/sent-chunks.ts'

const chunkOf = (memory: number, from: number, to: number): Buffer =>
  Buffer.from(new ArrayBuffer(memory)).subarray(from, to)

t.test('only large chunks that are alone in their memory are worth freeing', async t => {
  const rows: readonly (readonly [name: string, chunk: Buffer, worth: boolean])[] = [
    ['a read of 64 KiB', chunkOf(65_536, 0, 65_536), true],
    ['a full TLS record', chunkOf(16_384, 0, 16_384), true],
    ['a full record beside the head of its frame', chunkOf(16_384, 9, 16_384), true],
    ['a record with something else in it', chunkOf(16_384, 0, 16_374), false],
    ['half of a read', chunkOf(65_536, 0, 32_768), false],
    ['a small chunk', chunkOf(1000, 0, 1000), false],
    ['a slice of the pool', Buffer.allocUnsafe(100), false]
  ]
  for (const [name, chunk, worth] of rows) t.equal(SentChunks.worth(chunk), worth, name)
})

t.test('memory is freed in the order of the writes, also over a long time', async t => {
  const sent = new SentChunks()
  const chunks: Buffer[] = []
  const waiting = 3
  for (let index = 0; index < 500; index++) {
    const chunk = chunkOf(20_000, 0, 20_000)
    chunks.push(chunk)
    sent.add(chunk)
    if (index >= waiting) sent.onSent()
  }
  t.strictSame(chunks.map(({ length }) => length > 0).lastIndexOf(false), 500 - waiting - 1)
  t.ok(chunks.slice(-waiting).every(({ length }) => length === 20_000))
  for (let index = 0; index < waiting; index++) sent.onSent()
  t.ok(chunks.every(({ length }) => length === 0))
  t.doesNotThrow(() => sent.onSent(), 'one more is nobody’s')
})
