/** A collector of traces, which reads what it gets by the published field numbers alone. */
import type { Test } from 'tap'
import * as grpc from '@grpc/grpc-js'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { readFields, within } from '../external-authorization/wire.ts'
import { listen, type Pod } from '../world.ts'

export interface ReceivedSpan {
  readonly service: string
  readonly traceId: string
  readonly spanId: string
  readonly parentId: string
  readonly state: string
  readonly name: string
  readonly kind: number
  /** Nanoseconds. */
  readonly start: number
  readonly end: number
  readonly status: number
  readonly attributes: Readonly<Record<string, string>>
}

export interface Collector {
  readonly spans: ReceivedSpan[]
  /** Of the latest call by HTTP. */
  readonly headers: http.IncomingHttpHeaders
  /** What it answers from now on. */
  fail: boolean
  /** Message of the answer. */
  answer: Buffer
}

const path = '/opentelemetry.proto.collector.trace.v1.TraceService/Export'
const same = (bytes: Buffer): Buffer => bytes

export async function startGrpcCollector(t: Test, pod: Pod): Promise<Collector> {
  const collector: Collector = { spans: [], headers: {}, fail: false, answer: Buffer.alloc(0) }
  const codec = {
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same
  }
  const method = { path, requestStream: false, responseStream: false, ...codec } as const
  const server = new grpc.Server()
  server.addService(
    { Export: method },
    {
      Export: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        if (collector.fail) return done({ code: grpc.status.UNAVAILABLE, details: 'not now' })
        collector.spans.push(...spansOf(call.request))
        return done(null, collector.answer)
      }
    }
  )
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
  await listen(t, door, pod)
  return collector
}

export async function startHttpCollector(t: Test, pod: Pod): Promise<Collector> {
  const collector = { spans: [] as ReceivedSpan[], headers: {}, fail: false, answer: Buffer.alloc(0) }
  const server = http.createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    void once(request, 'end').then(() => {
      collector.headers = { ...request.headers, path: request.url }
      collector.spans.push(...spansOf(Buffer.concat(parts)))
      response.end(collector.answer)
    })
  })
  await listen(t, server, pod)
  return collector
}

/** resource_spans 1: resource 1, scope_spans 2: spans 2. */
function spansOf(request: Buffer): ReceivedSpan[] {
  const service = attributesOf(within(request, 1, 1), 1)['service.name'] ?? ''
  return all(within(request, 1, 2), 2).map(span => {
    const fields = readFields(span)
    const bytes = (number: number): Buffer => Buffer.from((fields.get(number)?.[0] ?? '') as Buffer)
    const number = (of: number): number => Number(fields.get(of)?.[0] ?? 0)
    return {
      service,
      traceId: bytes(1).toString('hex'),
      spanId: bytes(2).toString('hex'),
      state: bytes(3).toString(),
      parentId: bytes(4).toString('hex'),
      name: bytes(5).toString(),
      kind: number(6),
      start: number(7),
      end: number(8),
      attributes: attributesOf(span, 9),
      status: Number(readFields(bytes(15)).get(3)?.[0] ?? 0)
    }
  })
}

/** KeyValue: key 1, value 2; AnyValue: string_value 1. */
function attributesOf(bytes: Buffer, number: number): Record<string, string> {
  return Object.fromEntries(
    all(bytes, number).map(pair => [within(pair, 1).toString(), within(pair, 2, 1).toString()])
  )
}

function all(bytes: Buffer, number: number): Buffer[] {
  return [...(readFields(bytes).get(number) ?? [])].map(value => Buffer.from(value as Buffer))
}
