/** Names in hellos: of real clients in every split, and of clients that mean no good. */
import t from 'tap'
import { once } from 'node:events'
import net from 'node:net'
import tls from 'node:tls'
import { readClientHello } from '../../../waypoint/gateway/client-hello.ts'

/** What Node's client sends first. */
async function realHello(options: tls.ConnectionOptions): Promise<Buffer> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[net.Socket]>
  const client = tls.connect({
    port: (server.address() as net.AddressInfo).port,
    host: '127.0.0.1',
    ...options
  })
  client.on('error', () => undefined)
  const [socket] = await accepted
  const [bytes] = (await once(socket, 'data')) as [Buffer]
  client.destroy()
  socket.destroy()
  server.close()
  return bytes
}

const short = (value: number): Buffer => Buffer.of(value >> 8, value & 255)
const sized = (bytes: Buffer): Buffer => Buffer.concat([short(bytes.length), bytes])
const extension = (type: number, body: Buffer): Buffer => Buffer.concat([short(type), sized(body)])
const nameEntry = (name: string, type = 0): Buffer =>
  Buffer.concat([Buffer.of(type), sized(Buffer.from(name, 'latin1'))])
const serverNames = (...entries: readonly Buffer[]): Buffer => extension(0, sized(Buffer.concat(entries)))

function hello(extensions: Buffer | undefined, body: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([
    ...[short(0x0303), Buffer.alloc(32, 7), Buffer.of(0), sized(short(0x1301)), Buffer.of(1, 0)],
    ...(extensions === undefined ? [] : [sized(extensions)]),
    body
  ])
}

function message(body: Buffer, type = 1): Buffer {
  return Buffer.concat([
    Buffer.of(type, body.length >> 16, (body.length >> 8) & 255, body.length & 255),
    body
  ])
}

/** In records of at most so many bytes. */
function records(bytes: Buffer, most = 16_384): Buffer {
  const parts: Buffer[] = []
  for (let from = 0; from < bytes.length; from += most) {
    const part = bytes.subarray(from, from + most)
    parts.push(Buffer.of(22, 3, 1), sized(part))
  }
  return Buffer.concat(parts)
}

const of = (extensions: Buffer | undefined, body?: Buffer): Buffer =>
  records(message(hello(extensions, body)))

t.test('hellos of real clients, split after every byte', async t => {
  for (const options of [
    { servername: 'Shop.Example' },
    { servername: 'shop.example', maxVersion: 'TLSv1.2' as const },
    { servername: 'shop.example', ALPNProtocols: ['h2', 'http/1.1'] }
  ]) {
    const bytes = await realHello(options)
    for (let length = 0; length < bytes.length; length += 1) {
      const found = readClientHello(bytes.subarray(0, length))
      if (found.kind !== 'more') t.fail(`${length} of ${bytes.length} bytes: ${JSON.stringify(found)}`)
    }
    t.strictSame(readClientHello(bytes), { kind: 'hello', serverName: 'shop.example' })
  }
  t.strictSame(readClientHello(await realHello({})), { kind: 'hello', serverName: undefined })
})

const situations: readonly { name: string; bytes: Buffer; expected: object }[] = [
  { name: 'no extensions', bytes: of(undefined), expected: { kind: 'hello', serverName: undefined } },
  {
    name: 'a name among others',
    bytes: of(
      Buffer.concat([extension(10, short(0)), serverNames(nameEntry('a.b')), extension(43, Buffer.of(2))])
    ),
    expected: { kind: 'hello', serverName: 'a.b' }
  },
  { name: 'a dot at the end', bytes: of(serverNames(nameEntry('a.b.'))), expected: { serverName: 'a.b' } },
  {
    name: 'a name of another type',
    bytes: of(serverNames(nameEntry('x', 1), nameEntry('a.b'))),
    expected: { serverName: 'a.b' }
  },
  {
    name: 'several records',
    bytes: records(message(hello(serverNames(nameEntry('a.b')))), 4),
    expected: { kind: 'hello', serverName: 'a.b' }
  },
  {
    name: 'what follows the hello',
    bytes: Buffer.concat([of(serverNames(nameEntry('a.b'))), of(undefined)]),
    expected: { kind: 'hello', serverName: 'a.b' }
  },
  {
    name: 'two names',
    bytes: of(serverNames(nameEntry('a'), nameEntry('b'))),
    expected: { kind: 'refused' }
  },
  {
    name: 'two lists of names',
    bytes: of(Buffer.concat([serverNames(nameEntry('a')), serverNames(nameEntry('b'))])),
    expected: { kind: 'refused' }
  },
  { name: 'an empty list of names', bytes: of(serverNames()), expected: { kind: 'refused' } },
  { name: 'an empty name', bytes: of(serverNames(nameEntry(''))), expected: { kind: 'refused' } },
  { name: 'a name with NUL', bytes: of(serverNames(nameEntry('a\0.b'))), expected: { kind: 'refused' } },
  { name: 'a name with a slash', bytes: of(serverNames(nameEntry('a/b'))), expected: { kind: 'refused' } },
  { name: 'a long label', bytes: of(serverNames(nameEntry('a'.repeat(64)))), expected: { kind: 'refused' } },
  {
    name: 'bytes after the extensions',
    bytes: of(serverNames(nameEntry('a')), Buffer.of(1)),
    expected: { kind: 'refused' }
  },
  { name: 'HTTP', bytes: Buffer.from('GET / HTTP/1.1\r\n\r\n'), expected: { kind: 'refused' } },
  { name: 'SSL 2', bytes: Buffer.of(0x80, 0x2e, 1, 3, 1), expected: { kind: 'refused' } },
  { name: 'a version before 3', bytes: Buffer.of(22, 2, 0, 0, 5), expected: { kind: 'refused' } },
  { name: 'an empty record', bytes: Buffer.of(22, 3, 1, 0, 0), expected: { kind: 'refused' } },
  { name: 'a huge record', bytes: Buffer.of(22, 3, 1, 0xff, 0xff), expected: { kind: 'refused' } },
  {
    name: 'another handshake message',
    bytes: records(message(hello(undefined), 2)),
    expected: { kind: 'refused' }
  },
  { name: 'a huge hello', bytes: records(Buffer.of(1, 0xff, 0xff, 0xff)), expected: { kind: 'refused' } },
  {
    name: 'a record of each byte',
    bytes: records(message(hello(serverNames(nameEntry('a.b')))), 1),
    expected: { kind: 'refused', reason: 'a ClientHello in too many pieces' }
  }
]
for (const { name, bytes, expected } of situations) {
  t.test(name, async t => {
    t.match(readClientHello(bytes), expected)
  })
}

t.test('no length that lies reads beyond its part, and none throws', async t => {
  const good = message(
    hello(Buffer.concat([extension(10, short(0)), serverNames(nameEntry('shop.example'))]))
  )
  const kinds = new Map<string, number>()
  for (let at = 4; at < good.length; at += 1) {
    for (const value of [0, 1, 0x7f, 0xff]) {
      const bytes = Buffer.from(good)
      bytes[at] = value
      const { kind } = readClientHello(records(bytes))
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
    }
  }
  t.notOk(kinds.get('more'), 'the message is whole, whatever it says inside')
  t.ok((kinds.get('refused') ?? 0) > 20)
  t.ok((kinds.get('hello') ?? 0) > 100, 'of the random and the like every value is good')
})
