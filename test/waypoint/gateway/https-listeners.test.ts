/** TLS at the edge: certificates by name and their change, misdirected requests, names that pass through. */
import t, { type Test } from 'tap'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import tls from 'node:tls'
import { listen, request, startPod, type Pod } from '../world.ts'
import {
  at,
  certificateFor,
  freePort,
  connect,
  connectTls,
  gateway,
  httpRoute,
  rsaCertificateFor,
  secret,
  startGateway,
  tlsRoute,
  type GatewayWorld
} from './world.ts'

const services = ['one', 'two', 'three'].map((name, index) => ({ name, vip: `10.96.4.${index + 1}` }))
let last = 0
const pod = (name: string): Pod => ({
  name,
  address: `127.77.31.${(last += 1)}`,
  port: 8080,
  services: [name]
})
const first = certificateFor('first.example')
const second = certificateFor('second.example')
const wide = certificateFor('*.wild.example')

function subjectOf(socket: tls.TLSSocket): string | undefined {
  const subject = socket.getPeerCertificate().subject as { CN?: string } | undefined
  return subject?.CN
}

async function shownTo(port: number, servername: string): Promise<string | undefined> {
  const socket = await connectTls(port, { servername })
  const subject = subjectOf(socket)
  socket.destroy()
  return subject
}

t.test(
  'requests by TLS: the protocol that client and gateway agree on, and what the pod is told',
  async t => {
    const port = await freePort()
    const one = pod('one')
    await startPod(t, one, ({ headers, httpVersion }, answer) => {
      answer.end(`${String(headers['x-forwarded-proto'])} ${headers.host} ${httpVersion}`)
    })
    const world = await startGateway(t, {
      services,
      pods: [one],
      objects: [
        secret('first', first),
        gateway({ port, protocol: 'HTTPS', certificate: 'first' }),
        httpRoute('one', [at('web')], 'one')
      ]
    })
    const answer = await world.get(port, 'first.example', { serverName: 'first.example' })
    t.match(answer, { status: 200, text: 'https first.example 1.1' })

    const session = http2.connect(`https://first.example:${port}`, {
      createConnection: () =>
        tls.connect({
          ...{ port, host: '127.0.0.1', servername: 'first.example' },
          ...{ ca: first.cert, ALPNProtocols: ['h2', 'http/1.1'] }
        })
    })
    t.teardown(() => session.destroy())
    const stream = session.request({ ':path': '/' })
    let text = ''
    for await (const chunk of stream) text += String(chunk)
    t.equal(session.alpnProtocol, 'h2')
    t.equal(text, `https first.example:${port} 1.1`)
    t.strictSame(world.lines, [], 'requests that went well have no line')
  }
)

t.test('the certificate of the listener that the name belongs to', async t => {
  const port = await freePort()
  const https = { port, protocol: 'HTTPS' } as const
  await startGateway(t, {
    services,
    pods: [],
    objects: [
      secret('first', first),
      secret('second', second),
      secret('wide', wide),
      gateway(
        { ...https, name: 'any', certificate: 'first' },
        { ...https, name: 'exact', hostname: 'second.example', certificate: 'second' },
        { ...https, name: 'wide', hostname: '*.wild.example', certificate: 'wide' },
        { ...https, name: 'later', hostname: 'later.example', certificate: 'not-there-yet' }
      )
    ]
  })
  t.equal(await shownTo(port, 'second.example'), 'second.example')
  t.equal(await shownTo(port, 'SECOND.example'), 'second.example', 'whatever the case')
  t.equal(await shownTo(port, 'a.b.wild.example'), '*.wild.example')
  t.equal(await shownTo(port, 'other.example'), 'first.example')
  const nameless = await connectTls(port, {})
  t.equal(subjectOf(nameless), 'first.example', 'a client that names nobody')
  nameless.destroy()
  await t.rejects(shownTo(port, 'later.example'), 'no other certificate stands in for one that is missing')
  await t.rejects(connectTls(port, { servername: 'second.example', maxVersion: 'TLSv1.1' }), 'old versions')
  await t.rejects(
    connectTls(port, { servername: 'second.example', ALPNProtocols: ['spdy/3'] }),
    'protocols that we do not speak'
  )
  const plain = await connect(port)
  plain.end('GET / HTTP/1.1\r\nhost: second.example\r\n\r\n')
  plain.resume()
  await once(plain, 'close')
  t.pass('a client without TLS is let go')
})

t.test(
  'a certificate that changes is shown to the next client; who is connected notices nothing',
  async t => {
    const port = await freePort()
    const one = pod('one')
    await startPod(t, one, (_, answer) => void answer.end('here'))
    const world = await startGateway(t, {
      services,
      pods: [one],
      objects: [
        secret('site', first),
        gateway({ port, protocol: 'HTTPS', certificate: 'site' }),
        httpRoute('one', [at('web')], 'one')
      ]
    })
    const kept = await connectTls(port, { servername: 'first.example' })
    t.teardown(() => kept.destroy())
    await world.put(secret('site', second))
    t.equal(await shownTo(port, 'first.example'), 'second.example')
    t.match(await request(kept), { status: 200, text: 'here' })

    const broken = { cert: first.cert, key: second.key }
    const rejected = await world.put(secret('site', broken))
    t.match(rejected, /shop\/site: tls\.crt and tls\.key cannot be used together/)
    t.notMatch([rejected, ...world.log].join(''), /PRIVATE KEY/)
    t.equal(await shownTo(port, 'first.example'), 'second.example', 'the former one stays')
    t.equal(
      await world.put(secret('unused', broken)),
      undefined,
      'a new one is told of, and nothing waits for it'
    )
    t.match(world.log.join(''), /a certificate cannot be used.*shop\/unused/)
    const dump = await fetch(`http://127.0.0.1:${world.app.addresses.get('admin')?.port}/config_dump`)
    const told = await dump.text()
    t.notMatch(told, /PRIVATE KEY/)
    t.match(JSON.parse(told), {
      gateway: {
        listeners: [{ protocol: 'HTTPS', certificates: ['shop/site'] }],
        certificates: [{ secret: 'shop/site', names: 'DNS:second.example' }]
      }
    })
  }
)

t.test('a listener with certificates of two types of key shows each client one that it knows', async t => {
  const port = await freePort()
  await startGateway(t, {
    services,
    pods: [],
    objects: [
      secret('first', first),
      secret('old', rsaCertificateFor('old.example')),
      secret('second', second),
      gateway({ port, protocol: 'HTTPS', certificate: ['first', 'old', 'second'] })
    ]
  })
  const shown = async (algorithms: string): Promise<string | undefined> => {
    const socket = await connectTls(port, { servername: 'first.example', sigalgs: algorithms })
    const subject = subjectOf(socket)
    socket.destroy()
    return subject
  }
  t.equal(await shown('rsa_pss_rsae_sha256:rsa_pkcs1_sha256'), 'old.example')
  t.equal(await shown('ecdsa_secp256r1_sha256'), 'first.example', 'of one type the first')
})

t.test('a request for a host of another listener is misdirected', async t => {
  const port = await freePort()
  const pods = ['one', 'two', 'three'].map(pod)
  for (const { name, ...each } of pods) {
    await startPod(t, { name, ...each }, (_, answer) => void answer.end(name))
  }
  const https = { port, protocol: 'HTTPS', certificate: 'first' } as const
  const world = await startGateway(t, {
    services,
    pods,
    objects: [
      secret('first', first),
      gateway(
        { ...https, name: 'any' },
        { ...https, name: 'exact', hostname: 'second.example' },
        { ...https, name: 'wide', hostname: '*.wild.example' },
        { ...https, name: 'narrow', hostname: 'fourth.wild.example' }
      ),
      httpRoute('one', [at('any', 'example.org')], 'one'),
      httpRoute('two', [at('exact', 'second.example')], 'two'),
      httpRoute(
        'three',
        [at('wide', 'third.wild.example', '*.wild.example'), at('narrow', 'fourth.wild.example')],
        'three'
      )
    ]
  })
  const situations: readonly (readonly [serverName: string, host: string, expected: number | string])[] = [
    ['example.org', 'example.org', 'one'],
    ['example.org', 'second.example', 421],
    ['example.org', 'unknown.example', 404],
    ['second.example', 'second.example', 'two'],
    ['second.example', 'example.org', 421],
    ['second.example', 'unknown.example', 421],
    ['third.wild.example', 'third.wild.example', 'three'],
    ['third.wild.example', 'fifth.wild.example', 'three'],
    ['third.wild.example', 'fourth.wild.example', 421],
    ['third.wild.example', 'second.example', 421],
    ['fourth.wild.example', 'fourth.wild.example', 'three'],
    ['fourth.wild.example', 'fifth.wild.example', 421],
    ['unknown.example', 'example.org', 'one'],
    ['unknown.example', 'unknown.example', 404]
  ]
  for (const [serverName, host, expected] of situations) {
    const { status, text } = await world.get(port, host, { serverName })
    t.equal(typeof expected === 'string' ? text : status, expected, `${serverName}: ${host}`)
  }
})

/** A TLS server of its own on a pod's address, which says its name. */
async function startTlsPod(test: Test, own: Pod, pair: typeof first): Promise<void> {
  const server = tls.createServer(pair, socket => {
    socket.on('error', () => undefined)
    socket.end(`the pod ${own.name}`)
  })
  await listen(test, server, own)
}

async function heard(socket: net.Socket): Promise<string> {
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

async function startMixed(test: Test, port: number): Promise<GatewayWorld> {
  const [one, two, three] = [pod('one'), pod('two'), pod('three')]
  await startTlsPod(test, one, first)
  const echo = net.createServer({ allowHalfOpen: true }, socket => void socket.pipe(socket))
  await listen(test, echo, two)
  await startPod(test, three, (_, answer) => void answer.end('by HTTP'))
  return startGateway(test, {
    services: services.map(service => ({ ...service, speaks: 'TCP' })),
    pods: [one, two, three],
    objects: [
      secret('second', second),
      secret('wide', wide),
      gateway(
        { name: 'through', port, protocol: 'TLS', hostname: '*.example', passthrough: true },
        { name: 'ended', port, protocol: 'TLS', hostname: 'second.example', certificate: 'second' },
        { name: 'site', port, protocol: 'HTTPS', hostname: '*.wild.example', certificate: 'wide' }
      ),
      tlsRoute('one', [at('through', 'first.example')], 'one'),
      tlsRoute('two', [at('ended', 'second.example')], 'two'),
      httpRoute('three', [at('site', '*.wild.example')], 'three')
    ]
  })
}

t.test('one port: names that pass through, names whose TLS ends here, and HTTPS', async t => {
  const port = await freePort()
  const world = await startMixed(t, port)
  const through = await connectTls(port, { servername: 'first.example' })
  t.equal(subjectOf(through), 'first.example', "the pod's own certificate")
  t.equal(await heard(through), 'the pod one')

  const ended = await connectTls(port, { servername: 'second.example' })
  t.equal(subjectOf(ended), 'second.example', "the gateway's certificate")
  ended.end('and back again')
  t.equal(await heard(ended), 'and back again')

  t.match(await world.get(port, 'a.wild.example', { serverName: 'a.wild.example' }), { text: 'by HTTP' })
  t.match(
    await world.get(port, 'first.example', { serverName: 'a.wild.example' }),
    { status: 421 },
    'a name that passes through is not answered for'
  )
  await t.rejects(connectTls(port, { servername: 'unknown.example' }), 'a name without a route')
  await t.rejects(connectTls(port, { servername: 'unknown.org' }), 'a name without a listener')
})

t.test('much goes both ways as it is: passed through, ended here, and by HTTP', async t => {
  const port = await freePort()
  const [one, two, three] = [pod('one'), pod('two'), pod('three')]
  const echo = (socket: net.Socket): void => void socket.on('error', () => undefined).pipe(socket)
  await listen(t, tls.createServer({ ...first, allowHalfOpen: true }, echo), one)
  await listen(t, net.createServer({ allowHalfOpen: true }, echo), two)
  await startPod(t, three, (asked, answer) => void asked.pipe(answer))
  const world = await startGateway(t, {
    services: services.map(({ name, vip }) => ({ name, vip, speaks: name === 'three' ? 'HTTP11' : 'TCP' })),
    pods: [one, two, three],
    objects: [
      secret('second', second),
      gateway(
        { name: 'through', port, protocol: 'TLS', hostname: 'first.example', passthrough: true },
        { name: 'ended', port, protocol: 'TLS', hostname: 'second.example', certificate: 'second' },
        { name: 'site', port, protocol: 'HTTPS', hostname: 'third.example', certificate: 'second' }
      ),
      tlsRoute('one', [at('through', 'first.example')], 'one'),
      tlsRoute('two', [at('ended', 'second.example')], 'two'),
      httpRoute('three', [at('site', 'third.example')], 'three')
    ]
  })
  const body = randomBytes(4 << 20)
  for (const serverName of ['first.example', 'second.example']) {
    const client = await connectTls(port, { servername: serverName })
    client.end(body)
    const parts: Buffer[] = []
    for await (const chunk of client) parts.push(chunk as Buffer)
    t.ok(Buffer.concat(parts).equals(body), serverName)
  }
  const asked = { method: 'POST', body, serverName: 'third.example' }
  const { text } = await world.get(port, 'third.example', asked)
  t.ok(Buffer.from(text, 'latin1').equals(body), 'third.example')
})

t.test('a hello that comes byte by byte passes through as it is', async t => {
  const port = await freePort()
  await startMixed(t, port)
  const slow = await connect(port)
  const between = net.createServer(client => {
    client.on('data', (chunk: Buffer) => {
      for (const byte of chunk) slow.write(Buffer.of(byte))
    })
    slow.pipe(client)
    client.on('close', () => slow.destroy())
    client.on('error', () => undefined)
  })
  between.listen(0, '127.0.0.1')
  await once(between, 'listening')
  t.teardown(() => between.close())
  slow.setNoDelay(true)
  const client = await connectTls((between.address() as net.AddressInfo).port, {
    servername: 'first.example'
  })
  t.equal(await heard(client), 'the pod one')
})

t.test('a route or a backend that is gone refuses the next connection', async t => {
  const port = await freePort()
  const world = await startMixed(t, port)
  await world.put({
    kind: 'TLSRoute',
    name: 'two',
    spec: { parentRefs: [at('ended', 'second.example')], rules: 'x' }
  })
  const refused = await world.put({
    kind: 'TLSRoute',
    name: 'one',
    spec: {
      parentRefs: [at('through', 'first.example')],
      rules: [{ backendRefs: [{ unresolved: 'no such Service' }] }]
    }
  })
  t.equal(refused, undefined)
  await t.rejects(connectTls(port, { servername: 'first.example' }))
  const ended = await connectTls(port, { servername: 'second.example' })
  ended.end('still')
  t.equal(await heard(ended), 'still', 'a route that cannot be read leaves the former one')
  await world.remove('TLSRoute', 'two')
  const gone = await connectTls(port, { servername: 'second.example' })
  gone.resume()
  await once(gone, 'close')
})
