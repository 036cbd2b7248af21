/** Requests on our server half: from Node's own client, from nghttp and curl, and from a peer that writes frames by hand. */
import t, { type Test } from 'tap'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import http2 from 'node:http2'
import { promisify } from 'node:util'
import { errorCode, rstStreamFrame, settingsFrame, windowUpdateFrame } from '../../../shared/hbone/frames.ts'
import type { HeaderList as FieldSection } from '../../../shared/hbone/header-field.ts'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import type { BodySink } from '../../../waypoint/http/body.ts'
import type { Exchange } from '../../../waypoint/http/exchange.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { Http2ServerConnection, type Http2ServerOptions } from '../../../waypoint/http2/server-connection.ts'
import { RawPeer } from '../../shared/hbone/raw-peer.ts'
import { tcpPair } from '../../shared/hbone/support.ts'
import { eventually } from '../../support/eventually.ts'
import { echo, listen, mirror, say, type Serve } from './support.ts'

const run = promisify(execFile)

function nodeClient(t: Test, port: number): http2.ClientHttp2Session {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  session.on('error', () => undefined)
  t.teardown(() => session.destroy())
  return session
}

interface Answer {
  readonly status: number
  readonly headers: http2.IncomingHttpHeaders
  readonly trailers: Record<string, unknown>
  readonly informed: readonly number[]
  readonly body: string
  readonly code: number
}

async function fetch(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: string,
  trailers?: http2.OutgoingHttpHeaders
): Promise<Answer> {
  const stream = session.request(headers, {
    endStream: body === undefined,
    waitForTrailers: trailers !== undefined
  })
  let answer: http2.IncomingHttpHeaders = {}
  let last: Record<string, unknown> = {}
  const informed: number[] = []
  let text = ''
  stream.on('headers', (told: http2.IncomingHttpHeaders) => informed.push(Number(told[':status'])))
  stream.on('response', told => (answer = told))
  stream.on('trailers', told => (last = { ...told }))
  stream.on('wantTrailers', () => stream.sendTrailers(trailers ?? {}))
  stream.setEncoding('latin1').on('data', (more: string) => (text += more))
  stream.on('error', () => undefined) // the code tells it
  const closed = new Promise(resolve => stream.once('close', resolve))
  if (body !== undefined) stream.end(body)
  await closed
  return {
    status: Number(answer[':status']),
    headers: answer,
    trailers: last,
    informed,
    body: text,
    code: stream.rstCode ?? 0
  }
}

/** A peer that writes frames by hand, greeted. */
async function rawClient(t: Test, serve: Serve, options: Http2ServerOptions = {}): Promise<RawPeer> {
  const [near, far] = await tcpPair(t)
  const connection = new Http2ServerConnection(streamOf(far), serve, options)
  t.teardown(() => connection.destroy())
  const peer = new RawPeer(near, true)
  peer.greet()
  return peer
}

const get: FieldSection = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'shop']
]
const post: FieldSection = get.map(([name, value]) => [name, name === ':method' ? 'POST' : value])

const connect = (target: string): FieldSection => [
  [':method', 'CONNECT'],
  [':protocol', 'websocket'],
  [':scheme', 'http'],
  [':path', target],
  [':authority', 'shop'],
  ['sec-websocket-version', '13']
]

t.test('a request without a body comes with its end', async t => {
  const { port } = await listen(t, mirror)
  const { status, body } = await fetch(nodeClient(t, port), {
    ':path': '/a?b=c',
    'x-a': '1',
    cookie: ['a=1', 'b=2']
  })
  t.equal(status, 200)
  t.match(JSON.parse(body), {
    ...{ method: 'GET', target: '/a?b=c', authority: `127.0.0.1:${port}`, framing: { kind: 'none' } },
    headers: [
      ['x-a', '1'],
      ['cookie', 'a=1; b=2']
    ]
  })
})

t.test('bodies and trailers go both ways', async t => {
  const { port } = await listen(t, echo)
  const session = nodeClient(t, port)
  const answer = await fetch(session, { ':method': 'POST' }, 'hello', { 'x-sum': '5' })
  t.match(answer, { status: 200, body: 'hello', trailers: { 'x-sum': '5' }, code: 0 })
  t.notOk('content-length' in answer.headers)
  const told = await fetch(session, { ':method': 'POST', 'content-length': 5 }, 'hello')
  t.match(told, { body: 'hello', headers: { 'content-length': '5' } })
})

t.test('a hundred requests at once are a hundred answers', async t => {
  const { port } = await listen(t, mirror)
  const session = nodeClient(t, port)
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, at) =>
      fetch(session, { ':method': 'POST', ':path': `/${at}` }, `body ${at}`)
    )
  )
  for (const [at, { body }] of answers.entries())
    t.match(JSON.parse(body), { target: `/${at}`, body: `body ${at}` })
})

t.test('HEAD, 204 and 304 have no body, whatever the answer says', async t => {
  const { port } = await listen(t, exchange => {
    const status = Number(exchange.head.target.slice(1))
    const writer = exchange.respond({
      status,
      headers: new HeaderList(),
      framing: { kind: 'length', bytes: 4 }
    })
    writer.data(Buffer.from('text'))
    writer.end()
  })
  const session = nodeClient(t, port)
  const head = await fetch(session, { ':method': 'HEAD', ':path': '/200' })
  t.match(head, { status: 200, body: '', code: 0, headers: { 'content-length': '4' } })
  t.match(await fetch(session, { ':path': '/304' }), { status: 304, body: '', code: 0 })
  const empty = await fetch(session, { ':path': '/204' })
  t.match(empty, { status: 204, body: '', code: 0 })
  t.notOk('content-length' in empty.headers)
})

t.test('interim answers come before the answer', async t => {
  const { port } = await listen(t, exchange => {
    exchange.inform(103, HeaderList.of('link', '</a.css>'))
    exchange.inform(101, new HeaderList())
    mirror(exchange)
  })
  const session = nodeClient(t, port)
  t.match(await fetch(session, { ':path': '/' }), { status: 200, informed: [103] })
  const stream = session.request({ ':method': 'POST', expect: '100-continue' })
  await once(stream, 'continue')
  stream.end('now')
  let text = ''
  stream.setEncoding('latin1').on('data', (more: string) => (text += more))
  await once(stream, 'close')
  t.match(JSON.parse(text), { body: 'now', headers: [] }, 'the expectation was ours to meet')
})

t.test('an answer before the end of its request lets go of the rest', async t => {
  const peer = await rawClient(t, exchange => say(exchange, 'no thanks'))
  peer.request(1, post)
  peer.sendData(1, 'some of it')
  const answer = await peer.frame('data', ({ endStream }) => endStream)
  t.ok(answer)
  t.match(await peer.frame('rst'), { streamId: 1, code: 'NO_ERROR' })
  peer.sendData(1, 'more of it, on its way')
  await peer.settled()
  t.notOk(peer.frames.some(({ kind }) => kind === 'goaway'))
})

t.test('an answer that cannot be made whole is reset', async t => {
  const serve: Serve = exchange => {
    const writer = exchange.respond({
      status: 200,
      headers: new HeaderList(),
      framing: { kind: 'length', bytes: 4 }
    })
    if (exchange.head.target === '/fail') writer.fail(new Error('the server is gone'))
    if (exchange.head.target === '/long') writer.data(Buffer.from('too long'))
    if (exchange.head.target === '/short') writer.end()
  }
  const { port } = await listen(t, serve)
  const session = nodeClient(t, port)
  for (const target of ['/fail', '/long', '/short'])
    t.match(
      await fetch(session, { ':path': target }),
      { status: 200, code: errorCode.INTERNAL_ERROR },
      target
    )
})

t.test('whoever answers hears at once that the client is gone', async t => {
  const gone: string[] = []
  const lost: string[] = []
  const exchanges: Exchange[] = []
  const peer = await rawClient(t, exchange => {
    exchanges.push(exchange)
    exchange.onGone(({ message }) => gone.push(message))
    exchange.body.pipe({ data: () => true, end: () => undefined, fail: ({ message }) => lost.push(message) })
  })
  peer.request(1, post)
  peer.sendData(1, 'some')
  await peer.settled()
  peer.send(rstStreamFrame(1, errorCode.CANCEL))
  await peer.settled()
  t.strictSame([gone, lost], [['the client is gone'], ['the client is gone']])
  const late = exchanges[0]?.respond({ status: 200, headers: new HeaderList(), framing: { kind: 'none' } })
  late?.end()
  peer.request(3, post)
  await peer.settled()
  peer.stream.destroy()
  await eventually('the loss of the connection is told', () => gone.length === 2)
  t.equal(lost.length, 2)
  exchanges[1]?.onGone(() => gone.push('told to a listener that came late'))
  t.equal(gone.length, 3)
})

t.test('a reset is not taken for the end of a body', async t => {
  for (const code of [errorCode.CANCEL, errorCode.NO_ERROR]) {
    const heard: string[] = []
    const peer = await rawClient(t, exchange =>
      exchange.body.pipe({
        data: () => heard.push('data') > 0,
        end: () => heard.push('end'),
        fail: () => heard.push('fail')
      })
    )
    peer.request(1, post)
    peer.sendData(1, 'half of it')
    peer.send(rstStreamFrame(1, code))
    await peer.settled()
    t.strictSame(
      heard.filter(what => what !== 'data'),
      ['fail']
    )
  }
})

t.test('a reader that stops stops its writer, and nobody else', async t => {
  const window = 256 << 10
  let slow: Exchange | undefined
  let taken = 0
  const serve: Serve = exchange => {
    if (exchange.head.target !== '/slow') return mirror(exchange)
    slow = exchange
    exchange.body.pipe({
      data: bytes => {
        taken += bytes.length
        return false
      },
      end: () => say(exchange, String(taken)),
      fail: () => undefined
    })
  }
  const { port } = await listen(t, serve)
  const session = nodeClient(t, port)
  const stream = session.request({ ':method': 'POST', ':path': '/slow' })
  const total = 2 << 20
  stream.end(Buffer.alloc(total))
  await eventually('some has come', () => taken > 0, { everyMs: 5 })
  t.match(await fetch(session, { ':method': 'POST' }, 'quick'), { status: 200 })
  t.ok(taken <= window, `${taken} bytes are no more than a window`)
  let text = ''
  stream.setEncoding('latin1').on('data', (more: string) => (text += more))
  const pull = setInterval(() => slow?.body.resume(), 1)
  await once(stream, 'close')
  clearInterval(pull)
  t.equal(text, String(total))
})

t.test('a client that does not read stops the writer of its answer', async t => {
  let wrote = 0
  let drains = 0
  const peer = await rawClient(t, exchange => {
    const more = (): void => {
      while (wrote < 8 << 20) {
        wrote += 65_536
        if (!writer.data(Buffer.alloc(65_536))) return
      }
      writer.end()
    }
    const writer: BodySink = exchange.respond(
      { status: 200, headers: new HeaderList(), framing: { kind: 'chunked' } },
      () => {
        drains += 1
        more()
      }
    )
    more()
  })
  peer.request(1, get, true)
  await peer.settled()
  t.equal(wrote, 65_536, 'as much as the window of a new stream takes, in one chunk')
  peer.send(windowUpdateFrame(0, 1 << 20), windowUpdateFrame(1, 1 << 20))
  await peer.settled()
  t.ok(wrote < 2 << 20 && drains > 0, `${wrote} bytes after a window of a megabyte`)
})

t.test('a client that reads nothing stops the writer, however wide its windows are', async t => {
  let wrote = 0
  let stopped = false
  const peer = await rawClient(t, exchange => {
    const framing = { kind: 'chunked' } as const
    const writer = exchange.respond({ status: 200, headers: new HeaderList(), framing })
    const more = (): void => {
      if (wrote >= 64 << 20) return
      wrote += 1 << 20
      if (writer.data(Buffer.alloc(1 << 20))) setImmediate(more)
      else stopped = true
    }
    more()
  })
  peer.stream.pause()
  peer.send(settingsFrame([[4, 0x7fff_ffff]]), windowUpdateFrame(0, 0x7fff_0000 - 65_535))
  peer.request(1, get, true)
  await eventually('the writer has to wait', () => stopped || wrote >= 64 << 20, { everyMs: 10 })
  t.ok(stopped && wrote < 32 << 20, `after ${wrote} bytes`)
})

t.test('what nobody read of a cancelled request does not narrow the window of the others', async t => {
  const peer = await rawClient(t, exchange => {
    if (exchange.head.target === '/last') mirror(exchange)
  })
  // Twice the window of the connection, in streams that are cancelled with all their bytes unread.
  for (let streamId = 1; streamId < 80; streamId += 2) {
    peer.request(streamId, post)
    peer.sendData(streamId, Buffer.alloc(250_000))
    peer.send(rstStreamFrame(streamId, errorCode.CANCEL))
    await peer.settled()
  }
  peer.request(
    101,
    post.map(([name, value]) => [name, name === ':path' ? '/last' : value] as const)
  )
  peer.sendData(101, Buffer.alloc(100_000), true)
  t.match(await peer.frame('headers'), { streamId: 101, fields: [[':status', '200']] })
})

t.test('requests beyond the limit are refused untouched', async t => {
  const served: string[] = []
  const peer = await rawClient(t, ({ head }) => served.push(head.target), { maxStreams: 2 })
  for (const streamId of [1, 3, 5]) peer.request(streamId, get, true)
  t.match(await peer.frame('rst'), { streamId: 5, code: 'REFUSED_STREAM' })
  t.equal(served.length, 2)
})

t.test('a list of headers beyond the limit is answered with 431', async t => {
  const refusals: number[] = []
  const peer = await rawClient(t, mirror, {
    maxHeaderListSize: 4096,
    onRefused: ({ status }) => refusals.push(status)
  })
  peer.request(1, [...get, ['x-long', 'x'.repeat(5000)]], true)
  t.match(await peer.frame('headers'), { streamId: 1, fields: [[':status', '431']], endStream: true })
  peer.request(3, [...get, ...Array.from({ length: 99 }, (_, at) => [`x-${at}`, ''] as const)], true)
  t.match(await peer.frame('headers', ({ streamId }) => streamId === 3), { fields: [[':status', '200']] })
  peer.request(5, [...get, ...Array.from({ length: 101 }, (_, at) => [`x-${at}`, ''] as const)], true)
  t.match(await peer.frame('headers', ({ streamId }) => streamId === 5), { fields: [[':status', '431']] })
  t.strictSame(refusals, [431, 431])
})

t.test('after drain the answers under way are finished, and then the connection', async t => {
  let over = 0
  const writers: BodySink[] = []
  const world = await listen(
    t,
    exchange =>
      writers.push(
        exchange.respond({ status: 200, headers: new HeaderList(), framing: { kind: 'chunked' } })
      ),
    { onOver: () => (over += 1) }
  )
  const session = nodeClient(t, world.port)
  const answer = fetch(session, { ':path': '/' })
  await eventually('the request has come', () => writers.length === 1, { everyMs: 5 })
  world.connections[0]?.drain()
  await once(session, 'goaway')
  writers[0]?.data(Buffer.from('whole'))
  writers[0]?.end()
  t.match(await answer, { status: 200, body: 'whole', code: 0 })
  await eventually('it is over', () => over === 1, { everyMs: 5 })
})

t.test('destroy ends the requests under way', async t => {
  let gone = ''
  const world = await listen(t, exchange => exchange.onGone(({ message }) => (gone = message)))
  const session = nodeClient(t, world.port)
  const stream = session.request({ ':path': '/' })
  stream.on('error', () => undefined)
  await eventually('the request has come', () => world.connections.length === 1, { everyMs: 5 })
  await new Promise(resolve => session.ping(resolve))
  world.connections[0]?.destroy()
  await once(stream, 'close')
  t.equal(gone, 'the client is gone')
})

t.test('an idle connection ends, a busy one does not', async t => {
  let over = 0
  let finish: (() => void) | undefined
  const peer = await rawClient(t, exchange => (finish = () => say(exchange, 'done')), {
    idleTimeoutMs: 20,
    onOver: () => (over += 1)
  })
  peer.request(1, get, true)
  await new Promise(resolve => setTimeout(resolve, 100))
  t.equal(over, 0)
  finish?.()
  t.match(await peer.frame('data', ({ endStream }) => endStream), { streamId: 1 })
  t.match(await peer.frame('goaway'), { code: 'NO_ERROR' })
})

t.test('extended CONNECT switches protocols', async t => {
  const heads: Exchange['head'][] = []
  const peer = await rawClient(t, exchange => {
    heads.push(exchange.head)
    if (exchange.head.target === '/plain') return say(exchange, 'a page')
    const stream = exchange.switchProtocols(
      HeaderList.of('sec-websocket-accept', 'x', 'sec-websocket-protocol', 'chat')
    )
    stream.attach({
      data: chunk => stream.write(Buffer.from(chunk.toString().toUpperCase())),
      end: () => stream.end(),
      drain: () => undefined,
      close: () => undefined
    })
    stream.resume()
  })
  t.match(
    (await peer.frame('settings'))?.pairs.find(([id]) => id === 8),
    [8, 1],
    'SETTINGS_ENABLE_CONNECT_PROTOCOL'
  )
  peer.request(1, connect('/chat'))
  peer.sendData(1, 'hello')
  t.strictSame((await peer.frame('headers'))?.fields, [
    [':status', '200'],
    ['sec-websocket-protocol', 'chat']
  ])
  t.equal((await peer.frame('data'))?.bytes.toString(), 'HELLO')
  peer.sendData(1, '', true)
  t.ok(await peer.frame('data', ({ streamId, endStream }) => streamId === 1 && endStream))
  t.match(heads[0], { method: 'GET', upgrade: 'websocket', target: '/chat', framing: { kind: 'none' } })
  t.match(heads[0]?.headers.get('sec-websocket-key'), /^[A-Za-z0-9+/]{22}==$/)
  peer.request(3, connect('/plain'))
  t.match(
    (await peer.frame('headers', ({ streamId }) => streamId === 3))?.fields[0],
    [':status', '502'],
    'an answer that is no switch must not look like one'
  )
})

t.test('whoever switches protocols late hears all that came before', async t => {
  const exchanges: Exchange[] = []
  const peer = await rawClient(t, exchange => exchanges.push(exchange))
  peer.request(1, connect('/'))
  peer.request(3, connect('/'))
  peer.sendData(3, '', true)
  peer.sendData(1, 'early', true)
  await peer.settled()
  for (const [at, expected] of [['early', 'end'], ['end']].entries()) {
    const heard: string[] = []
    const stream = exchanges[at]?.switchProtocols(new HeaderList())
    stream?.attach({
      data: chunk => heard.push(chunk.toString()),
      end: () => heard.push('end'),
      drain: () => undefined,
      close: () => undefined
    })
    stream?.resume()
    await peer.settled()
    t.strictSame(heard, expected)
  }
})

t.test('plain CONNECT is answered with 501', async t => {
  const peer = await rawClient(t, mirror)
  peer.request(1, [
    [':method', 'CONNECT'],
    [':authority', 'shop:80']
  ])
  t.match(await peer.frame('headers'), { fields: [[':status', '501']], endStream: true })
})

t.test('a client that resets what it asks for, again and again, loses its connection', async t => {
  let served = 0
  const peer = await rawClient(t, () => (served += 1))
  for (let streamId = 1; streamId < 4000; streamId += 2) {
    peer.request(streamId, get, true)
    peer.send(rstStreamFrame(streamId, errorCode.CANCEL))
  }
  t.match(await peer.frame('goaway'), { code: 'ENHANCE_YOUR_CALM' })
  t.ok(served < 1500, `${served} of 2000 were served`)
})

t.test('nghttp gets what it asks for', async t => {
  const { port } = await listen(t, exchange => say(exchange, `you asked for ${exchange.head.target}`))
  const { stdout } = await run('nghttp', ['--no-verify', '-m', '20', `http://127.0.0.1:${port}/some/page`])
  t.equal(stdout.match(/you asked for \/some\/page/g)?.length, 20)
})

t.test('curl sends and gets a file', async t => {
  const { port } = await listen(t, echo)
  const text = 'curl '.repeat(100_000)
  const sent = run(
    'curl',
    ['-sS', '--http2-prior-knowledge', '--data-binary', '@-', `http://127.0.0.1:${port}/`],
    { maxBuffer: 1 << 22 }
  )
  sent.child.stdin?.end(text)
  t.ok((await sent).stdout === text)
})
