/** Services whose pods speak TLS, through a real waypoint and a real gateway: BackendTLSPolicy and DestinationRule `tls`. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import http2 from 'node:http2'
import https from 'node:https'
import tls from 'node:tls'
import { testAuthority, type TestAuthority } from '../../support/certificates.ts'
import { eventually } from '../../support/eventually.ts'
import {
  at,
  certificateFor,
  connectTls,
  freePort,
  gateway,
  httpRoute,
  secret,
  startGateway,
  tlsRoute,
  type GatewayObject
} from '../gateway/world.ts'
import { addressOf, listen, startPod, startWorld, type Pod, type World } from '../world.ts'

const authority = testAuthority('Shop Root')
const hostname = 'web.shop.svc.cluster.local'
const { certPem: cert, keyPem: key } = authority.issue({
  hostnames: ['web.example', hostname],
  uris: ['spiffe://shop/web']
})

interface Seen {
  readonly serverNames: (string | false)[]
  readonly protocols: (string | false)[]
  readonly paths: string[]
}

const nothing = (): Seen => ({ serverNames: [], protocols: [], paths: [] })

let last = 0
const podOf = (service: string, protocol: Pod['protocol'] = 'HBONE'): Pod => ({
  name: service,
  address: `127.77.40.${(last += 1)}`,
  port: 8443,
  services: [service],
  protocol
})

/** An HTTPS server that sends bodies back. */
async function startHttps(t: Test, pod: Pod): Promise<Seen> {
  const seen = nothing()
  const server = https.createServer({ cert, key }, (request, response) => {
    seen.paths.push(request.url ?? '')
    request.pipe(response)
  })
  server.on('secureConnection', (socket: tls.TLSSocket) => {
    seen.serverNames.push(socket.servername ?? false)
    seen.protocols.push(socket.alpnProtocol ?? false)
  })
  await listen(t, server, pod)
  t.teardown(() => server.closeAllConnections())
  return seen
}

interface Wishes {
  readonly serverName?: string
  readonly roots?: TestAuthority
  readonly names?: readonly object[]
  readonly port?: number
  readonly service?: string
}

function policySpec({ serverName = 'web.example', roots = authority, names = [], ...to }: Wishes = {}) {
  const { service = 'web', port } = to
  return {
    targetRefs: [
      { namespace: 'shop', hostname: `${service}.shop.svc.cluster.local`, ...(port ? { port } : {}) }
    ],
    validation: { hostname: serverName, subjectAltNames: names, caCertificates: roots.pem }
  }
}

const policy = (spec: object, name = 'web'): string =>
  JSON.stringify({ kind: 'BackendTLSPolicy', metadata: { namespace: 'shop', name }, spec })
const rule = (trafficPolicy: object, host = 'web'): string =>
  JSON.stringify({
    kind: 'DestinationRule',
    metadata: { namespace: 'shop', name: host },
    spec: { host, trafficPolicy }
  })

interface Shop extends World {
  readonly seen: Seen
}

async function shopOf(t: Test, objects: readonly string[], protocol?: Pod['protocol']): Promise<Shop> {
  const pod = podOf('web', protocol)
  const seen = await startHttps(t, pod)
  const services = [{ name: 'web', vip: '10.96.0.1' }]
  const world = await startWorld(t, { services, pods: [pod], config: objects.join('\n---\n') })
  return { ...world, seen }
}

const web = '10.96.0.1:80'

for (const protocol of ['HBONE', 'TCP'] as const) {
  t.test(`GA-46: requests to a ${protocol} pod go by TLS, with the name of the policy`, async t => {
    const shop = await shopOf(t, [policy(policySpec())], protocol)
    t.match(await shop.ask(web, { path: '/a', body: 'hello', method: 'POST' }), {
      status: 200,
      text: 'hello'
    })
    const large = Buffer.alloc(3 << 20, 'x').toString()
    const answer = await shop.ask(web, { path: '/b', body: large, method: 'POST' })
    t.equal(answer.text === large, true, 'whole, both ways')
    t.strictSame(shop.seen.paths, ['/a', '/b'])
    t.strictSame(shop.seen.serverNames, ['web.example'], 'one connection for both')
    t.strictSame(shop.seen.protocols, ['http/1.1'])
  })
}

t.test('operators see the policies that a waypoint knows', async t => {
  const shop = await shopOf(t, [policy(policySpec())])
  const dump = await fetch(`http://${addressOf(shop.app, 'admin')}/config_dump`)
  t.match(await dump.json(), {
    backendTls: [{ name: 'shop/web', targets: [{ hostname }], asks: { serverName: 'web.example' } }]
  })
})

t.test('GA-46: subjectAltNames take the place of the hostname', async t => {
  const names = [
    { type: 'Hostname', hostname: 'x.example' },
    { type: 'URI', uri: 'spiffe://shop/web' }
  ]
  const shop = await shopOf(t, [policy(policySpec({ serverName: 'other.example', names }))])
  t.match(await shop.ask(web), { status: 200 })
  t.strictSame(shop.seen.serverNames, ['other.example'])
})

const refusals: readonly { readonly name: string; readonly object: string; readonly reason: RegExp }[] = [
  {
    name: 'another name',
    object: policy(policySpec({ serverName: 'api.example' })),
    reason: /the server is another one: its certificate is for DNS:web\.example.*expected api\.example/
  },
  {
    name: 'none of the subjectAltNames',
    object: policy(policySpec({ names: [{ type: 'URI', uri: 'spiffe://shop/api' }] })),
    reason: /another one.*expected spiffe:\/\/shop\/api/
  },
  {
    name: 'an unknown root',
    object: policy(policySpec({ roots: testAuthority('Other Root') })),
    reason: /unknown root.*its certificate is for DNS:web\.example.*signed by CN=Shop Root/
  },
  {
    name: 'a private root where a DestinationRule names none',
    object: rule({ tls: { mode: 'SIMPLE' } }),
    reason: /unknown root/
  }
]

for (const { name, object, reason } of refusals) {
  t.test(`a server with ${name} gets no request: 503 UF, and the log says why`, async t => {
    const shop = await shopOf(t, [object])
    t.match(await shop.ask(web, { path: '/secret' }), { status: 503, text: /connection failure/ })
    t.strictSame(shop.seen.paths, [])
    await eventually('the access log says so', () => shop.lines.length > 0)
    t.match(shop.lines[0], / 503 UF /)
    t.match(shop.lines[0], reason)
  })
}

t.test('GA-48: what nobody can verify is not asked at all, and never in the clear', async t => {
  const { targetRefs } = policySpec()
  const shop = await shopOf(t, [policy({ targetRefs, unresolved: 'there is no ConfigMap shop/ca' })])
  t.match(await shop.ask(web), {
    status: 500,
    text: /BackendTLSPolicy shop\/web: there is no ConfigMap shop\/ca/
  })
  t.strictSame(shop.seen.serverNames, [])
})

t.test('VS-47: tls SIMPLE of a DestinationRule; the name is that of the host, or the sni', async t => {
  const shop = await shopOf(t, [rule({ tls: { mode: 'SIMPLE', insecureSkipVerify: true } })])
  t.match(await shop.ask(web), { status: 200 })
  t.strictSame(shop.seen.serverNames, [hostname])
  const named = await shopOf(t, [rule({ tls: { mode: 'SIMPLE', insecureSkipVerify: true, sni: 'a.b' } })])
  t.match(await named.ask(web), { status: 200 })
  t.strictSame(named.seen.serverNames, ['a.b'])
})

t.test('a BackendTLSPolicy counts before the tls of a DestinationRule, whose other parts stay', async t => {
  const more = { connectionPool: { http: { http2MaxRequests: 1 } } }
  const simple = { tls: { mode: 'SIMPLE', sni: 'rule.example' } }
  const shop = await shopOf(t, [rule({ ...simple, ...more }), policy(policySpec())])
  t.match(await shop.ask(web), { status: 200 })
  t.strictSame(shop.seen.serverNames, ['web.example'])
  const open = await shop.connect(web)
  open.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab')
  await eventually('it is under way', () => shop.seen.paths.length === 2)
  t.match(await shop.ask(web), { status: 503, text: /overflow/ })
  open.destroy()
})

t.test('GA-47: the policy for a port counts before the one for the service', async t => {
  const shop = await shopOf(t, [
    policy(policySpec({ serverName: 'wrong.example' })),
    policy(policySpec({ port: 80 }), 'port')
  ])
  t.match(await shop.ask(web), { status: 200 })
  t.strictSame(shop.seen.serverNames, ['web.example'])
})

t.test('HTTP/2 inside of TLS is agreed on by ALPN', async t => {
  const pod = podOf('cart')
  const protocols: (string | false | null)[] = []
  const server = http2.createSecureServer({ cert, key, ALPNProtocols: ['h2', 'http/1.1'] })
  server.on('stream', (stream, headers) => {
    stream.respond({ ':status': 200 })
    stream.end(`${headers[':path']}`)
  })
  const sockets = new Set<tls.TLSSocket>()
  server.on('secureConnection', (socket: tls.TLSSocket) => {
    sockets.add(socket)
    protocols.push(socket.alpnProtocol)
  })
  await listen(t, server, pod)
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  const services = [{ name: 'cart', vip: '10.96.0.2', speaks: 'HTTP2' }]
  const config = policy(policySpec({ service: 'cart' }))
  const world = await startWorld(t, { services, pods: [pod], config })
  const socket = await world.connect('10.96.0.2:80')
  const client = http2.connect('http://cart', { createConnection: () => socket })
  t.teardown(() => client.destroy())
  const request = client.request({ ':path': '/items' })
  let text = ''
  request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  await once(request, 'end')
  t.equal(text, '/items')
  t.strictSame(protocols, ['h2'])
})

t.test('connections that are carried as they are get TLS, too, with half close and all bytes', async t => {
  const pod = podOf('raw')
  const names: (string | false)[] = []
  const server = tls.createServer({ cert, key, allowHalfOpen: true }, socket => {
    names.push(socket.servername ?? false)
    socket.on('error', () => undefined)
    socket.pipe(socket)
  })
  await listen(t, server, pod)
  const services = [{ name: 'raw', vip: '10.96.0.3', speaks: 'TCP' }]
  const config = policy(policySpec({ service: 'raw' }))
  const world = await startWorld(t, { services, pods: [pod], config })
  const socket = await world.connect('10.96.0.3:80')
  const sent = Buffer.alloc(2 << 20, 'y')
  const parts: Buffer[] = []
  socket.on('data', (part: Buffer) => parts.push(part))
  socket.end(sent)
  await once(socket, 'end')
  t.equal(Buffer.concat(parts).equals(sent), true)
  t.strictSame(names, ['web.example'])
})

t.test('a mirror gets TLS where its service wants that', async t => {
  const main = podOf('main')
  await startPod(t, main, (_request, response) => response.end('main'))
  const copy = podOf('web')
  const seen = await startHttps(t, copy)
  const route = JSON.stringify({
    kind: 'HTTPRoute',
    metadata: { namespace: 'shop', name: 'main' },
    spec: {
      parentRefs: [{ group: '', kind: 'Service', name: 'main' }],
      rules: [
        {
          filters: [
            { type: 'RequestMirror', requestMirror: { backendRef: { name: 'web', port: 80 }, percent: 100 } }
          ],
          backendRefs: [{ name: 'main', port: 80 }]
        }
      ]
    }
  })
  const world = await startWorld(t, {
    services: [
      { name: 'main', vip: '10.96.0.4' },
      { name: 'web', vip: '10.96.0.1' }
    ],
    pods: [main, copy],
    config: [route, policy(policySpec())].join('\n---\n')
  })
  t.match(await world.ask('10.96.0.4:80', { path: '/m' }), { status: 200, text: 'main' })
  await eventually('the mirror has it', () => seen.paths.includes('/m'))
  t.strictSame(seen.serverNames, ['web.example'])
})

t.test('a gateway heeds another policy at once; what was connected before is not used', async t => {
  const port = await freePort()
  const pod = podOf('web')
  const seen = await startHttps(t, pod)
  const world = await startGateway(t, {
    services: [{ name: 'web', vip: '10.96.0.1' }],
    pods: [pod],
    objects: [gateway({ port }), httpRoute('web', [at('web')], 'web'), object(policySpec())]
  })
  const get = async (): Promise<number> => (await world.get(port, 'web.example')).status
  t.equal(await get(), 200)
  await world.put(object(policySpec({ roots: testAuthority('Other Root') })))
  t.equal(await get(), 503)
  await world.put(object(policySpec({ serverName: hostname })))
  t.equal(await get(), 200)
  t.equal(seen.serverNames.at(-1), hostname)
  const rejected = await world.put(object({ ...policySpec(), validation: { hostname: '' } }))
  t.match(rejected, /validation\.hostname.*caCertificates/)
  t.equal(await get(), 200, 'what cannot be read changes nothing')
  await world.put(object({ targetRefs: policySpec().targetRefs, unresolved: 'the CA is gone' }))
  t.equal(await get(), 500)
  await world.remove('BackendTLSPolicy', 'web')
  t.equal(await get(), 503, 'in the clear to a port that wants TLS')
  t.equal(seen.paths.length, 3)
})

t.test('GA-50: backends that ask for a certificate are shown that of the gateway', async t => {
  const port = await freePort()
  const pod = podOf('web')
  const shown: string[] = []
  const ca = testAuthority('Gateway Root')
  const server = https.createServer(
    { cert, key, ca: ca.pem, requestCert: true, rejectUnauthorized: true },
    (_request, response) => response.end('in')
  )
  server.on('secureConnection', (socket: tls.TLSSocket) => {
    shown.push(socket.getPeerX509Certificate()?.subjectAltName ?? 'none')
  })
  await listen(t, server, pod)
  t.teardown(() => server.closeAllConnections())
  const pair = (name: string): GatewayObject => {
    const { certPem, keyPem } = ca.issue({ uris: [], hostnames: [name] })
    return { kind: 'Secret', name: 'client', spec: { 'tls.crt': certPem, 'tls.key': keyPem } }
  }
  const { kind, name, spec } = gateway({ port })
  const backendCertificateRef = { namespace: 'shop', name: 'client' }
  const world = await startGateway(t, {
    services: [{ name: 'web', vip: '10.96.0.1' }],
    pods: [pod],
    objects: [
      pair('one.example'),
      { kind, name, spec: { ...spec, backendCertificateRef } },
      httpRoute('web', [at('web')], 'web'),
      object(policySpec())
    ]
  })
  const get = async (): Promise<number> => (await world.get(port, 'web.example')).status
  t.equal(await get(), 200)
  await world.put(pair('two.example'))
  t.equal(await get(), 200)
  t.strictSame(shown, ['DNS:one.example', 'DNS:two.example'])
  await world.put({ kind, name, spec })
  t.equal(await get(), 503, 'without one nobody is let in')
  t.equal(shown.length, 2)
  const rejected = await world.put({ kind, name, spec: { ...spec, backendCertificateRef: { name: 'x' } } })
  t.match(rejected, /backendCertificateRef\.namespace/)
})

t.test(
  'what a gateway decrypts for a TLSRoute is encrypted again, for a server that speaks first, too',
  async t => {
    const port = await freePort()
    const pod = podOf('raw')
    const server = tls.createServer({ cert, key }, socket => {
      socket.on('error', () => undefined)
      socket.write('hello ')
      socket.pipe(socket)
    })
    await listen(t, server, pod)
    const edge = certificateFor('raw.example')
    const world = await startGateway(t, {
      services: [{ name: 'raw', vip: '10.96.0.1', speaks: 'none' }],
      pods: [pod],
      objects: [
        secret('edge', edge),
        gateway({ port, protocol: 'TLS', hostname: 'raw.example', certificate: 'edge' }),
        tlsRoute('raw', [at('web', 'raw.example')], 'raw'),
        object(policySpec({ service: 'raw', port: 80 }))
      ]
    })
    const socket = await connectTls(port, { servername: 'raw.example', ca: edge.cert })
    t.teardown(() => socket.destroy())
    let text = ''
    socket.setEncoding('utf8').on('data', (part: string) => (text += part))
    socket.write('world')
    await eventually('both ways', () => text === 'hello world')
    t.strictSame(
      world.log.filter(line => line.includes(' WARN ')),
      []
    )
  }
)

t.test('a policy that was never understood keeps requests from its services', async t => {
  const port = await freePort()
  const pod = podOf('web')
  const seen = await startHttps(t, pod)
  const world = await startGateway(t, {
    services: [{ name: 'web', vip: '10.96.0.1' }],
    pods: [pod],
    objects: [gateway({ port }), httpRoute('web', [at('web')], 'web')]
  })
  const rejected = await world.put(object({ ...policySpec(), odd: true }))
  t.match(rejected, /spec\.odd: unknown field/)
  t.match(await world.get(port, 'web.example'), { status: 500, text: /BackendTLSPolicy shop\/web/ })
  t.strictSame(seen.serverNames, [])
})

function object(spec: GatewayObject['spec']): GatewayObject {
  return { kind: 'BackendTLSPolicy', name: 'web', spec }
}
