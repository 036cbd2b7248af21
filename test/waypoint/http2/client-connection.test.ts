/** Our client half: against Node's own server, and against a server that writes frames by hand. */
import t, { type Test } from 'tap'
import http2 from 'node:http2'
import {
  errorCode,
  frameHeader,
  goawayFrame,
  headersFrames,
  rstStreamFrame,
  settingsFrame
} from '../../../shared/hbone/frames.ts'
import type { HeaderList as FieldSection } from '../../../shared/hbone/header-field.ts'
import { encodeHeaders } from '../../../shared/hbone/hpack.ts'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import type { Body } from '../../../waypoint/http/body.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { Http2ClientConnection, type Http2ClientOptions } from '../../../waypoint/http2/client-connection.ts'
import { RawPeer } from '../../shared/hbone/raw-peer.ts'
import { tcpPair } from '../../shared/hbone/support.ts'
import { eventually } from '../../support/eventually.ts'
import { ask, begin, connected, portOf, type Client } from './support.ts'

async function nodeServer(
  t: Test,
  serve: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  settings: http2.Settings = {}
): Promise<number> {
  const server = http2.createServer({ settings })
  server.on('sessionError', () => undefined)
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    serve(stream, headers)
  })
  return portOf(t, server)
}

/** Our half, connected to a server whose frames are written by hand. */
async function rawServer(t: Test, options: Http2ClientOptions = {}): Promise<Client & { peer: RawPeer }> {
  const [near, far] = await tcpPair(t)
  const told: string[] = []
  const events = { idle: () => told.push('idle'), closed: () => told.push('closed') }
  const connection = new Http2ClientConnection(streamOf(near), events, options)
  t.teardown(() => connection.destroy())
  return { connection, told, peer: new RawPeer(far, false) }
}

const headers = (streamId: number, fields: FieldSection, endStream = false): Buffer =>
  headersFrames(streamId, encodeHeaders(fields), endStream, 16_384)
const ok: FieldSection = [[':status', '200']]
const stream = { kind: 'chunked' } as const

t.test('a request is answered, with bodies, interim answers and trailers', async t => {
  const port = await nodeServer(t, (stream, head) => {
    stream.additionalHeaders({ ':status': 103, link: '</a.css>' })
    stream.respond(
      { ':status': 200, 'x-path': head[':path'], 'x-length': head['content-length'] ?? 'none' },
      { waitForTrailers: true }
    )
    let sum = ''
    stream.on('trailers', trailers => (sum = String(trailers['x-sum'])))
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': sum }))
    stream.pipe(stream)
  })
  const client = await connected(t, port)
  const request = { method: 'POST', target: '/a?b', framing: stream }
  const answer = await ask(client.connection, request, Buffer.from('hello'), HeaderList.of('x-sum', '5'))
  t.match(answer, {
    status: 200,
    body: 'hello',
    trailers: ['x-sum', '5'],
    informed: [103],
    framing: 'chunked'
  })
  t.strictSame([answer.headers?.get('x-path'), answer.headers?.get('x-length')], ['/a?b', 'none'])
  const measured = { method: 'POST', framing: { kind: 'length', bytes: 5 } as const }
  const second = await ask(client.connection, measured, Buffer.from('hello'))
  t.equal(second.headers?.get('x-length'), '5')
  t.strictSame([client.connection.active, client.connection.usable], [0, true])
})

t.test('a hundred requests share the connection', async t => {
  const port = await nodeServer(t, (stream, head) => {
    stream.respond({ ':status': 200, 'content-length': String(head[':path']).length })
    stream.end(head[':path'])
  })
  const { connection, told } = await connected(t, port)
  const answers = Array.from({ length: 100 }, (_, at) => ask(connection, { target: `/${at}` }))
  t.strictSame([connection.active, connection.usable], [100, false])
  t.throws(() => connection.send({} as never, {} as never), /takes no request now/)
  for (const [at, answer] of (await Promise.all(answers)).entries())
    t.match(answer, { status: 200, body: `/${at}`, framing: 'length' })
  t.ok(told.includes('idle'))
})

t.test('HEAD, 204 and an empty answer have no body', async t => {
  const port = await nodeServer(t, (stream, head) => {
    const target = head[':path']
    if (target === '/204') stream.respond({ ':status': 204 }, { endStream: true })
    else if (target === '/empty') stream.respond({ ':status': 200 }, { endStream: true })
    else stream.respond({ ':status': 200, 'content-length': 99 })
    stream.end()
  })
  const { connection } = await connected(t, port)
  const head = await ask(connection, { method: 'HEAD' })
  t.match(head, { status: 200, framing: 'none', body: '' })
  t.equal(head.headers?.get('content-length'), '99')
  t.match(await ask(connection, { target: '/204' }), { status: 204, framing: 'none', body: '' })
  t.match(await ask(connection, { target: '/empty' }), { status: 200, framing: 'none', body: '' })
  await eventually('all streams are over', () => connection.active === 0, { everyMs: 5 })
})

t.test('what the server has not looked at is untouched', async t => {
  const { connection, told, peer } = await rawServer(t)
  peer.send(settingsFrame([]))
  const asked = [1, 3, 5, 7].map(() => ask(connection))
  await peer.frame('headers', ({ streamId }) => streamId === 7)
  peer.send(rstStreamFrame(1, errorCode.REFUSED_STREAM), rstStreamFrame(3, errorCode.INTERNAL_ERROR))
  peer.send(goawayFrame(5, errorCode.NO_ERROR, 'upgrading'))
  t.match(await asked[0], { untouched: true, failed: /REFUSED_STREAM/ })
  t.match(await asked[1], { untouched: false, failed: /INTERNAL_ERROR/ })
  t.match(await asked[3], { untouched: true, failed: /upgrading/ })
  t.equal(connection.usable, false)
  t.ok(told.includes('closed'), 'GOAWAY: it takes none any more')
  peer.send(headers(5, ok, true))
  t.match(await asked[2], { status: 200 }, 'what is under way is still answered')
  await peer.end()
})

t.test('a lost connection fails what is under way', async t => {
  const { connection, told, peer } = await rawServer(t)
  peer.send(settingsFrame([]))
  const [first, second] = [ask(connection), ask(connection)]
  await peer.frame('headers', ({ streamId }) => streamId === 3)
  peer.send(headers(1, ok), frameHeader(2, 0, 0, 1), Buffer.from('ha'))
  await peer.settled()
  peer.stream.destroy()
  t.match(await first, { status: 200, lost: /closed the HTTP\/2 connection/ })
  t.match(await second, { untouched: false, failed: /closed the HTTP\/2 connection/ })
  t.strictSame([connection.active, connection.usable], [0, false])
  t.equal(told.filter(what => what === 'closed').length, 1)
})

t.test("the server's limit of streams is kept to", async t => {
  const { connection, told, peer } = await rawServer(t)
  peer.send(settingsFrame([[3, 1]]))
  await peer.settled()
  t.ok(connection.usable)
  const first = ask(connection)
  t.notOk(connection.usable)
  await peer.frame('headers')
  told.length = 0
  peer.send(headers(1, ok, true))
  await first
  t.ok(connection.usable)
  t.strictSame(told, ['idle'])
})

t.test('drain lets the last answer come, destroy does not', async t => {
  const { connection, peer, told } = await rawServer(t)
  peer.send(settingsFrame([]))
  const answer = ask(connection)
  await peer.frame('headers')
  connection.drain()
  t.strictSame([connection.usable, told.at(-1)], [false, 'closed'])
  peer.send(headers(1, ok, true))
  t.match(await answer, { status: 200 })
  t.match(await peer.frame('goaway'), { code: 'NO_ERROR' })

  const other = await rawServer(t)
  const lost = ask(other.connection)
  other.connection.destroy()
  t.match(await lost, { failed: 'the connection was closed', untouched: false })
})

t.test('a request that is given up is reset with CANCEL, sent or not', async t => {
  const { connection, peer } = await rawServer(t)
  peer.send(settingsFrame([]))
  const half = begin(connection, { method: 'POST', framing: stream })
  half.sink.data(Buffer.from('some'))
  half.sink.fail(new Error('the client is gone'))
  t.match(await half.promise, { failed: 'the client is gone', untouched: false })
  t.match(await peer.frame('rst'), { streamId: 1, code: 'CANCEL' })
  const whole = begin(connection)
  whole.sink.end()
  whole.sink.fail(new Error('too late'))
  t.match(await whole.promise, { failed: 'too late' })
  t.match(await peer.frame('rst', ({ streamId }) => streamId === 3), { code: 'CANCEL' })
  const short = begin(connection, { method: 'POST', framing: { kind: 'length', bytes: 4 } })
  short.sink.data(Buffer.from('abc'))
  short.sink.end()
  t.match(await short.promise, { failed: /shorter/ })
  t.match(await peer.frame('rst', ({ streamId }) => streamId === 5), { code: 'CANCEL' })
  t.equal(connection.active, 0)
})

t.test('an answer that nobody wants is cancelled', async t => {
  const { connection, peer } = await rawServer(t)
  peer.send(settingsFrame([]))
  let body: Body | undefined
  const { sink } = begin(connection, {}, { answered: (_, answer) => (body = answer) })
  sink.end()
  await peer.frame('headers')
  peer.send(headers(1, ok))
  await eventually('the answer has come', () => body !== undefined, { everyMs: 5 })
  body?.cancel()
  t.match(await peer.frame('rst'), { streamId: 1, code: 'CANCEL' })
  t.ok(connection.usable)
})

t.test(
  'answers that came whole and were cancelled unread do not narrow the window of the others',
  async t => {
    const { connection, peer } = await rawServer(t)
    peer.send(settingsFrame([]))
    // Twice the window of the connection.
    for (let streamId = 1; streamId < 80; streamId += 2) {
      let body: Body | undefined
      begin(connection, {}, { answered: (_, answer) => (body = answer) }).sink.end()
      await peer.frame('headers', frame => frame.streamId === streamId)
      peer.send(headers(streamId, ok))
      peer.sendData(streamId, Buffer.alloc(250_000), true)
      await peer.settled()
      body?.cancel()
    }
    const last = ask(connection)
    await peer.frame('headers', ({ streamId }) => streamId === 81)
    peer.send(headers(81, ok))
    peer.sendData(81, Buffer.alloc(200_000), true)
    t.equal((await last).body?.length, 200_000)
  }
)

t.test('an answer before the request has been sent ends the request', async t => {
  const { connection, peer } = await rawServer(t)
  peer.send(settingsFrame([]))
  const early = begin(connection, { method: 'POST', framing: stream })
  await peer.frame('headers')
  peer.send(headers(1, [[':status', '403']], true))
  t.match(await early.promise, { status: 403 })
  t.match(await peer.frame('rst'), { streamId: 1, code: 'CANCEL' })
  t.ok(early.sink.data(Buffer.from('for nobody')))
  t.equal(connection.active, 0)
})

interface WrongAnswer {
  readonly name: string
  readonly frames: readonly Buffer[]
  readonly method?: string
}

const data = (text: string, endStream = false): Buffer =>
  Buffer.concat([frameHeader(text.length, 0, endStream ? 1 : 0, 1), Buffer.from(text)])
const wrongAnswers: readonly WrongAnswer[] = [
  { name: 'no :status', frames: [headers(1, [['x-a', '1']])] },
  { name: ':status of two digits', frames: [headers(1, [[':status', '20']])] },
  { name: ':status that is no number', frames: [headers(1, [[':status', '2xx']])] },
  { name: ':status twice', frames: [headers(1, [...ok, ...ok])] },
  { name: 'status 101', frames: [headers(1, [[':status', '101']])] },
  { name: 'an interim answer that ends the stream', frames: [headers(1, [[':status', '103']], true)] },
  { name: 'a pseudo field of requests', frames: [headers(1, [...ok, [':path', '/']])] },
  { name: 'transfer-encoding', frames: [headers(1, [...ok, ['transfer-encoding', 'chunked']])] },
  { name: 'a line break in a value', frames: [headers(1, [...ok, ['x-a', 'b\r\nset-cookie: c']])] },
  { name: 'a control character in a value', frames: [headers(1, [...ok, ['x-a', 'b\x01']])] },
  { name: 'two lengths', frames: [headers(1, [...ok, ['content-length', '1'], ['content-length', '1']])] },
  { name: 'a length that is no number', frames: [headers(1, [...ok, ['content-length', '+1']])] },
  { name: 'a length without a body', frames: [headers(1, [...ok, ['content-length', '1']], true)] },
  { name: 'more DATA than its length', frames: [headers(1, [...ok, ['content-length', '1']]), data('ab')] },
  {
    name: 'less DATA than its length',
    frames: [headers(1, [...ok, ['content-length', '3']]), data('ab', true)]
  },
  { name: 'DATA in the answer to HEAD', method: 'HEAD', frames: [headers(1, ok), data('ab')] },
  { name: 'DATA after status 204', frames: [headers(1, [[':status', '204']]), data('ab')] },
  { name: 'trailers with a pseudo field', frames: [headers(1, ok), headers(1, ok, true)] },
  {
    name: 'trailers with content-length',
    frames: [headers(1, ok), headers(1, [['content-length', '0']], true)]
  },
  { name: 'a line break in the trailers', frames: [headers(1, ok), headers(1, [['x', 'a\nb']], true)] },
  { name: 'headers in the middle', frames: [headers(1, ok), headers(1, [['x', 'a']])] }
]

t.test('malformed answers reset their stream with PROTOCOL_ERROR', async t => {
  for (const { name, frames, method = 'POST' } of wrongAnswers) {
    await t.test(name, async t => {
      const { connection, peer } = await rawServer(t)
      peer.send(settingsFrame([]))
      const { sink, promise } = begin(connection, { method, framing: stream })
      await peer.frame('headers')
      peer.send(...frames)
      t.match(await peer.frame('rst'), { streamId: 1, code: 'PROTOCOL_ERROR' })
      // An answer without a body was whole before the DATA came.
      const { lost, failed } = await promise
      if (!/HEAD|204/.test(name)) t.ok(lost ?? failed, 'whoever asked is told')
      sink.end()
      const next = ask(connection)
      await peer.frame('headers', ({ streamId }) => streamId === 3)
      peer.send(headers(3, ok, true))
      t.match(await next, { status: 200 }, 'the connection lives on')
    })
  }
})

t.test('an answer with more headers than we take fails', async t => {
  const { connection, peer } = await rawServer(t, { maxHeaderListSize: 2000 })
  peer.send(settingsFrame([]))
  const answer = ask(connection)
  await peer.frame('headers')
  peer.send(headers(1, [...ok, ['x-long', 'x'.repeat(3000)]]))
  t.match(await answer, { failed: /more headers than we take/ })
  t.match(await peer.frame('rst'), { code: 'CANCEL' })
})

t.test('a protocol is switched where the server says that it can', async t => {
  const port = await nodeServer(
    t,
    (stream, head) => {
      if (head[':path'] === '/no') return stream.respond({ ':status': 403 }, { endStream: true })
      stream.respond({
        ':status': 200,
        'x-asked': `${head[':method']} ${String(head[':protocol'])} ${String(head['sec-websocket-key'])}`
      })
      stream.pipe(stream)
    },
    { enableConnectProtocol: true }
  )
  const { connection } = await connected(t, port)
  // RFC 6455 section 1.3 has this key and its answer.
  const asked = HeaderList.of('sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ==')
  const text = await new Promise<string>((resolve, reject) => {
    const { promise } = begin(
      connection,
      { upgrade: 'websocket', headers: asked },
      {
        switched: (head, stream) => {
          t.equal(head.headers.get('x-asked'), 'CONNECT websocket undefined')
          t.equal(head.headers.get('sec-websocket-accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=')
          stream.attach({
            data: chunk => {
              resolve(chunk.toString())
              stream.end()
            },
            end: () => undefined,
            drain: () => undefined,
            close: () => undefined
          })
          stream.resume()
          stream.write(Buffer.from('ping'))
        }
      }
    )
    promise.then(outcome => reject(new Error(JSON.stringify(outcome))), reject)
  })
  t.equal(text, 'ping')
  await eventually('the stream is over', () => connection.active === 0, { everyMs: 5 })
  t.match(await ask(connection, { upgrade: 'websocket', target: '/no' }), { status: 403 })

  const plain = await connected(t, await nodeServer(t, stream => stream.respond()))
  t.match(await ask(plain.connection, { upgrade: 'websocket' }), { failed: /cannot switch/, untouched: true })
})

t.test('a switch that is given up before the server has spoken is never asked for', async t => {
  const { connection, peer } = await rawServer(t)
  const { sink, promise } = begin(connection, { upgrade: 'websocket' })
  t.equal(connection.active, 1)
  sink.fail(new Error('gone'))
  t.match(await promise, { failed: 'gone' })
  t.equal(connection.active, 0)
  peer.send(settingsFrame([[8, 1]]))
  await peer.settled()
  t.notOk(peer.frames.some(({ kind }) => kind === 'headers'))
})

t.test('a server that breaks the protocol loses the connection', async t => {
  for (const [name, frame] of [
    ['ENABLE_CONNECT_PROTOCOL of 2', settingsFrame([[8, 2]])],
    [
      'ENABLE_CONNECT_PROTOCOL taken back',
      settingsFrame([
        [8, 1],
        [8, 0]
      ])
    ],
    ['no SETTINGS first', rstStreamFrame(1, 0)]
  ] as const) {
    const { connection, peer } = await rawServer(t)
    const answer = ask(connection)
    await peer.frame('headers')
    peer.send(frame)
    t.match(await peer.frame('goaway'), { code: 'PROTOCOL_ERROR' }, name)
    t.match(await answer, { failed: /violated HTTP\/2/ })
  }
})

t.test('PING is sent where that is asked for', async t => {
  const { connection, peer } = await rawServer(t, { pingIntervalMs: 5 })
  peer.send(settingsFrame([]))
  t.match(await peer.frame('ping'), { ack: false })
  t.ok(connection.usable)
})

t.test('a slow reader of an answer stops its sender', async t => {
  const total = 4 << 20
  const port = await nodeServer(t, stream => {
    stream.respond({ ':status': 200, 'content-length': total })
    stream.end(Buffer.alloc(total))
  })
  const { connection } = await connected(t, port)
  let taken = 0
  let body: Body | undefined
  const { promise, resolve } = Promise.withResolvers<void>()
  const { sink } = begin(
    connection,
    {},
    {
      answered: (_, answer) => {
        body = answer
        answer.pipe({
          data: bytes => {
            taken += bytes.length
            return false
          },
          end: () => resolve(),
          fail: () => undefined
        })
      }
    }
  )
  sink.end()
  await eventually('some has come', () => taken > 0, { everyMs: 5 })
  const before = taken
  t.match(await ask(connection, { method: 'HEAD' }), { status: 200 }, 'another is answered meanwhile')
  t.ok(taken === before && taken <= 256 << 10, `${taken} bytes are no more than a window`)
  const pull = setInterval(() => body?.resume(), 1)
  await promise
  clearInterval(pull)
  t.equal(taken, total)
})
