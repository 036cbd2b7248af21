import { once } from 'node:events'
import tls from 'node:tls'
import t from 'tap'
import type { WorkloadCertificate } from '../../../shared/identity/certificate.ts'
import type { SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { ClientSession } from '../../../shared/hbone/session.ts'
import { serveTunnels } from '../../../shared/hbone/server.ts'
import { acceptTls, connectTls } from '../../../shared/hbone/tls.ts'
import { clientAuth, serverAuth, testAuthority, type LeafWishes } from '../../support/certificates.ts'
import { authority, client, never, server, tcpPair } from './support.ts'

const day = 86_400_000
const foreign = testAuthority()
const mine = (wishes: LeafWishes): WorkloadCertificate => ({
  ...authority.issue(wishes).certificate,
  identity: client.identity
})
/** Signed by nobody we know, but trusting us. */
const stranger = (wishes: LeafWishes = {}): WorkloadCertificate => ({
  ...foreign.issue(wishes).certificate,
  rootsPem: [authority.pem]
})

const badClients: readonly {
  readonly name: string
  readonly certificate: WorkloadCertificate
  readonly message: RegExp
}[] = [
  {
    name: 'expired',
    certificate: mine({ notBefore: Date.now() - 2 * day, notAfter: Date.now() - day }),
    message: /has expired/
  },
  {
    name: 'not yet valid',
    certificate: mine({ notBefore: Date.now() + day, notAfter: Date.now() + 2 * day }),
    message: /not yet valid/
  },
  {
    name: 'wrong trust domain',
    certificate: mine({ trustDomain: 'other.example' }),
    message: /wrong trust domain: the peer is spiffe:\/\/other.example\S+, our trust domain is cluster.local/
  },
  { name: 'wrong key usage', certificate: mine({ usages: [serverAuth] }), message: /wrong key usage/ },
  { name: 'no URI SAN', certificate: mine({ uris: [] }), message: /no URI SAN/ },
  {
    name: 'no SPIFFE identity',
    certificate: mine({ uris: ['https://example.com/'] }),
    message: /no SPIFFE identity of a workload: https:\/\/example.com/
  },
  { name: 'unknown root', certificate: stranger(), message: /unknown root/ }
]

for (const { name, certificate, message } of badClients) {
  t.test(`a server refuses a client: ${name}`, async t => {
    const [near, far] = await tcpPair(t)
    let requests = 0
    let readByCodec = 0
    const accepting = (async () => {
      const { socket } = await acceptTls(far, server.certificate, never)
      socket.on('data', () => {
        readByCodec += 1
      })
      serveTunnels(socket, {}, () => {
        requests += 1
      })
    })()
    const refused = t.rejects(accepting, { code: 'TLS_FAILED', message })
    // The client's handshake succeeds under TLS 1.3; it writes its whole request into the connection.
    const { socket } = await connectTls(near, certificate, [server.identity], never)
    const opening = new ClientSession(socket).openTunnel({ authority: 'a:1', headers: [] }, never)
    await t.rejects(opening, { code: 'TLS_FAILED', message: /probably refused our certificate/ })
    await refused
    t.ok(far.destroyed)
    t.equal(readByCodec, 0, 'not one byte reached the codec')
    t.equal(requests, 0)
  })
}

t.test('a server refuses a client without certificate', async t => {
  const [near, far] = await tcpPair(t)
  const refused = t.rejects(acceptTls(far, server.certificate, never), {
    code: 'TLS_FAILED',
    message: /showed no certificate/
  })
  const socket = tls.connect({
    socket: near,
    ca: [authority.pem],
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined
  })
  socket.on('error', () => undefined)
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  await refused
})

t.test('bytes that a refused client sends with its handshake are never read', async t => {
  const [near, far] = await tcpPair(t)
  let read = 0
  // oxlint-disable-next-line typescript/unbound-method -- called with the socket as `this` below
  const emit = tls.TLSSocket.prototype.emit
  tls.TLSSocket.prototype.emit = function watched(
    this: tls.TLSSocket,
    event: string | symbol,
    ...rest: unknown[]
  ): boolean {
    if (event === 'data' && this.remotePort === near.localPort) read += 1
    return Reflect.apply(emit, this, [event, ...rest]) as boolean
  }
  t.teardown(() => {
    tls.TLSSocket.prototype.emit = emit
  })
  const refused = t.rejects(acceptTls(far, server.certificate, never), { message: /wrong key usage/ })
  const bad = authority.issue({ usages: [serverAuth] })
  const socket = tls.connect({
    socket: near,
    ca: [authority.pem],
    cert: bad.certPem,
    key: bad.keyPem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined
  })
  socket.on('error', () => undefined)
  socket.write(Buffer.alloc(100_000, 'x'))
  await refused
  t.equal(read, 0)
})

const badServers: readonly {
  readonly name: string
  readonly certificate: WorkloadCertificate
  readonly expected?: readonly SpiffeId[]
  readonly message: RegExp
}[] = [
  {
    name: 'expired',
    certificate: mine({ notBefore: Date.now() - 2 * day, notAfter: Date.now() - day }),
    message: /has expired/
  },
  {
    name: 'not yet valid',
    certificate: mine({ notBefore: Date.now() + day, notAfter: Date.now() + 2 * day }),
    message: /not yet valid/
  },
  {
    name: 'wrong trust domain',
    certificate: mine({ trustDomain: 'other.example', serviceAccount: 'server' }),
    message: /wrong trust domain: the peer is spiffe:\/\/other.example/
  },
  {
    name: 'wrong key usage',
    certificate: mine({ usages: [clientAuth], serviceAccount: 'server' }),
    message: /wrong key usage/
  },
  { name: 'no URI SAN', certificate: mine({ uris: [] }), message: /no URI SAN/ },
  { name: 'unknown root', certificate: stranger({ serviceAccount: 'server' }), message: /unknown root/ },
  {
    name: 'wrong identity',
    certificate: mine({ serviceAccount: 'impostor' }),
    message: /wrong identity: the peer is \S+impostor, expected \S+server/
  },
  {
    name: 'nobody is expected',
    certificate: server.certificate,
    expected: [],
    message: /wrong identity.*expected nobody/
  }
]

for (const { name, certificate, expected = [server.identity], message } of badServers) {
  t.test(`a client refuses a server: ${name}`, async t => {
    const [near, far] = await tcpPair(t)
    acceptTls(far, certificate, never).catch(() => undefined)
    await t.rejects(connectTls(near, client.certificate, expected, never), { code: 'TLS_FAILED', message })
    t.ok(near.destroyed)
  })
}

t.test('one matching name of several is enough, on both sides', async t => {
  const [near, far] = await tcpPair(t)
  const several = {
    ...authority.issue({ uris: ['spiffe://other/x', 'spiffe://old.example/ns/a/sa/b', server.identity] })
      .certificate,
    identity: server.identity
  }
  const [connected, accepted] = await Promise.all([
    connectTls(near, several, [client.identity, server.identity], never),
    acceptTls(far, several, never)
  ])
  t.equal(connected.peer, server.identity)
  t.equal(accepted.peer, 'spiffe://old.example/ns/a/sa/b', 'the first that is an identity at all')
})

t.test('both sides know the peer and when its certificate ends', async t => {
  const [near, far] = await tcpPair(t)
  const [connected, accepted] = await Promise.all([
    connectTls(near, client.certificate, [server.identity], never),
    acceptTls(far, server.certificate, never)
  ])
  t.equal(connected.peer, server.identity)
  t.equal(accepted.peer, client.identity)
  t.ok(Math.abs(connected.notAfter - server.certificate.notAfter) < 1000)
  t.ok(Math.abs(accepted.notAfter - client.certificate.notAfter) < 1000)
  for (const { socket } of [connected, accepted]) {
    t.equal(socket.getProtocol(), 'TLSv1.3')
    t.equal(socket.alpnProtocol, 'h2')
    t.match(socket.getCipher().name, /^TLS_AES_(128|256)_GCM_SHA(256|384)$/)
    t.notOk(socket.isSessionReused())
  }
})

t.test('the client sends no server name', async t => {
  const [near, far] = await tcpPair(t)
  const hello = once(far, 'data')
  const connecting = connectTls(near, client.certificate, [server.identity], AbortSignal.timeout(60_000))
  connecting.catch(() => undefined)
  const [bytes] = (await hello) as [Buffer]
  t.notOk(extensionsOf(bytes).includes(0), 'extension server_name (0) is absent')
  t.ok(extensionsOf(bytes).includes(16), 'extension ALPN (16) is there')
  far.destroy()
  await t.rejects(connecting, { code: 'TLS_FAILED', message: /closed the connection during the handshake/ })
})

t.test('a server resumes no session', async t => {
  const connect = async (session?: Buffer): Promise<{ reused: boolean; ticket: Buffer }> => {
    const [near, far] = await tcpPair(t)
    const accepting = acceptTls(far, server.certificate, never)
    const socket = tls.connect({
      socket: near,
      ca: [authority.pem],
      cert: client.certPem,
      key: client.keyPem,
      ALPNProtocols: ['h2'],
      checkServerIdentity: () => undefined,
      ...(session && { session })
    })
    socket.resume()
    const [[ticket]] = (await Promise.all([once(socket, 'session'), accepting])) as [[Buffer], unknown]
    return { reused: socket.isSessionReused(), ticket }
  }
  const { ticket } = await connect()
  t.notOk((await connect(ticket)).reused)
})

t.test('TLS 1.2 is refused', async t => {
  const [near, far] = await tcpPair(t)
  const refused = t.rejects(acceptTls(far, server.certificate, never), {
    code: 'TLS_FAILED',
    message: /does not offer TLS 1.3/
  })
  const socket = tls.connect({
    socket: near,
    ca: [authority.pem],
    maxVersion: 'TLSv1.2',
    checkServerIdentity: () => undefined
  })
  await once(socket, 'error')
  await refused
})

t.test('TLS 1.2 is taken where it is asked for, with forward secrecy and AES-GCM', async t => {
  const [near, far] = await tcpPair(t)
  const accepting = acceptTls(far, server.certificate, never, { tls12: true })
  const socket = tls.connect({
    socket: near,
    ca: [authority.pem],
    cert: client.certPem,
    key: client.keyPem,
    maxVersion: 'TLSv1.2',
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined
  })
  await once(socket, 'secureConnect')
  const accepted = await accepting
  t.equal(accepted.peer, client.identity)
  t.equal(accepted.socket.getProtocol(), 'TLSv1.2')
  t.match(accepted.socket.getCipher().name, /^ECDHE-ECDSA-AES(128|256)-GCM/)
})

t.test('a post-quantum key exchange only, where it is asked for', async t => {
  const pqc = { compliance: 'pqc' } as const
  const [near, far] = await tcpPair(t)
  const [connected] = await Promise.all([
    connectTls(near, client.certificate, [server.identity], never, pqc),
    acceptTls(far, server.certificate, never, pqc)
  ])
  t.equal(connected.peer, server.identity)
  const [classical, there] = await tcpPair(t)
  const refused = t.rejects(acceptTls(there, server.certificate, never, pqc), { code: 'TLS_FAILED' })
  const socket = tls.connect({
    socket: classical,
    ecdhCurve: 'X25519:P-256',
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined
  })
  socket.on('error', () => undefined)
  await refused
})

t.test('a peer that resets the connection, during the handshake and after', async t => {
  const [near, far] = await tcpPair(t)
  const accepting = t.rejects(acceptTls(far, server.certificate, never), {
    code: 'TLS_FAILED',
    message: /closed the connection during/
  })
  near.resetAndDestroy()
  await accepting
  const [there, here] = await tcpPair(t)
  const connecting = t.rejects(connectTls(there, client.certificate, [], never), {
    code: 'TLS_FAILED',
    message: /closed the connection during/
  })
  here.resetAndDestroy()
  await connecting
  const [one, two] = await tcpPair(t)
  const [connected, accepted] = await Promise.all([
    connectTls(one, client.certificate, [server.identity], never),
    acceptTls(two, server.certificate, never)
  ])
  const session = serveTunnels(accepted.socket, {}, () => undefined)
  const opening = new ClientSession(connected.socket).openTunnel({ authority: 'a:1', headers: [] }, never)
  two.resetAndDestroy()
  await t.rejects(opening, { code: /TLS_FAILED|STREAM_FAILED/ })
  if (!session.closed.aborted) await once(session.closed, 'abort')
})

t.test('a peer that speaks no TLS is refused, on both sides', async t => {
  const [near, far] = await tcpPair(t)
  near.write('GET / HTTP/1.1\r\n\r\n')
  await t.rejects(acceptTls(far, server.certificate, never), {
    code: 'TLS_FAILED',
    message: /does not speak TLS/
  })
  const [there, here] = await tcpPair(t)
  here.write('SSH-2.0-OpenSSH_9.2\r\n')
  await t.rejects(connectTls(there, client.certificate, [], never), {
    code: 'TLS_FAILED',
    message: /does not speak TLS/
  })
})

t.test('a slow handshake ends, on both sides', async t => {
  const [, far] = await tcpPair(t)
  const options = { timeoutMs: 50 }
  await t.rejects(acceptTls(far, server.certificate, never, options), {
    code: 'TLS_FAILED',
    message: /no handshake within 50 ms/
  })
  t.ok(far.destroyed)
  const [near] = await tcpPair(t)
  await t.rejects(connectTls(near, client.certificate, [], never, options), {
    message: /no handshake within 50 ms/
  })
  t.ok(near.destroyed)
})

t.test('an abort ends a handshake with its reason', async t => {
  const [near, far] = await tcpPair(t)
  const controller = new AbortController()
  const accepting = acceptTls(far, server.certificate, controller.signal)
  const connecting = connectTls(near, client.certificate, [], controller.signal)
  const reason = new Error('shutting down')
  controller.abort(reason)
  await t.rejects(accepting, reason)
  await t.rejects(connecting, reason)
})

t.test('our own unusable certificate is named as such', async t => {
  const [near, far] = await tcpPair(t)
  const broken = { ...client.certificate, keyPem: 'nonsense' }
  await t.rejects(connectTls(near, broken, [], never), { code: 'IDENTITY_FAILED' })
  await t.rejects(acceptTls(far, { ...broken }, never), { code: 'IDENTITY_FAILED' })
})

t.test('many handshakes at once do not mix up their peers', async t => {
  const identities = Array.from({ length: 12 }, (_, index) =>
    authority.issue({ serviceAccount: `sa-${index}` })
  )
  const peers = await Promise.all(
    identities.map(async ({ certificate }) => {
      const [near, far] = await tcpPair(t)
      const [, accepted] = await Promise.all([
        connectTls(near, certificate, [server.identity], never),
        acceptTls(far, server.certificate, never)
      ])
      return [accepted.peer, accepted.socket.remotePort === near.localPort]
    })
  )
  t.strictSame(
    peers,
    identities.map(({ identity }) => [identity, true])
  )
})

/** Extension types of a ClientHello in one record (RFC 8446 section 4.1.2). */
function extensionsOf(record: Buffer): number[] {
  let at = 5 + 4 + 2 + 32
  at += 1 + record.readUInt8(at) // session id
  at += 2 + record.readUInt16BE(at) // cipher suites
  at += 1 + record.readUInt8(at) // compression
  const end = at + 2 + record.readUInt16BE(at)
  const found: number[] = []
  for (at += 2; at + 4 <= Math.min(end, record.length); at += 4 + record.readUInt16BE(at + 2)) {
    found.push(record.readUInt16BE(at))
  }
  return found
}
