/** TLS to servers: who is taken, who is refused and in which words, and what the server sees of us. Real TLS on loopback. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import type { ByteStream } from '../../../shared/net/byte-stream.ts'
import { TlsOrigination, type Alpn } from '../../../waypoint/upstream/backend-tls.ts'
import type { BackendTls } from '../../../waypoint/traffic-policy.ts'
import { clientAuth, testAuthority, type LeafWishes } from '../../support/certificates.ts'
import { tlsServer } from './tls-world.ts'

const never = new AbortController().signal
const authority = testAuthority('Shop Root')
const usual: BackendTls = { serverName: 'api.example.com', roots: authority.pem, names: [], verified: true }
const hostname = (value: string): BackendTls['names'][number] => ({ kind: 'hostname', value })
const uri = (value: string): BackendTls['names'][number] => ({ kind: 'uri', value })

async function secure(
  port: number,
  settings: Partial<BackendTls> = {},
  {
    alpn,
    signal = never,
    asked
  }: { readonly alpn?: Alpn; readonly signal?: AbortSignal; readonly asked?: string } = {}
): Promise<ByteStream> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  return new TlsOrigination({ ...usual, ...settings }).secure(socket, alpn, signal, asked)
}

/** Sends a word, and what comes back until the end. */
function said(stream: ByteStream, word: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    stream.attach({
      data: chunk => void (text += chunk.toString()),
      end: () => resolve(text),
      drain: () => undefined,
      close: error => error && reject(error)
    })
    stream.resume()
    stream.write(Buffer.from(word))
    stream.end()
  })
}

const taken: readonly {
  readonly name: string
  readonly leaf: LeafWishes
  readonly settings?: Partial<BackendTls>
}[] = [
  { name: 'a certificate for the name', leaf: { hostnames: ['api.example.com'] } },
  { name: 'for the name in other letters', leaf: { hostnames: ['API.Example.com'] } },
  { name: 'for a wildcard over it', leaf: { hostnames: ['*.example.com'] } },
  {
    name: 'another name that is expected in its place',
    leaf: { hostnames: ['other.example.com'] },
    settings: { names: [hostname('x.example.com'), hostname('other.example.com')] }
  },
  {
    name: 'a URI that is expected',
    leaf: { hostnames: ['other.example.com'], uris: ['spiffe://shop/api'] },
    settings: { names: [hostname('x.example.com'), uri('spiffe://shop/api')] }
  },
  {
    name: 'anybody where nothing is verified',
    leaf: { uris: [], notBefore: 0, notAfter: 1000 },
    settings: { verified: false }
  }
]

for (const { name, leaf, settings } of taken) {
  t.test(`is taken: ${name}`, async t => {
    const server = await tlsServer(t, authority.issue(leaf))
    t.equal(await said(await secure(server.port, settings), 'hello'), 'HELLO')
    t.strictSame(server.names, ['api.example.com'], 'the name is in our hello')
  })
}

const refused: readonly {
  readonly name: string
  readonly leaf?: LeafWishes
  readonly settings?: Partial<BackendTls>
  readonly message: RegExp
}[] = [
  {
    name: 'a certificate for another name',
    leaf: { hostnames: ['other.example.com'], uris: [] },
    message:
      /the server is another one: its certificate is for DNS:other\.example\.com, signed by CN=Shop Root; expected api\.example\.com$/
  },
  {
    name: 'a wildcard two labels above it',
    leaf: { hostnames: ['*.com', '*.*.com'] },
    message: /another one/
  },
  { name: 'a part of a label as wildcard', leaf: { hostnames: ['a*.example.com'] }, message: /another one/ },
  {
    name: 'one for the name where others are expected',
    leaf: { hostnames: ['api.example.com'] },
    settings: { names: [hostname('x.example.com'), uri('spiffe://shop/api')] },
    message: /another one: .*; expected x\.example\.com or spiffe:\/\/shop\/api$/
  },
  {
    name: 'a URI that only begins like the expected one',
    leaf: { uris: ['spiffe://shop/api/more', 'spiffe://shop/ap'] },
    settings: { names: [uri('spiffe://shop/api')] },
    message: /another one/
  },
  {
    name: 'a URI where a hostname is expected, and the other way round',
    leaf: { hostnames: ['x'], uris: ['api.example.com'] },
    settings: { names: [hostname('api.example.com'), uri('x')] },
    message: /another one/
  },
  {
    name: 'no name at all',
    leaf: { uris: [] },
    message: /for no name at all .*; expected api\.example\.com/
  },
  {
    name: 'a root that is not ours',
    leaf: { hostnames: ['api.example.com'] },
    settings: { roots: testAuthority('Other Root').pem },
    message: /unknown root: .*; its certificate is for DNS:api\.example\.com.*, signed by CN=Shop Root/
  },
  {
    name: 'a root of the same name with another key',
    leaf: { hostnames: ['api.example.com'] },
    settings: { roots: testAuthority('Shop Root').pem },
    message: /unknown root/
  },
  {
    name: 'an expired certificate',
    leaf: { hostnames: ['api.example.com'], notBefore: Date.now() - 10_000, notAfter: Date.now() - 5000 },
    message: /expired; its certificate is for/
  },
  {
    name: 'a certificate of the future',
    leaf: { hostnames: ['api.example.com'], notBefore: Date.now() + 3_600_000 },
    message: /not yet valid/
  },
  {
    name: 'a certificate for clients only',
    leaf: { hostnames: ['api.example.com'], usages: [clientAuth] },
    message: /key usage/
  },
  {
    name: 'a private certificate where the roots of the system count',
    leaf: { hostnames: ['api.example.com'] },
    settings: { roots: undefined },
    message: /unknown root/
  }
]

for (const { name, leaf = {}, settings, message } of refused) {
  t.test(`is refused, and nothing is sent: ${name}`, async t => {
    const server = await tlsServer(t, authority.issue(leaf))
    await t.rejects(secure(server.port, settings), { name: 'MeshError', code: 'TLS_FAILED', message })
    await server.quiet()
    t.equal(server.received, '')
  })
}

t.test('the protocol that is agreed on is the one that we speak', async t => {
  const server = await tlsServer(t, authority.issue({ hostnames: ['api.example.com'] }), {
    ALPNProtocols: ['http/1.1', 'h2']
  })
  for (const alpn of ['h2', 'http/1.1', undefined] as const) {
    await said(await secure(server.port, {}, { alpn }), 'x')
  }
  t.strictSame(server.protocols, ['h2', 'http/1.1', false])
  const old = await tlsServer(t, authority.issue({ hostnames: ['api.example.com'] }), {
    ALPNProtocols: ['http/1.1']
  })
  await t.rejects(secure(old.port, {}, { alpn: 'h2' }), { message: /no application protocol/ })
})

t.test('an address is no name for the hello, but one to be verified', async t => {
  const server = await tlsServer(t, authority.issue({ hostnames: ['127.0.0.1'] }))
  await t.rejects(secure(server.port, { serverName: '127.0.0.1' }), { message: /expected 127\.0\.0\.1/ })
  await said(await secure(server.port, { serverName: '127.0.0.1', verified: false }), 'x')
  t.strictSame(server.names, [false])
})

t.test('under a wildcard the server is the one that was asked for, not any of them', async t => {
  const server = await tlsServer(t, authority.issue({ hostnames: ['a.example.com'] }))
  const wildcard = { serverName: '*.example.com' }
  await said(await secure(server.port, wildcard, { asked: 'a.example.com' }), 'x')
  await t.rejects(secure(server.port, wildcard, { asked: 'b.example.com' }), {
    message: /expected b\.example\.com/
  })
  await t.rejects(secure(server.port, wildcard), 'without a name nobody is right')
  t.equal(server.names[0], 'a.example.com', 'and it is named in the hello')
})

t.test('servers that speak no TLS, too old a TLS, nothing, or hang up', async t => {
  const plain = await plainServer(t, socket => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await t.rejects(secure(plain), { message: /does not speak TLS/ })
  const gone = await plainServer(t, socket => void socket.end())
  await t.rejects(secure(gone), { code: 'TLS_FAILED', message: /handshake|closed|disconnected/ })
  const silent = await plainServer(t, () => undefined)
  const late = new AbortController()
  const waiting = secure(silent, {}, { signal: late.signal })
  late.abort(new Error('it took too long'))
  await t.rejects(waiting, { message: 'it took too long' })
  await t.rejects(secure(silent, {}, { signal: AbortSignal.abort(new Error('over already')) }), {
    message: 'over already'
  })
  const old = await tlsServer(t, authority.issue({ hostnames: ['api.example.com'] }), {
    ...{ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }
  })
  await t.rejects(secure(old.port), { code: 'TLS_FAILED' })
})

t.test('the roots of the system are those of the operating system', async t => {
  const file = path.join(t.testdir({}), 'roots.pem')
  writeFileSync(file, authority.pem)
  const server = await tlsServer(t, authority.issue({ hostnames: ['api.example.com'] }))
  const script = `
import net from 'node:net'
const { TlsOrigination } = await import(process.argv[1])
const settings = { serverName: 'api.example.com', roots: undefined, names: [], verified: true }
const socket = net.connect(${server.port}, '127.0.0.1')
await new Promise(resolve => socket.once('connect', resolve))
await new TlsOrigination(settings).secure(socket, undefined, AbortSignal.timeout(20_000))
console.log('secured')
process.exit(0)
`
  const { spawn } = await import('node:child_process')
  const module = new URL('../../../waypoint/upstream/backend-tls.ts', import.meta.url).href
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, module], {
    env: { ...process.env, SSL_CERT_FILE: file, SSL_CERT_DIR: path.dirname(file) }
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  await once(child, 'close')
  t.match(output, /^secured/)
})

t.test('equal settings have one name, others another', async t => {
  const name = (settings: Partial<BackendTls>): string => new TlsOrigination({ ...usual, ...settings }).name
  t.equal(name({}), name({}))
  const others: readonly Partial<BackendTls>[] = [
    { serverName: 'b' },
    { roots: undefined },
    { names: [hostname('b')] },
    { names: [uri('b')] },
    { verified: false }
  ]
  t.equal(new Set([{}, ...others].map(name)).size, others.length + 1)
})

async function plainServer(t: Test, serve: (socket: net.Socket) => void): Promise<number> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    serve(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as net.AddressInfo).port
}
