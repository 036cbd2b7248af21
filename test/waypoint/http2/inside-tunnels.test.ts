/** Both halves where they work in the mesh: inside HBONE tunnels, one HTTP/2 connection within a stream of another. */
import t, { type Test } from 'tap'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { Http2ClientConnection } from '../../../waypoint/http2/client-connection.ts'
import { Http2ServerConnection } from '../../../waypoint/http2/server-connection.ts'
import { never, sessionPair } from '../../shared/hbone/support.ts'
import { eventually } from '../../support/eventually.ts'
import { ask, begin, echo, mirror, type Serve } from './support.ts'

interface Inner {
  readonly connection: Http2ClientConnection
  readonly told: string[]
  readonly over: () => number
  /** Cuts the session that carries the tunnel. */
  readonly cut: () => void
  readonly tunnels: () => number
}

async function tunnelled(t: Test, serve: Serve): Promise<Inner> {
  let over = 0
  const outer = await sessionPair(t, request => {
    void new Http2ServerConnection(request.accept([]), serve, { onOver: () => (over += 1) })
  })
  const { tunnel } = await outer.client.openTunnel({ authority: '10.0.0.1:80', headers: [] }, never)
  const told: string[] = []
  const events = { idle: () => told.push('idle'), closed: () => told.push('closed') }
  const connection = new Http2ClientConnection(tunnel, events)
  t.teardown(() => connection.destroy())
  return {
    connection,
    told,
    over: () => over,
    cut: () => outer.client.destroy(new Error('cut')),
    tunnels: () => outer.server.streams
  }
}

const stream = { kind: 'chunked' } as const

t.test('requests share one tunnel', async t => {
  const { connection, over, tunnels } = await tunnelled(t, mirror)
  const body = Buffer.from('hello')
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, at) =>
      ask(connection, { method: 'POST', target: `/${at}`, framing: stream }, body)
    )
  )
  for (const [at, answer] of answers.entries())
    t.match(JSON.parse(answer.body ?? ''), { target: `/${at}`, body: 'hello' })
  connection.drain()
  await eventually('the tunnel is closed at both ends', () => over() === 1 && tunnels() === 0, {
    everyMs: 10
  })
})

t.test('ten megabytes and their trailers go there and back', async t => {
  const { connection } = await tunnelled(t, echo)
  const { sink, promise } = begin(connection, { method: 'POST', framing: stream }, { drained: () => more() })
  const piece = Buffer.alloc(100_000, 'some bytes')
  let left = 100
  const more = (): void => {
    while (left > 0) {
      left -= 1
      if (!sink.data(piece)) return
    }
    sink.end(HeaderList.of('x-sum', 'ten'))
  }
  more()
  const { body, trailers } = await promise
  t.ok(body === piece.toString().repeat(100))
  t.strictSame(trailers, ['x-sum', 'ten'])
})

t.test('a reader that stops stops the writer at the other end of the tunnel', async t => {
  let taken = 0
  const { connection } = await tunnelled(t, ({ body }) => {
    body.pipe({ data: bytes => (taken += bytes.length) < 0, end: () => undefined, fail: () => undefined })
  })
  const { sink } = begin(connection, { method: 'POST', framing: stream })
  let written = 0
  while (sink.data(Buffer.alloc(16_384))) written += 16_384
  await eventually('some has come', () => taken > 0, { everyMs: 5 })
  t.ok(written <= 256 << 10, `${written} bytes were written, no more than a window`)
})

t.test('a tunnel that is cut fails its requests and closes the connection', async t => {
  const gone: string[] = []
  const { connection, told, cut, over } = await tunnelled(t, exchange => {
    exchange.onGone(({ message }) => gone.push(message))
  })
  const answer = ask(connection)
  await eventually('the request is there', () => connection.active === 1, { everyMs: 5 })
  cut()
  t.match(await answer, { failed: /closed the HTTP\/2 connection/, untouched: false })
  t.strictSame([connection.usable, told.at(-1)], [false, 'closed'])
  await eventually('the server knows', () => over() === 1, { everyMs: 5 })
})
