import * as grpc from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import net from 'node:net'
import tls from 'node:tls'
import { authenticate } from '../../../controlplane/access/authenticate.ts'
import {
  GrpcServer,
  type CallInfo,
  type Services,
  type ServingCertificate
} from '../../../controlplane/serve/grpc-server.ts'
import { TokenAuthenticator } from '../../../controlplane/access/token.ts'
import { createCsr } from '../../../shared/identity/csr.ts'
import {
  createRoot,
  issueCertificate,
  issuerOf,
  issueServerCertificate,
  type Issuer
} from '../../../shared/identity/issue.ts'
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'
import { ip } from '../../../shared/net/address.ts'
import { message } from '../../../shared/xds/schema.ts'
import { eventually } from '../../support/eventually.ts'

const now = Date.now()
const day = 24 * 3_600_000

function newRoot(): Issuer {
  const pair = createRoot({
    organization: 'cluster.local',
    notBefore: now - 100 * day,
    notAfter: now + 365 * day
  })
  return issuerOf({ ...pair, rootsPem: pair.certificatePem })
}

const ours = newRoot()
const theirs = newRoot()

function serving(issuer = ours): ServingCertificate {
  const pair = issueServerCertificate({
    names: ['localhost'],
    issuer,
    notBefore: now - day,
    notAfter: now + day
  })
  return { ...pair, clientRootsPem: ours.rootsPem }
}

interface ClientCertificate {
  readonly certificatePem: string
  readonly keyPem: string
}

function clientCertificate(issuer: Issuer, trustDomain = 'cluster.local', at = now): ClientCertificate {
  const identity = spiffeId({ trustDomain, namespace: 'shop', serviceAccount: 'web' })
  const { csrPem, keyPem } = createCsr(identity)
  const issued = issueCertificate({ csrPem, identity, ttlSeconds: 3600, issuer, now: at })
  if (issued.kind !== 'issued') throw new Error(issued.problem)
  return { certificatePem: issued.certChain.slice(0, -1).join(''), keyPem }
}

async function serve(
  t: Test,
  services: Services,
  options: { maxConnectionAgeMs?: number } = {}
): Promise<{ server: GrpcServer; port: number }> {
  const server = new GrpcServer({ services, maxConnectionAgeMs: 3_600_000, ...options })
  t.teardown(async () => server.close(0))
  const { port } = await server.listenTls({ ip: ip('127.0.0.1'), port: 0 }, serving())
  return { server, port }
}

function connect(t: Test, port: number, roots = ours.rootsPem, certificate?: ClientCertificate): grpc.Client {
  const credentials = grpc.credentials.createSsl(
    Buffer.from(roots),
    certificate === undefined ? null : Buffer.from(certificate.keyPem),
    certificate === undefined ? null : Buffer.from(certificate.certificatePem)
  )
  const client = new grpc.Client(`127.0.0.1:${port}`, credentials, {
    'grpc.ssl_target_name_override': 'localhost',
    'grpc.max_send_message_length': -1
  })
  t.teardown(() => client.close())
  return client
}

const raw = (bytes: Buffer): Buffer => bytes

async function call(
  client: grpc.Client,
  body = Buffer.of()
): Promise<{ code: number; details: string; answer: Buffer | undefined }> {
  return new Promise(resolve => {
    client.makeUnaryRequest(
      '/istio.v1.auth.IstioCertificateService/CreateCertificate',
      raw,
      raw,
      body,
      new grpc.Metadata(),
      { deadline: Date.now() + 20_000 },
      (error, answer) => resolve({ code: error?.code ?? 0, details: error?.details ?? '', answer })
    )
  })
}

function stream(client: grpc.Client): grpc.ClientDuplexStream<Buffer, Buffer> {
  const made = client.makeBidiStreamRequest(
    '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    raw,
    raw
  )
  made.on('error', () => undefined) // how it ends is what its `status` says
  return made
}

t.test('a client certificate is asked for, not demanded', async t => {
  const tokens = new TokenAuthenticator({
    audiences: ['istio-ca'],
    clock: { now: () => now },
    review: async () => ({ authenticated: false })
  })
  const createCertificate = async (
    info: CallInfo
  ): ReturnType<NonNullable<Services['createCertificate']>> => {
    const answer = await authenticate(info, tokens, 'cluster.local')
    const text =
      answer.kind === 'caller' ? `${answer.caller.namespace}/${answer.caller.serviceAccount}` : answer.reason
    return { kind: 'answer', message: Buffer.from(text) }
  }
  const { port } = await serve(t, { createCertificate })
  const who = async (certificate?: ClientCertificate): Promise<string> => {
    const { answer, details } = await call(connect(t, port, ours.rootsPem, certificate))
    return answer?.toString() ?? details
  }
  t.equal(await who(clientCertificate(ours)), 'shop/web', 'one of ours is an identity')
  const none = 'no bearer token in the metadata `authorization`'
  t.equal(await who(), none, 'without one there must be a token')
  t.equal(await who(clientCertificate(theirs)), none, 'one of another root counts as none')
  t.equal(await who(clientCertificate(ours, 'other.domain')), none, 'one of another trust domain too')
  t.equal(
    await who(clientCertificate(ours, 'cluster.local', now - 10 * day)),
    none,
    'and one that has expired'
  )
})

t.test('the serving certificate changes without ending what is open', async t => {
  const { server, port } = await serve(t, {
    deltaStream: async stream => ({ request: message => stream.send(message), ended: () => undefined })
  })
  const open = stream(connect(t, port))
  const echo = async (text: string): Promise<string> =>
    new Promise(resolve => {
      open.once('data', (bytes: Buffer) => resolve(bytes.toString()))
      open.write(Buffer.from(text))
    })
  t.equal(await echo('before'), 'before')
  const next = newRoot()
  server.renew(serving(next))
  t.equal(await echo('after'), 'after', 'the open stream goes on')
  const peerOf = async (roots: string): Promise<boolean> =>
    new Promise(resolve => {
      const socket = tls.connect({
        host: '127.0.0.1',
        port,
        servername: 'localhost',
        ca: roots,
        ALPNProtocols: ['h2']
      })
      socket.on('secureConnect', () => {
        socket.destroy()
        resolve(true)
      })
      socket.on('error', () => resolve(false))
    })
  t.ok(await peerOf(next.rootsPem), 'new connections see the new one')
  t.notOk(await peerOf(ours.rootsPem))
  open.cancel()
})

t.test('what is no gRPC harms nobody', async t => {
  const { port } = await serve(t, {
    createCertificate: async () => ({ kind: 'answer', message: Buffer.from('ok') })
  })
  const ended = async (socket: net.Socket, bytes: Buffer): Promise<void> =>
    new Promise(resolve => {
      socket.on('error', () => undefined) // a reset is an end too
      socket.on('close', () => resolve())
      socket.resume()
      socket.write(bytes)
    })
  await ended(net.connect({ host: '127.0.0.1', port }), Buffer.from('GET / HTTP/1.1\r\n\r\n'))
  const secure = (alpn: string[]): tls.TLSSocket =>
    tls.connect({ host: '127.0.0.1', port, servername: 'localhost', ca: ours.rootsPem, ALPNProtocols: alpn })
  await ended(secure(['h2']), Buffer.from('nonsense that is no preface of HTTP/2 at all'))
  const old = secure(['http/1.1'])
  await new Promise<void>(resolve => {
    old.on('error', () => resolve())
    old.on('close', () => resolve())
    old.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    old.resume()
  })
  t.match(await call(connect(t, port)), { code: 0 }, 'others are served')
})

t.test('messages that are too large are refused', async t => {
  const { port } = await serve(t, {
    createCertificate: async () => ({ kind: 'answer', message: Buffer.from('ok') })
  })
  const client = connect(t, port)
  t.match(await call(client, Buffer.alloc(33 << 20)), { code: grpc.status.RESOURCE_EXHAUSTED })
  t.match(await call(client, Buffer.alloc(1 << 20)), { code: 0 })
})

t.test('a handler that fails ends its call only, and says nothing of why', async t => {
  const { port } = await serve(t, {
    createCertificate: async () => {
      throw new Error('the secret reason')
    },
    deltaStream: async () => {
      throw new Error('the secret reason')
    }
  })
  const client = connect(t, port)
  const answer = await call(client)
  t.match(answer, { code: grpc.status.INTERNAL })
  t.notMatch(answer.details, 'secret')
  const failing = stream(client)
  const status = await new Promise<grpc.StatusObject>(resolve => failing.on('status', resolve))
  t.equal(status.code, grpc.status.INTERNAL)
})

t.test('refusals carry their trailers', async t => {
  const { port } = await serve(t, {
    createCertificate: async () => ({
      kind: 'refused',
      status: 'UNAUTHENTICATED',
      message: 'no',
      details: { why: 'because' }
    })
  })
  const error = await new Promise<grpc.ServiceError | null>(resolve => {
    connect(t, port).makeUnaryRequest(
      '/istio.v1.auth.IstioCertificateService/CreateCertificate',
      raw,
      raw,
      Buffer.of(),
      new grpc.Metadata(),
      failure => resolve(failure)
    )
  })
  t.match(error, { code: grpc.status.UNAUTHENTICATED, details: 'no' })
  t.strictSame(error?.metadata.get('why'), ['because'])
})

t.test('connections end at an age, so that clients spread', async t => {
  const { port } = await serve(
    t,
    { deltaStream: async () => ({ request: () => undefined, ended: () => undefined }) },
    { maxConnectionAgeMs: 50 }
  )
  const client = connect(t, port)
  const open = stream(client)
  open.write(Buffer.of())
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 20_000, error => (error === undefined ? resolve() : reject(error)))
  })
  await eventually(
    'the connection is left',
    () => client.getChannel().getConnectivityState(false) !== grpc.connectivityState.READY
  )
  open.cancel()
  t.pass('a GOAWAY came')
})

t.test('a stream whose client goes away is told', async t => {
  const ended: string[] = []
  const { port } = await serve(t, {
    deltaStream: async () => ({ request: () => undefined, ended: () => void ended.push('ended') })
  })
  const client = connect(t, port)
  const open = stream(client)
  open.write(message('envoy.service.discovery.v3.DeltaDiscoveryRequest').encode({}))
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 20_000, error => (error === undefined ? resolve() : reject(error)))
  })
  open.end()
  await eventually('by a half close', () => ended.length > 0)
  const cut = stream(client)
  cut.write(Buffer.of())
  const before = ended.length
  setImmediate(() => cut.cancel())
  await eventually('by a reset', () => ended.length > before)
  t.pass('both')
})
