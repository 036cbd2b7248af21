/** gRPC through both halves: a real client, a real server, and nothing of either changed on the way. */
import t, { type Test } from 'tap'
import * as grpc from '@grpc/grpc-js'
import { once } from 'node:events'
import { eventually } from '../../support/eventually.ts'
import { connected, listen, passOn } from './support.ts'

const text = {
  requestSerialize: (value: string) => Buffer.from(value),
  requestDeserialize: (bytes: Buffer) => bytes.toString(),
  responseSerialize: (value: string) => Buffer.from(value),
  responseDeserialize: (bytes: Buffer) => bytes.toString()
}

const method = (
  name: string,
  requestStream: boolean,
  responseStream: boolean
): grpc.MethodDefinition<string, string> => ({
  ...{ path: `/test.Echo/${name}`, requestStream, responseStream, originalName: name },
  ...text
})
const service = {
  unary: method('unary', false, false),
  refuse: method('refuse', false, false),
  hang: method('hang', false, false),
  many: method('many', false, true),
  gather: method('gather', true, false),
  talk: method('talk', true, true)
}

interface Hung {
  cancelled: number
}

async function grpcServer(t: Test, hung: Hung): Promise<number> {
  const server = new grpc.Server()
  server.addService(service, {
    unary: (call: grpc.ServerUnaryCall<string, string>, done: grpc.sendUnaryData<string>) => {
      const metadata = new grpc.Metadata()
      metadata.set('x-early', String(call.metadata.get('x-asked')[0]))
      call.sendMetadata(metadata)
      const trailer = new grpc.Metadata()
      trailer.set('x-late-bin', Buffer.from([0, 255]))
      done(null, `you said ${call.request}`, trailer)
    },
    refuse: (_: unknown, done: grpc.sendUnaryData<string>) =>
      done({ code: grpc.status.FAILED_PRECONDITION, details: 'not today, gr\xfc\xdfe' }),
    hang: (call: grpc.ServerUnaryCall<string, string>) => call.on('cancelled', () => (hung.cancelled += 1)),
    many: (call: grpc.ServerWritableStream<string, string>) => {
      for (let at = 0; at < 1000; at++) call.write(`${call.request} ${at}`)
      call.end()
    },
    gather: (call: grpc.ServerReadableStream<string, string>, done: grpc.sendUnaryData<string>) => {
      let count = 0
      call.on('data', () => (count += 1))
      call.on('end', () => done(null, String(count)))
    },
    talk: (call: grpc.ServerDuplexStream<string, string>) => {
      call.on('data', (said: string) => call.write(`echo ${said}`))
      call.on('end', () => call.end())
    }
  })
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound)
      else reject(error)
    })
  })
  t.teardown(() => server.forceShutdown())
  return port
}

type Stub = InstanceType<grpc.ServiceClientConstructor>

/** A client whose calls pass through both halves; `streams` tells how many are under way to the server. */
async function through(
  t: Test,
  hung: Hung = { cancelled: 0 }
): Promise<{ stub: Stub; streams: () => number }> {
  const { connection } = await connected(t, await grpcServer(t, hung))
  const { port } = await listen(
    t,
    passOn(() => connection)
  )
  const Client = grpc.makeGenericClientConstructor(service, 'test.Echo')
  const stub = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure())
  t.teardown(() => stub.close())
  return { stub, streams: () => connection.active }
}

type Call = (...args: unknown[]) => never

t.test('a unary call keeps its metadata, early and late', async t => {
  const { stub, streams } = await through(t)
  const metadata = new grpc.Metadata()
  metadata.set('x-asked', 'yes')
  const { promise, resolve } = Promise.withResolvers<string>()
  const call: grpc.ClientUnaryCall = (stub['unary'] as Call).call(
    stub,
    'hello',
    metadata,
    (error: Error | null, value: string) => resolve(error === null ? value : error.message)
  )
  const early = once(call, 'metadata')
  const late = once(call, 'status')
  t.equal(await promise, 'you said hello')
  t.strictSame(((await early) as [grpc.Metadata])[0].get('x-early'), ['yes'])
  t.match(((await late) as [grpc.StatusObject])[0].metadata.get('x-late-bin'), [Buffer.from([0, 255])])
  t.equal(streams(), 0)
})

t.test('a refusal is trailers only, and comes as it was', async t => {
  const { stub } = await through(t)
  const error = await new Promise<grpc.ServiceError>(resolve =>
    (stub['refuse'] as Call).call(stub, 'hello', (refusal: grpc.ServiceError) => resolve(refusal))
  )
  t.match(error, { code: grpc.status.FAILED_PRECONDITION, details: 'not today, gr\xfc\xdfe' })
})

t.test('a deadline resets the stream all the way to the server', async t => {
  const hung = { cancelled: 0 }
  const { stub, streams } = await through(t, hung)
  const error = await new Promise<grpc.ServiceError>(resolve =>
    (stub['hang'] as Call).call(stub, 'hello', { deadline: Date.now() + 300 }, (late: grpc.ServiceError) =>
      resolve(late)
    )
  )
  t.equal(error.code, grpc.status.DEADLINE_EXCEEDED)
  await eventually('the server hears of it', () => hung.cancelled === 1, { everyMs: 10 })
  t.equal(streams(), 0)
})

t.test('a thousand answers to one message come in order', async t => {
  const { stub } = await through(t)
  const call: grpc.ClientReadableStream<string> = (stub['many'] as Call).call(stub, 'line')
  const got: string[] = []
  call.on('data', (line: string) => got.push(line))
  await once(call, 'end')
  t.strictSame([got.length, got[0], got.at(-1)], [1000, 'line 0', 'line 999'])
})

t.test('a thousand messages have one answer', async t => {
  const { stub } = await through(t)
  const { promise, resolve } = Promise.withResolvers<string>()
  const call: grpc.ClientWritableStream<string> = (stub['gather'] as Call).call(
    stub,
    (_: unknown, count: string) => resolve(count)
  )
  for (let at = 0; at < 1000; at++) call.write('x'.repeat(100))
  call.end()
  t.equal(await promise, '1000')
})

t.test('both sides talk in turns, and either half ends by itself', async t => {
  const { stub, streams } = await through(t)
  const call: grpc.ClientDuplexStream<string, string> = (stub['talk'] as Call).call(stub)
  for (const said of ['one', 'two', 'three']) {
    call.write(said)
    t.strictSame(await once(call, 'data'), [`echo ${said}`])
  }
  const status = once(call, 'status')
  call.resume()
  call.end()
  t.match(await status, [{ code: grpc.status.OK }])
  t.equal(streams(), 0)
})

t.test('a call that is cancelled leaves the others alone', async t => {
  const hung = { cancelled: 0 }
  const { stub } = await through(t, hung)
  const call: grpc.ClientUnaryCall = (stub['hang'] as Call).call(stub, 'hello', () => undefined)
  call.cancel()
  const value = await new Promise(resolve =>
    (stub['unary'] as Call).call(stub, 'on', (_: unknown, said: unknown) => resolve(said))
  )
  t.equal(value, 'you said on')
})
