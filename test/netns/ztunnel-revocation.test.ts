/** Certificates that are taken back while connections live: between two of our ztunnels, each at its own end. */
import t from 'tap'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Duplex } from 'node:stream'
import { ClientSession } from '../../shared/hbone/session.ts'
import { connectTls } from '../../shared/hbone/tls.ts'
import { tunnelDuplex } from '../../shared/hbone/tunnel-duplex.ts'
import { FakeCa } from '../../shared/identity/fake-ca.ts'
import { createIntermediate, createRoot, issuerOf } from '../../shared/identity/issue.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { CLIENT, localMesh, SERVER, SERVER_PORT } from '../support/local-mesh.ts'
import { crlBy, fakeCaCrl } from '../support/revocation-list.ts'
import { startControlPlane } from '../support/test-control-plane.ts'
import {
  at,
  attempt,
  connect,
  needsRoot,
  serve,
  startProxy,
  twoNodes,
  type Proxy,
  type Teardown,
  type TestNode
} from '../support/two-nodes.ts'

t.setTimeout(240_000)
const skip = needsRoot()
const never = new AbortController().signal
const serverIdentity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'server' })
const clientIdentity = spiffeId({
  trustDomain: 'cluster.local',
  namespace: 'default',
  serviceAccount: 'client'
})
const revoked = /^connection closed: peer certificate revoked by CRL: serial \d+, URI:spiffe:/
let worlds = 0

t.test('a server cuts off the client that is put on the list, and nobody else', { skip }, async t => {
  const crl = listFile(t)
  const { a, b, client, server } = await world(t, { server: { CRL_PATH: crl.path } })
  await serve(t, b, echo, { port: SERVER_PORT })
  const live = await connect(a, at(b.v4, SERVER_PORT))
  t.equal(await say(live, 'one'), 'one')
  const other = await otherClient(t, a, b)
  t.equal(await say(other, 'one'), 'one')

  const stranger = await new FakeCa().fetch(clientIdentity, never)
  crl.put(fakeCaCrl(t, stranger.chainPem))
  await server.logged(/revocation lists read.*revoked=1/)
  crl.put('-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n')
  t.match(await server.logged(/the new revocation lists cannot be read/), crl.path, 'which file, and why')
  t.equal(await say(live, 'two'), 'two', 'lists that do not name a peer leave it alone')

  const ended = over(live)
  crl.put(fakeCaCrl(t, [await certificateOf(client)]))
  await ended
  await server.logged(/sessions of revoked peers closed/)
  const [line] = accessLines(server.log)
  t.match(line, { level: 'error', fields: { direction: 'inbound', bytes_sent: '6', bytes_recv: '6' } })
  t.match(line?.fields['error'], revoked)
  t.equal(await say(other, 'three'), 'three', 'a client with another certificate goes on')

  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('x')), '', 'a new connection')
  t.match(await server.logged(/connection failed.*revoked by CRL/), /direction="?inbound/)
  t.equal(await say(await otherClient(t, a, b), 'new'), 'new')
  const { body } = await server.ask(15020, '/metrics')
  t.match(samples(body, 'istio_tcp_connections_failed_total'), [
    { labels: { reporter: 'destination', response_flags: 'CERT_REVOKED' }, value: 1 }
  ])
  t.match(samples(body, 'istio_crl_policy_rejections_total'), [{ labels: { reporter: 'destination' } }])

  crl.put('')
  await server.logged(/revocation lists read.*revoked=0/)
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('back')), 'back')
})

t.test('a client drops the server that is put on the list, also after a restart', { skip }, async t => {
  const crl = listFile(t)
  const env = { CRL_PATH: crl.path }
  const { a, b, client, server, startClient } = await world(t, { client: env })
  await serve(t, b, echo, { port: SERVER_PORT })
  const live = await connect(a, at(b.v4, SERVER_PORT))
  t.equal(await say(live, 'one'), 'one')
  const ended = over(live)
  crl.put(fakeCaCrl(t, [await certificateOf(server)]))
  await ended
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('x')), '')
  await eventually('both are logged', () => accessLines(client.log).length === 2, { everyMs: 20 })
  for (const line of accessLines(client.log)) {
    t.match(line, { level: 'error', fields: { direction: 'outbound' } })
    t.match(line.fields['error'], revoked)
  }
  const { body } = await client.ask(15020, '/metrics')
  t.match(samples(body, 'istio_tcp_connections_failed_total'), [
    { labels: { reporter: 'source', response_flags: 'CERT_REVOKED' }, value: 2 }
  ])
  t.match(samples(body, 'istio_crl_policy_rejections_total'), [{ labels: { reporter: 'source' }, value: 2 }])
  t.same(samples(body, 'istio_crl_untracked_connections_total'), [])

  await client.stop()
  const again = await startClient(env)
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('x')), '')
  t.match(accessLines([await again.logged(/connection complete/)])[0]?.fields['error'], revoked)
  await again.stop()

  crl.put('no list at all')
  await t.rejects(startClient(env), { message: new RegExp(`CRL_PATH=${crl.path} cannot be read: .*list`) })
})

t.test('an intermediate CA that is put on its root’s list takes all below it along', { skip }, async t => {
  const validity = { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 }
  const root = createRoot({ organization: 'root', ...validity })
  const above = issuerOf({ ...root, rootsPem: root.certificatePem })
  const middle = createIntermediate({ organization: 'middle', ...validity, issuer: above })
  const issuer = issuerOf({
    ...middle,
    intermediatesPem: [middle.certificatePem],
    rootsPem: root.certificatePem
  })
  const crl = listFile(t)
  const nodes = await twoNodes(t, { prefix: `uph9-${process.pid}-${++worlds}` })
  const { a, b } = nodes
  const plane = await startControlPlane(t, [a, b], {}, { issuer })
  const common = { kind: 'underpass', localConfig: localMesh(nodes) } as const
  const [, server] = await Promise.all([
    startProxy(t, a, { ...common, workload: CLIENT, env: plane.caEnv }),
    startProxy(t, b, { ...common, workload: SERVER, env: { ...plane.caEnv, CRL_PATH: crl.path } })
  ])
  await serve(t, b, echo, { port: SERVER_PORT })
  const live = await connect(a, at(b.v4, SERVER_PORT))
  t.equal(await say(live, 'one'), 'one')
  const stranger = createIntermediate({ organization: 'stranger', ...validity, issuer: above })
  crl.put(crlBy(t, root, [stranger.certificatePem]).pem)
  await server.logged(/revocation lists read.*revoked=1/)
  t.equal(await say(live, 'two'), 'two', 'another intermediate of that root is no matter')

  const ended = over(live)
  crl.put(crlBy(t, root, [stranger.certificatePem, middle.certificatePem]).pem)
  await ended
  await server.logged(/sessions of revoked peers closed/)
  t.match(accessLines(server.log)[0]?.fields['error'], /^connection closed: peer certificate revoked by CRL/)
  t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('x')), '', 'a new connection')
  await server.logged(/connection failed.*revoked by CRL/)
})

interface World {
  readonly a: TestNode
  readonly b: TestNode
  readonly client: Proxy
  readonly server: Proxy
  readonly startClient: (env: Record<string, string>) => Promise<Proxy>
}

async function world(
  t: Teardown,
  env: { client?: Record<string, string>; server?: Record<string, string> }
): Promise<World> {
  const nodes = await twoNodes(t, { prefix: `uph9-${process.pid}-${++worlds}` })
  const common = { kind: 'underpass', localConfig: localMesh(nodes), workers: 2 } as const
  const startClient = (env: Record<string, string>): Promise<Proxy> =>
    startProxy(t, nodes.a, { ...common, env, workload: CLIENT })
  const [client, server] = await Promise.all([
    startClient(env.client ?? {}),
    startProxy(t, nodes.b, { ...common, env: env.server ?? {}, workload: SERVER })
  ])
  return { a: nodes.a, b: nodes.b, client, server, startClient }
}

/** A path where no list is yet, and how to put one there as a mount would: whole, at once. */
function listFile(t: Teardown): { readonly path: string; put(text: string): void } {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-crl-path-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = path.join(folder, 'ca-crl.pem')
  return {
    path: file,
    put: text => {
      writeFileSync(`${file}.new`, text)
      renameSync(`${file}.new`, file)
    }
  }
}

/** The one that the proxy shows its peers, PEM. */
async function certificateOf(proxy: Proxy): Promise<string> {
  const { body } = await proxy.ask(15000, '/config_dump')
  const { certificates } = JSON.parse(body) as { certificates: { certChain: { pem: string }[] }[] }
  return Buffer.from(certificates[0]?.certChain[0]?.pem ?? '', 'base64').toString()
}

/** The same identity with another certificate, by a session of its own. */
async function otherClient(t: Teardown, from: TestNode, to: TestNode): Promise<Duplex> {
  const socket = await connect(from, at(to.v4, 15_008), { captured: false })
  const certificate = await new FakeCa().fetch(clientIdentity, never)
  const { socket: secure } = await connectTls(socket, certificate, [serverIdentity], never)
  const session = new ClientSession(secure)
  t.teardown(() => session.destroy(new Error('the test is over')))
  const { tunnel } = await session.openTunnel({ authority: `${to.v4}:${SERVER_PORT}`, headers: [] }, never)
  return tunnelDuplex(tunnel)
}

function echo(socket: net.Socket): void {
  socket.pipe(socket)
}

function say(stream: Duplex, word: string): Promise<string> {
  const heard = new Promise<string>((resolve, reject) => {
    stream.once('data', (chunk: Buffer) => resolve(chunk.toString()))
    stream.once('error', reject)
  })
  stream.write(word)
  return heard
}

/** However it ends. */
function over(socket: net.Socket): Promise<void> {
  return new Promise(resolve => {
    socket.once('end', resolve)
    socket.once('close', () => resolve())
    socket.once('error', () => resolve())
    socket.resume()
  })
}
