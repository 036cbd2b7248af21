import t, { type Test } from 'tap'
import * as grpc from '@grpc/grpc-js'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import {
  DeltaClient,
  type DeltaClientOptions,
  type DeltaResponse,
  type TerminationReason
} from '../../../shared/xds/delta-client.ts'
import { closedPort, FakeControlPlane } from '../../support/fake-control-plane.ts'

const A = 'type.googleapis.com/istio.workload.Address'
const B = 'type.googleapis.com/istio.security.Authorization'

interface World {
  readonly server: FakeControlPlane
  readonly client: DeltaClient
  readonly responses: DeltaResponse[]
  readonly terminations: TerminationReason[]
  readonly stop: () => Promise<void>
  /** Names that the client's user rejects, with the reason. */
  readonly reject: Map<string, string>
}

async function world(
  t: Test,
  options: Partial<DeltaClientOptions> = {},
  server = new FakeControlPlane()
): Promise<World> {
  await server.start()
  const responses: DeltaResponse[] = []
  const terminations: TerminationReason[] = []
  const reject = new Map<string, string>()
  const client = new DeltaClient({
    target: {
      address: server.address,
      roots: server.certificatePem,
      altHostname: undefined,
      token: 'the-token',
      clusterId: 'c1',
      headers: [['x-extra', 'yes']]
    },
    node: {
      id: 'ztunnel~1.2.3.4~zt.istio-system~istio-system.svc.cluster.local',
      metadata: { NODE_NAME: 'n1', LIST: ['a', 1, true, null], INNER: { x: 1 } }
    },
    types: [
      { typeUrl: A, mode: 'wildcard' },
      { typeUrl: B, mode: 'wildcard' }
    ],
    onResponse: response => {
      responses.push(response)
      return response.resources.flatMap(({ name }) => {
        const reason = reject.get(name)
        return reason === undefined ? [] : [{ name, reason }]
      })
    },
    onTermination: reason => terminations.push(reason),
    ...options
  })
  const stopping = new AbortController()
  const running = client.run(stopping.signal)
  const stop = async (): Promise<void> => {
    stopping.abort()
    await running
    server.stop()
  }
  t.teardown(stop)
  return { server, client, responses, terminations, stop, reject }
}

t.test('the first requests name the node, the token and everything wanted', async t => {
  const { server } = await world(t)
  const stream = await server.stream(0)
  const [first, second] = await stream.received(2)
  t.match(first, { typeUrl: A, resourceNamesSubscribe: [], initialResourceVersions: {} })
  t.match(second, { typeUrl: B })
  for (const request of [first, second]) {
    t.match(request?.node, {
      id: 'ztunnel~1.2.3.4~zt.istio-system~istio-system.svc.cluster.local',
      metadata: {
        fields: {
          NODE_NAME: { stringValue: 'n1' },
          LIST: {
            listValue: {
              values: [{ stringValue: 'a' }, { numberValue: 1 }, { boolValue: true }, { nullValue: 0 }]
            }
          },
          INNER: { structValue: { fields: { x: { numberValue: 1 } } } }
        }
      }
    })
  }
  t.strictSame(stream.metadata.get('authorization'), ['Bearer the-token'])
  t.strictSame(stream.metadata.get('clusterid'), ['c1'])
  t.strictSame(stream.metadata.get('x-extra'), ['yes'])
})

t.test('each push is applied and acknowledged; synced when every type was', async t => {
  const { server, client, responses } = await world(t)
  let synced = false
  void client.synced.then(() => (synced = true))
  const stream = await server.stream(0)
  await stream.received(2)
  const nonce = stream.push(A, [{ name: 'w1', bytes: Buffer.from('one') }], ['w0'])
  t.match((await stream.received(3))[2], { typeUrl: A, responseNonce: nonce, errorDetail: undefined })
  t.match(responses, [
    { typeUrl: A, resources: [{ name: 'w1', bytes: Buffer.from('one') }], removed: ['w0'] }
  ])
  t.notOk(synced)
  stream.push(B, [])
  await stream.received(4)
  await client.synced
  t.match(client.state(), {
    connected: true,
    types: [
      { typeUrl: A, resources: 1, synced: true },
      { typeUrl: B, resources: 0, synced: true }
    ]
  })
})

t.test(
  'a broken resource is refused by name; the rest of its push is kept, and the type is not synced by it',
  async t => {
    const { server, client, responses, reject } = await world(t, {
      types: [{ typeUrl: A, mode: 'wildcard' }]
    })
    reject.set('bad', 'workload.addresses[0]: has 3 bytes, not 4 or 16')
    reject.set('worse', 'x')
    const stream = await server.stream(0)
    const nonce = stream.push(
      A,
      ['good', 'bad', 'worse'].map(name => ({ name, bytes: Buffer.from(name) }))
    )
    t.match((await stream.received(2))[1], {
      responseNonce: nonce,
      errorDetail: { message: 'bad: workload.addresses[0]: has 3 bytes, not 4 or 16; worse: x' }
    })
    t.equal(responses.length, 1)
    t.match(client.state().types, [{ resources: 1, synced: false, lastRejection: /^bad: workload/ }])
    reject.clear()
    stream.push(A, [{ name: 'bad', bytes: Buffer.from('better') }])
    await stream.received(3)
    await client.synced
    t.match(client.state().types, [{ resources: 2, synced: true, lastRejection: undefined }])
  }
)

t.test('where something stands in for what is broken, the rest is enough to begin with', async t => {
  const { server, client, reject } = await world(t, {
    types: [{ typeUrl: A, mode: 'wildcard', syncedWithRejections: true }]
  })
  reject.set('bad', 'x')
  const stream = await server.stream(0)
  stream.push(A, [{ name: 'bad', bytes: Buffer.from('bad') }])
  t.match((await stream.received(2))[1], { errorDetail: { message: 'bad: x' } }, 'which is told all the same')
  await client.synced
  t.match(client.state().types, [{ resources: 0, synced: true, lastRejection: 'bad: x' }])
})

t.test(
  'after a lost connection it says what it holds: accepted versions, not removed ones, refused ones as not held',
  async t => {
    const { server, terminations, reject } = await world(t, { types: [{ typeUrl: A, mode: 'wildcard' }] })
    reject.set('refused', 'no')
    reject.set('refused and gone', 'no')
    const first = await server.stream(0)
    first.push(A, [
      { name: 'a', version: '1', bytes: Buffer.from('a') },
      { name: 'b', version: '1', bytes: Buffer.from('b') },
      { name: 'refused', version: '1', bytes: Buffer.from('x') },
      { name: 'refused and gone', version: '1', bytes: Buffer.from('x') }
    ])
    await first.received(2)
    reject.set('b', 'no')
    first.push(A, [{ name: 'b', version: '3', bytes: Buffer.from('x') }])
    await first.received(3)
    reject.delete('b')
    first.push(A, [{ name: 'b', version: '2', bytes: Buffer.from('b2') }], ['a', 'refused and gone'])
    await first.received(4)
    reject.set('b', 'no')
    first.push(A, [{ name: 'b', version: '3', bytes: Buffer.from('x') }])
    await first.received(5)
    server.stop()
    await server.start()
    const second = await server.stream(1)
    t.match((await second.received(1))[0], {
      typeUrl: A,
      node: { id: /^ztunnel/ }
    })
    // The server tells of what was refused again, or that it is gone; what stood in for it must not stay for ever.
    t.strictSame(second.requests[0]?.initialResourceVersions, { refused: '', b: '2' })
    t.ok(terminations.length >= 1)
  }
)

t.test('the first message of each connection is told, and no other', async t => {
  let connected = 0
  const { server } = await world(t, {
    types: [{ typeUrl: A, mode: 'wildcard' }],
    onConnected: () => (connected += 1)
  })
  for (let connection = 0; connection < 2; connection++) {
    const stream = await server.stream(connection)
    await stream.received(1)
    t.equal(connected, connection, 'not before the server has said something')
    stream.push(A, [])
    await stream.received(2)
    stream.push(A, [])
    await stream.received(3)
    t.equal(connected, connection + 1)
    server.stop()
    await server.start()
  }
})

t.test('how an end is counted', async t => {
  const { server, terminations } = await world(t, { types: [{ typeUrl: A, mode: 'wildcard' }] })
  const ends: readonly (readonly [grpc.status, string, TerminationReason])[] = [
    [grpc.status.UNAVAILABLE, 'transport is closing', 'Reconnect'],
    [grpc.status.UNAVAILABLE, 'received prior goaway: code: NO_ERROR', 'Reconnect'],
    [grpc.status.UNKNOWN, 'x', 'Reconnect'],
    [grpc.status.DEADLINE_EXCEEDED, 'x', 'Reconnect'],
    [grpc.status.UNAUTHENTICATED, 'no', 'Error'],
    [grpc.status.UNAVAILABLE, 'overloaded', 'Error'],
    [grpc.status.INTERNAL, 'bug', 'Error']
  ]
  for (const [index, [status, details]] of ends.entries()) {
    const stream = await server.stream(index)
    await stream.received(1)
    stream.fail(status, details)
  }
  const last = await server.stream(ends.length)
  await last.received(1)
  last.end()
  await server.stream(ends.length + 1)
  t.strictSame(terminations, [...ends.map(([, , reason]) => reason), 'Complete'])
})

t.test('without a server it tries again, further and further apart, and says why', async t => {
  const port = await closedPort()
  const server = new FakeControlPlane()
  const terminations: { reason: TerminationReason; at: number }[] = []
  const client = new DeltaClient({
    target: {
      address: `https://127.0.0.1:${port}`,
      roots: server.certificatePem,
      altHostname: undefined,
      token: undefined,
      clusterId: '',
      headers: []
    },
    node: { id: 'x', metadata: {} },
    types: [{ typeUrl: A, mode: 'wildcard' }],
    onResponse: () => [],
    onTermination: reason => terminations.push({ reason, at: performance.now() })
  })
  const stopping = new AbortController()
  const running = client.run(stopping.signal)
  while (terminations.length < 6) await new Promise(resolve => setTimeout(resolve, 5))
  stopping.abort()
  await running
  t.ok(terminations.every(({ reason }) => reason === 'ConnectionError'))
  const gap = (index: number): number => (terminations[index + 1]?.at ?? 0) - (terminations[index]?.at ?? 0)
  t.ok(gap(4) >= 150, `the sixth try waited 160 ms: ${gap(4)}`)
  t.match(client.state(), {
    connected: false,
    lastError: /cannot connect to https:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/
  })
})

t.test('a server that cannot prove itself is not talked to', async t => {
  const situations = [
    {
      name: 'unknown root',
      roots: new FakeControlPlane().certificatePem,
      altHostname: undefined,
      error: /self-signed certificate|unable to verify/
    },
    {
      name: 'another name',
      roots: undefined,
      altHostname: 'istiod.example',
      error: /does not match certificate's altnames/
    },
    {
      name: 'roots that are not there',
      roots: '/nowhere/root.pem',
      altHostname: undefined,
      error: /cannot read the root certificates \/nowhere\/root\.pem: ENOENT/
    }
  ]
  for (const { name, roots, altHostname, error } of situations) {
    const server = new FakeControlPlane()
    await server.start()
    const ended = Promise.withResolvers<void>()
    const client = new DeltaClient({
      target: {
        address: server.address,
        roots: roots ?? server.certificatePem,
        altHostname,
        token: 't',
        clusterId: '',
        headers: []
      },
      node: { id: 'x', metadata: {} },
      types: [{ typeUrl: A, mode: 'wildcard' }],
      onResponse: () => [],
      onTermination: () => ended.resolve()
    })
    const stopping = new AbortController()
    const running = client.run(stopping.signal)
    await ended.promise
    await new Promise(resolve => setImmediate(resolve))
    t.match(client.state().lastError, error, name)
    t.equal(server.streams.length, 0, `${name}: no request was sent`)
    stopping.abort()
    await running
    server.stop()
  }
})

t.test('an address is checked against the addresses of the certificate', async t => {
  const warnings: Error[] = []
  const onWarning = (warning: Error): void => void warnings.push(warning)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  for (const [names, fits] of [
    ['IP:127.0.0.1', true],
    ['IP:127.0.0.2,DNS:address.invalid', false]
  ] as const) {
    const server = new FakeControlPlane(names)
    await server.start()
    const ended = Promise.withResolvers<void>()
    const client = new DeltaClient({
      target: {
        address: server.address.replace('localhost', '127.0.0.1'),
        roots: server.certificatePem,
        altHostname: undefined,
        token: undefined,
        clusterId: '',
        headers: []
      },
      node: { id: 'x', metadata: {} },
      types: [{ typeUrl: A, mode: 'wildcard' }],
      onResponse: () => [],
      onTermination: () => ended.resolve()
    })
    const stopping = new AbortController()
    const running = client.run(stopping.signal)
    if (fits) await (await server.stream(0)).received(1)
    else await ended.promise
    t.equal(server.streams.length, fits ? 1 : 0, names)
    stopping.abort()
    await running
    server.stop()
  }
  t.strictSame(warnings, [])
})

t.test('an alternative name is what the certificate has to say', async t => {
  const server = new FakeControlPlane('DNS:istiod.istio-system.svc')
  await server.start()
  const client = new DeltaClient({
    target: {
      address: server.address,
      roots: server.certificatePem,
      altHostname: 'istiod.istio-system.svc',
      token: undefined,
      clusterId: '',
      headers: []
    },
    node: { id: 'x', metadata: {} },
    types: [{ typeUrl: A, mode: 'wildcard' }],
    onResponse: () => []
  })
  const stopping = new AbortController()
  const running = client.run(stopping.signal)
  t.teardown(async () => {
    stopping.abort()
    await running
    server.stop()
  })
  const stream = await server.stream(0)
  t.strictSame(stream.metadata.get('authorization'), [], 'and without a token none is sent')
})

t.test('a server that speaks only TLS 1.2 is refused', async t => {
  const { certificatePem, keyPem } = new FakeControlPlane()
  const old = tls.createServer({
    cert: certificatePem,
    key: keyPem,
    maxVersion: 'TLSv1.2',
    ALPNProtocols: ['h2']
  })
  old.on('tlsClientError', () => undefined)
  old.listen(0, '127.0.0.1')
  await once(old, 'listening')
  const { port } = old.address() as { port: number }
  const ended = Promise.withResolvers<TerminationReason>()
  const client = new DeltaClient({
    target: {
      address: `https://localhost:${port}`,
      roots: certificatePem,
      altHostname: undefined,
      token: 't',
      clusterId: '',
      headers: []
    },
    node: { id: 'x', metadata: {} },
    types: [{ typeUrl: A, mode: 'wildcard' }],
    onResponse: () => [],
    onTermination: ended.resolve
  })
  const stopping = new AbortController()
  const running = client.run(stopping.signal)
  t.equal(await ended.promise, 'ConnectionError')
  stopping.abort()
  await running
  old.close()
})

t.test('token and roots are read anew for each connection', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-token-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const server = new FakeControlPlane()
  await server.start()
  const [token, roots] = [path.join(folder, 'token'), path.join(folder, 'root.pem')]
  writeFileSync(token, 'one\n')
  writeFileSync(roots, new FakeControlPlane().certificatePem)
  const failed = Promise.withResolvers<void>()
  const client = new DeltaClient({
    target: { address: server.address, roots, altHostname: undefined, token, clusterId: '', headers: [] },
    node: { id: 'x', metadata: {} },
    types: [{ typeUrl: A, mode: 'wildcard' }],
    onResponse: () => [],
    onTermination: () => failed.resolve()
  })
  const stopping = new AbortController()
  const running = client.run(stopping.signal)
  t.teardown(async () => {
    stopping.abort()
    await running
    server.stop()
  })
  await failed.promise
  writeFileSync(roots, server.certificatePem)
  const first = await server.stream(0)
  t.strictSame(first.metadata.get('authorization'), ['Bearer one'])
  writeFileSync(token, 'two')
  first.fail(grpc.status.UNKNOWN, 'x')
  t.strictSame((await server.stream(1)).metadata.get('authorization'), ['Bearer two'])
})

t.test(
  'on demand: nothing at first, then names; answers release those who wait, also that there is nothing',
  async t => {
    const { server, client } = await world(t, {
      types: [
        { typeUrl: A, mode: 'on-demand' },
        { typeUrl: B, mode: 'wildcard' }
      ]
    })
    const stream = await server.stream(0)
    const [first] = await stream.received(2)
    t.match(first, { typeUrl: A, resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] })
    stream.push(B, [])
    await client.synced
    const byIp = client.subscribe(A, '/10.0.0.1')
    const again = client.subscribe(A, '/10.0.0.1')
    const missing = client.subscribe(A, '/10.0.0.2')
    const requests = await stream.received(5)
    t.strictSame(
      requests.slice(3).map(({ resourceNamesSubscribe }) => resourceNamesSubscribe),
      [['/10.0.0.1'], ['/10.0.0.2']]
    )
    stream.push(A, [{ name: 'uid-1', aliases: ['/10.0.0.1'], bytes: Buffer.from('x') }], ['/10.0.0.2'])
    await Promise.all([byIp, again, missing])
    await client.subscribe(A, 'uid-1')
    await stream.received(6)
    t.equal(stream.requests.length, 6, 'what is held is not asked for')
    await t.rejects(client.subscribe('other', 'x'), /not subscribed to/)
  }
)

t.test('names that wait for an answer are asked for again after a lost connection', async t => {
  const { server, client } = await world(t, { types: [{ typeUrl: A, mode: 'on-demand' }] })
  const first = await server.stream(0)
  await first.received(1)
  first.push(A, [{ name: 'uid-1', version: '7', bytes: Buffer.from('x') }])
  const waiting = client.subscribe(A, '/10.0.0.9')
  await first.received(3)
  first.fail(grpc.status.UNKNOWN, 'x')
  const second = await server.stream(1)
  t.match((await second.received(1))[0]?.initialResourceVersions, { '/10.0.0.9': '', 'uid-1': '7' })
  second.push(A, [], ['/10.0.0.9'])
  await waiting
})

t.test(
  'a type that was not asked for is acknowledged and ignored; bytes that are no message end the stream',
  async t => {
    const { server, responses } = await world(t, { types: [{ typeUrl: A, mode: 'wildcard' }] })
    const stream = await server.stream(0)
    await stream.received(1)
    const nonce = stream.push('type.googleapis.com/other', [{ name: 'x', bytes: Buffer.from('x') }])
    t.match((await stream.received(2))[1], { typeUrl: 'type.googleapis.com/other', responseNonce: nonce })
    t.equal(responses.length, 0)
    stream.sendRaw(Buffer.from([0xff, 0xff, 0xff]))
    await (await server.stream(1)).received(1)
  }
)

t.test('a user that throws loses the push, not the client', async t => {
  const { server } = await world(t, {
    types: [{ typeUrl: A, mode: 'wildcard' }],
    onResponse: () => {
      throw new Error('out of memory')
    }
  })
  const stream = await server.stream(0)
  stream.push(A, [{ name: 'x', bytes: Buffer.from('x') }])
  t.match((await stream.received(2))[1], { errorDetail: { message: 'x: out of memory' } })
})

t.test('a push of 30 MB arrives whole', async t => {
  const bytes: number[] = []
  const { server, responses } = await world(t, {
    types: [{ typeUrl: A, mode: 'wildcard' }],
    onMessage: (_, size) => bytes.push(size)
  })
  const stream = await server.stream(0)
  stream.push(
    A,
    Array.from({ length: 3000 }, (_, index) => ({ name: `w${index}`, bytes: Buffer.alloc(10_000, index) }))
  )
  await stream.received(2)
  t.equal(responses[0]?.resources.length, 3000)
  t.ok((bytes[0] ?? 0) > 30_000_000)
})

t.test('an aborted client closes its stream and connects no more', async t => {
  const { server, stop, terminations } = await world(t)
  const stream = await server.stream(0)
  await stream.received(2)
  await stop()
  await stream.closed()
  t.equal(server.streams.length, 1)
  t.strictSame(terminations, [])
})
