/** Real authorizers by HTTP and gRPC: what they say, that they fail, hang or are gone, open and closed: AZ-43 to AZ-49. */
import t, { type Test } from 'tap'
import grpc from '@grpc/grpc-js'
import http from 'node:http'
import net from 'node:net'
import { ask, type Asked } from '../../../waypoint/external-authorization/ask.ts'
import type { HttpAnswer, Sender } from '../../../waypoint/external-authorization/check.ts'
import type { UsableProvider } from '../../../waypoint/external-authorization/providers.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { connection, grpcProvider, httpProvider, request, type Json } from './support.ts'
import { field, fields, within } from './wire.ts'

const raw = (bytes: Buffer): Buffer => bytes

/** By node:http and grpc-js, to loopback whatever the name. */
const sender: Sender = {
  sendHttp: ({ port }, { method, target, authority, headers }, signal) =>
    new Promise<HttpAnswer>((resolve, reject) => {
      const fields = { host: authority, ...Object.fromEntries(headers) }
      const call = http.request({ port, method, path: target, headers: fields, agent: false, signal })
      call.on('error', reject)
      call.on('response', answer => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('error', reject)
        answer.on('end', () => {
          const pairs = answer.rawHeaders.map((text, at) => (at % 2 === 0 ? text.toLowerCase() : text))
          resolve({
            status: answer.statusCode ?? 0,
            headers: HeaderList.of(...pairs),
            body: Buffer.concat(chunks),
            whole: true
          })
        })
      })
      call.end()
    }),
  sendGrpc: ({ port }, path, message, signal) =>
    new Promise<Buffer>((resolve, reject) => {
      const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure())
      const call = client.makeUnaryRequest<Buffer, Buffer>(path, raw, raw, message, (error, answer) => {
        client.close()
        if (error === null && answer !== undefined) resolve(answer)
        else reject(error ?? new Error('no answer'))
      })
      signal.addEventListener('abort', () => call.cancel())
    })
}

async function httpAuthorizer(t: Test, answer: http.RequestListener): Promise<number> {
  const server = http.createServer(answer)
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as net.AddressInfo).port
}

type Check = (request: Buffer, answer: (error: grpc.ServiceError | null, response?: Buffer) => void) => void

async function grpcAuthorizer(t: Test, check: Check): Promise<number> {
  const server = new grpc.Server()
  const method = {
    requestStream: false,
    responseStream: false,
    requestSerialize: raw,
    responseSerialize: raw
  }
  const path = '/envoy.service.auth.v3.Authorization/Check'
  server.addService(
    { Check: { path, ...method, requestDeserialize: raw, responseDeserialize: raw } },
    {
      Check: (call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: Parameters<Check>[1]) =>
        check(call.request, answer)
    }
  )
  const credentials = grpc.ServerCredentials.createInsecure()
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error)
    )
  })
  t.teardown(() => server.forceShutdown())
  return port
}

const patient = new AbortController().signal
const asking = (provider: UsableProvider, subject = request()): Promise<Asked> =>
  ask(provider, subject, sender, patient)

t.test('AZ-44, AZ-45, AZ-49: an authorizer by HTTP', async t => {
  const port = await httpAuthorizer(t, ({ method, url, headers }, response) => {
    if (headers.authorization !== 'Bearer t') {
      response
        .writeHead(401, { 'www-authenticate': 'Bearer', 'content-type': 'application/json' })
        .end('{"no":1}')
      return
    }
    const { host, 'content-length': length } = headers
    response.setHeader('x-user', 'ann')
    response.setHeader('x-saw', `${method} ${host}${url} ${length}`)
    response.end()
  })
  const provider = httpProvider({ pathPrefix: '/check', headersToUpstreamOnAllow: ['x-user', 'x-saw'] }, port)
  const allowed = await asking(provider)
  t.match(allowed, {
    kind: 'allowed',
    failure: undefined,
    changes: {
      request: [
        { how: 'set', name: 'x-user', value: 'ann' },
        { how: 'set', name: 'x-saw', value: 'POST web.shop:80/check/cart?item=7 0' }
      ]
    }
  })
  const refused = await asking(provider, request({ headers: HeaderList.of() }))
  t.match(refused, {
    kind: 'refused',
    reply: { status: 401, body: '{"no":1}', flag: 'UAEX', details: 'ext_authz_denied' }
  })
  const headers = refused.kind === 'refused' ? refused.reply.headers : undefined
  t.strictSame(
    [headers?.get('www-authenticate'), headers?.get('content-type')],
    ['Bearer', 'application/json']
  )
})

t.test('AZ-46, AZ-47, AZ-49: an authorizer by gRPC, for requests and connections', async t => {
  const port = await grpcAuthorizer(t, (check, answer) => {
    const principal = String(within(check, 1, 1, 4))
    if (principal.endsWith('/sa/site')) {
      const path = String(within(check, 1, 4, 2, 4))
      answer(
        null,
        Buffer.concat([field(1, ''), field(3, field(2, field(1, fields([1, 'x-saw'], [2, path]))))])
      )
    } else
      answer(null, Buffer.concat([field(1, field(1, 7)), field(2, fields([1, field(1, 402)], [3, 'pay']))]))
  })
  const provider = grpcProvider({}, port)
  t.match(await asking(provider), {
    kind: 'allowed',
    changes: { request: [{ how: 'set', name: 'x-saw', value: '/cart?item=7' }] }
  })
  t.match(await asking(provider, connection), { kind: 'allowed' })
  const stranger = { ...connection, peer: `${connection.peer}-other` as typeof connection.peer }
  t.match(await asking(provider, stranger), {
    kind: 'refused',
    failure: undefined,
    reply: { status: 402, body: 'pay', flag: 'UAEX', details: 'ext_authz_denied' }
  })
})

/** An address where nobody listens. */
async function nobody(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise<void>(resolve => void server.close(() => resolve()))
  return port
}

const forgotten: http.RequestListener = () => undefined
const failures: readonly (readonly [
  name: string,
  make: (t: Test, more: Json) => Promise<UsableProvider>,
  failure: RegExp
])[] = [
  ['HTTP: nobody there', async (_, more) => httpProvider(more, await nobody()), /ECONNREFUSED/],
  [
    'HTTP: no answer in time',
    async (t, more) => httpProvider({ ...more, timeout: '50ms' }, await httpAuthorizer(t, forgotten)),
    /no answer in 50 ms/
  ],
  [
    'HTTP: no end of the answer in time',
    async (t, more) =>
      httpProvider(
        { ...more, timeout: '50ms' },
        await httpAuthorizer(t, (_, response) => void response.write('part'))
      ),
    /no answer in 50 ms/
  ],
  [
    'HTTP: 503',
    async (t, more) =>
      httpProvider(more, await httpAuthorizer(t, (_, response) => void response.writeHead(503).end())),
    /answered 503/
  ],
  [
    'HTTP: cut off',
    async (t, more) => httpProvider(more, await httpAuthorizer(t, ({ socket }) => void socket.destroy())),
    /socket hang up/
  ],
  ['gRPC: nobody there', async (_, more) => grpcProvider(more, await nobody()), /UNAVAILABLE/],
  [
    'gRPC: no answer in time',
    async (t, more) => grpcProvider({ ...more, timeout: '50ms' }, await grpcAuthorizer(t, () => undefined)),
    /no answer in 50 ms/
  ],
  [
    'gRPC: a status of its own',
    async (t, more) => {
      const error = Object.assign(new Error('broken'), { code: grpc.status.INTERNAL, details: 'broken' })
      return grpcProvider(more, await grpcAuthorizer(t, (_, answer) => answer(error as grpc.ServiceError)))
    },
    /INTERNAL: broken/
  ],
  [
    'gRPC: bytes that are no answer',
    async (t, more) =>
      grpcProvider(more, await grpcAuthorizer(t, (_, answer) => answer(null, Buffer.of(10, 99)))),
    /authorizer a: /
  ],
  [
    'gRPC: an answer that says nothing',
    async (t, more) => grpcProvider(more, await grpcAuthorizer(t, (_, answer) => answer(null, Buffer.of()))),
    /neither yes nor no/
  ],
  [
    'gRPC: a header that no request could carry',
    async (t, more) => {
      const changed = field(2, field(1, fields([1, 'x'], [2, 'y\r\nz: 1'])))
      const answer = Buffer.concat([field(1, ''), field(3, changed)])
      return grpcProvider(more, await grpcAuthorizer(t, (_, reply) => reply(null, answer)))
    },
    /the value of x has characters/
  ]
]

t.test('AZ-43, AZ-49: an authorizer that cannot be asked refuses, unless it fails open', async t => {
  for (const [name, make, failure] of failures) {
    t.match(
      await asking(await make(t, {})),
      {
        kind: 'refused',
        failure,
        reply: { status: 403, body: '', flag: 'UAEX', details: 'ext_authz_error' }
      },
      `${name}: closed`
    )
    t.match(
      await asking(await make(t, { statusOnError: '503' })),
      { reply: { status: 503 } },
      `${name}: its status`
    )
    t.strictSame(
      await asking(await make(t, { failOpen: true })).then(({ failure: _, ...asked }) => asked),
      {
        kind: 'allowed',
        changes: {
          request: [{ how: 'set', name: 'x-envoy-auth-failure-mode-allowed', value: 'true' }],
          remove: [],
          query: { set: [], remove: [] },
          response: []
        }
      },
      `${name}: open`
    )
  }
})

t.test('a denial stays one where it fails open', async t => {
  const port = await httpAuthorizer(t, (_, response) => void response.writeHead(403).end('no'))
  t.match(await asking(httpProvider({ failOpen: true }, port)), {
    kind: 'refused',
    reply: { status: 403, body: 'no' }
  })
})

t.test('a client that is gone lets go of the check, and nothing passes for it', async t => {
  const arrived = Promise.withResolvers<void>()
  const left = Promise.withResolvers<void>()
  const port = await httpAuthorizer(t, ({ socket }) => {
    socket.once('close', () => left.resolve())
    arrived.resolve()
  })
  const client = new AbortController()
  const provider = httpProvider({ failOpen: true, timeout: '600s' }, port)
  const asked = ask(provider, request(), sender, client.signal)
  await arrived.promise
  client.abort(new Error('the client is gone'))
  t.match(await asked, { kind: 'refused', failure: /authorizer a: the client is gone/ })
  await left.promise
  t.match(
    await ask(provider, request(), sender, client.signal),
    { kind: 'refused' },
    'and when it was gone before'
  )
})

t.test('a sender that does not mind its signal holds nobody up', async t => {
  const deaf: Sender = {
    sendHttp: () => new Promise(() => undefined),
    sendGrpc: () => new Promise(() => undefined)
  }
  const keep = setInterval(() => undefined, 1000) // our timer keeps no process alive
  t.teardown(() => clearInterval(keep))
  for (const provider of [httpProvider({ timeout: '20ms' }), grpcProvider({ timeout: '20ms' })]) {
    t.match(await ask(provider, request(), deaf, patient), { kind: 'refused', failure: /no answer in 20 ms/ })
  }
})
