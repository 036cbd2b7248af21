/** Bodies that wait for a slow writer up to a limit, and bodies that others get too. */
import t from 'tap'
import type { Body, BodySink } from '../../waypoint/http/body.ts'
import { withCopiedBody } from '../../waypoint/http/copied-body.ts'
import type { Exchange } from '../../waypoint/http/exchange.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import { QueuedBody } from '../../waypoint/http/queued-body.ts'

interface Heard extends BodySink {
  readonly heard: string[]
}

function sink(takes: () => boolean = () => true): Heard {
  const heard: string[] = []
  return {
    heard,
    data: bytes => {
      heard.push(bytes.toString())
      return takes()
    },
    end: trailers => heard.push(`end ${[...(trailers ?? [])].flat().join(' ')}`.trimEnd()),
    fail: error => heard.push(`failed: ${error.message}`)
  }
}

const bytes = (text: string): Buffer => Buffer.from(text)
/** What so many chunks of so many bytes in all take. */
const cost = (chunks: number, length: number): number => chunks * 128 + length

t.test('what comes before the writer, and while it takes no more, waits in its order', async t => {
  const shared = { left: 1000 }
  const body = new QueuedBody({ most: 500, shared, onOverflow: () => t.fail('there is room') })
  let takes = true
  const writer = sink(() => takes)
  t.ok(body.data(bytes('ab')))
  t.ok(body.data(bytes('c')))
  t.equal(shared.left, 1000 - cost(2, 3))
  body.sendTo(writer)
  t.strictSame(writer.heard, ['ab', 'c'])
  t.equal(shared.left, 1000)
  takes = false
  body.data(bytes('d'))
  t.ok(body.data(bytes('e')), 'nobody is asked to wait')
  body.data(bytes('f'))
  body.end(HeaderList.of('x', 'y'))
  t.strictSame(writer.heard.slice(2), ['d'])
  body.drained()
  t.strictSame(writer.heard.slice(2), ['d', 'e'], 'one at a time')
  takes = true
  body.drained()
  t.strictSame(writer.heard.slice(2), ['d', 'e', 'f', 'end x y'])
  t.equal(shared.left, 1000)
})

t.test('too much of one, or of all: it is dropped', async t => {
  const all = cost(2, 6)
  const shared = { left: all }
  let overflows = 0
  const made = (): QueuedBody =>
    new QueuedBody({ most: cost(1, 4), shared, onOverflow: () => (overflows += 1) })
  const [first, second, third] = [made(), made(), made()]
  first.data(bytes('abcd'))
  second.data(bytes('ab'))
  t.equal(shared.left, 0)
  third.data(bytes('a'))
  t.equal(overflows, 1, 'others have taken all there is')
  first.data(bytes('e'))
  t.equal(overflows, 2, 'its own limit')
  t.equal(shared.left, cost(1, 4))
  first.data(bytes('f'))
  first.end()
  t.equal(overflows, 2, 'told once')
  second.drop()
  second.drop()
  t.equal(shared.left, all, 'nothing is given back twice')
})

t.test('a writer that fails over what it is given gets no more', async t => {
  const shared = { left: 1000 }
  const body = new QueuedBody({ most: 1000, shared, onOverflow: () => undefined })
  for (const text of ['a', 'b', 'c']) body.data(bytes(text))
  const heard: string[] = []
  body.sendTo({
    ...sink(),
    data: chunk => {
      heard.push(chunk.toString())
      body.drop()
      return true
    }
  })
  t.strictSame(heard, ['a'])
  t.equal(shared.left, 1000)
})

interface Given {
  readonly exchange: Exchange
  /** What the exchange brings and takes. */
  readonly incoming: () => BodySink
  readonly cancelled: () => boolean
  readonly gone: (reason: Error) => void
  readonly answer: Heard
}

function given(kind: 'chunked' | 'none' = 'chunked'): Given {
  let incoming = sink() as BodySink
  let cancelled = false
  let gone: (reason: Error) => void = () => undefined
  const answer = sink()
  const body: Body = {
    pipe: to => (incoming = to),
    resume: () => undefined,
    cancel: () => (cancelled = true)
  }
  const head = {
    ...{ method: 'POST', target: '/', authority: 'a', version: 'HTTP/1.1' as const },
    ...{ headers: new HeaderList(), framing: { kind } }
  }
  const exchange: Exchange = {
    head,
    body,
    onGone: listener => (gone = listener),
    inform: () => undefined,
    respond: () => answer,
    switchProtocols: () => {
      throw new Error('nobody asked')
    }
  }
  return {
    exchange,
    incoming: () => incoming,
    cancelled: () => cancelled,
    gone: reason => gone(reason),
    answer
  }
}

const head = { status: 200, headers: new HeaderList(), framing: { kind: 'chunked' } } as const

t.test('copies get all of it, and have no say', async t => {
  const { exchange, incoming, answer, gone } = given()
  const [main, first, second] = [sink(), sink(() => false), sink(() => false)]
  const copied = withCopiedBody(exchange, [first, second])
  copied.onGone(() => undefined)
  copied.body.pipe(main)
  t.equal(incoming().data(bytes('a')), true, 'only the first taker is asked')
  incoming().end(HeaderList.of('x', 'y'))
  for (const { heard } of [main, first, second]) t.strictSame(heard, ['a', 'end x y'])
  const answering = copied.respond(head)
  answering.data(bytes('b'))
  answering.end()
  t.strictSame(answer.heard, ['b', 'end'])
  gone(new Error('gone'))
  copied.body.cancel()
  t.equal(first.heard.length, 2, 'the end is the last that they hear')
})

t.test('copies are told once that the rest does not come', async t => {
  const ways: readonly (readonly [name: string, end: (given: Given, copied: Exchange) => void])[] = [
    ['the body fails', ({ incoming }) => incoming().fail(new Error('over'))],
    ['the client is gone', ({ gone }) => gone(new Error('over'))],
    ['the body is given up', (_, { body }) => body.cancel()],
    ['the answer ends', (_, copied) => copied.respond(head).end()],
    ['the answer fails', (_, copied) => copied.respond(head).fail(new Error('over'))]
  ]
  for (const [name, end] of ways) {
    const world = given()
    const [main, copy] = [sink(), sink()]
    const copied = withCopiedBody(world.exchange, [copy])
    let told = 0
    copied.onGone(() => (told += 1))
    copied.body.pipe(main)
    world.incoming().data(bytes('a'))
    end(world, copied)
    copied.body.cancel()
    t.match(copy.heard, ['a', /^failed: /], name)
    t.equal(copy.heard.length, 2, name)
    t.equal(told, name === 'the client is gone' ? 1 : 0, name)
    t.ok(world.cancelled(), `${name}: the body itself is given up`)
  }
})

t.test('where there is no body, or nobody wants it, nothing is put between', async t => {
  const bodiless = given('none')
  t.equal(withCopiedBody(bodiless.exchange, [sink()]), bodiless.exchange)
  const { exchange } = given()
  t.equal(withCopiedBody(exchange, []), exchange)
})
