/** gRPC through a waypoint, by its own client and server: every kind of call, statuses, deadlines, routes, telemetry. */
import t, { type Test } from 'tap'
import * as grpc from '@grpc/grpc-js'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import { eventually } from '../support/eventually.ts'
import { listen, startWorld, type Pod, type World } from './world.ts'

const services = [
  { name: 'cart', vip: '10.96.0.1', port: 7070, speaks: 'GRPC' },
  { name: 'cart-v2', vip: '10.96.0.2', port: 7070, speaks: 'GRPC' },
  { name: 'plain', vip: '10.96.0.3', port: 80, speaks: 'HTTP11' }
]
const authority = '10.96.0.1:7070'
const pod = (last: number, name: string): Pod => ({
  name,
  address: `127.77.4.${last}`,
  port: 7070,
  services: [name]
})

const bytes = (value: string): Buffer => Buffer.from(value)
const text = (value: Buffer): string => value.toString()
const codec = {
  requestSerialize: bytes,
  requestDeserialize: text,
  responseSerialize: bytes,
  responseDeserialize: text
}
const method = (name: string, requestStream: boolean, responseStream: boolean) =>
  ({ path: `/shop.Cart/${name}`, requestStream, responseStream, ...codec }) as const
const methods = {
  Unary: method('Unary', false, false),
  Many: method('Many', false, true),
  Collect: method('Collect', true, false),
  Talk: method('Talk', true, true)
}

async function startServer(t: Test, at: Pod): Promise<void> {
  const server = new grpc.Server()
  server.addService(methods, {
    Unary: (call: grpc.ServerUnaryCall<string, string>, done: grpc.sendUnaryData<string>) => {
      if (call.request === 'fail') {
        const metadata = new grpc.Metadata()
        metadata.set('x-why', 'asked for')
        return done({ code: grpc.status.ALREADY_EXISTS, details: 'it is there', metadata })
      }
      if (call.request === 'slow') return undefined
      return done(null, `${at.name}: ${call.request} ${call.metadata.get('x-request-id').length}`)
    },
    Many: (call: grpc.ServerWritableStream<string, string>) => {
      for (let at = 0; at < 100; at += 1) call.write(`${at}`)
      call.end()
    },
    Collect: (call: grpc.ServerReadableStream<string, string>, done: grpc.sendUnaryData<string>) => {
      let all = ''
      call.on('data', (part: string) => (all += part))
      call.on('end', () => done(null, all))
    },
    Talk: (call: grpc.ServerDuplexStream<string, string>) => {
      call.on('data', (part: string) => call.write(`you said ${part}`))
      call.on('end', () => call.end())
    }
  })
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error)
    )
  )
  t.teardown(() => server.forceShutdown())
  const door = net.createServer({ allowHalfOpen: true }, socket => {
    const inside = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    inside.on('error', () => socket.destroy())
    socket.on('close', () => inside.destroy())
    socket.pipe(inside).pipe(socket)
  })
  await listen(t, door, at)
}

/** A client whose connections are tunnels to the service. */
async function startClient(
  t: Test,
  world: World
): Promise<InstanceType<ReturnType<typeof grpc.makeClientConstructor>>> {
  const door = net.createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => undefined)
    void world.connect(authority).then(tunnel => socket.pipe(tunnel).pipe(socket))
  })
  door.listen(0, '127.0.0.1')
  await once(door, 'listening')
  const Client = grpc.makeClientConstructor(methods, 'Cart')
  const { port } = door.address() as net.AddressInfo
  const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure())
  t.teardown(() => {
    client.close()
    door.close()
  })
  return client
}

interface Outcome {
  readonly answer?: string | undefined
  readonly code?: number
  readonly details?: string
  readonly why?: grpc.MetadataValue[]
}

interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>
  readonly deadlineMs?: number
  readonly name?: string
}

function unary(
  client: grpc.Client,
  said: string,
  { headers = {}, deadlineMs = 5000, name = 'Unary' }: CallOptions = {}
): Promise<Outcome> {
  const metadata = new grpc.Metadata()
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value)
  const { path, requestSerialize, responseDeserialize } = { ...methods.Unary, path: `/shop.Cart/${name}` }
  return new Promise(resolve => {
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      said,
      metadata,
      { deadline: Date.now() + deadlineMs },
      (error, answer) =>
        resolve(
          error === null
            ? { answer }
            : { code: error.code, details: error.details, why: error.metadata.get('x-why') }
        )
    )
  })
}

t.test('every kind of call, statuses, deadlines, and what is counted', async t => {
  const cart = pod(1, 'cart')
  await startServer(t, cart)
  const world = await startWorld(t, { services, pods: [cart], env: { UNDERPASS_ACCESS_LOG: 'all' } })
  const client = await startClient(t, world)
  t.strictSame(await unary(client, 'hello'), { answer: 'cart: hello 1' })
  t.match(await unary(client, 'fail'), {
    code: grpc.status.ALREADY_EXISTS,
    details: 'it is there',
    why: ['asked for']
  })
  t.match(await unary(client, 'slow', { deadlineMs: 300 }), { code: grpc.status.DEADLINE_EXCEEDED })
  t.match(await unary(client, 'x', { name: 'Unknown' }), { code: grpc.status.UNIMPLEMENTED })
  const large = 'x'.repeat(2 << 20)
  t.equal((await unary(client, large)).answer?.length, large.length + 8)

  const { Many, Collect, Talk } = methods
  const many: string[] = []
  const stream = client.makeServerStreamRequest(Many.path, bytes, text, 'all')
  for await (const one of stream) many.push(one as string)
  t.equal(many.join(), Array.from({ length: 100 }, (_, at) => at).join())

  const collected = await new Promise<string | undefined>((resolve, reject) => {
    const call = client.makeClientStreamRequest(Collect.path, bytes, text, (error, answer) =>
      error === null ? resolve(answer) : reject(error)
    )
    for (const part of ['a', 'b', 'c']) call.write(part)
    call.end()
  })
  t.equal(collected, 'abc')

  const talk = client.makeBidiStreamRequest(Talk.path, bytes, text)
  for (const word of ['one', 'two']) {
    talk.write(word)
    const [said] = (await once(talk, 'data')) as [string]
    t.equal(said, `you said ${word}`, 'each answer before the next word')
  }
  talk.end()
  await once(talk, 'status')

  const metrics = await world.metrics()
  t.match(
    metrics,
    /istio_requests_total\{.*request_protocol="grpc",response_code="200",grpc_response_status="0"/
  )
  t.match(
    metrics,
    /istio_requests_total\{.*request_protocol="grpc",response_code="200",grpc_response_status="6"/
  )
  await eventually('all calls have their line', () => world.lines.length >= 8, { everyMs: 20 })
  t.match(world.lines.join('\n'), /"POST \/shop\.Cart\/Talk HTTP\/2" 200 - via_upstream/)
})

const routes = `
kind: GRPCRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: cart}]
  rules:
    - matches: [{method: {service: shop.Cart, method: Unary}, headers: [{name: version, value: v2}]}]
      backendRefs: [{name: cart-v2, port: 7070}]
    - matches: [{method: {service: shop.Cart, method: Unary}}]
      backendRefs: [{name: cart, port: 7070}]
    - matches: [{method: {service: shop.Cart, method: Many}}]
      backendRefs: [{unresolved: BackendNotFound}]
`

t.test('GRPCRoutes choose by method and metadata, and answer for themselves', async t => {
  const pods = [pod(2, 'cart'), pod(3, 'cart-v2')]
  for (const one of pods) await startServer(t, one)
  const world = await startWorld(t, { services, pods, config: routes })
  const client = await startClient(t, world)
  t.match(await unary(client, 'a'), { answer: /^cart: a/ })
  t.match(await unary(client, 'a', { headers: { version: 'v2' } }), { answer: /^cart-v2: a/ })
  t.match(await unary(client, 'a', { name: 'Many' }), { code: grpc.status.UNAVAILABLE })
  t.match(await unary(client, 'a', { name: 'Talk' }), { code: grpc.status.UNIMPLEMENTED })
})

t.test('a pod that is gone is UNAVAILABLE', async t => {
  const world = await startWorld(t, { services, pods: [pod(4, 'cart')] })
  t.match(await unary(await startClient(t, world), 'a'), {
    code: grpc.status.UNAVAILABLE,
    details: /connection failure/
  })
})

t.test('a client may speak HTTP/2 where the application speaks HTTP/1.1, many requests at once', async t => {
  const { startPod } = await import('./world.ts')
  const plain: Pod = { name: 'plain', address: '127.77.4.5', port: 8080, services: ['plain'] }
  await startPod(
    t,
    plain,
    (sent, response) => void sent.pipe(response.setHeader('x-version', sent.httpVersion))
  )
  const world = await startWorld(t, { services, pods: [plain] })
  const tunnel = await world.connect('10.96.0.3:80')
  const session = http2.connect('http://plain', { createConnection: () => tunnel })
  t.teardown(() => session.destroy())
  const answers = await Promise.all(
    Array.from({ length: 50 }, async (_, at) => {
      const stream = session.request({ ':method': 'POST', ':path': `/${at}` })
      let body = ''
      let head = ''
      stream.on('response', headers => (head = `${headers[':status']} ${String(headers['x-version'])}`))
      stream.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      stream.end(`body ${at}`)
      await once(stream, 'close')
      return `${head} ${body}`
    })
  )
  t.strictSame(
    answers,
    Array.from({ length: 50 }, (_, at) => `200 1.1 body ${at}`)
  )
})
