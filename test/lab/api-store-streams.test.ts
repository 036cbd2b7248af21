/** Logs, exec and port-forward as clients see them. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { portForward } from '../../shared/kube/port-forward.ts'
import { pod } from '../contract/context.ts'
import { startRuntime, type TestRuntime } from './api-store-runtime.ts'
import { startStore, type Started } from './api-store-start.ts'

const pods = '/api/v1/namespaces/default/pods'

interface Running extends Started, TestRuntime {}

async function start(t: Parameters<typeof startStore>[0]): Promise<Running> {
  const runtime = await startRuntime(t as { teardown(fn: () => void): unknown })
  const started = await startStore(t, { pods: runtime.runtime })
  await started.api.post(
    pods,
    pod(
      'p',
      {},
      {
        nodeName: 'n1',
        containers: [
          { name: 'one', image: 'i' },
          { name: 'two', image: 'i' }
        ]
      }
    )
  )
  await started.api.patch(`${pods}/p/status`, 'merge', { status: { phase: 'Running' } })
  return { ...started, ...runtime }
}

interface Session {
  readonly protocol: string
  readonly channels: Buffer[]
  readonly code: number
}

/** Opens a WebSocket, lets `use` send, and collects what comes on each channel until the server closes. */
async function session(
  { access }: Started,
  where: string,
  protocols: readonly string[],
  use: (socket: WebSocket) => void = () => undefined
): Promise<Session> {
  const socket = new WebSocket(access.server.replace('https', 'wss') + where, [...protocols], {
    ca: access.caPem,
    headers: { authorization: `Bearer ${access.token}` }
  })
  const channels: Buffer[] = []
  socket.on('message', (data: Buffer) => {
    const [channel = 0] = data
    channels[channel] = Buffer.concat([channels[channel] ?? Buffer.alloc(0), data.subarray(1)])
  })
  await once(socket, 'open')
  use(socket)
  const [code] = (await once(socket, 'close')) as [number]
  return { protocol: socket.protocol, channels, code }
}

const exec = (command: readonly string[], flags = 'stdout=true&stderr=true'): string =>
  `${pods}/p/exec?container=one&${flags}&${command.map(word => `command=${encodeURIComponent(word)}`).join('&')}`
const message = (channel: number, data: string | Buffer): Buffer =>
  Buffer.concat([Buffer.of(channel), Buffer.from(data)])
const text = (buffer: Buffer | undefined): string => buffer?.toString() ?? ''

t.test('logs are those of the named container, as asked for', async t => {
  const { api, logRequests } = await start(t)
  const answer = await api.get(`${pods}/p/log`, {
    query: { container: 'two', tailLines: '5', timestamps: 'true', sinceSeconds: '60' }
  })
  t.match(answer, { status: 200, headers: { 'content-type': 'text/plain' }, text: 'first of two\nsecond\n' })
  t.match(logRequests, [{ follow: false, previous: false, timestamps: true, tailLines: 5, sinceSeconds: 60 }])
  t.match(await api.get(`${pods}/p/log`), {
    status: 400,
    body: { message: /a container name must be specified for pod p, choose one of: \[one two\]/ }
  })
  t.match(await api.get(`${pods}/p/log`, { query: { container: 'three' } }), {
    status: 400,
    body: { message: /container three is not valid for pod p/ }
  })
})

t.test('a log that is followed comes at once and ends with its client', async t => {
  const { access, following } = await start(t)
  const request = https.get(`${access.server}${pods}/p/log?container=one&follow=true`, {
    ca: access.caPem,
    headers: { authorization: `Bearer ${access.token}` }
  })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  response.on('error', () => undefined)
  const [chunk] = (await once(response, 'data')) as [Buffer]
  t.equal(chunk.toString(), 'following\n')
  t.equal(following(), 1)
  response.destroy()
  for (let attempt = 0; attempt < 200 && following() > 0; attempt += 1) await delay(20)
  t.equal(following(), 0)
})

t.test('without a runtime the sub-resources are refused', async t => {
  const { api } = await startStore(t)
  await api.post(pods, pod('p'))
  t.match(await api.get(`${pods}/p/log`), { status: 503, body: { message: /no kubelet runs/ } })
})

for (const protocol of ['v5.channel.k8s.io', 'v4.channel.k8s.io']) {
  t.test(`exec by ${protocol} carries output, errors and the exit code`, async t => {
    const started = await start(t)
    const good = await session(started, exec(['sh', '-c', 'echo out; echo err >&2']), [protocol])
    t.match(good, { protocol, code: 1000 })
    t.strictSame([text(good.channels[1]), text(good.channels[2])], ['out\n', 'err\n'])
    t.match(JSON.parse(text(good.channels[3])), { status: 'Success' })
    const bad = await session(started, exec(['sh', '-c', 'exit 7']), [protocol])
    t.match(JSON.parse(text(bad.channels[3])), {
      status: 'Failure',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '7' }] }
    })
    const refused = await session(started, exec(['refused']), [protocol])
    t.match(JSON.parse(text(refused.channels[3])), {
      status: 'Failure',
      code: 400,
      message: 'the container does not run'
    })
    const missing = await session(started, exec(['/no/such/program']), [protocol])
    t.match(JSON.parse(text(missing.channels[3])), { status: 'Failure', message: /ENOENT/ })
  })
}

t.test('exec takes input and the size of the terminal; v5 can end the input', async t => {
  const started = await start(t)
  const data = randomBytes(3_000_000)
  const result = await session(
    started,
    exec(['cat'], 'stdin=true&stdout=true'),
    ['v5.channel.k8s.io'],
    socket => {
      socket.send(message(4, '{"Width":80,"Height":24}'))
      socket.send(message(4, 'nonsense'))
      for (let offset = 0; offset < data.length; offset += 100_000)
        socket.send(message(0, data.subarray(offset, offset + 100_000)))
      socket.send(Buffer.of(255, 0))
    }
  )
  t.ok(result.channels[1]?.equals(data), 'everything came back')
  t.strictSame(started.sizes, [{ columns: 80, rows: 24 }])
})

t.test('a command ends when its client goes away', async t => {
  const started = await start(t)
  const socket = new WebSocket(
    started.access.server.replace('https', 'wss') + exec(['cat'], 'stdin=true&stdout=true'),
    ['v5.channel.k8s.io'],
    {
      ca: started.access.caPem,
      headers: { authorization: `Bearer ${started.access.token}` }
    }
  )
  socket.on('error', () => undefined)
  await once(socket, 'open')
  socket.send(message(0, 'x'))
  await once(socket, 'message')
  socket.terminate()
  await started.store.close()
  t.pass('the store closes, nothing is left running')
})

t.test('upgrades that cannot be served are answered in HTTP', async t => {
  const started = await start(t)
  const cases: readonly [string, string, readonly string[], string | undefined, number][] = [
    ['without credentials', exec(['true']), ['v5.channel.k8s.io'], '', 401],
    [
      'of a pod that is not there',
      `${pods}/none/exec?command=true&stdout=true`,
      ['v5.channel.k8s.io'],
      undefined,
      404
    ],
    [
      'of a container that is not there',
      `${pods}/p/exec?command=true&container=three`,
      ['v5.channel.k8s.io'],
      undefined,
      400
    ],
    ['without command', `${pods}/p/exec?container=one`, ['v5.channel.k8s.io'], undefined, 400],
    ['with an unknown protocol', exec(['true']), ['v9.channel.k8s.io'], undefined, 400],
    ['without ports', `${pods}/p/portforward`, ['v4.channel.k8s.io'], undefined, 400],
    ['with a wrong port', `${pods}/p/portforward?ports=0`, ['v4.channel.k8s.io'], undefined, 400],
    ['of something else', '/api/v1/namespaces/default/configmaps', ['v4.channel.k8s.io'], undefined, 400]
  ]
  for (const [name, where, protocols, token = started.access.token, status] of cases) {
    const socket = new WebSocket(started.access.server.replace('https', 'wss') + where, [...protocols], {
      ca: started.access.caPem,
      headers: token === '' ? {} : { authorization: `Bearer ${token}` }
    })
    const [, response] = (await once(socket, 'unexpected-response')) as [
      unknown,
      { statusCode: number; resume(): void }
    ]
    response.resume()
    t.equal(response.statusCode, status, name)
  }
  t.match(await started.api.get(`${pods}/p/exec`, { query: { command: 'true' } }), {
    status: 400,
    body: { message: /Upgrade request required/ }
  })
})

t.test('a token may come as a sub-protocol, as from browsers', async t => {
  const started = await start(t)
  const token = `base64url.bearer.authorization.k8s.io.${Buffer.from(started.access.token).toString('base64url')}`
  const socket = new WebSocket(
    started.access.server.replace('https', 'wss') + exec(['true']),
    ['v5.channel.k8s.io', token],
    { ca: started.access.caPem }
  )
  await once(socket, 'open')
  t.equal(socket.protocol, 'v5.channel.k8s.io')
  await once(socket, 'close')
})

t.test('forwarded ports carry data both ways and end with their pod', async t => {
  const started = await start(t)
  const { channels } = await session(
    started,
    `${pods}/p/portforward?ports=80,81`,
    ['v4.channel.k8s.io'],
    socket => {
      socket.send(message(0, 'hello'))
      socket.on('message', (data: Buffer) => {
        if (data[0] === 0 && data.includes('hello')) socket.close()
      })
    }
  )
  t.strictSame(
    [channels[0], channels[1]?.subarray(0, 2), channels[3]],
    [Buffer.from([80, 0, ...Buffer.from('hello')]), Buffer.of(80, 0), Buffer.of(81, 0)]
  )
  t.equal(text(channels[2]?.subarray(2)), 'bye')
  const refused = await session(started, `${pods}/p/portforward?ports=1`, ['v4.channel.k8s.io'])
  t.match(text(refused.channels[1]?.subarray(2)), /error forwarding port 1 to pod p: connection refused/)
})

t.test('the client of this project forwards ports through the store', async t => {
  const started = await start(t)
  const file = path.join(t.testdir({}), 'kubeconfig')
  writeFileSync(file, started.store.kubeconfig(started.access.server))
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: file }))
  const echo = await portForward(
    client,
    { namespace: 'default', pod: 'p', port: 80 },
    AbortSignal.timeout(20_000)
  )
  const data = randomBytes(5_000_000)
  let received = 0
  echo.on('data', (chunk: Buffer) => {
    received += chunk.length
  })
  for (let offset = 0; offset < data.length; offset += 65_536) {
    if (!echo.write(data.subarray(offset, offset + 65_536))) await once(echo, 'drain')
  }
  while (received < data.length) await once(echo, 'data')
  t.equal(received, data.length)
  echo.destroy()
  const bye = await portForward(
    client,
    { namespace: 'default', pod: 'p', port: 81 },
    AbortSignal.timeout(20_000)
  )
  let said = ''
  for await (const chunk of bye as AsyncIterable<Buffer>) said += chunk.toString()
  t.equal(said, 'bye')
  for (let attempt = 0; attempt < 200 && started.connections() > 0; attempt += 1) await delay(20)
  t.equal(started.connections(), 0, 'no connection is left')
})
