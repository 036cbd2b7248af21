/** Bodies that are sent again, as long as they are little. */
import t from 'tap'
import type { BodySink } from '../../waypoint/http/body.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import { ReplayBuffer } from '../../waypoint/http/replay-buffer.ts'

function sink(takes = true): BodySink & { readonly heard: string[] } {
  const heard: string[] = []
  return {
    heard,
    data: bytes => {
      heard.push(bytes.length > 8 ? `${bytes.length} bytes` : bytes.toString())
      return takes
    },
    end: trailers => heard.push(`end ${[...(trailers ?? [])].flat().join(' ')}`.trimEnd()),
    fail: error => heard.push(error.message)
  }
}

const bytes = (text: string): Buffer => Buffer.from(text)

t.test('the same again, and what came between two of them', async t => {
  const budget = { left: 1000 }
  const body = new ReplayBuffer(budget)
  const [first, second, third] = [sink(), sink(), sink()]
  body.sendTo(first)
  t.ok(body.data(bytes('a')))
  body.detach()
  t.notOk(body.data(bytes('b')), 'it waits')
  body.sendTo(second)
  body.data(bytes('c'))
  body.end(HeaderList.of('x', 'y'))
  t.ok(body.replayable)
  body.detach()
  body.sendTo(third)
  t.strictSame([first.heard, second.heard], [['a'], ['a', 'b', 'c', 'end x y']])
  t.strictSame(third.heard, second.heard)
  t.equal(budget.left, 1000 - 3 * 129, 'a chunk costs something beside its bytes')
  body.forget()
  t.equal(budget.left, 1000)
})

t.test('more than 64 KiB passes, and is not kept', async t => {
  const budget = { left: 1 << 20 }
  const body = new ReplayBuffer(budget)
  const writer = sink(false)
  body.sendTo(writer)
  t.notOk(body.data(Buffer.alloc(64 * 1024)), 'the writer’s own word')
  t.ok(body.replayable)
  body.data(bytes('x'))
  t.notOk(body.replayable)
  t.equal(budget.left, 1 << 20)
  body.end()
  t.strictSame(writer.heard, ['65536 bytes', 'x', 'end'])
})

t.test('too much between two attempts is sent once, then not kept any more', async t => {
  const budget = { left: 100 }
  const body = new ReplayBuffer(budget)
  body.data(Buffer.alloc(70_000))
  const writer = sink()
  body.sendTo(writer)
  t.strictSame(writer.heard, ['70000 bytes'])
  t.notOk(body.replayable)
  t.equal(budget.left, 100)
})

t.test('others have used up what may be kept', async t => {
  const budget = { left: 130 }
  const body = new ReplayBuffer(budget)
  body.sendTo(sink())
  body.data(bytes('abc'))
  t.notOk(body.replayable)
  t.equal(budget.left, 130)
})

t.test('a body that is cut cannot be sent again', async t => {
  const body = new ReplayBuffer({ left: 100 })
  const writer = sink()
  body.sendTo(writer)
  body.fail(new Error('gone'))
  t.notOk(body.replayable)
  t.strictSame(writer.heard, ['gone'])
})
